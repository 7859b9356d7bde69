"""Protects the merge: files, chunks, their ranges and sizes are those of Go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import golden_toc, small_layers
from tests.toc import oracle
from tests.toc.compare import file_rows, outcome
from tests.toc.strategies import DIGESTS, INTEGERS, NAMES
from vecache.errors import TocError
from vecache.toc.entries import EntryKind
from vecache.toc.files import TocFiles, TocFormat, flat_files, merge_entries
from vecache.toc.parse import Toc

SMALL = st.integers(-2, 9) | INTEGERS.filter(lambda value: -(2**63) <= value < 2**63)
DIGEST_TEXTS = st.sampled_from(["sha256:" + c * 64 for c in "01"]) | DIGESTS
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["reg", "reg", "chunk", "chunk", "chunk", "dir", "hardlink", ""])},
        optional={
            "name": NAMES,
            "digest": DIGEST_TEXTS,
            **dict.fromkeys(("size", "offset", "endOffset", "chunkSize", "chunkOffset"), SMALL),
        },
    ),
    max_size=12,
)


def document(entries: list[dict[str, Any]]) -> bytes:
    return json.dumps({"entries": entries}).encode("utf-8", "surrogatepass")


def merge(data: bytes, toc_format: TocFormat, toc_offset: int) -> TocFiles:
    return merge_entries(Toc.parse(data).entries, toc_format, toc_offset)


def check(data: bytes, toc_format: TocFormat, toc_offset: int) -> None:
    """Merged and flat agree with the oracle, errors included, and the rest of the columns fit."""
    entries = oracle.unmarshal(data)["entries"]
    estargz = toc_format is TocFormat.ESTARGZ
    wanted = outcome(
        lambda: oracle.merge(entries, estargz=estargz, toc_offset=toc_offset), oracle.RefusedError
    )
    found = outcome(lambda: merge(data, toc_format, toc_offset))
    if wanted == "refused" or found == "refused":
        assert found == wanted
        return
    assert file_rows(found) == wanted
    check_columns(found)
    flat = outcome(lambda: oracle.flat_files(entries, wanted), oracle.RefusedError)
    found_flat = outcome(lambda: flat_files(found))
    if flat == "refused" or found_flat == "refused":
        assert found_flat == flat
        return
    assert file_rows(found_flat) == flat
    check_columns(found_flat)


def check_columns(files: TocFiles) -> None:
    entries, chunks = files.entries, files.chunks
    assert chunks.file_row.tolist() == [
        row
        for row in range(len(files))
        for _ in range(files.chunk_start[row], files.chunk_start[row + 1])
    ]
    assert (chunks.offset == entries.offset[chunks.entry_row]).all()
    assert (chunks.file_offset == entries.chunk_offset[chunks.entry_row]).all()
    assert (chunks.kind == entries.chunk_kind[chunks.entry_row]).all()
    assert set(entries.kind[files.entry_row[chunks.file_row]].tolist()) <= {int(EntryKind.REG)}


@given(ENTRIES, st.sampled_from(list(TocFormat)), st.integers(0, 2**63 - 1))
def test_any_entries_merge_as_in_go(
    entries: list[dict[str, Any]], toc_format: TocFormat, offset: int
) -> None:
    data = document(entries)
    if outcome(lambda: Toc.parse(data)) != "refused":
        check(data, toc_format, offset)


@given(ENTRIES, st.sampled_from(list(TocFormat)))
def test_entries_that_begin_with_a_file(
    entries: list[dict[str, Any]], toc_format: TocFormat
) -> None:
    kinds = {"reg", "chunk"}
    data = document([{"type": "reg"}, *(entry for entry in entries if entry["type"] in kinds)])
    check(data, toc_format, 1000)


@pytest.mark.parametrize("store_and_layer", small_layers(), ids="-".join)
def test_golden_tocs_merge_as_in_go(store_and_layer: tuple[str, str]) -> None:
    is_estargz = store_and_layer[0] == "estargz"
    toc_format = TocFormat.ESTARGZ if is_estargz else TocFormat.ZSTD_CHUNKED
    check(golden_toc(*store_and_layer), toc_format, 10**6)


def test_ends_and_sizes_are_filled_in() -> None:
    files = merge(
        document(
            [
                {"type": "reg", "size": 10, "offset": 100, "chunkSize": 4},
                {"type": "chunk", "offset": 130},
                {"type": "dir"},
                {"type": "reg", "size": 5, "offset": 200},
            ]
        ),
        TocFormat.ESTARGZ,
        300,
    )
    assert files.end_offset.tolist() == [200, 200, 300]
    assert files.chunks.end_offset.tolist() == [130, 200, 300]
    assert files.chunks.size.tolist() == [4, 6, 5]
    assert repr(files) == "<TocFiles: 3 files, 3 chunks>"


LANDMARK = {"type": "reg", "name": ".prefetch.landmark", "size": 1}
CHUNK = {"type": "chunk", "name": "a"}
REG = {"type": "reg", "name": "a", "size": 1}


@pytest.mark.parametrize(
    "entries",
    [[CHUNK], [{"type": "dir"}, CHUNK], [REG, {"type": "symlink"}, CHUNK], [LANDMARK, CHUNK]],
)
def test_a_chunk_needs_a_file_before_it(entries: list[dict[str, Any]]) -> None:
    with pytest.raises(TocError, match="'a': a chunk that does not follow a regular file"):
        merge(document(entries), TocFormat.ESTARGZ, 0)


def test_landmarks_are_files_in_zstd_chunked() -> None:
    data = document([LANDMARK, CHUNK, {"type": "dir", "name": "stargz.index.json"}])
    assert len(merge(data, TocFormat.ZSTD_CHUNKED, 0)) == 2
    assert len(merge(document([LANDMARK, REG]), TocFormat.ESTARGZ, 0)) == 1


def test_landmark_chunks_go_with_the_file_before_them() -> None:
    chunk = {"type": "chunk", "name": "stargz.index.json"}
    assert len(merge(document([chunk, REG, chunk]), TocFormat.ESTARGZ, 0).chunks) == 2


def test_nothing_merges_to_nothing() -> None:
    files = merge(b"{}", TocFormat.ESTARGZ, 0)
    assert (len(files), len(files.chunks)) == (0, 0)
    assert (len(flat_files(files)), files.chunk_start.tolist()) == (0, [0])
