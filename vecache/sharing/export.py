"""Write all tags of a store: as one file, or as a data set in a folder (`dataset.py`).

One file has the tags of one layer after another, each sorted by key; memory is bounded by the
largest layer. A Parquet file also has the layers and images in its metadata, and so is a data set.

A folder is written in three steps:

1. The tags of each layer, sorted by key, go to a spool file.
2. The rows with one first byte of the key are gathered from all spool files, sorted and written as
   a part; memory is bounded by the largest part. Up to `SMALL_TAGS` tags are one part.
3. The complete folder is renamed to its name, in exchange for a data set that had the name, which
   is deleted after that. Where the file system exchanges no names there is a moment without one;
   who is killed then leaves it under another name, and the next export gives it back. A folder
   that holds anything else is never replaced.

Of several stores the one file has a column `host` and is no data set, and the folder has a data set
for each of them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from vecache.arrays import disarm_formulas
from vecache.atomic import staged_folder, sync_folder, sync_tree
from vecache.digest import parse_digests
from vecache.errors import DatasetError
from vecache.sharing.dataset import (
    FILE_VERSION,
    FIRST_BYTES,
    HOST_PREFIX,
    IMAGE_SCHEMA,
    IMAGES_FILE,
    IMAGES_KEY,
    LAYER_SCHEMA,
    LAYERS_FILE,
    LAYERS_KEY,
    SMALL_TAGS,
    TAGS_FOLDER,
    is_dataset,
    part_path,
)
from vecache.sharing.hosts import split_hosts
from vecache.sharing.keys import content_keys, order_keys
from vecache.sharing.occurrences import TAG_SCHEMA, TAG_TYPES
from vecache.sharing.sources import read_contents
from vecache.store.names import read_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vecache.arrays import I64, U8
    from vecache.sharing.contents import Contents
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["export_dataset", "tag_tables", "write_tags"]

_DATASET_NAMES = frozenset({LAYERS_FILE, IMAGES_FILE, TAGS_FOLDER})
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux, in fcntl.h and linux/fs.h
_DICTIONARIES = ["kind", "layer", "path"]
_HOST_FIELD = pa.field("host", pa.string(), nullable=False)


def export_dataset(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write the tags, layers and images of a store as a folder of Parquet files.

    A data set that is there is replaced. If that fails, it is unchanged.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        What is written. Several stores become a folder with a data set for each.
    folder : path-like
        A folder that is missing, is empty, or holds a data set and nothing else.
    progress : callable, optional
        Called after each layer and each part with the number that is done and the number of all.

    Raises
    ------
    DatasetError
        If the folder holds anything else.
    StoreError, TocError
        If the source cannot be read.
    OSError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import vecache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vecache.export_dataset(vecache.open_sample(), f"{folder}/set")
    ...     vecache.open_dataset(f"{folder}/set")
    <Contents: 5 layers, 5 images, 4,955,430 bytes in files>
    """
    contents = read_contents(source)
    target = Path(os.path.realpath(folder))
    try:
        _restore(target)
        _require_replaceable(target)
        with staged_folder(target.parent) as (draft, _):
            if contents.hosts:
                for host, part in split_hosts(contents).items():
                    of_host = draft / f"{HOST_PREFIX}{quote(host, safe='')}"
                    of_host.mkdir()
                    _write_one(part, of_host, progress)
            else:
                _write_one(contents, draft, progress)
            sync_tree(draft)
            _replace(target, draft)
            sync_folder(target.parent)
    except OSError as error:  # of a temporary name, or Arrow's without a name
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno or errno.EIO, reason, os.fspath(folder)) from error


def _write_one(
    contents: Contents, folder: Path, progress: Callable[[int, int], object] | None
) -> None:
    """Write the data set of one store."""
    n_tags = _write_parts(contents, folder, progress)
    _write_records(contents, folder, n_tags)


def write_tags(contents: Contents, file: BinaryIO, ending: str) -> None:
    """Write all tags to one file, in the format of its ending: .parquet, .arrow or .csv."""
    from pyarrow import csv, ipc, parquet  # noqa: PLC0415 - 40 ms, and only needed here

    schema, types, dictionaries = TAG_SCHEMA, TAG_TYPES, _DICTIONARIES
    if contents.hosts:
        schema, types = schema.insert(0, _HOST_FIELD), types.insert(0, _HOST_FIELD)
        dictionaries = ["host", *dictionaries]
    match ending:
        case ".csv":
            writer = csv.CSVWriter(file, types)
        case ".arrow":  # this format has one dictionary a column, and each layer has its own
            writer = ipc.new_file(file, types)
        case ".parquet":
            writer = parquet.ParquetWriter(
                file, schema, compression="zstd", use_dictionary=dictionaries
            )
        case _:
            raise ValueError(f"ending: found {ending!r}, wanted one of .parquet, .arrow, .csv")
    n_tags = []
    with writer:
        for table in tag_tables(contents):
            rows = table if ending == ".parquet" else table.cast(types)
            writer.write_table(disarm_formulas(rows) if ending == ".csv" else rows)
            n_tags.append(len(table))
        if ending == ".parquet" and not contents.hosts:
            layers, images = _record_tables(contents, n_tags)
            records = {
                LAYERS_KEY: json.dumps(layers.to_pylist()),
                IMAGES_KEY: json.dumps(images.to_pylist()),
            }
            writer.add_key_value_metadata({**FILE_VERSION, **records})


def tag_tables(contents: Contents) -> Iterator[Any]:
    """Yield the tags of each layer; TocError if its TOC has gone since it was read."""
    for layer, (table, _) in zip(contents.layers, _tags_and_keys(contents), strict=True):
        if contents.hosts:
            host = pa.repeat(layer.record.host, len(table))
            yield table.add_column(0, _HOST_FIELD, host)
        else:
            yield table


def _tags_and_keys(contents: Contents) -> Iterator[tuple[Any, U8]]:
    if contents.source is None:
        raise ValueError("contents: found no source to read tags from")
    return contents.source.tags([layer.record for layer in contents.layers])


def _require_replaceable(target: Path) -> None:
    """Raise unless the folder is missing, is empty, or holds a data set and nothing else."""
    if not os.path.lexists(target):
        return
    if not _holds_dataset(target):
        raise DatasetError(
            f"{target}: exists already, and holds more than a data set; name another folder"
            if is_dataset(target)
            else f"{target}: exists already, and is not a data set; name another folder"
        )


def _holds_dataset(folder: Path) -> bool:
    """Return whether a folder is empty, or holds a data set, or one for each host, and no more."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    names = frozenset(os.listdir(folder))
    if names and all(name.startswith(HOST_PREFIX) for name in names):
        return all(_holds_dataset(folder / name) for name in names)
    return not names or (names <= _DATASET_NAMES and _has_version(folder / LAYERS_FILE))


def _has_version(path: Path) -> bool:
    """Return whether a file has the metadata of a data set, of any version.

    `vecache layers -o layers.parquet` writes a table of that name without it.
    """
    from pyarrow import parquet  # noqa: PLC0415 - as above

    try:
        metadata = parquet.read_metadata(path).metadata if path.is_file() else None
    except (OSError, pa.ArrowException):
        return False
    return not LAYER_SCHEMA.metadata.keys() - (metadata or {}).keys()


def _replace(target: Path, draft: Path) -> None:
    """Rename the draft to the target; if that fails, the old target has its name again."""
    if _exchange(target, draft):
        return  # the draft is the old target now, which the caller removes
    try:
        if target.exists():
            target.rename(_set_aside(target))
        draft.rename(target)
        sync_folder(target.parent)  # before the old one is removed
    finally:
        _restore(target)


def _restore(target: Path) -> None:
    """Give a data set its name back that `_replace` took, or remove it where there is a new one."""
    old = _set_aside(target)
    if not target.exists() and old.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _set_aside(target: Path) -> Path:
    """Return the name of an old data set for a moment, where names cannot be exchanged."""
    return target.with_name(f".{target.name}.vecache-old")


def _exchange(target: Path, draft: Path) -> bool:
    """Let two folders change names in one step; False where the system or one of them is not able.

    With two renames, a process that is killed between them leaves nothing under the name.
    """
    import ctypes  # noqa: PLC0415 - 5 ms, and only needed here

    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # of another C library
        return False
    names = os.fsencode(target), os.fsencode(draft)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _write_parts(
    contents: Contents, draft: Path, progress: Callable[[int, int], object] | None
) -> list[int]:
    """Write all parts; return the number of tags of each layer."""
    spool = draft / "spool"
    spool.mkdir()
    n_layers = len(contents.layers)
    bounds = np.zeros((n_layers, FIRST_BYTES + 1), np.int64)
    for number, (table, key) in enumerate(_tags_and_keys(contents)):  # layers, not rows
        with pa.ipc.new_file(str(spool / f"{number}.arrow"), TAG_TYPES) as writer:
            writer.write_table(table.cast(TAG_TYPES))
        bounds[number] = np.searchsorted(key[:, 0].astype(np.int64), np.arange(FIRST_BYTES + 1))
        if progress is not None:
            progress(number + 1, n_layers + FIRST_BYTES)
    tables = [_map_table(spool / f"{number}.arrow") for number in range(n_layers)]
    is_small = bounds[:, -1].sum() <= SMALL_TAGS
    cuts = [(0, FIRST_BYTES)] if is_small else list(pairwise(range(FIRST_BYTES + 1)))
    for first_byte, stop in cuts:
        path = part_path(draft, None if is_small else first_byte)
        _write_part(tables, bounds[:, [first_byte, stop]], path)
        if progress is not None:
            progress(n_layers + stop, n_layers + FIRST_BYTES)
    del tables
    shutil.rmtree(spool)
    n_tags: list[int] = bounds[:, -1].tolist()
    return n_tags


def _map_table(path: Path) -> Any:
    """Map a table and close its file: there may be more layers than files may be open."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _write_part(tables: list[Any], bounds: I64, path: Path) -> None:
    """Write the rows of table i from `bounds[i, 0]` up to `bounds[i, 1]`, sorted by key."""
    from pyarrow import parquet  # noqa: PLC0415 - as above

    slices = [
        table.slice(low, high - low)
        for table, (low, high) in zip(tables, bounds.tolist(), strict=True)
        if high > low
    ]
    if not slices:
        return
    table = pa.concat_tables(slices).combine_chunks()
    key, _ = content_keys(parse_digests(table["digest"]))
    order, _ = order_keys(key)
    table = table.take(pa.array(order))
    for number, field in enumerate(TAG_SCHEMA):  # columns, not rows
        if pa.types.is_dictionary(field.type):
            encoded = table.column(number).combine_chunks().dictionary_encode()
            table = table.set_column(number, field, encoded)
    path.parent.mkdir(parents=True)
    parquet.write_table(table, path, compression="zstd", use_dictionary=_DICTIONARIES)


def _write_records(contents: Contents, draft: Path, n_tags: list[int]) -> None:
    from pyarrow import parquet  # noqa: PLC0415 - as above

    layers, images = _record_tables(contents, n_tags)
    parquet.write_table(layers, draft / LAYERS_FILE)
    parquet.write_table(images, draft / IMAGES_FILE)


def _record_tables(contents: Contents, n_tags: list[int]) -> tuple[Any, Any]:
    """Return the tables of layers and images, given the number of tags of each layer."""
    row = partial(_row, contents)
    layers = [
        *(
            row(layer.record, LAYER_SCHEMA, n_tags=n, reason=None, is_unread=None)
            for layer, n in zip(contents.layers, n_tags, strict=True)
        ),
        *(
            row(
                each.record, LAYER_SCHEMA, n_tags=None, reason=each.reason, is_unread=each.is_unread
            )
            for each in contents.excluded
        ),
    ]
    images = [
        row(
            image.record,
            IMAGE_SCHEMA,
            layers=image.layer_ids,
            created_by=read_history(image.record, len(image.layer_ids)),
        )
        for image in contents.images
    ]
    return pa.Table.from_pylist(layers, LAYER_SCHEMA), pa.Table.from_pylist(images, IMAGE_SCHEMA)


def _row(
    contents: Contents, record: LayerRecord | ImageRecord, schema: Any, **more: Any
) -> dict[str, Any]:
    """Return a record's fields and further values as a row of a schema."""
    more["is_additional"] = record.id in contents.additional_ids
    if contents.source is not None:
        more["store_root"] = contents.source.store_root(record)
    values = {name: more[name] if name in more else getattr(record, name) for name in schema.names}
    for name, value in values.items():
        if isinstance(value, Path):  # Linux names are UTF-8 but need not be
            values[name] = os.fspath(value).encode(errors="backslashreplace").decode()
    return values
