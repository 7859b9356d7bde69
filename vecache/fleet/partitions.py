"""Cut the contents of many layers into parts that a task can merge within bounded memory.

A partition is a range of digests, by their first two bytes. Each content is in one partition of
its grain, so that sums over partitions are sums over all contents, and no task needs another.

1. The files of contents say how many rows begin with each byte; neighbouring bytes make a
   partition, up to `MAX_ROWS` rows in all layers. Where one byte alone has more, it is cut by the
   second one. Digests are distributed evenly, so partitions are of about equal size; only forged
   ones can make a larger one.
2. A task reads the rows of its partition from the file of each layer, and no other bytes.
3. A stable sort by key brings the layers of each content together (`content_table.merge_block`).

Up to 160 bytes a row with what a task does next, so 340 MB for a partition of `MAX_ROWS`.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from vecache.sharing.content_folder import use_contents
from vecache.sharing.content_table import ContentTable, merge_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.arrays import I64
    from vecache.sharing.content_file import ContentFile
    from vecache.sharing.content_folder import StoredContents
    from vecache.sharing.content_table import MergedContents
    from vecache.sharing.contents import Grain

__all__ = ["MAX_ROWS", "Partition", "cut_partitions", "merge_partition"]

MAX_ROWS: Final = 1 << 21
"""Rows of a partition, over all layers."""

_SECOND_BYTES: Final = 256


class Partition(NamedTuple):
    """Contents of one grain whose first two bytes, as a number, are in a range."""

    grain: Grain
    first: int
    stop: int  # up to 65,536


def cut_partitions(grain: Grain, n_rows: I64, max_rows: int = MAX_ROWS) -> list[Partition]:
    """Cut all contents of a grain into partitions.

    Parameters
    ----------
    grain : {"file", "chunk"}
        The contents.
    n_rows : (256,) int64
        Rows of all layers whose key begins with each byte.
    max_rows : int
        Rows of a partition.

    Returns
    -------
    list of Partition
        In ascending order; none is empty, unless one byte has more than `max_rows`.

    Examples
    --------
    >>> n_rows = np.zeros(256, np.int64)
    >>> n_rows[[0, 1, 255]] = 3, 2, 11
    >>> [(each.first, each.stop) for each in cut_partitions("file", n_rows, 5)]
    [(0, 512), (65280, 65365), (65365, 65450), (65450, 65536)]
    """
    ranges: list[tuple[int, int]] = []
    room = 0
    for byte, n in enumerate(n_rows.tolist()):
        low = byte * _SECOND_BYTES
        if n == 0:
            continue
        if n <= room:
            ranges[-1] = (ranges[-1][0], low + _SECOND_BYTES)
            room -= n
            continue
        n_parts = min(-(-n // max_rows), _SECOND_BYTES)
        edges = [low + number * _SECOND_BYTES // n_parts for number in range(n_parts + 1)]
        ranges += pairwise(edges)
        room = max_rows - n if n_parts == 1 else 0
    return [Partition(grain, *each) for each in ranges]


def merge_partition(layers: Sequence[StoredContents], part: Partition) -> MergedContents | None:
    """Read and merge the contents of a partition; members are numbers of layers.

    Parameters
    ----------
    layers : sequence of StoredContents
        All layers.
    part : Partition
        What to read of each.

    Returns
    -------
    MergedContents or None
        None where there is nothing.

    Raises
    ------
    VecacheError
        If the file of a layer's contents is damaged, and its TOC is broken or missing.
    """
    tables = [use_contents(layer, partial(_read_part, part=part)) for layer in layers]
    if not any(map(len, tables)):
        return None
    return merge_block(tuple((table, slice(0, len(table))) for table in tables))


def _read_part(file: ContentFile, part: Partition) -> ContentTable:
    first, stop = part.first // _SECOND_BYTES, -(-part.stop // _SECOND_BYTES)
    table = file.read(part.grain, first, stop)
    if part.first % _SECOND_BYTES or part.stop % _SECOND_BYTES:
        leading = table.key[:, 0].astype(np.int64) * _SECOND_BYTES + table.key[:, 1]
        rows = slice(*np.searchsorted(leading, [part.first, part.stop]).tolist())
        table = ContentTable(
            table.key[rows].copy(), table.size[rows].copy(), table.n_copies[rows].copy()
        )
    return table
