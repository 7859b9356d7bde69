"""What do the tags of any layers say? Digests, locations and names, read across all maps at once.

A tag is named by its layer's number and its row in that layer's file. Each question is one gather
through a window over all maps (`window.py`), whatever layers the rows are of.

48 bytes a layer. Does not decide which tag answers a query: see `lookup.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import slices_to_binary
from vecache.cache.format import LOCATION_BYTES, NAME_HEAD_BYTES
from vecache.cache.locations import Locations, Section, parse_locations
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.index.address_view import AddressView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.arrays import I64, U64, BinaryColumn, Bool
    from vecache.cache.reader import CacheFile

__all__ = ["LayerMaps"]


class LayerMaps:
    """Rows of any layers, read from their maps in one gather."""

    __slots__ = ("_digest_bytes", "_fnames", "_tag_bytes", "_tag_place", "_vdata", "_window")

    def __init__(self, files: Sequence[CacheFile]) -> None:
        self._window = AddressView([file.data for file in files])
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
        ColumnSizeError
            If they exceed together what one Arrow column holds, 2 GiB.
        """
        is_named = name_offset >= 0
        starts = np.zeros(len(name_offset), np.int64)
        lengths = np.zeros(len(name_offset), np.int64)
        layer_no, name_offset = layer_no[is_named], name_offset[is_named]
        lengths[is_named] = self.name_lengths(layer_no, name_offset)
        starts[is_named] = self._fnames.start[layer_no] + name_offset + NAME_HEAD_BYTES
        return slices_to_binary(self._window.bytes, starts, lengths, is_named)

    def _place_of(self, layer_no: I64, tag_row: I64) -> I64:
        places: I64 = self._tag_place[layer_no] + tag_row * self._tag_bytes[layer_no]
        return places
