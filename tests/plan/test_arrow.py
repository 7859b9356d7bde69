"""Protects the table: a row for each file and chunk, and sums that are the plan's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.sparse import open_sparse, plan_with
from tests.plan.strategies import OPTIONS, StoredLayer, load_layers, stored_layers, tocs
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.files import Action
from vecache.plan.options import PlanOptions
from vecache.plan.pull import plan_image, plan_images
from vecache.report.explain import explain
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.plan.image_plan import ImagePlan

COLUMNS = [
    *("image", "layer", "blob", "created_by", "path", "kind"),
    *("digest", "size", "action"),
    *("source_layer", "source_path", "source_offset", "blob_first", "blob_last", "range"),
]
Row = dict[str, Any]


def plan_golden(image: str = "app1", n_present: int = 1, **options: object) -> ImagePlan:
    present = layer_ids("dir")[:n_present]
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / "dir"), present=present)
    options = {"reflink": False, "parallel": 1, **options}
    return plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:{image}"), cache, **options)  # type: ignore[arg-type]


def by_file(rows: list[Row]) -> Iterator[tuple[Row, list[Row]]]:
    """Each file with the chunks that follow it."""
    for index, row in enumerate(rows):
        if row["kind"] != "chunk":
            end = index + 1
            while end < len(rows) and rows[end]["kind"] == "chunk":
                end += 1
            yield row, rows[index + 1 : end]


@given(tocs(), stored_layers(sound=True), OPTIONS)
def test_any_table_adds_up_to_the_plan(
    toc: tuple[bytes, int], layers: list[StoredLayer], options: PlanOptions
) -> None:
    plan = plan_with(open_sparse(toc), load_layers(layers), options)
    (layer,) = plan.layers
    table = plan.to_arrow()
    table.validate(full=True)
    missing = n_fetched = 0
    for file, chunks in by_file(table.to_pylist()):
        assert all(chunk["path"] == file["path"] for chunk in chunks)
        if file["action"] == "fetched":
            missing += file["size"]
            missing -= sum(chunk["size"] for chunk in chunks if chunk["action"] != "fetched")
            n_fetched += sum(chunk["action"] == "fetched" for chunk in chunks)
            ranges = [c["range"] for c in chunks if c["range"] is not None]
            assert file["range"] == (ranges[0] if ranges else None)
        for row in (file, *chunks):
            check_row(row, layer.ranges.tolist())
    assert missing == layer.missing_bytes
    assert n_fetched == layer.count_chunks(Action.FETCHED)


def check_row(row: Row, ranges: list[list[int]]) -> None:
    has_source = row["source_layer"] is not None
    assert has_source == (row["action"] == "reused")
    assert has_source == (row["source_path"] is not None) == (row["source_offset"] is not None)
    assert (row["range"] is not None) <= (row["action"] == "fetched")
    if row["kind"] == "chunk" and row["range"] is not None and row["blob_first"] is not None:
        first, last = ranges[row["range"]]
        assert first <= row["blob_first"] <= row["blob_last"] <= last


def test_a_reused_chunk_has_the_location_of_its_bytes() -> None:
    """Checked against the cache: the location in the table has the chunk's own digest."""
    plan = plan_golden(reflink=True)
    rows = [
        row
        for row in plan.to_arrow().to_pylist()
        if row["kind"] == "chunk" and row["action"] == "reused" and row["path"] == "usr/lib/big.bin"
    ]
    hits = plan.layers[-1].cache.lookup([row["digest"] for row in rows])
    assert [row["source_offset"] for row in rows] == hits.offset.tolist()
    assert [row["source_path"].encode() for row in rows] == hits.paths().to_pylist()
    assert {row["source_layer"] for row in rows} == {layer_ids("dir")[0]}


def test_layers_are_counted_as_explanations_count_them() -> None:
    plan = plan_golden("app2", 0)
    rows = plan.to_arrow().to_pylist()
    assert sorted({row["layer"] for row in rows}) == [1, 2, 3]
    for row in rows:
        if row["kind"] == "file":
            sentences = explain(plan, row["path"])
            blob = row["blob"].partition(":")[2][:12]
            assert f"Layer {row['layer']} of 3 ({blob}) has " in "".join(sentences)


def test_a_layer_that_is_not_replayed_is_one_row() -> None:
    present, whole = plan_golden("app1", 1, partial=False).to_arrow().select(COLUMNS).to_pylist()
    assert (present["kind"], present["action"], present["blob_first"]) == ("blob", "present", None)
    assert (whole["kind"], whole["action"], whole["blob_first"]) == ("blob", "fetched", 0)
    assert whole["blob_last"] == whole["size"] - 1
    assert whole["digest"] == whole["blob"]


def test_the_columns_are_the_same_for_an_image_without_layers() -> None:
    images = [open_image(f"oci:{GOLDEN_SMALL}/oci:{name}") for name in ("base", "app1")]
    images.append(open_sparse(name="no layers"))
    plans = plan_images(images, LayersCache(), PlanOptions(reflink=True))
    tables = [plan.to_arrow() for plan in plans]
    assert [table.column_names for table in tables] == [COLUMNS] * 3
    assert tables[0].schema == tables[1].schema == tables[2].schema
    assert [table.num_rows > 0 for table in tables] == [True, True, False]
    assert tables[1]["image"].unique().to_pylist() == [images[1].reference]


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_a_table_can_be_written_in_every_form(form: str, tmp_path: Any) -> None:
    """One dictionary over all layers: an Arrow file takes no second one."""
    from vecache.report.output import Report, write_report  # noqa: PLC0415 - a floor up

    table = plan_golden("app2", 0, reflink=True).to_arrow()
    report = Report(text=lambda _: "", document=dict, table=lambda: table)
    write_report(tmp_path / f"plan.{form}", report)
    assert (tmp_path / f"plan.{form}").stat().st_size > 1_000
