"""Write all tags of a store: as one file, or as the folder that `dataset.py` describes.

One file: layer after layer, each in order of the digests; memory is bounded by one layer.

A folder: 1. each layer's tags go to a spool file in order; 2. each first byte gathers its rows from
all of them, so that memory is bounded by the largest part; 3. the folder takes its name when it is
complete, and a data set that had the name before is gone only then. A folder with anything else in
it is never replaced.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from vecache.errors import DatasetError
from vecache.sharing.dataset import (
    FIRST_BYTES,
    IMAGE_SCHEMA,
    IMAGES_FILE,
    LAYER_SCHEMA,
    LAYERS_FILE,
    TAG_TYPES,
    TAGS_FOLDER,
    has_version,
    is_dataset,
    part_path,
)
from vecache.sharing.keys import order_keys
from vecache.sharing.occurrences import TAG_SCHEMA
from vecache.sharing.sources import read_contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vecache.arrays import I64, U8
    from vecache.sharing.contents import Contents
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["TAG_ENDINGS", "export_dataset", "tag_tables", "write_tags"]

TAG_ENDINGS = (".parquet", ".arrow", ".csv")
"""The forms that one file of tags can have."""

_OWN_NAMES = frozenset({LAYERS_FILE, IMAGES_FILE, TAGS_FOLDER})
_DICTIONARIES = ["kind", "layer", "path"]


def export_dataset(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write a data set."""
    contents = read_contents(source)
    target = Path(os.path.realpath(folder))
    draft = target.parent / f".vecache-{os.urandom(8).hex()}.tmp"
    try:
        _require_free(target)
        draft.mkdir()
        n_tags = _write_parts(contents, draft, progress)
        _write_records(contents, draft, n_tags)
        _replace(target, draft)
    except OSError as error:  # of a draft whose name tells nobody anything, or Arrow's without one
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno or errno.EIO, reason, os.fspath(folder)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def tag_tables(contents: Contents) -> Iterator[Any]:
    """List all tags, layer by layer."""
    yield from (table for table, _ in _tags_and_keys(contents))


def write_tags(contents: Contents, file: BinaryIO, ending: str) -> None:
    """Write all tags to one file."""
    from pyarrow import csv, ipc, parquet  # noqa: PLC0415 - 40 ms, and only needed here

    if ending == ".csv":
        writer = csv.CSVWriter(file, TAG_TYPES)
    elif ending == ".arrow":
        # A file of the other kind could hold one dictionary a column, not one a layer.
        writer = ipc.new_file(file, TAG_TYPES)
    elif ending == ".parquet":
        writer = parquet.ParquetWriter(
            file, TAG_SCHEMA, compression="zstd", use_dictionary=_DICTIONARIES
        )
    else:
        raise ValueError(f"found ending {ending!r}, wanted one of {TAG_ENDINGS}")
    with writer:
        for table in tag_tables(contents):
            writer.write_table(table if ending == ".parquet" else table.cast(TAG_TYPES))


def _require_free(target: Path) -> None:
    """Raise unless the folder is not there, is empty, or holds a data set and nothing else."""
    if not os.path.lexists(target):
        return
    names = frozenset(os.listdir(target)) if target.is_dir() else {""}
    # A table of layers has no version, such as `vecache layers -o layers.parquet` writes.
    if names and not (names <= _OWN_NAMES and has_version(target / LAYERS_FILE)):
        raise DatasetError(
            f"{target}: is there already, and holds more than a data set; name another folder"
            if is_dataset(target)
            else f"{target}: is there already, and is no data set; name another folder"
        )


def _replace(target: Path, draft: Path) -> None:
    """Give the draft its name; if that fails, what had the name has it again."""
    old = draft.with_suffix(".old")
    try:
        if target.exists():
            target.rename(old)
        draft.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_parts(
    contents: Contents, draft: Path, progress: Callable[[int, int], object] | None
) -> list[int]:
    """Write all tags; return how many each layer has."""
    spool = draft / "spool"
    spool.mkdir()
    n_steps = len(contents.layers) + FIRST_BYTES
    bounds = np.zeros((len(contents.layers), FIRST_BYTES + 1), np.int64)
    for number, (table, key) in enumerate(_tags_and_keys(contents)):  # layers, not rows
        _spool(table.cast(TAG_TYPES).append_column("key", _key_column(key)), spool, number)
        bounds[number] = np.searchsorted(key[:, 0].astype(np.int64), np.arange(FIRST_BYTES + 1))
        if progress is not None:
            progress(number + 1, n_steps)
    tables = [_map_spooled(spool, number) for number in range(len(contents.layers))]
    for first_byte in range(FIRST_BYTES):
        _write_part(tables, bounds[:, first_byte : first_byte + 2], draft, first_byte)
        if progress is not None:
            progress(len(tables) + first_byte + 1, n_steps)
    del tables
    shutil.rmtree(spool)
    n_tags: list[int] = bounds[:, -1].tolist()
    return n_tags


def _tags_and_keys(contents: Contents) -> Iterator[tuple[Any, U8]]:
    if contents.source is None:
        raise ValueError("these contents came without a source, so their paths are not known")
    return contents.source.tags([layer.record for layer in contents.layers])


def _spool(table: Any, folder: Path, number: int) -> None:
    with pa.ipc.new_file(str(folder / f"{number}.arrow"), table.schema) as writer:
        writer.write_table(table)


def _map_spooled(folder: Path, number: int) -> Any:
    """Map a table; the file is closed, since there may be more layers than files may be open."""
    with pa.memory_map(str(folder / f"{number}.arrow")) as file:
        return pa.ipc.open_file(file).read_all()


def _key_column(key: Any) -> Any:
    return pa.Array.from_buffers(
        pa.binary(32), len(key), [None, pa.py_buffer(np.ascontiguousarray(key))]
    )


def _write_part(tables: list[Any], bounds: I64, draft: Path, first_byte: int) -> None:
    """Write the tags of all layers that begin with one byte, sorted."""
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only needed here

    slices = [
        table.slice(low, high - low)
        for table, (low, high) in zip(tables, bounds.tolist(), strict=True)
        if high > low
    ]
    if not slices:
        return
    table = pa.concat_tables(slices).combine_chunks()
    key = np.frombuffer(table["key"].chunk(0).buffers()[1], np.uint8).reshape(-1, 32)
    order, _ = order_keys(key[: len(table)])
    table = table.drop_columns("key").take(pa.array(order))
    for number, field in enumerate(TAG_SCHEMA):  # columns, not rows
        if pa.types.is_dictionary(field.type):
            encoded = table.column(number).combine_chunks().dictionary_encode()
            table = table.set_column(number, field, encoded)
    path = part_path(draft, first_byte)
    path.parent.mkdir(parents=True)
    parquet.write_table(table, path, compression="zstd", use_dictionary=_DICTIONARIES)


def _write_records(contents: Contents, draft: Path, n_tags: list[int]) -> None:
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only needed here

    known = zip((layer.record for layer in contents.layers), n_tags, strict=True)
    layers = [
        *(_row(record, LAYER_SCHEMA, n_tags=n, reason=None) for record, n in known),
        *(
            _row(each.record, LAYER_SCHEMA, n_tags=None, reason=each.reason)
            for each in contents.excluded
        ),
    ]
    images = [_row(image.record, IMAGE_SCHEMA, layers=image.layer_ids) for image in contents.images]
    parquet.write_table(pa.Table.from_pylist(layers, LAYER_SCHEMA), draft / LAYERS_FILE)
    parquet.write_table(pa.Table.from_pylist(images, IMAGE_SCHEMA), draft / IMAGES_FILE)


def _row(record: LayerRecord | ImageRecord, schema: Any, **more: Any) -> dict[str, Any]:
    """Make a row of a record, and of what the record does not say."""
    values = {name: more[name] if name in more else getattr(record, name) for name in schema.names}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value
