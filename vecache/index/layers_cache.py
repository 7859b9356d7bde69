"""The caches of a store's layers as one set, to look up in.

1. `load` goes through the store's layers in order: it maps what is on disk, builds what is missing
   or broken, and excludes what has no TOC, with the reason.
2. The first look-up builds the index over all of them; see `lookup.py`. That of a large store is
   kept on disk; see `disk_folder.py`.
3. A set is a value. `refresh` returns another where the store has changed: it takes over the layers
   whose record and cache file are the same, and opens the others. `append` returns the set with
   one more layer at the end, as the next layer of a plan meets it; `with_all_chunks` the set that
   knows all chunks of flat layers too.

Podman may add and remove layers at the same time: the records are read under the store's lock, a
map of a deleted file stays good, and a layer that vanishes in between is excluded with that reason.
Several threads may use one set.

Source: containers/storage pkg/chunked/cache_linux.go load, getLayersCache.
"""

from __future__ import annotations

import os
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport
from vecache.cache.reader import TAG_COLUMNS
from vecache.digest import Digests, parse_digests
from vecache.index.load import (
    Build,
    BuildCache,
    CachedLayer,
    ExcludedLayer,
    LayerSource,
    find_present,
)
from vecache.index.lookup import LayerIndex
from vecache.index.result import LookupResult, Matches
from vecache.store.blob_info import BlobInfo
from vecache.store.graphroot import Store
from vecache.store.names import name_layers
from vecache.store.open import open_store
from vecache.text import html_table
from vecache.threads import thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import TypeAlias

    from vecache.arrays import U8, BinaryColumn, Bool
    from vecache.index.disk_folder import IndexFolder
    from vecache.index.load import LayerState
    from vecache.store.names import LayerNames
    from vecache.store.records import ImageRecord, LayerRecord

    Queries: TypeAlias = Digests | Sequence[str | bytes | None] | U8 | BinaryColumn

__all__ = ["LayersCache"]


class LayersCache(ArrowExport):
    """The caches of a store's layers, as one set to look up in.

    Made by `load`; `refresh`, `append` and `with_all_chunks` return new sets.

    Parameters
    ----------
    records : sequence of LayerRecord
        All layers that count as present, in store order.
    layers : sequence of CachedLayer
        Those that have a cache, in store order. A look-up's `layer` is an index into it.
    excluded : sequence of ExcludedLayer
        Those that have none, each with the reason.
    store : Store, optional
        What the set was loaded from.
    index : LayerIndex, optional
        The index over `layers`, where there is one already.
    index_folder : IndexFolder, optional
        Where the index of the store is kept on disk.
    blob_info : BlobInfo, optional
        Which blobs and TOCs Podman knows the uncompressed digest of; the store's by default.
    images : sequence of ImageRecord
        Images that plans have pulled, besides those of the store.

    Attributes
    ----------
    records, layers, excluded, images : tuple
        As given.
    store : Store or None
        As given.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store)
    >>> cache
    <LayersCache: 5 layers, 1,154 tags, 78,457 bytes, 0 excluded>
    >>> digests = cache.to_arrow()["digest"]
    >>> cache.lookup(digests)
    <LookupResult: 1,154 queries, 1,154 found, 13,982,293 bytes>
    """

    def __init__(
        self,
        records: Sequence[LayerRecord] = (),
        layers: Sequence[CachedLayer] = (),
        excluded: Sequence[ExcludedLayer] = (),
        *,
        store: Store | None = None,
        index: LayerIndex | None = None,
        index_folder: IndexFolder | None = None,
        blob_info: BlobInfo | None = None,
        images: Sequence[ImageRecord] = (),
    ) -> None:
        if isinstance(records, (str, os.PathLike, Store)):
            raise TypeError(
                f"records: found {type(records).__name__}, wanted LayerRecord objects; "
                "LayersCache.load(STORE) loads a store"
            )
        self.records = tuple(records)
        self.layers = tuple(layers)
        self.excluded = tuple(excluded)
        self.images = tuple(images)
        self.store = store
        self._index = index
        self._index_folder = index_folder
        self._blob_info = blob_info
        self._index_lock = Lock()
        self._source: LayerSource | None = None
        self._states: tuple[LayerState, ...] = ()

    @classmethod
    def load(
        cls,
        store: Store | str | os.PathLike[str],
        *,
        build: Build = "memory",
        present: Collection[str] | None = None,
        build_cache: Path | str | None = None,
        progress: Callable[[], object] | None = None,
    ) -> LayersCache:
        """Load the caches of a store's layers.

        Parameters
        ----------
        store : Store or path
            The graph root, with its additional stores; a path is opened by `open_store`.
        build : {"memory", "store", "never"}
            What to do where a layer has a TOC and no good cache file: build it in memory, build
            it and write it into the store under its locks, or exclude the layer.
        present : collection of str, optional
            The layers that count as present: ids or digests of layers, or beginnings of them, or
            names of images, for all layers of these; all by default.
        build_cache : path, optional
            Folder for caches that are built in memory, to find them there the next time, and for
            the index of a store of more than two million tags. By default only such an index is
            kept, in the user's cache folder (`$XDG_CACHE_HOME/vecache` or `~/.cache/vecache`).
        progress : callable, optional
            Called after each layer.

        Returns
        -------
        LayersCache
            In store order.

        Raises
        ------
        StoreError
            If the store's records cannot be read. What is wrong with one layer raises nothing: the
            layer is in `excluded`.
        LayerNotFoundError
            If the store has no layer that `present` names.
        ValueError
            If `build` is none of the three.
        """
        if isinstance(store, (str, os.PathLike)):
            store = open_store(store)
        if not isinstance(store, Store):
            raise TypeError(f"store: found {type(store).__name__}, wanted a Store or a path")
        if build not in get_args(Build):
            wanted = ", ".join(map(repr, get_args(Build)))
            raise ValueError(f"build: found {build!r}, wanted one of {wanted}")
        folder = None if build_cache is None else BuildCache(Path(build_cache))
        ids = None if present is None else find_present(store, present)
        source = LayerSource(store, build, ids, folder)
        return cls._open(source, source.list_layers(), cls(), progress)

    def refresh(self) -> LayersCache:
        """Look at the store again; this set stays as it is.

        Returns
        -------
        LayersCache
            What `load` would return now; this set itself where no layer came, went or changed and
            no cache file was replaced. Shares the caches of the layers that stayed the same.

        Raises
        ------
        StoreError
            If the store's records cannot be read.
        ValueError
            If this set did not come from `load` or `refresh`.
        """
        if self._source is None:
            raise ValueError("only a set that was loaded from a store can be refreshed")
        states = self._source.list_layers()
        return self if states == self._states else self._open(self._source, states, self)

    @classmethod
    def _open(
        cls,
        source: LayerSource,
        states: tuple[LayerState, ...],
        old: LayersCache,
        progress: Callable[[], object] | None = None,
    ) -> LayersCache:
        """Open the listed layers, except those that an older set has in the same state."""
        loaded = {layer.id: layer for layer in old.layers}
        reusable = {state: loaded.get(state[0].id) for state in old._states} if loaded else {}
        found = source.open_layers(states, reusable, progress)
        new = cls(
            [record for record, _ in states],
            [layer for layer in found if isinstance(layer, CachedLayer)],
            [layer for layer in found if isinstance(layer, ExcludedLayer)],
            store=source.store,
            index_folder=source.index_folder(),
        )
        new._source, new._states = source, states
        return new

    @property
    def index(self) -> LayerIndex:
        """The index over all layers, opened or built when it is first needed."""
        with self._index_lock:  # of several threads one builds it, and the others wait
            if self._index is None and self._index_folder is not None:
                self._index = self._index_folder.open(self.layers)
            elif self._index is None:
                self._index = LayerIndex.build([layer.cache for layer in self.layers])
            return self._index

    @property
    def blob_info(self) -> BlobInfo:
        """Which blobs and TOCs Podman knows the uncompressed digest of."""
        if self._blob_info is None:
            self._blob_info = BlobInfo() if self.store is None else self.store.blob_info()
        return self._blob_info

    @cached_property
    def layer_names(self) -> dict[str, LayerNames]:
        """What people know the layers by, by id: `image_names` and `created_by`.

        The configs of the store's images are read when it is first asked for.
        """
        if self.store is None:
            return name_layers(self.records, self.images)
        records = {each.id: each for each in (*self.store.layers(), *self.records)}
        return name_layers(records.values(), (*self.store.images(), *self.images))

    @property
    def n_tags(self) -> int:
        """Tags of all layers."""
        return sum(layer.cache.n_tags for layer in self.layers)

    @property
    def unread(self) -> tuple[ExcludedLayer, ...]:
        """Layers of a set from `with_all_chunks` whose TOC could not be read, with the reason.

        They take part with the chunks that their caches know.
        """
        return tuple(
            ExcludedLayer(layer.record, layer.toc_problem)
            for layer in self.layers
            if layer.toc_problem
        )

    def lookup(
        self, digests: Queries, *, strict: bool = False, threads: int | None = None
    ) -> LookupResult:
        """Find the first layer that holds each digest.

        Parameters
        ----------
        digests : list of str, (n, 32) uint8, Arrow array of text, or Digests
            The queries. Packed ones are raw sha256 bytes; other algorithms come as text.
        strict : bool
            Raise for a corrupt row or a text that is not a digest, instead of marking it.
        threads : int, optional
            How many to use, at most one a core; by default what the environment variable
            `VECACHE_THREADS` says, else one a core. The answers do not depend on it.

        Returns
        -------
        LookupResult
            One row a query.

        Raises
        ------
        DigestError, LocationError
            Only if `strict`.
        TypeError, ValueError
            If `threads` is not a number of at least 1.

        Notes
        -----
        The answers are those of containers/storage findDigestInternal, called for each digest.
        """
        threads = None if threads is None else thread_count(threads)
        queries = _as_digests(digests)
        layer, tag = self.index.find_first(queries, threads)
        result = LookupResult(queries, layer, tag, self.index.tags, self.layers, threads)
        if strict:
            result.require_sound()
        return result

    def lookup_all(self, digests: Queries) -> Matches:
        """Find every tag of every layer that has each digest.

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
        """Return which digests any layer has, whether a pull would find them or not.

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
        `lookup` answers most. For the rest every match is read, once for each distinct digest and
        in blocks, so memory stays bounded however often layers repeat it.
        """
        queries = _as_digests(digests)
        is_held: Bool = self.lookup(queries).is_found.copy()
        rest = np.flatnonzero(~is_held & queries.is_present)
        if not len(rest):
            return is_held
        distinct = queries.take(rest).to_text().dictionary_encode()
        is_anywhere = np.zeros(len(distinct.dictionary), np.bool_)
        for query, layer, tag in self.index.iter_all(parse_digests(distinct.dictionary)):
            is_sound = ~self.index.tags.locate(layer, tag).is_corrupt
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
            and later layers are not searched for it.
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

    def to_arrow(self) -> Any:
        r"""Export all tags of all layers.

        Returns
        -------
        pyarrow.Table
            `layer` (index in `layers`), `layer_id`, `digest`, `path`, `offset`, `length`; the last
            three are null where a location is corrupt. A path that is not UTF-8 shows its bytes as
            `\xNN`. About 0.2 kB a tag; `export_dataset` writes any number.

        Raises
        ------
        ColumnSizeError
            If the digests or paths of one layer exceed what one Arrow column holds, 2 GiB.
        """
        tags = [TAG_COLUMNS.empty_table(), *(layer.cache.to_arrow() for layer in self.layers)]
        n_tags = [layer.cache.n_tags for layer in self.layers]
        layer = pa.array(np.repeat(np.arange(len(n_tags)), n_tags))
        ids = pa.array([layer.id for layer in self.layers], pa.string())
        layer_id = pa.DictionaryArray.from_arrays(layer, ids)
        return (
            pa.concat_tables(tags).add_column(0, "layer_id", layer_id).add_column(0, "layer", layer)
        )

    def append(self, layer: CachedLayer | ExcludedLayer) -> LayersCache:
        """Return the set with one more layer at the end; this one stays as it is.

        Parameters
        ----------
        layer : CachedLayer or ExcludedLayer
            The layer; it counts as present, whether it has a cache or not.

        Returns
        -------
        LayersCache
            Shares the caches and the index with this one.
        """
        layers, excluded, index = self.layers, self.excluded, self._index
        if isinstance(layer, ExcludedLayer):
            excluded = (*excluded, layer)
        else:
            layers, index = (*layers, layer), self.index.append(layer.cache)
        records = (*self.records, layer.record)
        return self._replaced(records=records, layers=layers, excluded=excluded, index=index)

    def with_blob_info(self, blob_info: BlobInfo) -> LayersCache:
        """Return the same layers, with other knowledge of blobs and TOCs.

        Parameters
        ----------
        blob_info : BlobInfo
            Which blobs and TOCs Podman knows the uncompressed digest of.

        Returns
        -------
        LayersCache
            Shares the caches and the index with this one.
        """
        return self._replaced(blob_info=blob_info)

    def with_index(self, index: LayerIndex) -> LayersCache:
        """Return the same layers, with another index over them.

        Parameters
        ----------
        index : LayerIndex
            Over the caches of `layers`, in their order.

        Returns
        -------
        LayersCache
            Shares the caches with this one.
        """
        return self._replaced(index=index, index_folder=None)

    def with_image(self, image: ImageRecord) -> LayersCache:
        """Return the same layers, with one more image that a plan has pulled.

        Parameters
        ----------
        image : ImageRecord
            The image; its layers are among `records`.

        Returns
        -------
        LayersCache
            Shares the caches and the index with this one.
        """
        return self._replaced(images=(*self.images, image))

    def with_all_chunks(self) -> LayersCache:
        """Return the same layers with the tags they would have in the plain layout.

        Returns
        -------
        LayersCache
            For what layers hold, not where. This set itself where no layer is flat. A layer whose
            TOC cannot be read stays as it is, and `unread` has the reason.

        Notes
        -----
        Reads the TOC of each flat layer, the first time; then builds an index anew.
        """
        layers = [layer.with_all_chunks for layer in self.layers]
        if all(new is old for new, old in zip(layers, self.layers, strict=True)):
            return self
        return self._replaced(layers=layers, index=None, index_folder=None)

    def _replaced(self, **changes: Any) -> LayersCache:
        """Return a set with other arguments, which the other ones are shared with."""
        given = {
            "records": self.records,
            "layers": self.layers,
            "excluded": self.excluded,
            "store": self.store,
            "index": self._index,
            "index_folder": self._index_folder,
            "blob_info": self._blob_info,
            "images": self.images,
        }
        return LayersCache(**{**given, **changes})

    def __repr__(self) -> str:
        n_bytes = sum(layer.cache.n_bytes for layer in self.layers)
        return (
            f"<LayersCache: {len(self.layers):,} layers, {self.n_tags:,} tags, {n_bytes:,} bytes, "
            f"{len(self.excluded):,} excluded>"
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
    if isinstance(digests, np.ndarray) and digests.dtype.kind not in "OSTU":  # those hold text
        return Digests.from_raw(digests)
    return parse_digests(digests)
