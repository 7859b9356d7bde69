"""How do other engines get at a store, and another machine? Through a folder of Parquet files.

::

    layers.parquet                     one row a layer, those without a TOC too
    images.parquet                     one row an image, with the ids of its layers
    tags/first_byte=0/part-0.parquet   the tags (`tags.py`) whose digest begins with this byte
    ...
    tags/first_byte=255/part-0.parquet

Tags are sorted by digest inside a file; two stores can be joined file by file. `layer` and `path`
are dictionary-encoded. DuckDB, Polars, pandas and Spark read `tags` as one table with a column
`first_byte`; this in DuckDB is what two layers share at the grain of files::

    WITH held AS (SELECT DISTINCT layer, digest, size FROM 'tags/*/*.parquet' WHERE in_files)
    SELECT a.layer, b.layer, count(*) AS files, sum(a.size) AS bytes
    FROM held a JOIN held b USING (digest) GROUP BY ALL

Layers, images and all that overlap, gather and what-if need are in it. Digests of other algorithms
than sha256 stand under the first byte of their key (`keys.py`). `export.py` writes it, `dataset.py`
opens it again.

A data set may come from anywhere. So what is read has the columns and types below, and no null
where none belongs, or it is refused.

How does a data set become `Contents` again? All of its parts are read once.

What is in the folder, `dataset_files.py` says. Who asks for paths later reads the parts again that
hold them: names are most of a data set, and are not kept.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.digest import parse_digests
from vecache.errors import DatasetError
from vecache.files import open_regular
from vecache.index.load import ExcludedLayer
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import (
    GRAINS,
    MAX_BYTES,
    ContentImage,
    ContentLayer,
    Contents,
    Grain,
)
from vecache.sharing.keys import content_keys
from vecache.sharing.occurrences import TAG_SCHEMA, OccurrenceKind
from vecache.store.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vecache.arrays import I64, U8

__all__ = [
    "FIRST_BYTES",
    "IMAGES_FILE",
    "IMAGE_SCHEMA",
    "LAYERS_FILE",
    "LAYER_SCHEMA",
    "TAGS_FOLDER",
    "TAG_TYPES",
    "has_version",
    "is_dataset",
    "open_dataset",
    "part_path",
    "read_rows",
    "read_table",
]

LAYERS_FILE, IMAGES_FILE, TAGS_FOLDER = "layers.parquet", "images.parquet", "tags"
FIRST_BYTES = 256
"""So many parts at most."""

_VERSION = {b"vecache.dataset": b"1"}


def _field(name: str, kind: Any) -> Any:
    return pa.field(name, kind, nullable=False)


_TEXTS = pa.list_(pa.string())

LAYER_SCHEMA = pa.schema(
    [
        _field("id", pa.string()),
        pa.field("parent", pa.string()),
        _field("names", _TEXTS),
        pa.field("diff_digest", pa.string()),
        pa.field("compressed_diff_digest", pa.string()),
        pa.field("toc_digest", pa.string()),
        pa.field("expected_diff_digest", pa.string()),
        _field("diff_size", pa.int64()),
        _field("big_data_names", _TEXTS),
        _field("store_root", pa.string()),
        _field("files_root", pa.string()),
        _field("is_read_only", pa.bool_()),
        pa.field("n_tags", pa.int64()),  # rows in all parts; null where it is left out
        pa.field("reason", pa.string()),  # why it is left out; null where it is not
    ],
    metadata=_VERSION,
)
IMAGE_SCHEMA = pa.schema(
    [
        _field("id", pa.string()),
        pa.field("digest", pa.string()),
        _field("names", _TEXTS),
        pa.field("top_layer", pa.string()),
        _field("big_data_names", _TEXTS),
        _field("store_root", pa.string()),
        _field("is_read_only", pa.bool_()),
        _field("layers", _TEXTS),
    ],
    metadata=_VERSION,
)
TAG_TYPES = pa.schema(
    [
        _field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
        for field in TAG_SCHEMA
    ]
)
"""Tags as they are read: texts, in whatever form another engine may have written them."""


def part_path(folder: Path, first_byte: int) -> Path:
    """Name the file of one part."""
    return folder / TAGS_FOLDER / f"first_byte={first_byte}" / "part-0.parquet"


def is_dataset(path: Path) -> bool:
    """Say whether a folder looks like a data set."""
    return (path / LAYERS_FILE).is_file()


def has_version(path: Path) -> bool:
    """Say whether a file is of a data set, of whatever version."""
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only data sets need it

    try:
        metadata = parquet.read_schema(path).metadata
    except (OSError, pa.ArrowException):
        return False
    return bool(metadata) and _VERSION.keys() <= metadata.keys()


def read_table(path: Path, schema: Any) -> Any:
    """Read columns of a file, and make sure that they are what they should be."""
    from pyarrow import parquet  # noqa: PLC0415 - as above

    try:
        with open_regular(path) as (data, _), parquet.ParquetFile(data) as file:
            _require_fit(path, file.schema_arrow, schema)
            table = file.read(schema.names).select(schema.names).cast(schema)
        table.validate(full=True)
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: there is no such file; copy or export the data set again"
        ) from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path}: damaged, or not of a data set: {error}") from error
    return table


def read_rows(path: Path, schema: Any) -> list[dict[str, Any]]:
    """Read a file of records."""
    table = read_table(path, schema)
    for field in schema:
        if pa.types.is_list(field.type) and table[field.name].combine_chunks().flatten().null_count:
            raise DatasetError(f"{path}: a null in a list of {field.name}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _require_fit(path: Path, found: Any, schema: Any) -> None:
    """Raise unless a file has all columns, and the version if that is wanted."""
    missing = [name for name in schema.names if name not in found.names]
    if missing:
        raise DatasetError(f"{path}: has no column {missing[0]}")
    for key, wanted in (schema.metadata or {}).items():
        version = (found.metadata or {}).get(key, b"none")
        if version != wanted:
            raise DatasetError(
                f"{path}: found version {version.decode(errors='replace')}, "
                f"wanted {wanted.decode()}; export it again"
            )


_HELD = pa.schema(
    [TAG_TYPES.field(name) for name in ("digest", "layer", "size", "in_files", "in_chunks")]
)

_TAGS_PER_BLOCK = 1 << 21


def open_dataset(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], object] | None = None
) -> Contents:
    """Open a data set that `vecache export` wrote.

    Parameters
    ----------
    path : path-like
        The folder.
    progress : callable, optional
        Called after each part with how many are done, and how many there are.

    Returns
    -------
    Contents
        The same as from the store that was exported.

    Raises
    ------
    DatasetError
        If it is no data set, of another version, or damaged.
    """
    folder = Path(path)
    layer_rows = read_rows(folder / LAYERS_FILE, LAYER_SCHEMA)
    image_rows = read_rows(folder / IMAGES_FILE, IMAGE_SCHEMA)
    _require_distinct(folder / LAYERS_FILE, [row["id"] for row in layer_rows])
    known = [row for row in layer_rows if row["reason"] is None]
    held = _Held([row["id"] for row in known])
    for first_byte in range(FIRST_BYTES):  # files, not rows
        part = part_path(folder, first_byte)
        if part.is_file():
            held.add(read_table(part, _HELD))
        if progress is not None:
            progress(first_byte + 1, FIRST_BYTES)
    held.require_all(folder, [row["n_tags"] for row in known])
    files, chunks = held.content_table("file"), held.content_table("chunk")
    return Contents(
        tuple(map(ContentLayer, map(_layer_record, known), files, chunks)),
        tuple(
            ExcludedLayer(_layer_record(row), row["reason"])
            for row in layer_rows
            if row["reason"] is not None
        ),
        tuple(ContentImage(_image_record(row), tuple(row["layers"])) for row in image_rows),
        _DatasetSource(folder, {row["id"]: row["n_tags"] for row in known}),
    )


def _require_distinct(path: Path, layer_ids: list[str]) -> None:
    if len(set(layer_ids)) < len(layer_ids):
        raise DatasetError(f"{path}: two layers have the same id")


class _Held:
    """Gathers what each layer holds, part by part."""

    def __init__(self, layer_ids: list[str]) -> None:
        self._n_layers = len(layer_ids)
        self._ids = pa.array(layer_ids, pa.string())
        self._rows: dict[Grain, list[tuple[I64, U8, I64]]] = {grain: [] for grain in GRAINS}
        self._n_tags = np.zeros(len(layer_ids), np.int64)

    def add(self, table: Any) -> None:
        import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only data sets need it

        key, has_key = content_keys(parse_digests(table["digest"]))
        layer = pc.index_in(table["layer"], value_set=self._ids)
        layer_no = layer.fill_null(-1).to_numpy().astype(np.int64)
        np.add.at(self._n_tags, layer_no[layer_no >= 0], 1)
        size = table["size"].to_numpy()
        is_good = has_key & (layer_no >= 0) & (size > 0)
        for grain, name in zip(GRAINS, ("in_files", "in_chunks"), strict=True):
            rows = np.flatnonzero(is_good & table[name].to_numpy())
            self._rows[grain].append((layer_no[rows], key[rows], size[rows]))

    def require_all(self, folder: Path, wanted: list[int | None]) -> None:
        """Notice a part that got lost, and sizes that no sum could hold."""
        for layer_id, found, n_tags in zip(
            self._ids.to_pylist(), self._n_tags.tolist(), wanted, strict=True
        ):
            if found != n_tags:
                raise DatasetError(
                    f"{folder}: found {found:,} tags of layer {layer_id[:12]}, wanted {n_tags}; "
                    "parts are missing or changed: copy or export it again"
                )
        for rows in self._rows.values():
            if sum(float(size.sum(dtype=np.float64)) for _, _, size in rows) > MAX_BYTES:
                raise DatasetError(f"{folder}: the sizes in it are more than any disk holds")

    def content_table(self, grain: Grain) -> Iterable[ContentTable]:
        empty = (np.zeros(0, np.int64), np.zeros((0, 32), np.uint8), np.zeros(0, np.int64))
        layer_no, key, size = map(np.concatenate, zip(empty, *self._rows.pop(grain), strict=True))
        order = np.argsort(layer_no, kind="stable")
        edges = np.searchsorted(layer_no[order], np.arange(self._n_layers + 1))
        parts = (order[low:high] for low, high in pairwise(edges.tolist()))
        return [ContentTable.from_rows(key[rows], size[rows]) for rows in parts]  # layers, not rows


class _DatasetSource:
    """Finds tags again in the folder."""

    def __init__(self, folder: Path, n_tags: dict[str, int]) -> None:
        self._folder = folder
        self._n_tags = n_tags

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        return [self._find_path(record, row) for row in key]  # a few that are shown

    def _find_path(self, record: LayerRecord, key: U8) -> str | None:
        part = part_path(self._folder, int(key[0]))
        if not part.is_file():  # since the data set was opened
            return None
        table = _of_layer(read_table(part, TAG_TYPES), record.id)
        keys, _ = content_keys(parse_digests(table["digest"]))
        is_file = table["kind"].to_numpy() == OccurrenceKind.FILE.name.lower()
        found = np.flatnonzero(is_file & (keys == key).all(axis=1))
        path: str | None = table["path"][int(found[0])].as_py() if len(found) else None
        return path

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        for block in self._blocks(records):
            yield from self._block_tags(pa.array(block, pa.string()))

    def _blocks(self, records: Sequence[LayerRecord]) -> Iterator[list[str]]:
        """Ids of layers whose tags together find room; each block reads all parts once."""
        block: list[str] = []
        n_tags = 0
        for record in records:
            n_tags += self._n_tags[record.id]
            if block and n_tags > _TAGS_PER_BLOCK:
                yield block
                block, n_tags = [], self._n_tags[record.id]
            block.append(record.id)
        if block:
            yield block

    def _block_tags(self, ids: Any) -> Iterator[tuple[Any, U8]]:
        import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only data sets need it

        found = [TAG_TYPES.empty_table()]
        for first_byte in range(FIRST_BYTES):  # files, not rows
            part = part_path(self._folder, first_byte)
            if part.is_file():
                table = read_table(part, TAG_TYPES)
                found.append(table.filter(pc.is_in(table["layer"], value_set=ids)))
        tags = pa.concat_tables(found).combine_chunks()
        layer_no = pc.index_in(tags["layer"], value_set=ids).to_numpy()
        order = np.argsort(layer_no, kind="stable")
        edges = np.searchsorted(layer_no[order], np.arange(len(ids) + 1))
        for low, high in pairwise(edges.tolist()):  # layers, not rows
            of_layer = tags.take(pa.array(order[low:high])).cast(TAG_SCHEMA)
            yield of_layer, content_keys(parse_digests(of_layer["digest"]))[0]


def _of_layer(table: Any, layer: str) -> Any:
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only data sets need it

    return table.filter(pc.equal(table["layer"], layer))


def _layer_record(row: dict[str, Any]) -> LayerRecord:
    return LayerRecord(
        id=row["id"],
        parent=row["parent"],
        names=tuple(row["names"]),
        diff_digest=row["diff_digest"],
        compressed_diff_digest=row["compressed_diff_digest"],
        toc_digest=row["toc_digest"],
        expected_diff_digest=row["expected_diff_digest"],
        diff_size=row["diff_size"],
        big_data_names=tuple(row["big_data_names"]),
        store_root=Path(row["store_root"]),
        files_root=Path(row["files_root"]),
        is_read_only=row["is_read_only"],
    )


def _image_record(row: dict[str, Any]) -> ImageRecord:
    return ImageRecord(
        id=row["id"],
        digest=row["digest"],
        names=tuple(row["names"]),
        top_layer=row["top_layer"],
        big_data_names=tuple(row["big_data_names"]),
        store_root=Path(row["store_root"]),
        is_read_only=row["is_read_only"],
    )
