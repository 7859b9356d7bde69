"""Read what is compressed with zstd, from files that anybody may have made.

What such a file unpacks to is bounded by its own size: a file of a few bytes cannot fill memory or
a disk. `max_unpacked_bytes` is that bound, and writers hold to it too.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, Final

import pyarrow as pa

from vecache.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PackedReader", "max_unpacked_bytes", "pack", "unpack_bytes"]

_MAX_BYTES: Final = 16 << 30
_MAX_RATIO: Final = 256
_MAX_SLACK_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 1 << 20


def max_unpacked_bytes(n_bytes: int) -> int:
    """Return how many bytes a compressed file of `n_bytes` may unpack to."""
    return min(_MAX_BYTES, _MAX_RATIO * n_bytes + _MAX_SLACK_BYTES)


def pack(data: bytes, level: int) -> bytes:
    """Compress some bytes to one frame."""
    return bytes(pa.Codec("zstd", level).compress(data, asbytes=True))


def unpack_bytes(data: bytes, max_bytes: int, damaged: Callable[[str], StoreError]) -> bytes:
    """Return all that a compressed file holds; an error for more than `max_bytes`."""
    limit = min(max_bytes + 1, max_unpacked_bytes(len(data)))
    unpacked = PackedReader(io.BytesIO(data), len(data), damaged).read(limit)
    if len(unpacked) == limit:
        raise damaged(f"{limit:,} bytes or more when unpacked, which is too many")
    return unpacked


class PackedReader:
    """The bytes of a compressed file, read from the front."""

    def __init__(self, file: BinaryIO, n_bytes: int, damaged: Callable[[str], StoreError]) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        self._damaged = damaged
        self._max_bytes = max_unpacked_bytes(n_bytes)
        self._rest = self._max_bytes

    def read(self, n_bytes: int) -> bytes:
        """Read so many bytes, or fewer at the end."""
        if n_bytes > self._rest:
            raise self._damaged(
                f"more than {self._max_bytes:,} bytes when unpacked, too many for its size"
            )
        parts: list[bytes] = []
        try:
            while n_bytes > 0:
                part = self._stream.read(min(n_bytes, _BLOCK_BYTES))  # ends early at a frame's end
                if not part:
                    break
                n_bytes -= len(part)
                self._rest -= len(part)
                parts.append(part)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise self._damaged(str(error)) from error
        return b"".join(parts)
