"""Read Parquet files of data sets: of the right version and columns, else a DatasetError."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vecache.errors import DatasetError
from vecache.files import OWNER_ADVICE, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["exists", "fitted", "open_parquet", "parse_rows", "read_table"]

# Null in data sets from before there were these.
_LATER_COLUMNS = ("is_unread", "is_additional", "created_by")


@contextmanager
def open_parquet(path: Path, version: Mapping[bytes, bytes]) -> Iterator[Any]:
    """Open a Parquet file of a version, and raise DatasetError for all that is wrong with it."""
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only data sets need it

    try:
        with open_regular(path) as (data, _), parquet.ParquetFile(data) as file:
            _require_version(file.metadata.metadata or {}, version)
            yield file
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file; wanted a data set of `vecache export`, complete"
        ) from None
    except PermissionError as error:
        raise _forbidden(path, error) from None
    except (OSError, pa.ArrowException, ValueError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged, or not of a data set: {error}") from error


def _forbidden(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{path}: cannot be read: {error.strerror}; {OWNER_ADVICE}")


def exists(path: Path) -> bool:
    """Return whether there is a file; an error where that cannot be known."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _forbidden(path, error) from None
    return True


def read_table(path: Path, schema: Any) -> Any:
    """Read the columns of a schema from a file of its version."""
    with open_parquet(path, schema.metadata or {}) as file:
        return fitted(file.read(schema.names), schema)


def _require_version(metadata: Mapping[bytes, bytes], version: Mapping[bytes, bytes]) -> None:
    for key, wanted in version.items():
        found = metadata.get(key, b"none").decode(errors="replace")
        if found != wanted.decode():
            raise ValueError(f"found version {found}, wanted {wanted.decode()}; export it again")


def fitted(table: Any, schema: Any) -> Any:
    """Return the columns of the schema, converted; ValueError if that loses anything."""
    for name in _LATER_COLUMNS:
        if name in schema.names and name not in table.schema.names:
            table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        raise ValueError(f"has no column {missing[0]}")
    cast = table.select(schema.names).cast(schema)
    cast.validate(full=True)
    lists = [field.name for field in schema if pa.types.is_list(field.type)]
    if any(cast[name].combine_chunks().flatten().null_count for name in lists):
        raise ValueError("found a null in a list")
    return cast


def parse_rows(text: bytes, schema: Any) -> Any:
    """Parse a table of the metadata; ValueError if it does not have the schema."""
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("found metadata that is not a list of objects")
    return fitted(pa.Table.from_pylist(rows, schema), schema)
