"""Protects fingerprints: they are the hashes that Go computes and that golden caches have."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.golden import golden_cache, golden_toc, small_layers
from tests.toc import oracle
from tests.toc.compare import outcome
from tests.toc.strategies import SENSIBLE
from vecache.toc.fingerprint import fingerprints
from vecache.toc.layout import Layout, select_retained
from vecache.toc.parse import Toc


def hashes(data: bytes, rows: list[int]) -> list[bytes]:
    found = fingerprints(Toc.parse(data).entries, np.array(rows, np.int64))
    assert found.shape == (len(rows), 32)
    return [bytes(row) for row in found]


@given(SENSIBLE)
def test_any_toc_has_the_hashes_of_go(data: bytes) -> None:
    if outcome(lambda: Toc.parse(data)) == "refused":
        return
    entries = oracle.unmarshal(data)["entries"]
    rows = [*range(len(entries) - 1, -1, -1), *range(len(entries))]  # any order, and repeats
    assert hashes(data, rows) == [oracle.fingerprint(entries[row]) for row in rows]


@pytest.mark.parametrize("store_and_layer", small_layers(), ids="-".join)
def test_every_fingerprint_is_in_the_golden_cache(store_and_layer: tuple[str, str]) -> None:
    layout = Layout.FLAT if store_and_layer[0] == "flat" else Layout.DIR
    entries = Toc.parse(golden_toc(*store_and_layer)).entries
    rows = select_retained(entries, layout).entry_row
    rows = rows[entries.digest.is_present[rows]]
    cache = golden_cache(*store_and_layer)
    for row in fingerprints(entries, rows):
        assert b"sha256:" + bytes(row) in cache


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"digest": "no digest", "mode": -8, "uid": -1, "gid": -(2**63)},
        {
            "digest": "sha256:" + "0" * 64,
            "mode": 0o104755,
            "xattrs": {"b": "2", "a": "1", "ab": ""},
        },
    ],
)
def test_odd_entries_have_the_hashes_of_go(entry: dict[str, Any]) -> None:
    data = json.dumps({"entries": [{"xattrs": {"z": "3"}}, entry]}).encode()
    assert hashes(data, [1]) == [oracle.fingerprint(oracle.unmarshal(data)["entries"][1])]


def test_no_rows_have_no_hashes() -> None:
    assert hashes(b'{"entries":[{}]}', []) == []
    assert hashes(b"{}", []) == []
