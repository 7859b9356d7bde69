"""Must a cache be built again at every start? Not if the user's cache folder has kept it.

Podman writes a layer's cache at the *next* pull, so the newest layer of a store has none, and a
reader may not write one there unasked. What was built is kept in the user's own cache folder,
under the xxh3_128 of the TOC it came from and the layout. A file begins with the xxh3_128 of the
rest; one that does not match is ignored and written again.

The folder only ever saves time: nothing in it is needed, and whatever cannot be written is not
written. 16 bytes a file more than the cache.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from vecache.cache.reader import CacheFile
from vecache.errors import FormatError, VersionError
from vecache.store.bigdata import MAX_BIG_DATA_BYTES
from vecache.store.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vecache.toc.layout import Layout

__all__ = ["KeptCaches"]

_CHECKSUM_BYTES = 16


class KeptCaches:
    """A folder of caches that were built from TOCs.

    Parameters
    ----------
    folder : Path
        Made when the first file is kept.
    """

    __slots__ = ("folder",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> KeptCaches:
        """Use the user's cache folder, `$XDG_CACHE_HOME/vecache` or `~/.cache/vecache`.

        A relative path in the environment counts as none, as the XDG rules have it. A user without
        a home keeps nothing.

        Parameters
        ----------
        environ : mapping
            The environment.

        Returns
        -------
        KeptCaches
            Over that folder.
        """
        base = environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):
            home = environ.get("HOME") or os.path.expanduser("~")  # asks the password file
            base = os.path.join(home, ".cache") if os.path.isabs(home) else os.devnull
        return cls(Path(base) / "vecache")

    def find(self, toc_data: bytes, layout: Layout) -> CacheFile | None:
        """Look for the cache of a TOC.

        Parameters
        ----------
        toc_data : bytes
            The TOC as it stands.
        layout : Layout
            The layer's.

        Returns
        -------
        CacheFile or None
            None where it was not kept, or is not what was kept.
        """
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
        """Keep a cache, if the folder lets us.

        Parameters
        ----------
        toc_data : bytes
            The TOC it was built from.
        layout : Layout
            The layer's.
        packed : bytes
            The cache file.
        """
        path = self._path(toc_data, layout)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(xxhash.xxh3_128_digest(packed) + packed)
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise

    def _path(self, toc_data: bytes, layout: Layout) -> Path:
        return self.folder / f"{xxhash.xxh3_128_hexdigest(toc_data)}-{layout}.cache"
