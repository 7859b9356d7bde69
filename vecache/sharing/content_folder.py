"""Derive the file of contents of each layer once, and read it from then on.

The file is written where it can be: at the first of the paths that its `StoredContents` names. One
that is missing, damaged or of another version is derived again from the layer's TOC; where none can
be written, each use derives it again.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vecache.atomic import replace_file
from vecache.errors import FormatError, StoreError, TocError
from vecache.files import open_regular
from vecache.sharing.content_file import ContentFile, pack_contents
from vecache.sharing.contents import MAX_BYTES
from vecache.sharing.sources import content_tables, read_stored, too_many_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.store.records import LayerRecord

__all__ = ["StoredContents", "use_contents"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class StoredContents:
    """A layer of a store, and where the file of its contents is."""

    record: LayerRecord  # where its TOC is
    name: str  # the sha256 of its TOC
    paths: tuple[str, ...]  # of the file; it is written at the first where that is possible


def use_contents(layer: StoredContents, use: Callable[[ContentFile], _Result]) -> _Result:
    """Open the file of a layer's contents, derive it where that fails, and read from it.

    Parameters
    ----------
    layer : StoredContents
        The layer.
    use : callable
        Reads what it needs. It is called again where the file turns out to be damaged.

    Returns
    -------
    object
        What `use` returned.

    Raises
    ------
    VecacheError
        If the file has to be derived, and the TOC is broken or missing.
    """
    for path in layer.paths:
        try:
            with open_regular(path) as (file, n_bytes):
                return use(ContentFile(file, n_bytes, layer.name))
        except (OSError, FormatError):
            continue
    data = _derive(layer)
    _write(layer.paths, data)
    return use(ContentFile(io.BytesIO(data), len(data), layer.name))


def _write(paths: Iterable[str], data: bytes) -> None:
    """Write a file where it is possible."""
    for path in map(Path, paths):
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.is_symlink():  # a folder of others could name any place
                continue
            # Not synced: the checksums find a file that a crash has cut short.
            with replace_file(path, sync=False) as file:
                file.write(data)
            return


def _derive(layer: StoredContents) -> bytes:
    entries = read_stored(layer.record)
    if entries is None:
        raise StoreError(f"layer {layer.record.id}: its TOC has gone")
    files, chunks = content_tables(entries)
    claimed = max(files.logical_bytes, chunks.logical_bytes)
    if claimed > MAX_BYTES:
        raise TocError(too_many_bytes(claimed, MAX_BYTES))
    return pack_contents(layer.name, files, chunks)
