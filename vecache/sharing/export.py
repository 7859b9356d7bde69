"""Write all tags of a store: as one file, or as the folder that `dataset.py` describes.

One file: layer after layer, each in order of the digests; memory is bounded by one layer.

A folder: 1. each layer's tags go to a spool file in order; 2. each first byte gathers its rows from
all of them, so that memory is bounded by the largest part; 3. the folder takes its name when it is
complete, and a data set that had the name before is gone only then.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from vecache.errors import DatasetError
from vecache.sharing.dataset import (
    IMAGE_SCHEMA,
    IMAGES_FILE,
    LAYER_SCHEMA,
    LAYERS_FILE,
    is_dataset,
    part_path,
)
from vecache.sharing.keys import order_keys
from vecache.sharing.sources import read_contents
from vecache.sharing.tags import TAG_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vecache.arrays import I64
    from vecache.sharing.contents import Contents

__all__ = ["TAG_ENDINGS", "export_dataset", "tag_tables", "write_tags"]

TAG_ENDINGS = (".parquet", ".arrow", ".csv")
"""The forms that one file of tags can have."""

_FIRST_BYTES = 256
_DICTIONARIES = ["kind", "layer", "path"]


def export_dataset(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write a data set.

    Parameters
    ----------
    source : Contents, or anything `read_contents` takes
        What to export.
    folder : path-like
        Where to. A data set that is there already is replaced.
    progress : callable, optional
        Called after each step with how many are done, and how many there are.

    Raises
    ------
    DatasetError
        If there is a folder or file of that name that is no data set.
    OSError
        If it cannot be written; what was there before still is.
    """
    contents = read_contents(source)
    target = Path(os.path.realpath(folder))
    _require_free(target)
    draft = target.parent / f".vecache-{os.urandom(8).hex()}.tmp"
    old = draft.with_suffix(".old")
    try:
        draft.mkdir()
        _write_parts(contents, draft, progress)
        _write_records(contents, draft)
        if target.exists():
            target.rename(old)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def tag_tables(contents: Contents) -> Iterator[Any]:
    """List all tags, layer by layer.

    Parameters
    ----------
    contents : Contents
        Of a source that still is there.

    Yields
    ------
    pyarrow.Table
        One a layer, with `TAG_SCHEMA`.

    Raises
    ------
    TocError
        If a layer's TOC has gone since.
    """
    if contents.source is None:
        raise ValueError("these contents came without a source, so their paths are not known")
    for layer in contents.layers:  # layers, not rows
        yield contents.source.tags(layer.record)[0]


def write_tags(contents: Contents, file: BinaryIO, ending: str) -> None:
    """Write all tags to one file.

    Parameters
    ----------
    contents : Contents
        What to export.
    file : binary file
        To write to.
    ending : {".parquet", ".arrow", ".csv"}
        The form.

    Raises
    ------
    ValueError
        If there is no such form.
    """
    from pyarrow import csv, ipc, parquet  # noqa: PLC0415 - 40 ms, and only needed here

    if ending == ".csv":
        writer = csv.CSVWriter(file, _plain_schema())
    elif ending == ".arrow":
        # A file of the other kind could hold one dictionary a column, not one a layer.
        writer = ipc.new_file(file, _plain_schema())
    elif ending == ".parquet":
        writer = parquet.ParquetWriter(
            file, TAG_SCHEMA, compression="zstd", use_dictionary=_DICTIONARIES
        )
    else:
        raise ValueError(f"found ending {ending!r}, wanted one of {TAG_ENDINGS}")
    with writer:
        for table in tag_tables(contents):
            writer.write_table(table if ending == ".parquet" else table.cast(_plain_schema()))


def _plain_schema() -> Any:
    fields = [
        pa.field(field.name, pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in TAG_SCHEMA
    ]
    return pa.schema(fields)


def _require_free(target: Path) -> None:
    if is_dataset(target) or not os.path.lexists(target):
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    raise DatasetError(f"{target}: is there already, and is no data set; name another folder")


def _write_parts(
    contents: Contents, draft: Path, progress: Callable[[int, int], object] | None
) -> None:
    spool = draft / "spool"
    spool.mkdir()
    n_steps = len(contents.layers) + _FIRST_BYTES
    bounds = np.zeros((len(contents.layers), _FIRST_BYTES + 1), np.int64)
    for number in range(len(contents.layers)):  # layers, not rows
        bounds[number] = _spool_layer(contents, number, spool / f"{number}.arrow")
        if progress is not None:
            progress(number + 1, n_steps)
    with ExitStack() as stack:
        tables = [
            pa.ipc.open_file(
                stack.enter_context(pa.memory_map(str(spool / f"{number}.arrow")))
            ).read_all()
            for number in range(len(contents.layers))
        ]
        for first_byte in range(_FIRST_BYTES):
            _write_part(tables, bounds[:, first_byte : first_byte + 2], draft, first_byte)
            if progress is not None:
                progress(len(tables) + first_byte + 1, n_steps)
        del tables
    shutil.rmtree(spool)


def _spool_layer(contents: Contents, number: int, path: Path) -> I64:
    """Write one layer's tags in order; return where each first byte begins, and the end."""
    if contents.source is None:
        raise ValueError("these contents came without a source, so their paths are not known")
    table, key = contents.source.tags(contents.layers[number].record)
    table = table.cast(_plain_schema()).append_column("key", _key_column(key))
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    edges: I64 = np.searchsorted(key[:, 0].astype(np.int64), np.arange(_FIRST_BYTES + 1))
    return edges


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


def _write_records(contents: Contents, draft: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only needed here

    reasons = {each.record.id: each.reason for each in contents.left_out}
    layers = [
        {name: _plain(getattr(record, name, reasons.get(record.id))) for name in LAYER_SCHEMA.names}
        for record in contents.records
    ]
    images = [
        {name: _plain(getattr(image.record, name, image.layer_ids)) for name in IMAGE_SCHEMA.names}
        for image in contents.images
    ]
    parquet.write_table(pa.Table.from_pylist(layers, LAYER_SCHEMA), draft / LAYERS_FILE)
    parquet.write_table(pa.Table.from_pylist(images, IMAGE_SCHEMA), draft / IMAGES_FILE)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value
