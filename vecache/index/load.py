"""Must a cache be built again at every start? Not if the user's cache folder has kept it.

Podman writes a layer's cache at the *next* pull, so the newest layer of a store has none, and a
reader may not write one there unasked. What was built is kept in the user's own cache folder,
under the xxh3_128 of the TOC it came from and the layout. A file begins with the xxh3_128 of the
rest; one that does not match is ignored and written again.

The folder only ever saves time: nothing in it is needed, and whatever cannot be written is not
written. 16 bytes a file more than the cache.

Where does a layer's cache come from? From the first of four places that has a good one.

1. The store's own file, mapped.
2. The user's cache folder, where what had to be built before was kept.
3. The layer's TOC: built in memory, and kept there for the next time.
4. Nowhere: the layer is left out, and the reason is kept.

A layer of an additional store is never built for: Podman does not either, so it finds nothing
there, and a plan that did would promise too much. A store that only we may not write is another
matter: its owner's Podman builds what is missing, and so do we, in memory. Who asks does not change
what a plan says.
Source: containers/storage pkg/chunked/cache_linux.go load, createCacheFileFromTOC.

Which layers does a store have now, and has anything changed? Where a set is loaded from.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import FormatError, StoreError, VecacheError, VersionError
from vecache.files import read_bounded, replace_file
from vecache.store.bigdata import (
    CACHE_KEY,
    MAX_BIG_DATA_BYTES,
    TOC_KEY,
    layer_layout,
    read_big_data,
)
from vecache.store.write import write_big_data
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord
    from vecache.toc.entries import Entries

__all__ = [
    "BuildMode",
    "CacheSource",
    "CachedLayer",
    "ExcludedLayer",
    "KeptCaches",
    "LayerSource",
    "identify",
    "open_layer",
]

_CHECKSUM_BYTES = 16


class KeptCaches:
    """A folder of caches that were built from TOCs."""

    __slots__ = ("folder",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> KeptCaches:
        """Use the user's cache folder, `$XDG_CACHE_HOME/vecache` or `~/.cache/vecache`.

        A relative path in the environment counts as none, as the XDG rules have it. A user without
        a home keeps nothing.
        """
        base = environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):
            home = environ.get("HOME") or os.path.expanduser("~")  # asks the password file
            base = os.path.join(home, ".cache") if os.path.isabs(home) else os.devnull
        return cls(Path(base) / "vecache")

    def find(self, toc_data: bytes, layout: Layout) -> CacheFile | None:
        """Look for the cache of a TOC."""
        try:
            data = read_bounded(self._path(toc_data, layout), MAX_BIG_DATA_BYTES)
        except OSError:
            return None
        checksum, packed = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
        if xxhash.xxh3_128_digest(packed) != checksum:
            return None
        try:
            return CacheFile.parse(packed)
        except (FormatError, VersionError):  # kept by another version of this program
            return None

    def keep(self, toc_data: bytes, layout: Layout, packed: bytes) -> None:
        """Keep a cache, if the folder lets us."""
        path = self._path(toc_data, layout)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not synced: the checksum finds a file that a crash has cut short.
            with replace_file(path, mode=0o600, sync=False) as file:
                file.write(xxhash.xxh3_128_digest(packed) + packed)

    def _path(self, toc_data: bytes, layout: Layout) -> Path:
        return self.folder / f"{xxhash.xxh3_128_hexdigest(toc_data)}-{layout}.cache"


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
    """A layer that can be asked."""

    record: LayerRecord  # what the store says of it
    cache: CacheFile  # its tags
    source: CacheSource  # where they came from
    # why the store's own file was not taken; empty where it was, or where there is none
    problem: str = ""
    # of a joined layer whose files lie flat: its TOC, which the store does not have yet
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
    """A layer that cannot be asked."""

    record: LayerRecord  # what the store says of it
    reason: str  # why it has no cache, for people

    @property
    def id(self) -> str:
        """The layer's id in the store."""
        return self.record.id


def open_layer(
    store: Store, record: LayerRecord, build: BuildMode, kept: KeptCaches | None
) -> CachedLayer | ExcludedLayer:
    """Get the cache of one layer from the first place that has it."""
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


class LayerSource:
    """A store, and how to load its layers."""

    __slots__ = ("_build", "_kept", "_present", "_progress", "_store")

    def __init__(
        self,
        store: Store,
        build: BuildMode,
        present: Collection[str] | None,
        kept: Path | str | None,
        progress: Callable[[], object] | None,
    ) -> None:
        self._store = store
        self._build = build
        self._present = None if present is None else frozenset(present)
        self._kept = None if kept is None else KeptCaches(Path(kept))
        self._progress = progress

    def records(self) -> list[LayerRecord]:
        """List the layers that count as present, as the store has them now."""
        present = self._present
        return [r for r in self._store.layers() if present is None or r.id in present]

    def open(self, record: LayerRecord) -> CachedLayer | ExcludedLayer:
        """Get the cache of one of them, or the reason why there is none."""
        layer = open_layer(self._store, record, self._build, self._kept)
        if self._progress is not None:
            self._progress()
        return layer


def identify(records: Sequence[LayerRecord]) -> int:
    """Tell one state of a set of layers from another."""
    lines = [f"{len(records)}"]
    for record in records:
        lines.append(
            f"{record.id} {record.diff_digest} {record.compressed_diff_digest} {record.toc_digest}"
        )
        try:
            status = record.big_data_path(CACHE_KEY).stat()
            lines.append(f"{status.st_size} {status.st_mtime_ns}")
        except OSError:
            lines.append("none")
    return xxhash.xxh3_64_intdigest("\n".join(lines).encode())
