"""Read the contents of layers from their TOCs.

`read_contents` takes a store, its loaded caches, an image, a folder of TOCs or a data set, as all
functions of this package do that take a source. Reading takes most of the time: to get several
figures, read once and pass the `Contents` to each function.

One bad layer never stops the rest. A layer that vanishes while its store is read, or whose TOC is
broken, is excluded, with the reason. So is a layer whose TOC claims more bytes than a sum could
hold exactly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_to_text
from vecache.errors import StoreError, TocError, VecacheError
from vecache.files import read_bounded, store_error
from vecache.image.model import Image
from vecache.image.name import Transport
from vecache.index.layers_cache import LayersCache
from vecache.index.load import ExcludedLayer
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import MAX_BYTES, Contents
from vecache.sharing.dataset import is_dataset, open_dataset
from vecache.sharing.hosts import merge_hosts, name_hosts
from vecache.sharing.keys import find_keys
from vecache.sharing.members import ContentImage, ContentLayer
from vecache.sharing.occurrences import OccurrenceKind, find_occurrences, layer_tags
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, read_big_data
from vecache.store.find import has_manifest
from vecache.store.graphroot import Store
from vecache.store.open import FLEET_FILE, open_store, split_node
from vecache.store.records import LAYERS, LayerRecord, layer_chain
from vecache.toc.parse import MAX_TOC_BYTES, Toc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from vecache.arrays import U8
    from vecache.image.model import ImageLayer
    from vecache.store.records import ImageRecord
    from vecache.toc.entries import Entries

__all__ = [
    "content_tables",
    "find_paths",
    "find_store",
    "read_contents",
    "read_stored",
    "stored_images",
    "too_many_bytes",
]


def read_contents(source: Any, *, progress: Callable[[int, int], object] | None = None) -> Contents:
    """Read the contents of layers from any source of their TOCs.

    Parameters
    ----------
    source : Contents, Store, LayersCache, Image, mapping of str to Toc, path, or several of these
        A path is a graph root, a snapshot, `FLEET#NODE`, a data set that `export_dataset` wrote, or
        a folder of `*.json` files, each of them the TOC of a layer named after the file. Contents
        are returned as they are. Several are a list, or a mapping of names to sources.
    progress : callable, optional
        Called after each layer with the number of layers read and the number of all.

    Returns
    -------
    Contents
        Layers in the order of the source. Layers without a usable TOC are in `excluded`. Of
        several sources a layer that two of them have is there twice, each with its host.

    Raises
    ------
    StoreError
        If the records of a store, or the folder, cannot be read.
    ImageError
        If the image cannot be read.
    DatasetError
        If the data set cannot be read.
    TypeError
        If the source is of another type.
    ValueError
        If it is the name of an image: `open_image` opens that.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> vecache.read_contents(store)
    <Contents: 5 layers, 5 images, 4,955,430 bytes in files>
    >>> vecache.read_contents({"web1": store, "web2": store})
    <Contents: 10 layers of 2 hosts, 10 images, 9,910,860 bytes in files>
    """
    match source:
        case Contents():
            return source
        case Store():
            tocs = _TocSource(read_stored, source)
            return _read(tocs, source.layers(), stored_images(source), progress)
        case LayersCache():
            pulled = {
                layer.id: layer.entries for layer in source.layers if layer.entries is not None
            }
            tocs = _TocSource(partial(_read_loaded, pulled), source.store)
            return _read(tocs, source.records, _images_after(source), progress)
        case Image():
            layers = {layer.diff_id: layer for layer in source.layers}  # one may be there twice
            source.read_ahead(layers.values())
            return _read(_TocSource(partial(_read_pulled, layers)), _records(layers), (), progress)
        case list() | tuple():
            stores = [_opened(each) for each in source]
            return _read_several(dict(zip(name_hosts(stores), stores, strict=True)), progress)
        case Mapping() if source and not any(isinstance(toc, Toc) for toc in source.values()):
            return _read_several(source, progress)
        case Mapping():
            _require_tocs(source)
            return _read(_TocSource(partial(_read_given, source)), _records(source), (), progress)
        case str() | os.PathLike():
            _require_path(os.fspath(source))
            return _read_path(Path(source), progress)
    raise TypeError(
        f"contents: found {type(source).__name__}, wanted a Store, LayersCache, Image, path, "
        "Toc objects by layer id, or several stores in a list or by name"
    )


def _opened(source: Any) -> Any:
    """Open the store that a path names; return any other source as it is."""
    if isinstance(source, (str, os.PathLike)):
        _require_path(os.fspath(source))
        return find_store(Path(source)) or source
    return source


def _read_several(
    named: Mapping[str, Any], progress: Callable[[int, int], object] | None
) -> Contents:
    if not named:
        raise ValueError("contents: found no store, wanted one or several")
    return merge_hosts(
        {name: read_contents(source, progress=progress) for name, source in named.items()}
    )


def find_store(path: Path) -> Store | None:
    """Open the store at a path; None where there is a data set or a folder of TOCs."""
    if split_node(path) is not None:
        return open_store(path)
    try:
        path.lstat()
        is_root = (path / LAYERS).is_dir()
    except FileNotFoundError:
        raise StoreError(
            f"{path}: there is no such file or folder; wanted a graph root, a file of "
            "`vecache snapshot`, FLEET#NODE, a data set of `vecache export`, or a folder of TOCs"
        ) from None
    except OSError as error:
        raise store_error(error, path, "cannot be read") from error
    # What is a fleet or an OCI layout has JSON files too; `open_store` says what to do with it.
    is_other = is_root or any((path / name).exists() for name in (FLEET_FILE, "oci-layout"))
    if not is_other and (is_dataset(path) or _toc_files(path)):
        return None
    return open_store(path)


def _require_tocs(tocs: Mapping[str, Any]) -> None:
    for layer_id, toc in tocs.items():
        if not isinstance(toc, Toc):
            found = type(toc).__name__
            raise TypeError(f"TOC of {layer_id}: found {found}, wanted vecache.Toc.parse(data)")


def _require_path(text: str) -> None:
    if text.partition(":")[0] in set(Transport) and not os.path.exists(text):
        raise ValueError(
            f"{text}: found the name of an image, wanted a graph root, data set or folder of "
            "TOCs; pass what vecache.open_image returns for it"
        )


def _read_path(path: Path, progress: Callable[[int, int], object] | None) -> Contents:
    store = find_store(path)
    if store is not None:
        return read_contents(store, progress=progress)
    if is_dataset(path):
        return open_dataset(path, progress=progress)
    files = _toc_files(path)
    return _read(_TocSource(partial(_read_file, files)), _records(files), (), progress)


def _toc_files(path: Path) -> dict[str, Path]:
    """Return the TOC files of a folder by the id of their layer."""
    return {file.name.removesuffix(".json"): file for file in sorted(path.glob("*.json"))}


def _records(layer_ids: Iterable[str]) -> list[LayerRecord]:
    return [LayerRecord(layer_id) for layer_id in layer_ids]


def stored_images(store: Store) -> list[ContentImage]:
    """List the images of a store, each with its layers."""
    parents = {record.id: record.parent for record in store.layers()}
    return [ContentImage(image, layer_chain(image.top_layer, parents)) for image in store.images()]


def _images_after(cache: LayersCache) -> list[ContentImage]:
    """List the images of loaded layers: the store's, and those that plans have pulled since."""
    present = {record.id for record in cache.records}
    stored = [] if cache.store is None else stored_images(cache.store)
    images = [image for image in stored if present.issuperset(image.layer_ids)]
    parents = {record.id: record.parent for record in cache.records}
    for pulled in cache.images:
        if pulled.digest and any(has_manifest(each.record, pulled.digest) for each in images):
            continue  # it was there already
        # A name is of one image only: the pull takes it from another one.
        images = [replace(each, record=_without(pulled.names, each.record)) for each in images]
        images.append(ContentImage(pulled, layer_chain(pulled.top_layer, parents)))
    return images


def _without(names: Collection[str], record: ImageRecord) -> ImageRecord:
    return replace(record, names=tuple(name for name in record.names if name not in names))


def _read(
    source: _TocSource,
    records: Sequence[LayerRecord],
    images: Iterable[ContentImage],
    progress: Callable[[int, int], object] | None,
) -> Contents:
    layers: list[ContentLayer] = []
    excluded: list[ExcludedLayer] = []
    max_bytes = MAX_BYTES
    for number, record in enumerate(records, 1):  # layers, not rows
        layer = _read_layer(source, record, max_bytes)
        if isinstance(layer, ContentLayer):
            layers.append(layer)
            max_bytes -= max(layer.files.logical_bytes, layer.chunks.logical_bytes)
        else:
            excluded.append(layer)
        if progress is not None:
            progress(number, len(records))
    present = {record.id for record in records}
    complete = tuple(image for image in images if present.issuperset(image.layer_ids))
    listed: list[LayerRecord | ImageRecord] = [*records, *(image.record for image in complete)]
    additional_ids = frozenset(each.id for each in listed if source.is_additional(each))
    return Contents(tuple(layers), tuple(excluded), complete, source, additional_ids)


def _read_layer(
    source: _TocSource, record: LayerRecord, max_bytes: int
) -> ContentLayer | ExcludedLayer:
    try:
        entries = source.read(record)
        if entries is None:
            return ExcludedLayer(record, "no TOC")
        files, chunks = content_tables(entries)
    except VecacheError as error:
        return ExcludedLayer(record, source.on_machine(str(error)), is_unread=True)
    claimed = max(files.logical_bytes, chunks.logical_bytes)
    if claimed > max_bytes:
        return ExcludedLayer(record, too_many_bytes(claimed, max_bytes), is_unread=True)
    return ContentLayer(record, files, chunks)


def content_tables(entries: Entries) -> tuple[ContentTable, ContentTable]:
    """Return the distinct files and chunks of a layer."""
    occurrences = find_occurrences(entries)
    files, chunks = (
        ContentTable.from_rows(occurrences.key[mask], occurrences.size[mask])
        for mask in (occurrences.is_in_files, occurrences.is_in_chunks)
    )
    return files, chunks


def too_many_bytes(claimed: int, max_bytes: int) -> str:
    """Return the reason why a layer that claims so many bytes is excluded."""
    return (
        f"its TOC claims {claimed:,} bytes of content, wanted at most {max_bytes:,}: sums of "
        f"bytes are exact up to {MAX_BYTES:,}"
    )


class _TocSource:
    """Reads a layer's TOC anew for its paths and tags: in memory they would be the largest part."""

    def __init__(
        self, read: Callable[[LayerRecord], Entries | None], store: Store | None = None
    ) -> None:
        self.read = read  # returns None where the layer has no TOC
        self._store = store  # the folder of a snapshot stays as long as its store

    def is_additional(self, record: LayerRecord | ImageRecord) -> bool:
        return self._store is not None and record.store_root in self._store.additional_stores

    def store_root(self, record: LayerRecord | ImageRecord) -> Path:
        return Path(self.on_machine(str(record.store_root)))

    def on_machine(self, text: str) -> str:
        snapshot = None if self._store is None else self._store.snapshot
        return text if snapshot is None else snapshot.on_machine(text)

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        for record in records:  # layers, not rows
            entries = self.read(record)
            if entries is None:
                raise TocError(f"layer {record.id}: its TOC has gone")
            yield layer_tags(entries, record.id)

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        entries = self.read(record)
        if entries is None:
            return [None] * len(key)
        return find_paths(entries, key)


def find_paths(entries: Entries, key: U8) -> list[str | None]:
    """Return the path of the first file with each (n, 32) key, or None."""
    occurrences = find_occurrences(entries)
    is_file = occurrences.kind == OccurrenceKind.FILE
    row = find_keys(occurrences.key[is_file], key)
    entry_row = np.append(occurrences.entry_row[is_file], -1)[row]  # row -1 is the appended one
    names = entries.name.take(pa.array(entry_row, mask=row < 0))
    paths: list[str | None] = binary_to_text(names).to_pylist()
    return paths


def read_stored(record: LayerRecord) -> Entries | None:
    """Read the TOC of a layer of a store; None where it has none."""
    path = record.big_data_path(TOC_KEY)
    data = read_big_data(record, TOC_KEY, MAX_TOC_BYTES)
    if data is not None:
        return Toc.parse(data, path=path).entries
    if os.path.lexists(record.big_data_path(CACHE_KEY)):
        raise TocError(f"{path}: there is no such file, but a cache of it: pull the layer again")
    return None


def _read_loaded(pulled: Mapping[str, Entries], record: LayerRecord) -> Entries | None:
    """Read the TOC of a layer of a store, or of one that a plan has pulled into it."""
    if record.id in pulled:
        return pulled[record.id]
    is_stored = record.store_root != Path()
    return read_stored(record) if is_stored else None


def _read_file(files: Mapping[str, Path], record: LayerRecord) -> Entries:
    path = files[record.id]
    try:
        data = read_bounded(path, MAX_TOC_BYTES)
    except OSError as error:
        raise TocError(f"{path}: {error.strerror}") from error
    toc = Toc.parse(data, path=path)
    if toc.is_blank:
        raise TocError(f"{path}: not a TOC: it has neither a version nor entries")
    return toc.entries


def _read_given(tocs: Mapping[str, Toc], record: LayerRecord) -> Entries:
    return tocs[record.id].entries


def _read_pulled(layers: Mapping[str, ImageLayer], record: LayerRecord) -> Entries | None:
    layer = layers[record.id]
    return None if layer.toc_format is None else layer.toc.entries
