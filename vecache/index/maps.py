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

from vecache.arrays import MAX_COLUMN_BYTES, frozen, slices_to_binary
from vecache.cache.format import LOCATION_BYTES, NAME_HEAD_BYTES
from vecache.cache.locations import Locations, Section, parse_locations
from vecache.cache.mapping import release_pages
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8, U64, BinaryColumn, Bool
    from vecache.cache.reader import CacheFile

__all__ = ["RESIDENT_BYTES", "LayerMaps", "MapWindow"]

RESIDENT_BYTES = 512 << 20
"""So much of the mapped files is in the process's memory at a time, while many rows are read."""

_TOUCHED_BYTES = 1 << 16
"""What the kernel maps around a byte that is read (Linux: fault_around_bytes)."""


class MapWindow:
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

    __slots__ = ("_buffers", "_is_large", "_span", "bytes", "place")

    def __init__(self, buffers: Sequence[U8]) -> None:
        self._buffers = tuple(buffers)
        self._is_large = sum(buffer.nbytes for buffer in buffers) > RESIDENT_BYTES
        starts = np.array([_address(buffer) for buffer in buffers], np.int64)
        ends = starts + np.array([buffer.nbytes for buffer in buffers], np.int64)
        is_filled = ends > starts  # an empty array's address means nothing
        lowest = int(starts[is_filled].min()) if is_filled.any() else 0
        n_bytes = int(ends[is_filled].max(initial=lowest)) - lowest
        self.place = frozen(np.where(is_filled, starts - lowest, 0))
        self._span = _Span(self._buffers, lowest, n_bytes)
        self.bytes: U8 = self._span.as_array("|u1", 1)

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
        rows = self._span.as_array(f"|V{n_bytes}", n_bytes)[places]
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


class _Span:
    """Describes a stretch of memory to numpy, and owns what lies in it."""

    __slots__ = ("__array_interface__", "_buffers", "_lowest", "_n_bytes")

    def __init__(self, buffers: tuple[U8, ...], lowest: int, n_bytes: int) -> None:
        self._buffers = buffers
        self._lowest = lowest
        self._n_bytes = n_bytes
        self.__array_interface__: dict[str, Any] = {}

    def as_array(self, typestr: str, item_bytes: int) -> Any:
        """Overlapping items of one type, one at each byte."""
        n_items = self._n_bytes - item_bytes + 1
        if n_items <= 0:
            return np.empty(0, typestr)
        self.__array_interface__ = {
            "version": 3,
            "typestr": typestr,
            "shape": (n_items,),
            "strides": (1,),
            "data": (self._lowest, True),
        }
        return np.asarray(self)


def _address(buffer: U8) -> int:
    address: int = buffer.__array_interface__["data"][0]
    return address


class LayerMaps:
    """Rows of any layers, read from their maps in one gather.

    Parameters
    ----------
    files : sequence of CacheFile
        A layer's number is its place here. The files are held as long as this lives.
    """

    __slots__ = ("_digest_bytes", "_fnames", "_tag_bytes", "_tag_place", "_vdata", "_window")

    def __init__(self, files: Sequence[CacheFile]) -> None:
        self._window = MapWindow([file.data for file in files])
        place = self._window.place
        sizes = np.array(
            [
                (
                    f.header.tags_offset,
                    f.tag_len,
                    f.digest_len,
                    f.header.vdata_offset,
                    f.header.fnames_offset,
                    f.n_bytes,
                )
                if f.n_tags
                else (0,) * 6  # its header may say anything, and no row of it is ever asked for
                for f in files
            ],
            np.int64,
        ).reshape(len(files), 6)
        tags, self._tag_bytes, self._digest_bytes, vdata, fnames, end = sizes.T
        self._tag_place = place + tags
        self._vdata = Section(place + vdata, fnames - vdata)
        self._fnames = Section(place + fnames, end - fnames)

    def raw_digests(self, layer_no: I64, tag_row: I64) -> U64:
        """Read the raw digests of tags.

        Parameters
        ----------
        layer_no, tag_row : (n,) int64
            Tags of sha256 layers.

        Returns
        -------
        (n, 4) uint64
            The 32 bytes as they lie, four words a row.
        """
        places = self._place_of(layer_no, tag_row) + PREFIX_BYTES
        words = np.empty((len(places), RAW_BYTES[Algorithm.SHA256] // 8), np.uint64)
        for rows in self._window.blocks(places):
            raw = self._window.gather(places[rows], RAW_BYTES[Algorithm.SHA256])
            words[rows] = raw.view(np.uint64)
        return words

    def is_sha256(self, layer_no: I64, tag_row: I64) -> Bool:
        """Look at what stands before the raw digests of tags.

        Parameters
        ----------
        layer_no, tag_row : (n,) int64
            Tags of any layers.

        Returns
        -------
        (n,) bool
            Whether it is `sha256:`.
        """
        prefix = self._window.gather(self._place_of(layer_no, tag_row), PREFIX_BYTES)
        is_sha256: Bool = (prefix == Algorithm.SHA256.prefix).all(axis=1)
        return is_sha256

    def locate(self, layer_no: I64, tag_row: I64) -> Locations:
        """Read the locations that tags point at.

        Parameters
        ----------
        layer_no, tag_row : (n,) int64
            Tags of any layers.

        Returns
        -------
        Locations
            n rows; those that point outside their file are marked corrupt.
        """
        places = self._place_of(layer_no, tag_row) + self._digest_bytes[layer_no]
        name_offset, offset, length = np.empty((3, len(places)), np.int64)
        is_corrupt = np.empty(len(places), np.bool_)
        for rows in self._window.blocks(places):
            located = self._locate(layer_no[rows], places[rows])
            name_offset[rows], offset[rows] = located.name_offset, located.offset
            length[rows], is_corrupt[rows] = located.length, located.is_corrupt
        return Locations(name_offset, offset, length, is_corrupt)

    def _locate(self, layer_no: I64, places: I64) -> Locations:
        """Read locations, given where in the window the tags' pointers are."""
        pointers = self._window.gather(places, LOCATION_BYTES).view(np.dtype("<u8"))
        return parse_locations(
            self._window.bytes,
            Section(self._vdata.start[layer_no], self._vdata.n_bytes[layer_no]),
            Section(self._fnames.start[layer_no], self._fnames.n_bytes[layer_no]),
            pointers[:, 0],
            pointers[:, 1],
        )

    def name_lengths(self, layer_no: I64, name_offset: I64) -> I64:
        """Read how long names are.

        Parameters
        ----------
        layer_no, name_offset : (n,) int64
            From `locate`, none of them -1.

        Returns
        -------
        (n,) int64
            Bytes of each name.
        """
        heads = self._window.gather(self._fnames.start[layer_no] + name_offset, NAME_HEAD_BYTES)
        return heads.view(np.dtype("<u4"))[:, 0].astype(np.int64)

    def names(self, layer_no: I64, name_offset: I64) -> BinaryColumn:
        """Read names.

        Parameters
        ----------
        layer_no, name_offset : (n,) int64
            From `locate`; a name offset of -1 gives null.

        Returns
        -------
        pyarrow.BinaryArray of n rows
            Names as the caches hold them.

        Raises
        ------
        LimitError
            If they exceed together what one Arrow column holds, 2 GiB.
        """
        is_named = name_offset >= 0
        starts = np.zeros(len(name_offset), np.int64)
        lengths = np.zeros(len(name_offset), np.int64)
        layer_no, name_offset = layer_no[is_named], name_offset[is_named]
        lengths[is_named] = self.name_lengths(layer_no, name_offset)
        starts[is_named] = self._fnames.start[layer_no] + name_offset + NAME_HEAD_BYTES
        if int(lengths.sum()) > MAX_COLUMN_BYTES:
            raise LimitError(
                f"names: found {int(lengths.sum()):,} bytes, wanted at most {MAX_COLUMN_BYTES:,}; "
                "ask for fewer digests at once",
                section="fnames",
                offset=0,
            )
        return slices_to_binary(self._window.bytes, starts, lengths, is_named)

    def _place_of(self, layer_no: I64, tag_row: I64) -> I64:
        places: I64 = self._tag_place[layer_no] + tag_row * self._tag_bytes[layer_no]
        return places
