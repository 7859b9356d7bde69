"""What do the layers of a store hold, all of them at once? The set that is asked.

1. `load` goes through the store's layers in order: maps what is on disk, builds what is missing or
   broken, leaves out what has no TOC and keeps the reason.
2. The first question builds the index over all of them; see `lookup.py`.
3. `refresh` keeps what is loaded, adds what is new, drops what is gone. Where the set of layers is
   the same as before (an xxh3 over ids, digests, sizes and times says so) it does nothing.
4. `join` gives a set with one more layer at the end, for a plan that goes on to the next layer;
   `with_all_chunks` one that knows all chunks of flat layers too.

Podman may add and remove layers at the same time: the records are read under the store's lock, a
map of a deleted file stays good, and a layer that vanishes in between is left out with that
reason.
Source: containers/storage pkg/chunked/cache_linux.go load, getLayersCache.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from vecache.digest import Digests, parse_digests
from vecache.index.load import (
    BuildMode,
    CachedLayer,
    CacheSource,
    ExcludedLayer,
    LayerSource,
    identify,
)
from vecache.index.lookup import LayerIndex
from vecache.index.result import LookupResult, Matches
from vecache.text import html_table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from vecache.arrays import U8, BinaryColumn, Bool
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

    Queries: TypeAlias = Digests | Sequence[str | bytes | None] | U8 | BinaryColumn

__all__ = ["LayersCache"]


class LayersCache:
    """The caches of a store's layers, asked as one.

    Made by `load`, and by `join` from another.

    Parameters
    ----------
    records : sequence of LayerRecord
        All layers that count as present, in store order.
    layers : sequence of CachedLayer
        Those that have a cache, in store order. A look-up's `layer` is a place in it.
    excluded : sequence of ExcludedLayer
        Those that have none, each with the reason.
    index : LayerIndex, optional
        The index over `layers`, where there is one already.
    store : Store, optional
        What the set was loaded from, before layers joined.

    Attributes
    ----------
    records, layers, excluded : tuple
        As given.
    store : Store or None
        As given.
    """

    def __init__(
        self,
        records: Sequence[LayerRecord] = (),
        layers: Sequence[CachedLayer] = (),
        excluded: Sequence[ExcludedLayer] = (),
        index: LayerIndex | None = None,
        store: Store | None = None,
    ) -> None:
        self.records = tuple(records)
        self.layers = tuple(layers)
        self.excluded = tuple(excluded)
        self.store = store
        self._index = index
        self._source: LayerSource | None = None
        self._identity = 0

    @classmethod
    def load(
        cls,
        store: Store,
        *,
        build: str = BuildMode.MEMORY,
        present: Collection[str] | None = None,
        kept: Path | str | None = None,
        progress: Callable[[], object] | None = None,
    ) -> LayersCache:
        """Load the caches of a store's layers.

        Parameters
        ----------
        store : Store
            The graph root, with its additional stores.
        build : {"memory", "store", "never"}
            What to do where a layer has a TOC and no good cache file: build it in memory, build
            it and write it into the store under its locks, or leave the layer out.
        present : collection of str, optional
            Ids of the layers that count as present; all by default.
        kept : path, optional
            Folder that keeps what was built in memory, for the next time. None keeps nothing.
        progress : callable, optional
            Called after each layer.

        Returns
        -------
        LayersCache
            In store order.

        Raises
        ------
        StoreError
            If the store's records cannot be read. What is wrong with one layer is no error: it
            stands in `excluded`.
        ValueError
            If `build` is none of the three.
        """
        cache = cls(store=store)
        cache._source = LayerSource(store, BuildMode(build), present, kept, progress)
        cache.refresh()
        return cache

    def refresh(self) -> bool:
        """Look at the store again.

        Returns
        -------
        bool
            False where the set of layers is the same, and nothing was done.

        Raises
        ------
        StoreError
            If the store's records cannot be read.
        ValueError
            If this set did not come from `load`.
        """
        if self._source is None:
            raise ValueError("only a set that was loaded from a store can be refreshed")
        records = self._source.records()
        identity = identify(records)
        if identity == self._identity:
            return False
        loaded = {item.id: item for item in self.layers if item.source is CacheSource.MAPPED}
        found = [loaded.get(record.id) or self._source.open(record) for record in records]
        self.records = tuple(records)
        self.layers = tuple(item for item in found if isinstance(item, CachedLayer))
        self.excluded = tuple(item for item in found if isinstance(item, ExcludedLayer))
        self._index = None
        self._identity = identity
        return True

    @property
    def index(self) -> LayerIndex:
        """The index over all layers, built when it is first needed."""
        if self._index is None:
            self._index = LayerIndex([layer.cache for layer in self.layers])
        return self._index

    @property
    def n_tags(self) -> int:
        """Tags of all layers."""
        return sum(layer.cache.n_tags for layer in self.layers)

    def lookup(self, digests: Queries, *, strict: bool = False) -> LookupResult:
        """Find the first layer that holds each digest.

        Parameters
        ----------
        digests : list of str, (n, 32) uint8, Arrow array of text, or Digests
            The queries. Packed ones are raw sha256 bytes; other algorithms come as text.
        strict : bool
            Raise for a corrupt row or a text that is no digest, instead of marking it.

        Returns
        -------
        LookupResult
            One row a query.

        Raises
        ------
        DigestError, LocationError
            Only if `strict`.

        Notes
        -----
        Same answers as containers/storage findDigestInternal, asked one by one.
        """
        queries = _as_digests(digests)
        layer, tag = self.index.find_first(queries)
        result = LookupResult(queries, layer, tag, self.index.maps, self.layers)
        if strict:
            result.require_sound()
        return result

    def lookup_all(self, digests: Queries) -> Matches:
        """Find every layer and every place in it that holds each digest.

        Parameters
        ----------
        digests : list of str, (n, 32) uint8, Arrow array of text, or Digests
            The queries.

        Returns
        -------
        Matches
            Columns `query`, `layer`, `tag`, ordered by them.
        """
        return Matches(*self.index.find_all(_as_digests(digests)))

    def holds(self, digests: Queries) -> Bool:
        """Tell which digests stand anywhere in any layer, whether a pull would find them or not.

        Parameters
        ----------
        digests : list of str, (n, 32) uint8, Arrow array of text, or Digests
            The queries.

        Returns
        -------
        (n,) bool
            Whether any tag of any layer has the digest and a location inside its file.

        Notes
        -----
        What `lookup` finds is settled by it. The rest needs every match, and is asked once for each
        distinct digest and in blocks, so memory stays bounded however often layers repeat it.
        """
        queries = _as_digests(digests)
        is_held: Bool = self.lookup(queries).is_found.copy()
        rest = np.flatnonzero(~is_held & queries.is_present)
        if not len(rest):
            return is_held
        distinct = queries.take(rest).to_text().dictionary_encode()
        is_anywhere = np.zeros(len(distinct.dictionary), np.bool_)
        for query, layer, tag in self.index.iter_all(parse_digests(distinct.dictionary)):
            is_sound = ~self.index.maps.locate(layer, tag).is_corrupt
            is_anywhere[query[is_sound]] = True
        is_held[rest] = is_anywhere[distinct.indices.to_numpy()]
        return is_held

    def find_files(self, digests: Queries, *, strict: bool = False) -> LookupResult:
        """Find whole files to reuse, as a pull does.

        Parameters
        ----------
        digests : list of str, (n, 32) uint8, Arrow array of text, or Digests
            File digests; or hard-link fingerprints, where hard links are in use.
        strict : bool
            As in `lookup`.

        Returns
        -------
        LookupResult
            One row a query. A match that is not at the start of a file, or has no name, is absent,
            and later layers are not asked.
        """
        return self.lookup(digests, strict=strict).at_file_start()

    def find_chunks(self, digests: Queries, *, strict: bool = False) -> LookupResult:
        """Find chunks to reuse, as a pull does: at any offset.

        Parameters
        ----------
        digests : list of str, (n, 32) uint8, Arrow array of text, or Digests
            Chunk digests; an empty one is absent.
        strict : bool
            As in `lookup`.

        Returns
        -------
        LookupResult
            One row a query.
        """
        return self.lookup(digests, strict=strict)

    def join(self, layer: CachedLayer | ExcludedLayer) -> LayersCache:
        """Give a set with one more layer at the end; this one stays as it is.

        Parameters
        ----------
        layer : CachedLayer or ExcludedLayer
            The layer; it counts as present, whether it can be asked or not.

        Returns
        -------
        LayersCache
            Shares everything with this one.
        """
        records = (*self.records, layer.record)
        if isinstance(layer, ExcludedLayer):
            excluded = (*self.excluded, layer)
            return LayersCache(records, self.layers, excluded, self._index, self.store)
        index = self.index.with_joined(layer.cache)
        return LayersCache(records, (*self.layers, layer), self.excluded, index, self.store)

    def with_all_chunks(self) -> LayersCache:
        """Give the same layers with the tags they would have in the plain layout.

        Returns
        -------
        LayersCache
            For asking what layers hold, not where; this set itself where no layer is flat.

        Notes
        -----
        Reads the TOC of each flat layer, the first time; then builds an index anew.
        """
        layers = [layer.with_all_chunks for layer in self.layers]
        if all(new is old for new, old in zip(layers, self.layers, strict=True)):
            return self
        return LayersCache(self.records, layers, self.excluded, store=self.store)

    def __repr__(self) -> str:
        n_bytes = sum(layer.cache.n_bytes for layer in self.layers)
        return (
            f"<LayersCache: {len(self.layers):,} layers, {self.n_tags:,} tags, {n_bytes:,} bytes, "
            f"{len(self.excluded):,} left out>"
        )

    def _repr_html_(self) -> str:
        titles = ("layer", "tags", "bytes", "cache")
        rows = chain(
            ((item.id, item.cache.n_tags, item.cache.n_bytes, item.source) for item in self.layers),
            ((item.id, None, None, item.reason) for item in self.excluded),
        )
        return html_table(repr(self)[1:-1], titles, rows, n_rows=len(self.records))


def _as_digests(digests: Queries) -> Digests:
    if isinstance(digests, Digests):
        return digests
    if hasattr(digests, "dtype") and hasattr(digests, "ndim"):
        return Digests.from_raw(digests)
    return parse_digests(digests)
