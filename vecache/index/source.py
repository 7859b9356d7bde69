"""Which layers does a store have now, and has anything changed? Where a set is loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from vecache.index.keep import KeptCaches
from vecache.index.layers import open_layer
from vecache.store.bigdata import CACHE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from vecache.index.layers import BuildMode, CachedLayer, ExcludedLayer
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = ["LayerSource", "identify"]


class LayerSource:
    """A store, and how to load its layers.

    Parameters
    ----------
    store : Store
        The graph root.
    build : BuildMode
        What to do where there is no good cache file.
    present : collection of str, optional
        Ids of the layers that count as present; all by default.
    kept : path, optional
        Folder for caches that were built in memory.
    progress : callable, optional
        Called after each layer.
    """

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
    """Tell one state of a set of layers from another.

    Parameters
    ----------
    records : sequence of LayerRecord
        The layers.

    Returns
    -------
    int
        The xxh3 over ids and digests, and the sizes and times of the cache files.
    """
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
