"""Read the locations and names of any layers' tags, from all maps at once.

A tag is named by its layer's number and its row in that layer's file. To read a batch layer by
layer would cost a numpy call a layer, however few rows it has. But all maps lie in one address
space, so one strided view from the lowest of them to the highest reaches every byte, and one fancy
index gathers rows from all layers. It copies nothing but those rows.

A page that was read counts as the process's memory until it is released. Where the files are large,
rows are read in the order of their addresses, and the pages of each block are released before the
next: they stay in the page cache.

112 bytes a layer. Once as many locations were read as there are tags, all are kept in a table, 24
bytes a tag. Source: the array interface protocol, version 3, of the numpy manual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vecache.arrays import frozen, gather_bytes, slices_to_binary
from vecache.cache.format import LOCATION_BYTES, NAME_HEAD_BYTES
from vecache.cache.locations import Locations, Section, name_lengths, parse_locations
from vecache.errors import IndexDamagedError, LocationError
from vecache.files import RESIDENT_BYTES, release_pages
from vecache.index.location_table import LocationTable, build_location_table
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecache.arrays import I64, U8, BinaryColumn
    from vecache.cache.reader import CacheFile

__all__ = ["AddressView", "LayerTags", "Tags"]

_ROWS_PER_BLOCK = 1 << 14

_TOUCHED_BYTES = 1 << 16
"""What the kernel maps around a byte that is read (Linux: fault_around_bytes)."""


class Tags(Protocol):
    """The tags of an ordered set of layers: `LayerTags`, or what answers as it does."""

    def append(self, file: CacheFile) -> Tags:
        """Return the tags of one more file behind these."""

    def locate(self, layer_no: I64, tag_row: I64, threads: int | None = None) -> Locations:
        """Read the locations that tags point at."""

    def names(self, layer_no: I64, name_offset: I64) -> BinaryColumn:
        """Read names."""

    def row_in_file(self, tag_row: int) -> int:
        """Return the row of a tag in its cache file."""


class LayerTags:
    """The tags of an ordered set of cache files, and what they point at."""

    __slots__ = (
        "_digest_bytes",
        "_files",
        "_fnames",
        "_n_parsed",
        "_sections",
        "_tables",
        "_tag_bytes",
        "_tags_offset",
        "_vdata",
        "_view",
    )

    def __init__(
        self,
        files: tuple[CacheFile, ...],
        view: AddressView,
        sections: I64,
        tables: Sequence[LocationTable] = (),
    ) -> None:
        """Take files, the view over them, a row of `_read_sections` each, and known locations."""
        self._files, self._view, self._sections = files, view, sections
        self._tables, self._n_parsed = tuple(tables), 0
        tags, self._tag_bytes, self._digest_bytes, vdata, fnames, end = sections.T
        self._tags_offset = view.offset + tags
        self._vdata = Section(view.offset + vdata, fnames - vdata)
        self._fnames = Section(view.offset + fnames, end - fnames)

    @classmethod
    def of_files(
        cls, files: Sequence[CacheFile], tables: Sequence[LocationTable] = ()
    ) -> LayerTags:
        """Read where the sections of each file begin."""
        sections = np.array([_read_sections(file) for file in files], np.int64).reshape(-1, 6)
        view = AddressView.over([file.data for file in files])
        return cls(tuple(files), view, sections, tables)

    def append(self, file: CacheFile) -> LayerTags:
        """Return the tags of one more file behind these."""
        sections = np.vstack([self._sections, np.array(_read_sections(file), np.int64)])
        tables = [table.append() for table in self._tables]
        return LayerTags((*self._files, file), self._view.append(file.data), sections, tables)

    def locate(self, layer_no: I64, tag_row: I64, threads: int | None = None) -> Locations:
        """Read the locations that tags point at.

        Parameters
        ----------
        layer_no, tag_row : (n,) int64
            Tags of any layers.
        threads : int, optional
            How many to use; see `thread_count`.

        Returns
        -------
        Locations
            n rows; those that point outside their file are marked corrupt.
        """
        parts: list[tuple[I64 | slice, Locations]] = []
        rest = np.arange(len(layer_no))
        if not self._tables and self._n_parsed > sum(file.n_tags for file in self._files):
            # So many were read one by one that it pays to read all, in order, once.
            self._tables = (build_location_table(self._files),)
        tables = self._tables  # another thread may drop them
        try:
            for table in tables:
                is_here = table.start[layer_no[rest]] >= 0
                rows, rest = rest[is_here], rest[~is_here]
                parts.append((rows, table.locate(layer_no[rows], tag_row[rows], threads)))
        except IndexDamagedError:
            self._tables = ()  # the files themselves have it all
            return self.locate(layer_no, tag_row, threads)
        parts.append((rest, self._parse_locations(layer_no[rest], tag_row[rest], threads)))
        return Locations.gather(len(layer_no), parts) if tables else parts[0][1]

    def _parse_locations(self, layer_no: I64, tag_row: I64, threads: int | None) -> Locations:
        """Read locations from the files."""
        self._n_parsed += len(layer_no)
        self._require_whole(layer_no)
        pointer_offset = self._tag_offset(layer_no, tag_row) + self._digest_bytes[layer_no]
        parts: list[tuple[I64 | slice, Locations]] = []

        def read(rows: I64 | slice) -> None:
            layer = layer_no[rows]
            pointers = gather_bytes(self._view.bytes, pointer_offset[rows], LOCATION_BYTES)
            location_offset, location_length = pointers.view(np.dtype("<u8")).T
            located = parse_locations(
                self._view.bytes,
                Section(self._vdata.start[layer], self._vdata.n_bytes[layer]),
                Section(self._fnames.start[layer], self._fnames.n_bytes[layer]),
                location_offset,
                location_length,
            )
            parts.append((rows, located))

        self._view.read_blocks(pointer_offset, read, threads)
        return Locations.gather(len(layer_no), parts)

    def names(self, layer_no: I64, name_offset: I64) -> BinaryColumn:
        """Read names.

        Parameters
        ----------
        layer_no, name_offset : (n,) int64
            From `locate`, each pair once; a name offset of -1 gives null.

        Returns
        -------
        pyarrow.BinaryArray of n rows
            Names as the caches hold them.

        Raises
        ------
        ColumnSizeError
            If they exceed together what one Arrow column holds, 2 GiB.
        LocationError
            If names overlap, so that together they may be far larger than their file, or one is
            not where `locate` found it: the file was rewritten in place.
        """
        is_named = name_offset >= 0
        starts = np.zeros(len(name_offset), np.int64)
        lengths = np.zeros(len(name_offset), np.int64)
        layer_no, name_offset = layer_no[is_named], name_offset[is_named]
        self._require_whole(layer_no)
        fnames = Section(self._fnames.start[layer_no], self._fnames.n_bytes[layer_no])
        lengths[is_named] = found = name_lengths(self._view.bytes, fnames, name_offset)
        self._require_names(layer_no, name_offset, found)
        starts[is_named] = fnames.start + name_offset + NAME_HEAD_BYTES
        return slices_to_binary(self._view.bytes, starts, lengths, is_named)

    def _require_whole(self, layer_no: I64) -> None:
        """Check that none of the files that are read now was cut: a microsecond for each."""
        for number in np.flatnonzero(np.bincount(layer_no)).tolist():
            self._files[number].require_whole()

    def _require_names(self, layer_no: I64, name_offset: I64, n_bytes: I64) -> None:
        """Raise for a name that is not there, and for names that overlap in their file."""
        totals = np.bincount(layer_no, n_bytes, len(self._files))
        for row in np.flatnonzero(n_bytes < 0)[:1].tolist():
            reason = "the file has changed since it was opened; load the store again"
            raise _name_error(self._files[layer_no[row]], int(name_offset[row]), reason)
        for number in np.flatnonzero(totals > self._fnames.n_bytes)[:1].tolist():
            found, wanted = int(totals[number]), int(self._fnames.n_bytes[number])
            reason = (
                f"names overlap: found {found:,} bytes of them, wanted at most {wanted:,}; "
                "delete the cache and Podman builds it again"
            )
            raise _name_error(self._files[number], 0, reason)

    def row_in_file(self, tag_row: int) -> int:
        """Return the row of a tag in its cache file."""
        return tag_row

    def _tag_offset(self, layer_no: I64, tag_row: I64) -> I64:
        """(n,) int64: where in the view each tag begins."""
        offset: I64 = self._tags_offset[layer_no] + tag_row * self._tag_bytes[layer_no]
        return offset


def _name_error(file: CacheFile, name_offset: int, reason: str) -> LocationError:
    offset = file.header.fnames_offset + name_offset
    return LocationError(reason, section="fnames", offset=offset, path=file.path)


def _read_sections(file: CacheFile) -> tuple[int, ...]:
    """Return start, tag length and digest length of the tags; start of vdata and fnames; end."""
    if not file.n_tags:
        return (0,) * 6  # its header may hold any numbers, and no row of it is ever read
    header = file.header
    tags = header.tags_offset, file.tag_len, file.digest_len
    return *tags, header.vdata_offset, header.fnames_offset, file.n_bytes


class AddressView:
    """A read-only array over all bytes from the lowest buffer to the end of the highest.

    Every offset into it must come from `offset`, plus a number that was checked against that
    buffer's length: between the buffers most of the view is not mapped.

    Parameters
    ----------
    buffers : tuple of (n_bytes_i,) uint8, C-contiguous
        Mapped files or plain arrays; held as long as the view or an array from it lives.
    addresses, sizes : (n_buffers,) int64
        Address and length of each.

    Attributes
    ----------
    offset : (n_buffers,) int64
        Where each buffer begins in the view.
    bytes : (n_bytes,) uint8
        The view itself. Index it with offsets alone, never slice it.
    """

    __slots__ = ("_addresses", "_buffers", "_is_large", "_sizes", "bytes", "offset")

    def __init__(self, buffers: tuple[U8, ...], addresses: I64, sizes: I64) -> None:
        self._buffers, self._addresses, self._sizes = buffers, addresses, sizes
        self._is_large = int(sizes.sum()) > RESIDENT_BYTES
        is_filled = sizes > 0  # the address of an empty array means nothing
        lowest = int(addresses[is_filled].min()) if is_filled.any() else 0
        n_bytes = int((addresses + sizes)[is_filled].max(initial=lowest)) - lowest
        self.offset = frozen(np.where(is_filled, addresses - lowest, 0))
        interface = {
            "version": 3,
            "typestr": "|u1",
            "shape": (n_bytes,),
            "data": (lowest, True),  # read-only
        }
        self.bytes: U8 = (
            np.asarray(_Memory(interface, buffers)) if n_bytes else np.empty(0, np.uint8)
        )

    @classmethod
    def over(cls, buffers: Sequence[U8]) -> AddressView:
        """View buffers that lie anywhere."""
        addresses = np.array([_address(buffer) for buffer in buffers], np.int64)
        sizes = np.array([buffer.nbytes for buffer in buffers], np.int64)
        return cls(tuple(buffers), addresses, sizes)

    def append(self, buffer: U8) -> AddressView:
        """Return a view over one more buffer; offsets of the others may differ from this one's."""
        addresses = np.append(self._addresses, _address(buffer))
        sizes = np.append(self._sizes, buffer.nbytes)
        return AddressView((*self._buffers, buffer), addresses, sizes)

    def read_blocks(
        self, offsets: I64, read: Callable[[I64 | slice], None], threads: int | None = None
    ) -> None:
        """Read rows in blocks that touch little memory.

        Parameters
        ----------
        offsets : (n,) int64
            Where in the view each row is read.
        read : callable
            Takes the rows to read now, (m,) int64 or a slice; it runs on several threads at once.
        threads : int, optional
            How many to use; see `thread_count`.

        Notes
        -----
        Where the buffers are large and the rows many, these come in the order of their offsets, and
        the pages of each part of the view are released before the next.
        """
        if not self._is_large or len(offsets) * _TOUCHED_BYTES <= RESIDENT_BYTES:
            map_blocks(read, len(offsets), _ROWS_PER_BLOCK, threads)
            return
        order = np.argsort(offsets, kind="stable")
        part = offsets[order] // RESIDENT_BYTES
        for rows in np.split(order, np.flatnonzero(np.diff(part)) + 1):
            map_blocks(lambda block: read(rows[block]), len(rows), _ROWS_PER_BLOCK, threads)  # noqa: B023 - called at once
            self._release(int(offsets[rows[0]]), int(offsets[rows[-1]]))

    def _release(self, first: int, last: int) -> None:
        """Release the pages of the buffers that have a byte from offset `first` to `last`."""
        is_read = (self.offset <= last) & (self.offset + self._sizes > first)
        for number in np.flatnonzero(is_read).tolist():
            release_pages(self._buffers[number])


class _Memory:
    """Describes memory to numpy. The array holds this, and so the buffers that lie there."""

    __slots__ = ("__array_interface__", "_buffers")

    def __init__(self, interface: dict[str, Any], buffers: tuple[U8, ...]) -> None:
        self.__array_interface__ = interface
        self._buffers = buffers


def _address(buffer: U8) -> int:
    address: int = buffer.__array_interface__["data"][0]
    return address
