"""Benchmarks: each module is also run as tests in CI, at small sizes."""
