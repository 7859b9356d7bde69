"""Protects the decisions: file by file and chunk by chunk they equal those of the Go code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from tests.plan.oracle import OraclePull, PullFailedError, file_list, replay
from tests.plan.sparse import open_sparse
from tests.plan.strategies import OPTIONS, StoredLayer, load_layers, stored_layers, tocs
from vecache.errors import DigestError, LocationError, TocError
from vecache.index.layers_cache import LayersCache
from vecache.plan.files import Action, PullFiles, select_files
from vecache.plan.pull import plan_image
from vecache.plan.replay import Replay, replay_layer
from vecache.toc.files import TocFormat
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from vecache.plan.options import PlanOptions


def select(toc: bytes, toc_offset: int = 1, layout: Layout = Layout.DIR) -> PullFiles:
    entries = Toc.parse(toc).entries
    return select_files(entries, TocFormat.ZSTD_CHUNKED, toc_offset, layout, toc_offset + len(toc))


def run(toc: bytes, toc_offset: int, cache: LayersCache, options: PlanOptions) -> Replay:
    files = select(toc, toc_offset, options.layout)
    return replay_layer(files, cache, options)


def as_oracle(got: Replay) -> OraclePull:
    """The replay in the oracle's terms."""
    chunk_entry = got.files.chunks.entry_row[got.missing_rows].tolist()
    return OraclePull(
        missing=got.missing_bytes,
        total=got.files.total_bytes,
        ranges=[(first, last) for first, last in got.ranges.bounds.tolist()],
        files={row: Action(got.file_action[row]).name.lower() for row in got.files.wanted.tolist()},
        chunks={
            row: Action(action).name.lower()
            for row, action in zip(chunk_entry, got.chunk_action[got.missing_rows], strict=True)
        },
    )


@given(tocs(), stored_layers(), OPTIONS)
def test_any_pull_equals_the_oracle(
    toc: tuple[bytes, int], layers: list[StoredLayer], options: PlanOptions
) -> None:
    files = file_list(*toc, estargz=False, layout=str(options.layout))
    try:
        wanted = replay(
            files,
            [layer.oracle for layer in layers],
            reflink=options.reflink,
            hard_links=options.hard_links,
            max_ranges=options.max_ranges,
            gap_bytes=options.gap_bytes,
        )
    except PullFailedError:
        with pytest.raises(LocationError):
            run(*toc, load_layers(layers), options)
        return
    assert as_oracle(run(*toc, load_layers(layers), options)) == wanted


def toc_of(**entry: object) -> bytes:
    return json.dumps({"version": 1, "entries": [{"name": "a", **entry}]}).encode()


def test_an_unknown_type_is_refused_by_its_name() -> None:
    with pytest.raises(TocError, match="entry 'a': unknown type"):
        select(toc_of(type="door"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "door"}, "entry 'a': unknown type"),
        ({"type": "chunk"}, "entry 0, 'a': a chunk that"),
        ({"type": "reg", "size": 1, "digest": "x"}, "look-up, row 0: 'x' is not a digest"),
    ],
)
def test_what_a_plan_cannot_take_is_named_with_its_layer(
    entry: dict[str, object], message: str
) -> None:
    image = open_sparse((toc_of(**entry), 100))
    with pytest.raises((DigestError, TocError), match=f"^layer {image.layers[0].blob}: {message}"):
        plan_image(image, LayersCache())


@pytest.mark.parametrize(
    ("name", "is_whiteout"),
    [
        (".wh.a", True),
        ("usr/.wh..wh..opq", True),
        ("usr/.wh.a/", True),
        ("usr/.wh.a/../b", False),
        (".wh.d/a", False),
        ("usr/.wh", False),
        ("usr/x.wh.a", False),
    ],
)
def test_the_base_of_the_cleaned_name_makes_a_whiteout(name: str, is_whiteout: bool) -> None:
    toc = toc_of(type="reg", size=1).replace(b'"a"', json.dumps(name).encode())
    files = select(toc)
    assert (files.action[0] == Action.WHITEOUT) == is_whiteout
    assert files.total_bytes == (0 if is_whiteout else 1)


def test_devices_count_into_the_total_and_are_not_fetched() -> None:
    files = select(toc_of(type="char", size=5))
    assert (files.total_bytes, len(files.wanted)) == (5, 0)
