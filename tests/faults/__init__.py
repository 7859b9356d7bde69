"""Processes that are killed and system calls that fail, at every step of every write."""
