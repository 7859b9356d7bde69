"""Protects the golden data itself: present, whole, and as it was recorded."""

from __future__ import annotations

from tests.golden import DATA, GOLDEN_SMALL, pulls, small_layers, tree_digest


def test_small_data_is_as_recorded() -> None:
    assert tree_digest(GOLDEN_SMALL) in (DATA / "PROVENANCE.md").read_text()


def test_every_store_and_pull_is_there() -> None:
    assert len(small_layers()) == 20
    assert len(pulls(GOLDEN_SMALL)) == 35
