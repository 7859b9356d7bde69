"""The locations of many layers' tags as one table, which the index on disk has.

A location in a cache file is three numbers of variable length behind a pointer, in a file of many.
A row of this table is one read. 24 bytes a tag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.cache.locations import Locations
from vecache.index.run import MAPPED_BYTES, split_sorted
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vecache.arrays import I64
    from vecache.cache.reader import CacheFile
    from vecache.index.run import Guard

__all__ = [
    "LOCATION_ROW",
    "LocationTable",
    "build_location_table",
    "pack_location_rows",
    "pack_locations",
]

LOCATION_ROW = np.dtype(
    [("name_offset", "<u4"), ("name_length", "<u4"), ("offset", "<i8"), ("length", "<i8")]
)
"""One tag's location; see `Locations`. A name offset of 2**32 - 1 stands for a corrupt one."""

_CORRUPT = 2**32 - 1
_ROWS_PER_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class LocationTable:
    """The locations of several layers' tags.

    Attributes
    ----------
    rows : (n_tags,) LOCATION_ROW
        Layer by layer, in file order.
    start : (n_layers,) int64
        For each layer of the set, the row of its first tag; -1 for a layer that is not in here.
    guard : Guard or None
        Where the rows are mapped from a file.
    """

    rows: npt.NDArray[np.void]
    start: I64
    guard: Guard | None = None

    def append(self) -> LocationTable:
        """Return the same table for a set with one more layer, which is not in here."""
        return replace(self, start=frozen(np.append(self.start, -1)))

    def locate(self, layer_no: I64, tag_row: I64, threads: int | None = None) -> Locations:
        """Read the locations of tags.

        Parameters
        ----------
        layer_no, tag_row : (n,) int64
            Tags of layers that are in here.
        threads : int, optional
            How many to use; see `thread_count`.

        Returns
        -------
        Locations
            n rows.

        Raises
        ------
        IndexDamagedError
            If the file that the rows are mapped from is damaged.
        """
        row = self.start[layer_no] + tag_row
        # Each page is then read once, and released.
        is_large = self.guard is not None and self.rows.nbytes > MAPPED_BYTES
        order = np.argsort(row) if is_large else np.empty(0, np.int64)
        found = np.empty(len(row), LOCATION_ROW)

        def read(block: slice) -> None:
            wanted = order[block] if is_large else block
            if self.guard is not None:
                self.guard.check("locations", row[wanted])
            found[wanted] = self.rows.take(row[wanted])
            if self.guard is not None and is_large:
                self.guard.release()

        n_rows = split_sorted(len(row), self.rows.nbytes if is_large else 0, _ROWS_PER_BLOCK)
        map_blocks(read, len(row), n_rows, 1 if len(row) <= _ROWS_PER_BLOCK else threads)
        is_corrupt = found["name_offset"] == _CORRUPT
        name_offset, name_length = (
            found[name].astype(np.int64) for name in ("name_offset", "name_length")
        )
        name_offset[is_corrupt], name_length[is_corrupt] = -1, -1
        offset, length = found["offset"].copy(), found["length"].copy()
        return Locations(name_offset, name_length, offset, length, is_corrupt)


def build_location_table(files: Sequence[CacheFile]) -> LocationTable:
    """Read the locations of all tags of files, those of 4 GiB and more apart."""
    rows = [
        pack_location_rows(file) if file.n_bytes < _CORRUPT else np.empty(0, LOCATION_ROW)
        for file in files
    ]
    ends = np.cumsum([len(part) for part in rows])
    start = [
        end - len(part) if len(part) == file.n_tags else -1
        for end, part, file in zip(ends.tolist(), rows, files, strict=True)
    ]
    table = np.concatenate([np.empty(0, LOCATION_ROW), *rows])
    return LocationTable(frozen(table), frozen(np.array(start, np.int64)))


def pack_location_rows(
    file: CacheFile, first: int = 0, last: int | None = None
) -> npt.NDArray[np.void]:
    """Read the locations of tags of a file.

    Parameters
    ----------
    file : CacheFile
        Of less than 4 GiB.
    first, last : int
        The rows from `first` up to `last`, without that one; all by default.

    Returns
    -------
    (n,) LOCATION_ROW
        In file order.
    """
    return pack_locations(file.locate(np.arange(first, file.n_tags if last is None else last)))


def pack_locations(located: Locations) -> npt.NDArray[np.void]:
    """Make (n,) LOCATION_ROW of n locations; names beyond 4 GiB have another offset then."""
    rows = np.empty(len(located), LOCATION_ROW)
    name_offset = np.minimum(located.name_offset, _CORRUPT - 1)
    rows["name_offset"] = np.where(located.is_corrupt, _CORRUPT, name_offset)
    rows["name_length"] = np.where(located.is_corrupt, 0, located.name_length)
    rows["offset"], rows["length"] = located.offset, located.length
    return rows
