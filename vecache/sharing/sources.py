"""Where do the figures come from? From TOCs, each read once.

`read_contents` takes a store, its loaded caches, an image, a folder of TOCs or a data set, whatever
there is; all other functions of this room take the same. Reading is most of the work, so who wants
several figures reads once and passes on the `Contents`.

A layer that vanishes while its store is read, or whose TOC is broken, is left out with the reason:
one bad layer never stops the rest. So is one whose TOC claims more bytes than any disk holds, since
it would spoil every sum.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_to_text
from vecache.errors import TocError, VecacheError
from vecache.files import read_bounded
from vecache.image.model import Image
from vecache.index.layers_cache import LayersCache
from vecache.index.load import ExcludedLayer
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import (
    MAX_BYTES,
    ContentImage,
    ContentLayer,
    Contents,
)
from vecache.sharing.dataset import is_dataset, open_dataset
from vecache.sharing.keys import find_keys
from vecache.sharing.occurrences import OccurrenceKind, find_occurrences, layer_tags
from vecache.store.bigdata import TOC_KEY, read_big_data
from vecache.store.graphroot import Store, open_store
from vecache.store.records import LAYERS, LayerRecord
from vecache.toc.parse import MAX_TOC_BYTES, Toc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from vecache.arrays import U8
    from vecache.toc.entries import Entries

__all__ = ["find_store", "layer_chain", "read_contents"]


def read_contents(source: Any, *, progress: Callable[[int, int], object] | None = None) -> Contents:
    """Read what layers hold, from whatever knows their TOCs.

    Parameters
    ----------
    source : Contents, Store, LayersCache, Image, mapping of str to Toc, or path
        A path is a graph root, a data set that `export_dataset` wrote, or a folder of `*.json`
        files, each of them a TOC and named after its file. Contents are given back as they are.
    progress : callable, optional
        Called after each layer with how many are done, and how many there are.

    Returns
    -------
    Contents
        Layers in the order of the source. A layer without a good TOC stands in `excluded`.

    Raises
    ------
    StoreError
        If the records of a store, or the folder, cannot be read.
    ImageError
        If the image is at a place that cannot be read.
    DatasetError
        If the data set cannot be read.
    TypeError
        If the source is something else.
    """
    match source:
        case Contents():
            return source
        case Store():
            return _read(_StoreToc(), source.layers(), _images_of(source), progress)
        case LayersCache():
            images = () if source.store is None else _images_of(source.store)
            return _read(_StoreToc(), source.records, images, progress)
        case Image():
            return _read(_ImageToc(source), _image_records(source), (), progress)
        case dict():
            return _read(_KnownToc(source), map(LayerRecord, source), (), progress)
        case str() | os.PathLike():
            return _read_path(Path(source), progress)
    raise TypeError(
        f"contents: found {type(source).__name__}, wanted a store, layers cache, image or path"
    )


def find_store(path: Path) -> Store | None:
    """Open the store at a path, if that is what it is."""
    is_root = (path / LAYERS).is_dir()
    if not is_root and (is_dataset(path) or _toc_files(path)):
        return None
    return open_store(path)


def _read_path(path: Path, progress: Callable[[int, int], object] | None) -> Contents:
    store = find_store(path)
    if store is not None:
        return read_contents(store, progress=progress)
    if is_dataset(path):
        return open_dataset(path, progress=progress)
    files = _toc_files(path)
    return _read(_FolderToc(files), map(LayerRecord, files), (), progress)


def _toc_files(path: Path) -> dict[str, Path]:
    """Find the TOCs of a folder, by the names that their layers get."""
    return {file.name.removesuffix(".json"): file for file in sorted(path.glob("*.json"))}


def _images_of(store: Store) -> Iterable[ContentImage]:
    parents = {record.id: record.parent for record in store.layers()}
    return [ContentImage(image, layer_chain(image.top_layer, parents)) for image in store.images()]


def layer_chain(top: str | None, parents: Mapping[str, str | None]) -> tuple[str, ...]:
    """List the layers of an image."""
    chain: dict[str, None] = {}
    while top is not None and top in parents and top not in chain:
        chain[top] = None
        top = parents[top]
    return tuple(reversed(chain))


def _read(
    source: _TocSource,
    records: Iterable[LayerRecord],
    images: Iterable[ContentImage],
    progress: Callable[[int, int], object] | None,
) -> Contents:
    listed = tuple(records)
    layers: list[ContentLayer] = []
    excluded: list[ExcludedLayer] = []
    room = MAX_BYTES
    for number, record in enumerate(listed, 1):  # layers, not rows
        found = _read_layer(source, record, room)
        if isinstance(found, ContentLayer):
            layers.append(found)
            room -= max(found.files.logical_bytes, found.chunks.logical_bytes)
        else:
            excluded.append(found)
        if progress is not None:
            progress(number, len(listed))
    present = {record.id for record in listed}
    kept = tuple(image for image in images if present.issuperset(image.layer_ids))
    return Contents(tuple(layers), tuple(excluded), kept, source)


def _read_layer(source: _TocSource, record: LayerRecord, room: int) -> ContentLayer | ExcludedLayer:
    try:
        entries = source.entries(record)
        if entries is None:
            return ExcludedLayer(record, "no TOC")
        occurrences = find_occurrences(entries)
    except VecacheError as error:
        return ExcludedLayer(record, str(error))
    files, chunks = (
        ContentTable.from_rows(occurrences.key[mask], occurrences.size[mask])
        for mask in (occurrences.is_in_files, occurrences.is_in_chunks)
    )
    for content_table in (files, chunks):
        claimed = float((content_table.size.astype(np.float64) * content_table.n_copies).sum())
        if claimed > room:
            return ExcludedLayer(record, f"its TOC claims {claimed:.3g} bytes of content")
    return ContentLayer(record, files, chunks)


class _TocSource(ABC):
    """Finds paths by reading a layer's TOC once more: names are not kept, they are most of it."""

    @abstractmethod
    def entries(self, record: LayerRecord) -> Entries | None:
        """Read a layer's TOC; None where it has none."""

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        for record in records:  # layers, not rows
            entries = self.entries(record)
            if entries is None:
                raise TocError(f"layer {record.id}: its TOC has gone")
            yield layer_tags(entries, record.id)

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        entries = self.entries(record)
        if entries is None:
            return [None] * len(key)
        occurrences = find_occurrences(entries)
        row = find_keys(occurrences.key, key)  # files stand before chunks
        is_file = (row >= 0) & (occurrences.kind[row] == OccurrenceKind.FILE)
        names = entries.name.take(pa.array(occurrences.entry_row[row], mask=~is_file))
        paths: list[str | None] = binary_to_text(names).to_pylist()
        return paths


class _StoreToc(_TocSource):
    def entries(self, record: LayerRecord) -> Entries | None:
        data = read_big_data(record, TOC_KEY, MAX_TOC_BYTES)
        if data is None:
            return None
        return Toc.parse(data, path=record.big_data_path(TOC_KEY)).entries


class _FolderToc(_TocSource):
    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def entries(self, record: LayerRecord) -> Entries | None:
        path = self._files[record.id]
        try:
            data = read_bounded(path, MAX_TOC_BYTES)
        except OSError as error:
            raise TocError(f"{path}: {error.strerror}") from error
        return Toc.parse(data, path=path).entries


class _KnownToc(_TocSource):
    def __init__(self, tocs: Mapping[str, Toc]) -> None:
        self._tocs = tocs

    def entries(self, record: LayerRecord) -> Entries | None:
        return self._tocs[record.id].entries


class _ImageToc(_TocSource):
    def __init__(self, image: Image) -> None:
        self._layers = {layer.diff_id: layer for layer in image.layers}

    def entries(self, record: LayerRecord) -> Entries | None:
        layer = self._layers[record.id]
        return None if layer.toc_format is None else layer.toc.entries


def _image_records(image: Image) -> Sequence[LayerRecord]:
    # An image may have one layer twice, an empty one for instance.
    return [LayerRecord(diff_id) for diff_id in dict.fromkeys(x.diff_id for x in image.layers)]
