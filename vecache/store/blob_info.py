"""Read which blobs and TOCs Podman knows the uncompressed digest of.

Podman writes down the uncompressed digest of each blob and TOC that it has met, in an SQLite file
beside the store: `/var/lib/containers/cache` for root and `~/.local/share/containers/cache`
(`$XDG_DATA_HOME/containers/cache`) for a user, `blob-info-cache-v1.sqlite`. A layer whose blob or
TOC leads to the `diff-digest` of a local layer is not pulled.

The file is only a hint, and it is never written here. One that is missing, damaged, too large, of
another kind or locked by a writer is empty.

Source: containers/image pkg/blobinfocache/default.go, pkg/blobinfocache/sqlite/sqlite.go.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from vecache.digest import is_digest
from vecache.files import open_regular

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

__all__ = ["BlobInfo", "blob_info_path", "read_blob_info"]

_MACHINE_FOLDER: Final = "/var/lib/containers/cache"
_FILE_NAME: Final = "blob-info-cache-v1.sqlite"
_HEADER: Final = b"SQLite format 3\0"
_ROLLBACK_JOURNAL: Final = b"\1\1"  # not WAL (2), of which even reading writes a file
_MAX_BYTES: Final = 256 << 20  # about a million blobs
_LOCK_SECONDS: Final = 0.5
_READ_SECONDS: Final = 2.0
_DEADLINE_STEPS: Final = 10_000  # of SQLite's virtual machine, well under a millisecond


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """The uncompressed digests of blobs and of TOCs, as far as they are known."""

    blobs: Mapping[str, str] = field(default_factory=dict)  # digest of a blob -> uncompressed one
    tocs: Mapping[str, str] = field(default_factory=dict)  # digest of a TOC -> uncompressed one

    def uncompressed(self, blob_digest: str) -> str | None:
        """Return the uncompressed digest of a blob, itself where the blob is not compressed."""
        return self.blobs.get(blob_digest) or None

    def uncompressed_for_toc(self, toc_digest: str) -> str | None:
        """Return the uncompressed digest of the layer that a TOC describes."""
        return self.tocs.get(toc_digest) or None


def blob_info_path(environ: Mapping[str, str], uid: int) -> Path | None:
    """Return where Podman run by a user keeps the file; None where it could not keep one."""
    if uid == 0:
        return Path(_MACHINE_FOLDER, _FILE_NAME)
    data, home = environ.get("XDG_DATA_HOME"), environ.get("HOME")
    if not data and not home:
        return None
    return Path(data or os.path.join(home or "", ".local", "share"), "containers/cache", _FILE_NAME)


def read_blob_info(path: Path | None) -> BlobInfo:
    """Read the file; empty where it cannot be read now."""
    try:
        import sqlite3  # noqa: PLC0415 - a system's Python may come without it
    except ImportError:
        return BlobInfo()
    if path is None or not _is_readable(path):
        return BlobInfo()
    try:
        # URI filename: mode=ro never creates the file, and never rolls a writer's journal back.
        connection = sqlite3.connect(
            f"file:{quote(os.fspath(path.absolute()))}?mode=ro", uri=True, timeout=_LOCK_SECONDS
        )
        try:
            return _read(connection)
        finally:
            connection.close()
    except (sqlite3.Error, OSError, ValueError, OverflowError):
        return BlobInfo()


def _is_readable(path: Path) -> bool:
    """Return whether a file is a database that SQLite reads without writing."""
    try:
        with open_regular(path) as (file, n_bytes):
            header = file.read(20)
    except OSError:
        return False
    is_read_only = header[:16] == _HEADER and header[18:] == _ROLLBACK_JOURNAL
    return is_read_only and n_bytes <= _MAX_BYTES


def _read(connection: sqlite3.Connection) -> BlobInfo:
    """Read both tables in one transaction, until the deadline."""
    # A view of that name could run forever.
    deadline = time.monotonic() + _READ_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _DEADLINE_STEPS)
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.execute("BEGIN")
    blobs = _pairs(
        connection.execute("SELECT anyDigest, uncompressedDigest FROM DigestUncompressedPairs")
    )
    tocs = _pairs(
        connection.execute("SELECT tocDigest, uncompressedDigest FROM DigestTOCUncompressedPairs")
    )
    # An uncompressed blob may have no row of its own.
    return BlobInfo({value: value for value in blobs.values()} | blobs, tocs)


def _pairs(rows: sqlite3.Cursor) -> dict[str, str]:
    """Return the pairs of digests; a value that is not a digest counts as unknown, and is empty."""
    return {
        key: value if isinstance(value, str) and is_digest(value) else ""
        for key, value in rows
        if isinstance(key, str) and is_digest(key)
    }
