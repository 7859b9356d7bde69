"""Compute what concerns many stores, here, in local processes or on a cluster."""
