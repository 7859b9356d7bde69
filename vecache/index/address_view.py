"""How can one gather read rows from a thousand mapped files? As one array over all of them.

A layer's tags lie in that layer's own map. To verify a batch of answers layer by layer costs a
numpy call a layer, however few rows it has. But all maps live in one address space, so a single
strided view that begins at the lowest of them reaches every byte, and "byte i of the view" is an
address. One fancy index then gathers rows from all layers, copying nothing but those rows.

The view is only as safe as its addresses: every one must come from `place`, plus an offset that
was checked against that buffer's length. It keeps the buffers alive. Nothing is written through
it.

A page that was read counts as the process's memory until it is let go. Where the files are large,
rows are read in the order of their addresses, and the pages of each stretch are let go before the
next: they stay in the page cache.

Costs 24 bytes a buffer. Source: the array interface protocol, version 3, of the numpy manual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.arrays import frozen
from vecache.files import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8

__all__ = ["RESIDENT_BYTES", "AddressView"]

RESIDENT_BYTES = 512 << 20
"""So much of the mapped files is in the process's memory at a time, while many rows are read."""

_TOUCHED_BYTES = 1 << 16
"""What the kernel maps around a byte that is read (Linux: fault_around_bytes)."""


class AddressView:
    """A read-only array over all bytes from the lowest buffer to the end of the highest.

    Parameters
    ----------
    buffers : sequence of (n_bytes_i,) uint8, C-contiguous
        Mapped files or plain arrays; held as long as the window lives.

    Attributes
    ----------
    place : (n_buffers,) int64
        Where each buffer begins in the window.
    bytes : (n_bytes,) uint8
        The window itself. Most of it is not mapped: index it with addresses alone, never slice it.
    """

    __slots__ = ("_buffers", "_extent", "_is_large", "bytes", "place")

    def __init__(self, buffers: Sequence[U8]) -> None:
        self._buffers = tuple(buffers)
        self._is_large = sum(buffer.nbytes for buffer in buffers) > RESIDENT_BYTES
        starts = np.array([_address(buffer) for buffer in buffers], np.int64)
        ends = starts + np.array([buffer.nbytes for buffer in buffers], np.int64)
        is_filled = ends > starts  # an empty array's address means nothing
        lowest = int(starts[is_filled].min()) if is_filled.any() else 0
        n_bytes = int(ends[is_filled].max(initial=lowest)) - lowest
        self.place = frozen(np.where(is_filled, starts - lowest, 0))
        self._extent = lowest, n_bytes
        self.bytes: U8 = self._items("|u1", 1)

    def gather(self, places: I64, n_bytes: int) -> U8:
        """Copy a fixed number of bytes from each place.

        Parameters
        ----------
        places : (n,) int64
            Where to begin; `n_bytes` from there lie inside one buffer.
        n_bytes : int
            Bytes a row.

        Returns
        -------
        (n, n_bytes) uint8, C-contiguous
            The rows.
        """
        if not len(places):
            return np.empty((0, n_bytes), np.uint8)
        rows = self._items(f"|V{n_bytes}", n_bytes)[places]
        gathered: U8 = rows.view(np.uint8).reshape(len(places), n_bytes)
        return gathered

    def blocks(self, places: I64) -> Iterator[I64 | slice]:
        """Divide rows into blocks that touch little enough memory, and let go of it behind each.

        Parameters
        ----------
        places : (n,) int64
            Where in the window each row is read.

        Yields
        ------
        (m,) int64 or slice
            Rows to read now; all at once where they are few, or the buffers small.
        """
        if not self._is_large or len(places) * _TOUCHED_BYTES <= RESIDENT_BYTES:
            yield slice(None)
            return
        order = np.argsort(places, kind="stable")
        stretch = places[order] // RESIDENT_BYTES
        for rows in np.split(order, np.flatnonzero(np.diff(stretch)) + 1):
            yield rows
            self._release(int(places[rows[0]]), int(places[rows[-1]]))

    def _release(self, first: int, last: int) -> None:
        """Let go of the buffers that have a byte between two places."""
        for place, buffer in zip(self.place.tolist(), self._buffers, strict=True):
            if place <= last and place + buffer.nbytes > first:
                release_pages(buffer)

    def _items(self, typestr: str, item_bytes: int) -> Any:
        """Overlapping items of one type, one at each byte."""
        lowest, n_bytes = self._extent
        if n_bytes < item_bytes:
            return np.empty(0, typestr)
        interface = {
            "version": 3,
            "typestr": typestr,
            "shape": (n_bytes - item_bytes + 1,),
            "strides": (1,),
            "data": (lowest, True),  # read-only
        }
        return np.asarray(_Memory(interface, self._buffers))


class _Memory:
    """Describes a stretch of memory to numpy, and owns what lies in it."""

    __slots__ = ("__array_interface__", "_buffers")

    def __init__(self, interface: dict[str, Any], buffers: tuple[U8, ...]) -> None:
        self.__array_interface__ = interface
        self._buffers = buffers


def _address(buffer: U8) -> int:
    address: int = buffer.__array_interface__["data"][0]
    return address
