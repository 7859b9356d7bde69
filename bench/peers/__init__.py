"""Look-ups against peers: the same data and queries, the same answers asserted, in one run."""
