"""Load the cache of each layer of a store.

A layer's cache comes from the first of these that has a good one:

1. The store's own file, mapped.
2. The user's cache folder, which holds what was built before.
3. The layer's TOC: built in memory, and added to that folder for the next time.

A layer that has none is excluded, with the reason.

A layer of an additional store counts as present, but no file is reused from it, even if it has a
cache: Podman skips read-only layers. A store that only this user may not write is another matter:
its owner's Podman builds what is missing, so it is built here, in memory. What a plan says does not
depend on the user who runs it.

Source: containers/storage pkg/chunked/cache_linux.go load, createCacheFileFromTOC.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import xxhash

from vecache.atomic import replace_file, sweep_folder
from vecache.cache.reader import CacheFile
from vecache.errors import FormatError, LayerNotFoundError, StoreError, VecacheError, VersionError
from vecache.files import allow_open_files, cache_folder, read_bounded
from vecache.index.disk_folder import FOLDER_NAME, IndexFolder
from vecache.store import find
from vecache.store.bigdata import (
    CACHE_FILE_NAME,
    CACHE_KEY,
    MAX_BIG_DATA_BYTES,
    TOC_KEY,
    layer_layout,
    read_big_data,
)
from vecache.store.records import LAYERS
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord
    from vecache.toc.entries import Entries

__all__ = [
    "Build",
    "BuildCache",
    "CacheSource",
    "CachedLayer",
    "ExcludedLayer",
    "LayerSource",
    "LayerState",
    "find_present",
    "open_cache",
]

Build: TypeAlias = Literal["memory", "store", "never"]
"""What to do where a layer has a TOC and no good cache file: build it in memory, build it and write
it into the store under its locks, as Podman would at its next pull, or exclude the layer."""

LayerState: TypeAlias = "tuple[LayerRecord, tuple[int, int, int] | None]"
"""A layer's record and the state of its cache file: inode, bytes, time; None without one."""

_MISSING = (FileNotFoundError, NotADirectoryError)
_CHECKSUM_BYTES = 16
_MAX_BUILT_BYTES = 1 << 30


class CacheSource(StrEnum):
    """Where a layer's cache came from."""

    MAPPED = "mapped"
    CACHED = "cached"
    """From the user's cache folder."""
    BUILT = "built"
    APPENDED = "appended"
    """Of a layer that is not in the store yet: a plan has pulled it."""


@dataclass(frozen=True)
class CachedLayer:
    """A layer with a cache."""

    record: LayerRecord
    cache: CacheFile
    source: CacheSource
    # why the store's own file was not taken; empty where it was, or where there is none
    problem: str = ""
    # why `with_all_chunks` could not read the layer's TOC
    toc_problem: str = ""
    # entries of the TOC of an appended layer, which no store has yet, and the layer's layout
    entries: Entries | None = field(default=None, compare=False, repr=False)
    layout: Layout = Layout.DIR

    @property
    def id(self) -> str:
        """The layer's id in the store."""
        return self.record.id

    @property
    def target(self) -> str:
        """Folder that holds the layer's files; paths of a look-up are relative to it."""
        return str(self.record.target)

    @property
    def with_all_chunks(self) -> CachedLayer:
        """The layer with the tags it would have in the plain layout; itself where it has them."""
        return self._with_all_chunks or self

    @cached_property
    def _with_all_chunks(self) -> CachedLayer | None:
        """The same, but None for the layer itself: kept in itself, it would be freed late."""
        # The cache of a flat layer knows only the first chunk of each file, its TOC knows all.
        # Paths are then those of the TOC: they say what the layer holds, not where.
        try:
            entries = self._read_flat_entries()
            if entries is None:
                return None
            cache = CacheFile.parse(_pack(entries, Layout.DIR))
        except VecacheError as error:
            return replace(self, toc_problem=str(error))
        return replace(self, cache=cache, source=CacheSource.BUILT, layout=Layout.DIR)

    def _read_flat_entries(self) -> Entries | None:
        """Return the TOC's entries; None where the layout is plain."""
        if self.entries is not None:
            return self.entries if self.layout is Layout.FLAT else None
        if layer_layout(self.record) is not Layout.FLAT:
            return None
        toc_data = read_big_data(self.record, TOC_KEY)
        if toc_data is None:
            raise StoreError(f"layer {self.id}: the store has no TOC of it")
        return _parse_entries(toc_data)


@dataclass(frozen=True, slots=True)
class ExcludedLayer:
    """A layer that takes no part, with the reason."""

    record: LayerRecord
    reason: str
    # whether it may hold content that a pull would find
    is_unread: bool = False

    @property
    def id(self) -> str:
        """The layer's id in the store."""
        return self.record.id


@dataclass(frozen=True, slots=True)
class LayerSource:
    """A store, and how its layers are loaded."""

    store: Store
    build: Build
    present: frozenset[str] | None
    build_cache: BuildCache | None

    def list_layers(self) -> tuple[LayerState, ...]:
        """List the layers that count as present, in store order, and the state of each."""
        return tuple(
            (record, _cache_file_state(record))
            for record in self.store.layers()
            if self.present is None or record.id in self.present
        )

    def open_layers(
        self,
        states: Sequence[LayerState],
        reusable: Mapping[LayerState, CachedLayer | None],
        progress: Callable[[], object] | None = None,
    ) -> list[CachedLayer | ExcludedLayer]:
        """Get the caches of the listed layers, of which those in the same state are reusable."""
        # The states were read before the files are opened: a file that is replaced in between is
        # opened once more at the next refresh, never missed.
        allow_open_files(len(states))
        found: list[CachedLayer | ExcludedLayer] = []
        for state in states:
            layer = reusable.get(state) if reusable else None
            found.append(layer or self.open_layer(state[0]))
            if progress is not None:
                progress()
        is_built = any(
            isinstance(layer, CachedLayer) and layer.source is CacheSource.BUILT for layer in found
        )
        if self.build_cache is not None and is_built:
            self.build_cache.sweep()
        return found

    def index_folder(self) -> IndexFolder:
        """Return where the index is kept; of a part of the layers none is written."""
        cache = self.build_cache or BuildCache.of_user(os.environ)
        folder = cache.folder / FOLDER_NAME
        return IndexFolder(folder, self.store.root, is_read_only=self.present is not None)

    def open_layer(self, record: LayerRecord) -> CachedLayer | ExcludedLayer:
        """Get the cache of one layer from the first source that has it."""
        # What is wrong with one layer raises nothing: one bad layer does not stop the rest.
        if record.store_root != self.store.root:
            # Source: containers/storage pkg/chunked/cache_linux.go load, which skips such layers.
            reason = "in an additional store: a pull never uses its cache or its files"
            return ExcludedLayer(record, reason)
        try:
            cache = open_cache(record)
            self._list_cache(record)
            return CachedLayer(record, cache, CacheSource.MAPPED)
        except (FormatError, VersionError, StoreError) as error:
            is_missing = not _is_listed(record) and isinstance(error.__cause__, _MISSING)
            problem = "" if is_missing else self._reason(error)
        try:
            return self._build_layer(record, problem)
        except VecacheError as error:
            reason = self._reason(error)
            reason = f"{reason}; {problem}" if problem else reason
            return ExcludedLayer(record, reason, is_unread=True)

    def _list_cache(self, record: LayerRecord) -> None:
        """List a cache file that a crash has left unlisted, so that Podman removes it one day."""
        if self.build != "store" or record.items is not None or CACHE_KEY in record.big_data_names:
            return
        from vecache.store.write import list_big_data  # noqa: PLC0415 - 3 ms, for few

        with contextlib.suppress(StoreError, LayerNotFoundError):  # it is there all the same
            list_big_data(self.store, record, CACHE_KEY)

    def _reason(self, error: VecacheError) -> str:
        snapshot = self.store.snapshot
        return str(error) if snapshot is None else snapshot.on_machine(str(error))

    def _build_layer(self, record: LayerRecord, problem: str) -> CachedLayer | ExcludedLayer:
        missing = problem or "no cache file"
        if self.build == "never":
            is_unread = bool(problem) or os.path.exists(record.big_data_path(TOC_KEY))
            return ExcludedLayer(record, f"{missing}, and none was to be built", is_unread)
        toc_data = read_big_data(record, TOC_KEY)
        if toc_data is None:
            if problem:
                reason = f"{problem}; no TOC to build it anew from: pull the layer again"
                return ExcludedLayer(record, reason, is_unread=True)
            return ExcludedLayer(record, "no TOC: pulled whole, or made locally")
        layout = layer_layout(record)
        if self.build == "store":
            from vecache.store.write import write_big_data  # noqa: PLC0415 - 3 ms, for few

            packed = _pack(_parse_entries(toc_data), layout)
            write_big_data(self.store, record, CACHE_KEY, packed)
            cache = open_cache(record)
            return CachedLayer(record, cache, CacheSource.MAPPED, problem)
        found = self.build_cache.find(toc_data, layout) if self.build_cache else None
        if found is not None:
            return CachedLayer(record, found, CacheSource.CACHED, problem)
        packed = _pack(_parse_entries(toc_data), layout)
        if self.build_cache:
            self.build_cache.add(toc_data, layout, packed)
        return CachedLayer(record, CacheFile.parse(packed), CacheSource.BUILT, problem)


def _parse_entries(toc_data: bytes) -> Entries:
    from vecache.toc.parse import Toc  # noqa: PLC0415 - 5 ms, and few layers are built

    return Toc.parse(toc_data).entries


def _pack(entries: Entries, layout: Layout) -> bytes:
    from vecache.cache.writer import pack_cache  # noqa: PLC0415 - 5 ms, and few layers are built

    return pack_cache(entries, layout)


def _cache_path(record: LayerRecord) -> str:
    """Return the path of a layer's cache file, as text: for a thousand layers that is faster."""
    if record.items is not None:
        return str(record.big_data_path(CACHE_KEY))
    return f"{record.store_root}/{LAYERS}/{record.id}/{CACHE_FILE_NAME}"


def open_cache(record: LayerRecord) -> CacheFile:
    """Map the cache file of a layer, of whose path no part below the store is a symbolic link."""
    # What a fleet has is not in a folder of the layer.
    beneath = None if record.items is not None else record.store_root
    return CacheFile.open(_cache_path(record), beneath=beneath)


def _is_listed(record: LayerRecord) -> bool:
    """Return whether a layer must have a cache file: a fleet lists what it has."""
    return record.items is not None and CACHE_KEY in record.items


def _cache_file_state(record: LayerRecord) -> tuple[int, int, int] | None:
    try:
        status = os.stat(_cache_path(record))
    except OSError:
        return None
    # No file that replaces a mapped one has its inode: the map holds it.
    return status.st_ino, status.st_size, status.st_mtime_ns


def find_present(store: Store, present: Collection[str]) -> frozenset[str]:
    """Return the ids of layers, which may be named otherwise, or by an image that has them."""
    names = [present] if isinstance(present, str) else list(present)
    if isinstance(present, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"present: found {present!r:.80}, wanted a list of ids as text")
    return find.find_present(store.layers(), store.images(), names)


class BuildCache:
    """The user's folder of caches that were built from TOCs.

    Podman writes a layer's cache at the *next* pull, so the newest layer of a store has none, and a
    reader does not write one there unasked. The folder saves building it at every start. Nothing
    in it is needed, and what cannot be written is not written.

    A file is named by the xxh3_128 of the TOC and the layout, and begins with the xxh3_128 of the
    rest. One that does not match is ignored and replaced. Those that were not used for longest are
    removed when there are more than 1 GiB of them.
    """

    __slots__ = ("folder",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> BuildCache:
        """Use the user's cache folder; a user without a home caches nothing."""
        return cls(cache_folder(environ))

    def find(self, toc_data: bytes, layout: Layout) -> CacheFile | None:
        """Return the cache that was built from a TOC, if the folder has a sound one."""
        path = self._path(toc_data, layout)
        try:
            found = _read_built(path)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what is used is not what `sweep` removes first
        return found

    def peek(self, toc_data: bytes, layout: Layout) -> tuple[str, CacheFile] | None:
        """Return a cache as `find` does, with its path, and do not count that as a use."""
        path = self._path(toc_data, layout)
        try:
            found = _read_built(path)
        except OSError:
            return None
        return None if found is None else (str(path), found)

    def find_damage(self) -> Iterator[tuple[str, str]]:
        """Read all caches; yield the path of each that cannot be used, and the reason."""
        for path in sorted(self._files.glob("*.cache")):
            try:
                if _read_built(path) is None:
                    yield str(path), "not the bytes that were written, or of another version"
            except FileNotFoundError:
                continue  # swept meanwhile
            except OSError as error:
                yield str(path), error.strerror or str(error)

    def add(self, toc_data: bytes, layout: Layout, packed: bytes) -> None:
        """Write a cache into the folder, if that is possible."""
        path = self._path(toc_data, layout)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not synced: the checksum finds a file that a crash has cut short.
            with replace_file(path, mode=0o600, sync=False) as file:
                file.write(xxhash.xxh3_128_digest(packed) + packed)

    def sweep(self) -> None:
        """Remove the caches that were not used for longest, if there are too many."""
        sweep_folder(self._files, _MAX_BUILT_BYTES)

    @property
    def _files(self) -> Path:
        return self.folder / "built"  # beside the index and the snapshots

    def _path(self, toc_data: bytes, layout: Layout) -> Path:
        return self._files / f"{xxhash.xxh3_128_hexdigest(toc_data)}-{layout}.cache"


def _read_built(path: Path) -> CacheFile | None:
    """Read a cache that `BuildCache` wrote; None if it is not as it was written."""
    data = read_bounded(path, MAX_BIG_DATA_BYTES)
    checksum, packed = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    if xxhash.xxh3_128_digest(packed) != checksum:
        return None
    try:
        return CacheFile.parse(packed)
    except (FormatError, VersionError):  # written by another version of this program
        return None
