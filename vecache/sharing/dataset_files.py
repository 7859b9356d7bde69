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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vecache.errors import DatasetError
from vecache.sharing.tags import TAG_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

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


def has_version(path: Path) -> bool:
    """Say whether a file is of a data set, of whatever version.

    Parameters
    ----------
    path : pathlib.Path
        Any file.

    Returns
    -------
    bool
        False for any other Parquet file, and for what is none.
    """
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only data sets need it

    try:
        metadata = parquet.read_schema(path).metadata
    except (OSError, pa.ArrowException):
        return False
    return bool(metadata) and _VERSION.keys() <= metadata.keys()


def read_table(path: Path, schema: Any) -> Any:
    """Read columns of a file, and make sure that they are what they should be.

    Parameters
    ----------
    path : pathlib.Path
        A Parquet file.
    schema : pyarrow.Schema
        The columns wanted. Other types become these where that loses nothing.

    Returns
    -------
    pyarrow.Table
        With this schema; no nulls where it has none.

    Raises
    ------
    DatasetError
        If that cannot be had.
    """
    from pyarrow import parquet  # noqa: PLC0415 - as above

    if not path.is_file():  # to open a pipe would be to wait for a writer
        raise DatasetError(f"{path}: there is no such file; copy or export the data set again")
    try:
        with path.open("rb") as data, parquet.ParquetFile(data) as file:
            _require_fit(path, file.schema_arrow, schema)
            table = file.read(schema.names).select(schema.names).cast(schema)
        table.validate(full=True)
    except DatasetError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path}: damaged, or not of a data set: {error}") from error
    return table


def read_rows(path: Path, schema: Any) -> list[dict[str, Any]]:
    """Read a file of records.

    Parameters
    ----------
    path : pathlib.Path
        A Parquet file.
    schema : pyarrow.Schema
        `LAYER_SCHEMA` or `IMAGE_SCHEMA`.

    Returns
    -------
    list of dict
        One a row.

    Raises
    ------
    DatasetError
        As `read_table`; or if it is of another version, or a null stands in a list.
    """
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
