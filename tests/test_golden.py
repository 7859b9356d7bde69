"""Protects the golden data itself: present, whole, and as it was recorded."""

from __future__ import annotations

import pytest

from tests.golden import DATA, GOLDEN_SMALL, pulls, small_layers, tree_digest


@pytest.mark.parametrize("name", ["small", "layered", "presence"])
def test_data_is_as_recorded(name: str) -> None:
    assert f"{name}: {tree_digest(DATA / name)}" in (DATA / "PROVENANCE.md").read_text()


def test_every_store_and_pull_is_there() -> None:
    assert len(small_layers()) == 20
    assert len(pulls(GOLDEN_SMALL)) == 35
    assert len(pulls(DATA / "layered")) == 13
    assert len(pulls(DATA / "presence")) == 43
