"""Protects the selection of entries: a cache retains and names the same ones as Go's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import golden_toc, small_layers
from tests.toc import oracle
from tests.toc.compare import outcome
from tests.toc.strategies import SENSIBLE
from vecache.errors import DigestError, TocError
from vecache.toc.layout import Layout, select_retained
from vecache.toc.parse import Toc

HEX = "0123456789abcdef" * 4


def entries_of(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"entries": entries}).encode()


def retained(data: bytes, layout: str) -> list[tuple[int, bytes]]:
    found = select_retained(Toc.parse(data).entries, Layout(layout))
    return list(zip(found.entry_row.tolist(), found.name.to_pylist(), strict=True))


def check(data: bytes, layout: str) -> None:
    entries = oracle.unmarshal(data)["entries"]
    wanted = outcome(lambda: oracle.retained(entries, layout), oracle.RefusedError)
    assert outcome(lambda: retained(data, layout)) == wanted


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("store_and_layer", small_layers(), ids="-".join)
def test_golden_tocs_retain_what_go_retains(store_and_layer: tuple[str, str], layout: str) -> None:
    check(golden_toc(*store_and_layer), layout)


@given(SENSIBLE, st.sampled_from(list(Layout)))
def test_any_toc_retains_what_go_retains(data: bytes, layout: str) -> None:
    if outcome(lambda: Toc.parse(data)) != "refused":
        check(data, layout)


def test_dir_retains_the_first_entry_of_each_chunk_digest() -> None:
    file, chunk = f"sha256:{HEX}", f"sha256:{HEX[::-1]}"
    data = entries_of(
        {"type": "reg", "name": "a", "size": 2, "digest": file, "chunkDigest": chunk},
        {"type": "chunk", "name": "a", "chunkDigest": chunk},
        {"type": "dir", "name": "d"},
        {"type": "chunk", "name": "a", "chunkDigest": chunk},
        {"type": "chunk", "name": "a", "chunkDigest": "no digest"},
        {"type": "reg", "name": "b", "size": 2, "digest": file},
    )
    # The file's own chunk does not count as seen: only entries without a file digest do.
    assert retained(data, "dir") == [(0, b"a"), (1, b"a"), (4, b"a"), (5, b"b")]


def test_flat_names_are_digests() -> None:
    data = entries_of(
        {"type": "chunk", "name": "c", "digest": f"sha256:{HEX}"},
        {"type": "reg", "name": "a", "size": 2, "digest": f"sha256:{HEX}"},
        {"type": "reg", "name": "b", "size": 2, "digest": f"sha256:{HEX}"},
    )
    assert retained(data, "flat") == [(1, f"01/{HEX[2:]}".encode())]


def test_flat_needs_a_digest() -> None:
    data = entries_of({"type": "dir"}, {"type": "reg", "name": "a\n", "size": 2})
    with pytest.raises(TocError, match=r"entry 1, 'a\\n': a regular file without a digest"):
        retained(data, "flat")


@pytest.mark.parametrize("digest", ["sha512:" + HEX * 2, "sha256:" + HEX.upper(), "x"])
def test_flat_needs_a_sha256_digest(digest: str) -> None:
    data = entries_of({"type": "reg", "name": "a", "size": 2, "digest": digest})
    with pytest.raises(DigestError, match=r"entry 0, 'a': .* is not a sha256 digest"):
        retained(data, "flat")


def test_flat_of_nothing_is_nothing() -> None:
    assert retained(entries_of({"type": "dir", "name": "a"}), "flat") == []


def test_an_unknown_layout_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="wanted 'dir' or 'flat'"):
        select_retained(Toc.parse(b"{}").entries, "tree")  # type: ignore[arg-type]
