"""Read data sets: the layers, images and tags of a store as Parquet.

A data set is a folder::

    layers.parquet                     one row a layer, those without a TOC too (`LAYER_SCHEMA`)
    images.parquet                     one row an image, with its layers (`IMAGE_SCHEMA`)
    tags/first_byte=0/part-0.parquet   tags whose key (`keys.py`) begins with this byte, sorted by
    ...                                key; the layers in store order (`occurrences.TAG_SCHEMA`)
    tags/first_byte=255/part-0.parquet
    tags/all/part-0.parquet            instead, up to a million tags (`SMALL_TAGS`): all of them

A part without rows is missing. A small data set can be one Parquet file: the tags of one layer
after another, each sorted by key, and the rows of layers and images as JSON in its metadata, under
`vecache.layers` and `vecache.images`.

The data set of several stores is a folder with one of these folders for each, `host=NAME`, its name
quoted as in a URL.

DuckDB, Polars, pandas and Spark read `tags` as one table, with `host` and `first_byte` as columns
where the folders have them. This in DuckDB gives what `overlap` does for whole files::

    WITH held AS (
        SELECT layer, digest, min(min(size)) OVER (PARTITION BY digest) AS size
        FROM 'tags/*/*.parquet' WHERE in_files GROUP BY layer, digest
    )
    SELECT a.layer, b.layer, count(*) AS files, sum(a.size) AS bytes
    FROM held a JOIN held b USING (digest) GROUP BY ALL

A layer may list a digest many times, so rows are grouped. Only a damaged TOC gives a digest two
sizes; then the smallest counts.

A data set can come from anywhere: it must have these columns, in types that convert without loss,
and no null where the schema allows none, or is refused. All tags are read once, without the paths,
which are most of the bytes. Paths are read again when they are asked for.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from vecache.digest import parse_digests
from vecache.errors import DatasetError
from vecache.index.load import ExcludedLayer
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import GRAINS, MAX_BYTES, Contents, Grain
from vecache.sharing.hosts import merge_hosts
from vecache.sharing.keys import content_keys, find_keys
from vecache.sharing.members import ContentImage, ContentLayer
from vecache.sharing.occurrences import TAG_SCHEMA, TAG_TYPES, OccurrenceKind
from vecache.sharing.parquet import exists, fitted, open_parquet, parse_rows, read_table
from vecache.store.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vecache.arrays import I64, U8

__all__ = [
    "FILE_VERSION",
    "FIRST_BYTES",
    "HOST_PREFIX",
    "IMAGES_FILE",
    "IMAGES_KEY",
    "IMAGE_SCHEMA",
    "LAYERS_FILE",
    "LAYERS_KEY",
    "LAYER_SCHEMA",
    "SMALL_TAGS",
    "TAGS_FOLDER",
    "is_dataset",
    "open_dataset",
    "part_path",
]

LAYERS_FILE, IMAGES_FILE, TAGS_FOLDER = "layers.parquet", "images.parquet", "tags"
FIRST_BYTES = 256
SMALL_TAGS = 1 << 20
"""So many tags at most are one part."""
HOST_PREFIX = "host="

LAYERS_KEY, IMAGES_KEY = b"vecache.layers", b"vecache.images"
_VERSION = {b"vecache.dataset": b"1"}  # metadata of layers.parquet and images.parquet
FILE_VERSION = {b"vecache.dataset_file": b"1"}  # of a data set that is one file


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
        pa.field("n_tags", pa.int64()),  # rows in all parts; null if the layer is excluded
        pa.field("reason", pa.string()),  # why the layer is excluded; null if it is not
        pa.field("is_unread", pa.bool_()),  # null if it is not
        pa.field("is_additional", pa.bool_()),  # whether it is in an additional store
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
        _field("layers", _TEXTS),  # ids from the base up
        pa.field("created_by", _TEXTS),  # what made each of them, as far as its config says
        pa.field("is_additional", pa.bool_()),
    ],
    metadata=_VERSION,
)
_COUNTED = pa.schema(
    [TAG_TYPES.field(name) for name in ("digest", "layer", "size", "in_files", "in_chunks")]
)
_PATHS = pa.schema([TAG_TYPES.field(name) for name in ("digest", "layer", "kind", "path")])
_LAYER = pa.schema([TAG_TYPES.field("layer")])

_FILE_KIND = OccurrenceKind.FILE.name.lower()
_TAGS_PER_BLOCK = 1 << 21


def open_dataset(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], object] | None = None
) -> Contents:
    """Open a data set that `vecache export` wrote.

    Parameters
    ----------
    path : path-like
        The folder, or the Parquet file.
    progress : callable, optional
        Called after each part with the number of parts read and the number of all.

    Returns
    -------
    Contents
        The contents of the exported store: its layers and images, as `read_contents` returns them
        for the store itself. `overlap`, `shares`, `gather` and `what_if` take it as a source; of
        several stores the layers of all of them, each with its host.

    Raises
    ------
    DatasetError
        If this is not a data set, has another version, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import vecache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vecache.export_dataset({"web1": vecache.open_sample()}, f"{folder}/set")
    ...     vecache.overlap(vecache.open_dataset(f"{folder}/set"), by="image")
    <Overlap: 5 images by file, 10 pairs share, 8,956,628 bytes>
    """
    path = Path(path)
    folders = _host_folders(path)
    if not folders:
        return _open_one(path, progress)
    hosts = [unquote(folder.name.removeprefix(HOST_PREFIX)) for folder in folders]
    if not all(hosts) or len({*hosts}) < len(hosts):
        raise DatasetError(f"{path}: two folders are of one host, or one has no name")
    opened = [_open_one(folder, progress) for folder in folders]
    return merge_hosts(dict(zip(hosts, opened, strict=True)))


def _open_one(path: Path, progress: Callable[[int, int], object] | None) -> Contents:
    """Open the data set of one store."""
    parts = _Folder(path) if path.is_dir() else _File(path)
    layer_rows, image_rows = parts.layers.to_pylist(), parts.images.to_pylist()
    if len({row["id"] for row in layer_rows}) < len(layer_rows):
        raise DatasetError(f"{path}: two layers have the same id")
    known = [row for row in layer_rows if row["reason"] is None]
    excluded = [row for row in layer_rows if row["reason"] is not None]
    tags = _CountedTags([row["id"] for row in known])
    for number, table in enumerate(parts.read(_COUNTED), 1):
        tags.add(table)
        if progress is not None:
            progress(number, parts.n_parts)
    tags.require_all(path, [row["n_tags"] for row in known])
    files, chunks = (tags.pop_tables(path, grain) for grain in GRAINS)
    return Contents(
        tuple(map(ContentLayer, map(partial(_record, LayerRecord), known), files, chunks)),
        tuple(
            ExcludedLayer(_record(LayerRecord, row), row["reason"], bool(row["is_unread"]))
            for row in excluded
        ),
        tuple(
            ContentImage(
                _record(ImageRecord, {**row, "created_by": row["created_by"] or ()}),
                tuple(row["layers"]),
            )
            for row in image_rows
        ),
        _DatasetSource(parts, {row["id"]: row["n_tags"] for row in known}),
        frozenset(row["id"] for row in (*layer_rows, *image_rows) if row["is_additional"]),
    )


def is_dataset(path: Path) -> bool:
    """Return whether a path looks like a data set."""
    is_parquet = path.suffix.lower() == ".parquet"
    is_file = is_parquet and path.is_file()
    return is_file or (path / LAYERS_FILE).is_file() or bool(_host_folders(path))


def _host_folders(path: Path) -> list[Path]:
    """Return the data sets of a folder of several stores, in the order of their names."""
    if (path / LAYERS_FILE).is_file():
        return []
    return sorted(file.parent for file in path.glob(f"{HOST_PREFIX}*/{LAYERS_FILE}"))


def part_path(folder: Path, first_byte: int | None) -> Path:
    """Return the path of a part; None stands for the only one."""
    name = "all" if first_byte is None else f"first_byte={first_byte}"
    return folder / TAGS_FOLDER / name / "part-0.parquet"


class _Folder:
    """A data set as a folder; each file of tags is a part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_small = exists(part_path(path, None))
        self.n_parts = 1 if self._is_small else FIRST_BYTES
        self.layers = read_table(path / LAYERS_FILE, LAYER_SCHEMA)
        self.images = read_table(path / IMAGES_FILE, IMAGE_SCHEMA)

    def read(self, schema: Any, layer_ids: Any = None, first_bytes: Any = None) -> Iterator[Any]:
        """Yield these columns of each part that can have tags of these layers and first bytes."""
        if self._is_small:
            yield read_table(part_path(self._path, None), schema)
            return
        for first_byte in range(FIRST_BYTES) if first_bytes is None else first_bytes:  # files
            part = part_path(self._path, first_byte)
            yield read_table(part, schema) if exists(part) else schema.empty_table()


class _File:
    """A data set as one file; each row group is a part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_parquet(path, FILE_VERSION) as file:
            metadata = file.metadata.metadata
            self.n_parts: int = file.num_row_groups
            self.layers = parse_rows(metadata.get(LAYERS_KEY, b"null"), LAYER_SCHEMA)
            self.images = parse_rows(metadata.get(IMAGES_KEY, b"null"), IMAGE_SCHEMA)

    def read(self, schema: Any, layer_ids: Any = None, first_bytes: Any = None) -> Iterator[Any]:
        """Yield these columns of each part that can have tags of these layers and first bytes."""
        with open_parquet(self._path, FILE_VERSION) as file:
            for number in range(file.num_row_groups):  # any of them can have any first byte
                if layer_ids is not None:  # quick, as a part usually has one layer
                    layers = fitted(file.read_row_group(number, _LAYER.names), _LAYER)
                    if (_layer_numbers(layers, layer_ids) < 0).all():
                        continue
                yield fitted(file.read_row_group(number, schema.names), schema)


class _CountedTags:
    """Collects the tags that overlap counts, a part at a time, and counts all."""

    def __init__(self, layer_ids: list[str]) -> None:
        self._ids = pa.array(layer_ids, pa.string())
        self._n_tags = np.zeros(len(layer_ids), np.int64)
        self._rows: dict[Grain, list[tuple[I64, U8, I64]]] = {
            grain: [(np.zeros(0, np.int64), np.zeros((0, 32), np.uint8), np.zeros(0, np.int64))]
            for grain in GRAINS
        }

    def add(self, table: Any) -> None:
        key, has_key = content_keys(parse_digests(table["digest"]))
        layer_no = _layer_numbers(table, self._ids)
        np.add.at(self._n_tags, layer_no[layer_no >= 0], 1)
        size = table["size"].to_numpy()
        is_valid = has_key & (layer_no >= 0) & (size > 0)
        for grain, name in zip(GRAINS, ("in_files", "in_chunks"), strict=True):
            rows = np.flatnonzero(is_valid & table[name].to_numpy())
            self._rows[grain].append((layer_no[rows], key[rows], size[rows]))

    def require_all(self, path: Path, n_tags: list[int | None]) -> None:
        """Raise unless each layer has as many tags as its row says: a part can get lost."""
        found = zip(self._ids.to_pylist(), self._n_tags.tolist(), n_tags, strict=True)
        for layer_id, n_found, n_wanted in found:
            if n_found != n_wanted:
                raise DatasetError(
                    f"{path}: found {n_found:,} tags of layer {layer_id[:12]}, wanted {n_wanted}; "
                    "parts are missing or changed: copy or export it again"
                )

    def pop_tables(self, path: Path, grain: Grain) -> list[ContentTable]:
        """Return the contents of each layer, and forget their rows."""
        layer_no, key, size = map(np.concatenate, zip(*self._rows.pop(grain), strict=True))
        tables = [
            ContentTable.from_rows(key[rows], size[rows])
            for rows in _rows_by_layer(layer_no, len(self._ids))
        ]
        n_bytes = sum(table.logical_bytes for table in tables)
        if n_bytes > MAX_BYTES:
            raise DatasetError(
                f"{path}: found {n_bytes:,} bytes of {grain}s, wanted at most {MAX_BYTES:,}"
            )
        return tables


class _DatasetSource:
    """Reads paths and tags again from the parts."""

    def __init__(self, parts: _Folder | _File, n_tags: dict[str, int]) -> None:
        self._parts = parts
        self._n_tags = n_tags

    def store_root(self, record: LayerRecord | ImageRecord) -> Path:
        return record.store_root

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        paths: list[str | None] = [None] * len(key)
        layer_ids, first_bytes = pa.array([record.id]), np.unique(key[:, 0]).tolist()
        for table in self._parts.read(_PATHS, layer_ids, first_bytes):
            files = _of_layers(table, layer_ids)
            files = files.filter(pa.array(files["kind"].to_numpy() == _FILE_KIND))
            row = find_keys(content_keys(parse_digests(files["digest"]))[0], key)
            for number in np.flatnonzero(row >= 0).tolist():  # few: files that are shown
                if paths[number] is None:
                    paths[number] = files["path"][int(row[number])].as_py()
        return paths

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        for block in self._blocks(records):
            yield from self._read_block(pa.array(block, pa.string()))

    def _blocks(self, records: Sequence[LayerRecord]) -> Iterator[list[str]]:
        """Divide layers into blocks that fit into memory; each block reads all parts once."""
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

    def _read_block(self, layer_ids: Any) -> Iterator[tuple[Any, U8]]:
        parts = self._parts.read(TAG_TYPES, layer_ids)
        found = [TAG_TYPES.empty_table(), *(_of_layers(table, layer_ids) for table in parts)]
        tags = pa.concat_tables(found).combine_chunks()
        for rows in _rows_by_layer(_layer_numbers(tags, layer_ids), len(layer_ids)):
            of_layer = tags.take(pa.array(rows)).cast(TAG_SCHEMA)
            yield of_layer, content_keys(parse_digests(of_layer["digest"]))[0]


def _layer_numbers(table: Any, layer_ids: Any) -> I64:
    """(n_rows,) int64: the index in `layer_ids` of each row's layer, or -1."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only data sets need it

    found = pc.index_in(table["layer"], value_set=layer_ids)
    layer_no: I64 = found.fill_null(-1).to_numpy().astype(np.int64)
    return layer_no


def _of_layers(table: Any, layer_ids: Any) -> Any:
    return table.filter(pa.array(_layer_numbers(table, layer_ids) >= 0))


def _rows_by_layer(layer_no: I64, n_layers: int) -> Iterator[I64]:
    """Yield the rows of each layer, in the order in which they stand."""
    order = np.argsort(layer_no, kind="stable")
    edges = np.searchsorted(layer_no[order], np.arange(n_layers + 1))
    for low, high in pairwise(edges.tolist()):  # layers, not rows
        yield order[low:high]


_Record = TypeVar("_Record", LayerRecord, ImageRecord)


def _record(kind: type[_Record], row: Mapping[str, Any]) -> _Record:
    """Make a record of the columns with the names of its fields; a field without one is unset."""
    values = {field.name: row[field.name] for field in fields(kind) if field.name in row}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
        elif name.endswith("_root"):
            values[name] = Path(value)
    return kind(**values, items={})  # what the paths name is of another time, or machine
