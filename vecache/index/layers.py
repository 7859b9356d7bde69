"""Where does a layer's cache come from? From the first of four places that has a good one.

1. The store's own file, mapped.
2. The user's cache folder, where what had to be built before was kept.
3. The layer's TOC: built in memory, and kept there for the next time.
4. Nowhere: the layer is left out, and the reason is kept.

A layer of an additional store is never built for: Podman does not either, so it finds nothing
there, and a plan that did would promise too much. A store that only we may not write is another
matter: its owner's Podman builds what is missing, and so do we, in memory. Who asks does not change
what a plan says.
Source: containers/storage pkg/chunked/cache_linux.go load, createCacheFileFromTOC.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import FormatError, StoreError, VecacheError, VersionError
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, layer_layout, read_big_data
from vecache.store.write import write_big_data
from vecache.toc.document import Toc
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from vecache.index.keep import KeptCaches
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord
    from vecache.toc.entries import Entries

__all__ = ["BuildMode", "CacheSource", "CachedLayer", "ExcludedLayer", "open_layer"]


class BuildMode(StrEnum):
    """What to do where a layer has a TOC and no good cache file."""

    MEMORY = "memory"
    """Build it in memory; a folder for kept caches may spare the work next time."""
    STORE = "store"
    """Build it and write it into the store, under its locks, as Podman would at its next pull."""
    NEVER = "never"
    """Leave the layer out."""


class CacheSource(StrEnum):
    """Where a layer's cache came from."""

    MAPPED = "mapped"
    KEPT = "kept"
    BUILT = "built"
    JOINED = "joined"
    """Not in the store yet: a layer that a plan has pulled."""


@dataclass(frozen=True)
class CachedLayer:
    """A layer that can be asked.

    Attributes
    ----------
    record : LayerRecord
        What the store says of it.
    cache : CacheFile
        Its tags.
    source : CacheSource
        Where they came from.
    problem : str
        Why the store's own file was not taken; empty where it was, or where there is none.
    flat_entries : Entries or None
        Of a joined layer whose files lie flat: its TOC, which the store does not have yet.
    """

    record: LayerRecord
    cache: CacheFile
    source: CacheSource
    problem: str = ""
    flat_entries: Entries | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The layer's id in the store."""
        return self.record.id

    @property
    def target(self) -> str:
        """Folder that holds the layer's files; paths of a look-up are relative to it."""
        return str(self.record.target)

    @cached_property
    def with_all_chunks(self) -> CachedLayer:
        """The layer with the tags it would have in the plain layout; itself where it is plain."""
        # The cache of a flat layer knows only the first chunk of each file, its TOC knows all.
        # Paths are then those of the TOC: it tells what the layer holds, not where. A layer whose
        # TOC cannot be read stays as it is.
        try:
            entries = _read_flat_entries(self)
            if entries is None:
                return self
            cache = CacheFile.parse(pack_cache(entries, Layout.DIR))
        except VecacheError:
            return self
        return replace(self, cache=cache, source=CacheSource.BUILT, flat_entries=None)


@dataclass(frozen=True, slots=True)
class ExcludedLayer:
    """A layer that cannot be asked.

    Attributes
    ----------
    record : LayerRecord
        What the store says of it.
    reason : str
        Why it has no cache, for people.
    """

    record: LayerRecord
    reason: str

    @property
    def id(self) -> str:
        """The layer's id in the store."""
        return self.record.id


def open_layer(
    store: Store, record: LayerRecord, build: BuildMode, kept: KeptCaches | None
) -> CachedLayer | ExcludedLayer:
    """Get the cache of one layer from the first place that has it.

    Parameters
    ----------
    store : Store
        The graph root.
    record : LayerRecord
        One of its layers.
    build : BuildMode
        What to do where there is no good cache file.
    kept : KeptCaches, optional
        Where to keep what is built, and to look first.

    Returns
    -------
    CachedLayer or ExcludedLayer
        Never an exception for what is wrong with one layer: one bad layer does not stop the rest.
    """
    try:
        return CachedLayer(
            record, CacheFile.open(record.big_data_path(CACHE_KEY)), CacheSource.MAPPED
        )
    except (FormatError, VersionError, StoreError) as error:
        problem = "" if isinstance(error.__cause__, FileNotFoundError) else str(error)
    try:
        return _build_layer(store, record, build, kept, problem)
    except VecacheError as error:
        return ExcludedLayer(record, f"{error}{'; ' + problem if problem else ''}")


def _build_layer(
    store: Store, record: LayerRecord, build: BuildMode, kept: KeptCaches | None, problem: str
) -> CachedLayer | ExcludedLayer:
    missing = problem or "no cache file"
    if record.store_root != store.root:
        return ExcludedLayer(record, f"{missing}, in an additional store: Podman builds none there")
    if build is BuildMode.NEVER:
        return ExcludedLayer(record, f"{missing}, and none was to be built")
    toc_data = read_big_data(record, TOC_KEY)
    if toc_data is None:
        return ExcludedLayer(record, "no TOC: pulled whole, or made locally")
    layout = layer_layout(record)
    if build is BuildMode.STORE:
        packed = pack_cache(Toc.parse(toc_data).entries, layout)
        write_big_data(store, record, CACHE_KEY, packed)
        path = record.big_data_path(CACHE_KEY)
        return CachedLayer(record, CacheFile.open(path), CacheSource.MAPPED, problem)
    cache = kept.find(toc_data, layout) if kept else None
    if cache is not None:
        return CachedLayer(record, cache, CacheSource.KEPT, problem)
    packed = pack_cache(Toc.parse(toc_data).entries, layout)
    if kept:
        kept.keep(toc_data, layout, packed)
    return CachedLayer(record, CacheFile.parse(packed), CacheSource.BUILT, problem)


def _read_flat_entries(layer: CachedLayer) -> Entries | None:
    if layer.source is CacheSource.JOINED or layer_layout(layer.record) is not Layout.FLAT:
        return layer.flat_entries
    toc_data = read_big_data(layer.record, TOC_KEY)
    return None if toc_data is None else Toc.parse(toc_data).entries
