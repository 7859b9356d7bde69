"""Stores made by hand."""

from tests.store.conftest import make_store

__all__ = ["make_store"]
