"""Derive the file of contents of each layer once, and read it from then on.

The file is written where it can be: into the first of the folders that its `StoredContents` names.
One that is missing, damaged or of another version is derived again from the layer's TOC; where none
can be written, each use derives it again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vecache.errors import FormatError, StoreError, TocError
from vecache.files import open_regular, replace_file
from vecache.sharing.content_file import ContentFile, pack_contents
from vecache.sharing.contents import MAX_BYTES
from vecache.sharing.sources import content_tables, read_stored, too_many_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecache.store.records import LayerRecord

__all__ = ["StoredContents", "use_contents"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class StoredContents:
    """A layer of a store, and where the file of its contents is."""

    record: LayerRecord  # where its TOC is
    name: str  # of the file; another one for other contents
    folders: tuple[str, ...]  # where to look for it; it is written into the first that lets it


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
    for folder in layer.folders:
        try:
            with open_regular(f"{folder}/{layer.name}") as (file, n_bytes):
                return use(ContentFile(file, n_bytes, layer.name))
        except (OSError, FormatError):
            continue
    data = _derive(layer)
    for folder in layer.folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            # Not synced: the checksums find a file that a crash has cut short.
            with replace_file(f"{folder}/{layer.name}", sync=False) as file:
                file.write(data)
            break
        except OSError:
            continue
    return use(ContentFile(io.BytesIO(data), len(data), layer.name))


def _derive(layer: StoredContents) -> bytes:
    entries = read_stored(layer.record)
    if entries is None:
        raise StoreError(f"layer {layer.record.id}: its TOC has gone")
    files, chunks = content_tables(entries)
    claimed = max(files.logical_bytes, chunks.logical_bytes)
    if claimed > MAX_BYTES:
        raise TocError(too_many_bytes(claimed, MAX_BYTES))
    return pack_contents(layer.name, files, chunks)
