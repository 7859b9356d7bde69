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

Layers, images and all that overlap, gather and what-if need are in it: `open_dataset` gives it back
as `Contents`, which are then asked like any other. Digests of other algorithms than sha256 stand
under the first byte of their key (`keys.py`). `export.py` writes it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.digest import parse_digests
from vecache.errors import DatasetError
from vecache.sharing.contents import (
    MAX_BYTES,
    ContentImage,
    ContentLayer,
    Contents,
    Grain,
    LeftOutLayer,
)
from vecache.sharing.holdings import Holdings
from vecache.sharing.keys import content_keys
from vecache.sharing.places import PlaceKind
from vecache.sharing.tags import TAG_SCHEMA
from vecache.store.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from vecache.arrays import I64, U8

__all__ = [
    "IMAGES_FILE",
    "IMAGE_SCHEMA",
    "LAYERS_FILE",
    "LAYER_SCHEMA",
    "TAGS_FOLDER",
    "is_dataset",
    "open_dataset",
    "part_path",
]

LAYERS_FILE, IMAGES_FILE, TAGS_FOLDER = "layers.parquet", "images.parquet", "tags"
_VERSION = {b"vecache.dataset": b"1"}
_TEXTS = pa.list_(pa.string())

LAYER_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("parent", pa.string()),
        ("names", _TEXTS),
        ("diff_digest", pa.string()),
        ("compressed_diff_digest", pa.string()),
        ("toc_digest", pa.string()),
        ("expected_diff_digest", pa.string()),
        ("diff_size", pa.int64()),
        ("big_data_names", _TEXTS),
        ("store_root", pa.string()),
        ("files_root", pa.string()),
        ("is_read_only", pa.bool_()),
        ("reason", pa.string()),  # why it is left out; null where it is not
    ],
    metadata=_VERSION,
)
IMAGE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("digest", pa.string()),
        ("names", _TEXTS),
        ("top_layer", pa.string()),
        ("big_data_names", _TEXTS),
        ("store_root", pa.string()),
        ("is_read_only", pa.bool_()),
        ("layers", _TEXTS),
    ],
    metadata=_VERSION,
)

_FIRST_BYTES = 256
_COLUMNS = ["digest", "layer", "size", "in_files", "in_chunks"]


def part_path(folder: Path, first_byte: int) -> Path:
    """Name the file of one part.

    Parameters
    ----------
    folder : pathlib.Path
        The data set.
    first_byte : int
        0 to 255.

    Returns
    -------
    pathlib.Path
        The file; it is missing where there are no such tags.
    """
    return folder / TAGS_FOLDER / f"first_byte={first_byte}" / "part-0.parquet"


def is_dataset(path: Path) -> bool:
    """Say whether a folder looks like a data set.

    Parameters
    ----------
    path : pathlib.Path
        Any path.

    Returns
    -------
    bool
        True where it has the file that lists layers.
    """
    return (path / LAYERS_FILE).is_file()


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
    try:
        layer_rows = _read_rows(folder / LAYERS_FILE, LAYER_SCHEMA)
        image_rows = _read_rows(folder / IMAGES_FILE, IMAGE_SCHEMA)
        known = [row for row in layer_rows if row["reason"] is None]
        held = _Held([row["id"] for row in known])
        for first_byte in range(_FIRST_BYTES):  # files, not rows
            part = part_path(folder, first_byte)
            if part.is_file():
                held.add(_read_table(part, _COLUMNS))
            if progress is not None:
                progress(first_byte + 1, _FIRST_BYTES)
        files, chunks = held.holdings(Grain.FILE), held.holdings(Grain.CHUNK)
    except (OSError, pa.ArrowException, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{folder}: the data set cannot be read: {error}") from error
    return Contents(
        tuple(map(ContentLayer, map(_layer_record, known), files, chunks)),
        tuple(
            LeftOutLayer(_layer_record(row), row["reason"])
            for row in layer_rows
            if row["reason"] is not None
        ),
        tuple(ContentImage(_image_record(row), tuple(row["layers"])) for row in image_rows),
        _DatasetSource(folder),
    )


class _Held:
    """Gathers what each layer holds, part by part."""

    def __init__(self, layer_ids: list[str]) -> None:
        self._n_layers = len(layer_ids)
        self._ids = pa.array(layer_ids, pa.string())
        self._rows: dict[Grain, list[tuple[I64, U8, I64]]] = {grain: [] for grain in Grain}

    def add(self, table: Any) -> None:
        import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only data sets need it

        key, has_key = content_keys(parse_digests(table["digest"]))
        layer = pc.index_in(table["layer"].cast(pa.string()), value_set=self._ids)
        layer_no = layer.fill_null(-1).to_numpy().astype(np.int64)
        size = table["size"].to_numpy()
        is_good = has_key & (layer_no >= 0) & (size > 0)
        for grain, name in ((Grain.FILE, "in_files"), (Grain.CHUNK, "in_chunks")):
            rows = np.flatnonzero(is_good & table[name].to_numpy())
            self._rows[grain].append((layer_no[rows], key[rows], size[rows]))

    def holdings(self, grain: Grain) -> Iterable[Holdings]:
        empty = (np.zeros(0, np.int64), np.zeros((0, 32), np.uint8), np.zeros(0, np.int64))
        layer_no, key, size = map(np.concatenate, zip(empty, *self._rows.pop(grain), strict=True))
        if float(size.sum(dtype=np.float64)) > MAX_BYTES:
            raise DatasetError("the sizes in it are more than any disk holds")
        order = np.argsort(layer_no, kind="stable")
        edges = np.searchsorted(layer_no[order], np.arange(self._n_layers + 1))
        parts = (order[low:high] for low, high in pairwise(edges.tolist()))
        return [Holdings.from_rows(key[rows], size[rows]) for rows in parts]  # layers, not rows


class _DatasetSource:
    """Finds tags again in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        return [self._find_path(record, row) for row in key]  # a few that are shown

    def _find_path(self, record: LayerRecord, key: U8) -> str | None:
        part = part_path(self._folder, int(key[0]))
        table = _of_layer(_read_table(part, TAG_SCHEMA.names), record.id)
        keys, _ = content_keys(parse_digests(table["digest"]))
        is_file = table["kind"].cast(pa.string()).to_numpy() == PlaceKind.FILE.name.lower()
        found = np.flatnonzero(is_file & (keys == key).all(axis=1))
        path: str | None = table["path"][int(found[0])].as_py() if len(found) else None
        return path

    def tags(self, record: LayerRecord) -> tuple[Any, U8]:
        parts = [
            _of_layer(_read_table(part, TAG_SCHEMA.names), record.id)
            for part in (part_path(self._folder, byte) for byte in range(_FIRST_BYTES))
            if part.is_file()
        ]
        table = pa.concat_tables([TAG_SCHEMA.empty_table(), *parts]).unify_dictionaries()
        return table, content_keys(parse_digests(table["digest"]))[0]


def _of_layer(table: Any, layer: str) -> Any:
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only data sets need it

    return table.filter(pc.equal(table["layer"].cast(pa.string()), layer))


def _read_table(path: Path, columns: list[str]) -> Any:
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only data sets need it

    with parquet.ParquetFile(path) as file:
        return file.read(columns)


def _read_rows(path: Path, schema: Any) -> list[dict[str, Any]]:
    table = _read_table(path, schema.names)
    missing = set(schema.names).difference(table.column_names)
    if missing:
        raise DatasetError(f"{path}: has no column {sorted(missing)[0]}")
    version = (table.schema.metadata or {}).get(b"vecache.dataset")
    if version != _VERSION[b"vecache.dataset"]:
        raise DatasetError(f"{path}: found version {version!r}, wanted {_VERSION}; export it again")
    rows: list[dict[str, Any]] = table.cast(schema).to_pylist()
    return rows


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
