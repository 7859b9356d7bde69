"""Protects the history of a series: its figures are those of one pull planned after the other."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, needs_debian
from tests.image.samples import Layer, estargz_layer, make_image, plain_layer, zstd_layer
from tests.image.samples import write_layout as write_sample
from tests.layouts import debian_layers_by_image, write_layout
from tests.plan.sparse import open_sparse
from tests.plan.strategies import tocs
from tests.plan.test_absurd import ENTRIES, toc
from tests.recorded import RecordedPulls
from vecache.errors import TocError
from vecache.image.blob import FileBlob
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.best import Cause
from vecache.plan.history import NOTHING, History
from vecache.plan.pull import plan_image
from vecache.plan.series import _limit, count_layers, history

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vecache.image.model import Image, ImageLayer
    from vecache.plan.image_plan import ImagePlan

SMALL = [f"oci:{GOLDEN_SMALL}/oci:{name}" for name in ("base", "app1", "app2", "other", "dirs")]
FILE = {"type": "reg", "size": 5, "digest": "sha256:" + "ab" * 32, "offset": 0, "endOffset": 40}
OPTIONS = st.fixed_dictionaries(
    {
        "reflink": st.booleans(),
        "hard_links": st.booleans(),
        "layout": st.sampled_from(["dir", "flat"]),
        "parallel": st.sampled_from([1, 2, 6]),
    }
)


def step_by_step(images: list[Image], image: int, after: int, **options: Any) -> ImagePlan:
    """Plan as a user of `plan_image` would, with planners and nodes of their own."""
    node = LayersCache()
    if after != NOTHING:
        node = plan_image(images[after], node, **options).cache_after
    return plan_image(images[image], node, **options)


def check(images: list[Image], *, between: bool = True, **options: Any) -> History:
    found = history(images, between=between, **options)
    n = len(images)
    pairs = [(i, j) for i in range(n) for j in range(NOTHING, n) if i != j]
    if not between:
        pairs = [(i, j) for i, j in pairs if j in (NOTHING, i - 1) or (j == 0 < i)]
    assert [(row["image"], row["after"]) for row in found.pulls] == pairs
    at = 0
    for row in found.pulls:
        plan = step_by_step(images, row["image"], row["after"], **options)
        check_pull(row, plan)
        layers = found.layers[at : at + len(plan.layers)]
        at += len(plan.layers)
        check_layers(found, layers, plan, (row["image"], row["after"]))
    assert at == len(found.layers)
    return found


def check_pull(row: Any, plan: ImagePlan) -> None:
    for name in ("total_bytes", "missing_bytes", "fetch_bytes", "slack_bytes", "toc_bytes"):
        assert row[name] == getattr(plan, name)
    assert row["requests"] == plan.requests
    assert row["whole_bytes"] == plan.whole_bytes
    assert (row["least_missing_bytes"], row["most_missing_bytes"]) == plan.missing_bounds
    assert (row["least_fetch_bytes"], row["most_fetch_bytes"]) == plan.fetch_bounds
    assert row["best_missing_bytes"] == plan.best.missing_bytes
    assert {cause: row[f"excess_{cause}"] for cause in Cause} == plan.best.excess
    states = Counter(str(layer.state) for layer in plan.layers)
    assert {state: row[state] for state in ("present", "partial", "whole") if row[state]} == states


def check_layers(found: History, rows: Any, plan: ImagePlan, pair: tuple[int, int]) -> None:
    for number, (row, layer) in enumerate(zip(rows, plan.layers, strict=True), 1):
        assert (row["image"], row["after"], row["layer"]) == (*pair, number)
        assert found.blobs[row["blob"]] == layer.blob
        assert ["present", "partial", "whole"][row["state"]] == layer.state
        for name in ("total_bytes", "missing_bytes"):
            assert row[name] == (getattr(layer, name) or 0)
        for name in ("fetch_bytes", "slack_bytes", "toc_bytes", "requests"):
            assert row[name] == getattr(layer, name)
        best = plan.best.layers[number - 1]
        assert row["best_missing_bytes"] == best.missing_bytes
        assert {cause: row[f"excess_{cause}"] for cause in Cause} == best.excess


@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize("reflink", [True, False])
def test_small_images_cost_what_plans_say(*, reflink: bool, between: bool) -> None:
    images = [open_image(name) for name in SMALL]
    found = check(images, reflink=reflink, between=between)
    assert found.images == tuple(SMALL)
    assert found.is_between == between


def test_recorded_images_of_several_layers_cost_what_plans_say(tmp_path: Path) -> None:
    recorded = RecordedPulls("layered", tmp_path)
    images = [open_image(recorded.reference(name)) for name in recorded.images]
    check(images, between=False, layout="flat", parallel=2)
    check(images, between=False, reflink=True)


def test_recorded_images_of_every_kind_cost_what_plans_say(tmp_path: Path) -> None:
    """Of eStargz layers, of layers without a TOC or without a tar-split."""
    recorded = RecordedPulls("presence", tmp_path)
    images = [open_image(recorded.reference(name)) for name in recorded.images]
    found = check(images, between=False)
    assert {*found.layers["state"]} == {0, 1, 2}


@needs_debian
def test_real_images_cost_what_plans_say(tmp_path: Path) -> None:
    layers = debian_layers_by_image()
    layout = write_layout(tmp_path / "oci", {name: [layer] for name, layer in layers.items()})
    images = [open_image(f"oci:{layout}:{name}") for name in layers]
    found = check(images, between=False, reflink=True)
    assert 0 < found.figures("fetch_bytes").sum() < found.figures("fetch_bytes", "nothing").sum()


@settings(max_examples=25)
@given(st.lists(st.lists(st.none() | tocs(), max_size=3), max_size=4), OPTIONS, st.booleans())
def test_any_images_cost_what_plans_say(
    layers: list[list[tuple[bytes, int] | None]], options: dict[str, Any], between: bool
) -> None:
    images = [open_sparse(*each, name=f"image {n}") for n, each in enumerate(layers)]
    found = check(images, between=between, **options)
    check_views(found)
    assert found.layers["fetch_bytes"].sum() == found.pulls["fetch_bytes"].sum()


def check_views(found: History) -> None:
    """Figures, matrix, table, text: all say what the pulls say."""
    by_pair = {(row["image"], row["after"]): row["fetch_bytes"] for row in found.pulls}
    n = len(found)
    expected = {
        "nothing": [by_pair[i, NOTHING] for i in range(n)],
        "previous": [by_pair[i, i - 1] for i in range(n)],
        "first": [by_pair[i, 0 if i else NOTHING] for i in range(n)],
    }
    for after, values in expected.items():
        assert found.figures("fetch_bytes", after).tolist() == values  # type: ignore[arg-type]
    if found.is_between:
        matrix = found.matrix("fetch_bytes")
        assert matrix.shape == (n, n)
        for (image, after), value in by_pair.items():
            assert matrix[image, image if after == NOTHING else after] == value
    table = found.to_arrow()
    assert pa.table(found).equals(table)
    assert table.num_rows == len(found.layers)
    for row in table.to_pylist():
        assert (row["after"] is None) == (row["after_no"] is None)
        assert row["image"] == found.images[row["image_no"]]
        assert (row["missing_bytes"] is None) == (row["state"] == "whole")
    assert f"{n} image{'s' * (n != 1)}" in repr(found)
    assert found._repr_html_().startswith("<table>")


@settings(max_examples=20)
@given(st.lists(st.lists(ENTRIES, max_size=4), min_size=1, max_size=3))
def test_absurd_numbers_raise_nothing(entries: list[list[dict[str, Any]]]) -> None:
    images = [open_sparse((toc(each), 100), (toc(each), 101)) for each in entries]
    try:
        found = history(images)
    except TocError:
        return
    check_views(found)


def test_figures_at_the_ends_of_64_bits_are_written_and_drawn() -> None:
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert [_limit(n) for n in (2 * most, most, -5, 2 * least)] == [most, most, -5, least]
    found = history([open_image(name) for name in SMALL[:2]], between=True)
    for fetched in ([most] * 4, [most, 0, least, 5]):
        pulls = found.pulls.copy()
        for name in ("fetch_bytes", "missing_bytes", "best_missing_bytes", "excess_repeated"):
            pulls[name] = fetched
        absurd = replace(found, pulls=pulls)
        assert absurd.plot()._repr_png_()
        assert absurd.plot("heatmap")._repr_png_()
        assert absurd._repr_html_()


def test_what_is_saved_is_a_share_of_what_a_node_with_nothing_fetches() -> None:
    images = [open_image(SMALL[0]), open_image(SMALL[1]), open_sparse()]
    found = history(images)
    alone, after = found.pulls["fetch_bytes"][found.rows("nothing")], found.figures("fetch_bytes")
    assert found.saved().tolist() == [
        0.0,
        (alone[1] - after[1]) / alone[1],
        0.0,
    ]  # the last has no bytes
    assert found.saved("nothing").tolist() == [0.0, 0.0, 0.0]


def test_each_toc_is_read_once_for_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds, in images of which each has the layers of the one before."""
    layers: list[Layer] = []
    samples = {}
    for n in range(4):
        text = (
            zstd_layer(toc([]), data=b"d" * (100 + n)),
            estargz_layer(toc([{**FILE, "name": f"{n}"}])),
        )
        layers += [*text, plain_layer()]
        samples[f"v{n}"] = make_image(layers)
    folder = write_sample(tmp_path / "oci", samples)
    reads = Counter[tuple[str, int]]()
    read = FileBlob.read

    def count(blob: FileBlob, offset: int, n_bytes: int) -> bytes:
        reads[blob.where, offset] += 1
        return read(blob, offset, n_bytes)

    images = [open_image(f"oci:{folder}:{name}") for name in samples]
    monkeypatch.setattr(FileBlob, "read", count)
    found = history(images, between=True)
    assert len(found.pulls) == 16
    assert set(reads.values()) == {1}
    assert len(reads) == 4 * (1 + 2)  # a TOC, and a TOC and its footer


def test_memory_is_that_of_three_images_however_long_the_series() -> None:
    """Without the garbage collector: nothing may hold a TOC in a cycle."""
    most = 0
    layers: list[weakref.ref[ImageLayer]] = []
    columns: dict[int, weakref.ref[Any]] = {}  # one of each TOC that was read

    def images() -> Iterator[Image]:
        for n in range(12):
            texts = (toc([{**FILE, "name": f"{n}.{each}"}]) for each in range(5))
            image = open_sparse(*((text, 100) for text in texts))
            layers.extend(map(weakref.ref, image.layers))
            yield image

    def count() -> None:
        nonlocal most
        for number, layer in enumerate(each() for each in layers):
            if layer is not None and "toc" in vars(layer):
                columns[number] = weakref.ref(layer.toc.entries.size)
        most = max(most, sum(column() is not None for column in columns.values()))

    gc.collect()
    gc.disable()
    try:
        found = history(images(), progress=count)
    finally:
        gc.enable()
    assert len(found) == 12
    assert len(columns) == 12 * 5
    assert most <= 3 * 5  # the first image, the one whose turn it is, and the next


def test_images_that_the_caller_holds_retain_their_tocs() -> None:
    images = [open_image(name) for name in SMALL[:3]]
    history(images)
    assert all(
        "toc" in vars(layer) for layer in {layer.blob: layer for layer in images[0].layers}.values()
    )


def test_progress_is_told_of_each_layer() -> None:
    images = [open_image(name) for name in SMALL]
    for between in (False, True):
        calls: list[int] = []
        history(images, between=between, progress=lambda: calls.append(1))  # noqa: B023
        assert len(calls) == count_layers(images, between=between)


def test_what_makes_no_sense_is_refused() -> None:
    images = [open_image(name) for name in SMALL[:3]]
    found = history(images)
    with pytest.raises(ValueError, match="only a history made with between=True"):
        found.matrix("fetch_bytes")
    with pytest.raises(ValueError, match="only a history made with between=True"):
        found.plot("heatmap")
    with pytest.raises(ValueError, match="found 'image', wanted one of present, partial"):
        found.figures("image")
    with pytest.raises(ValueError, match="found 'last', wanted 'nothing'"):
        found.rows("last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="found 'pie', wanted 'curve'"):
        found.plot("pie")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="found str, wanted an Image"):
        history(SMALL)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reflink: found 'no'"):
        history(images, reflink="no")  # type: ignore[arg-type]


def test_figures_cannot_be_changed() -> None:
    found = history([open_image(SMALL[0])])
    with pytest.raises(ValueError, match="read-only"):
        found.pulls["fetch_bytes"][0] = 1


@pytest.mark.parametrize("n_images", [0, 1, 5])
def test_every_history_has_both_pictures(n_images: int) -> None:
    found = history([open_image(name) for name in SMALL[:n_images]], between=True)
    assert found.plot()._repr_png_()
    assert found.plot("heatmap")._repr_png_()
    assert np.all(found.matrix("fetch_bytes") >= 0)
