"""Find the files whose copies on all nodes take most bytes.

A file counts once for each copy in each layer of each node. Each task lists the largest files of
its partition, and the largest of all are among them: a content is in one partition only. The files
of contents have no paths, so the TOC of a layer that has one of these files is read once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vecache.arrays import ragged_arange
from vecache.errors import VecacheError
from vecache.fleet.class_sets import unite_bits, unpack_bits
from vecache.sharing.keys import KEY_BYTES
from vecache.sharing.repeated import RepeatedFiles, largest_rows
from vecache.sharing.sources import find_paths, read_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecache.arrays import I64, U8, U64
    from vecache.sharing.content_folder import StoredContents
    from vecache.sharing.content_table import MergedContents

__all__ = ["FleetFiles", "LargestFiles", "find_largest", "name_largest"]


class LargestFiles(NamedTuple):
    """Columns of the files of some contents whose copies take most bytes, the largest first."""

    key: U8  # (n, 32)
    size: I64  # bytes of one copy
    n_copies: I64  # in all layers of all nodes
    n_layers: I64  # that have it, each counted once
    n_nodes: I64
    layer_no: I64  # of a layer that has it

    @classmethod
    def none(cls) -> LargestFiles:
        """Return no files."""
        empty = np.zeros(0, np.int64)
        return cls(np.zeros((0, KEY_BYTES), np.uint8), empty, empty, empty, empty, empty)


@dataclass(frozen=True, eq=False, repr=False)
class FleetFiles(RepeatedFiles):
    """Files that are on the nodes more than once, the one whose copies take most bytes first.

    Attributes
    ----------
    key : (n, 32) uint8
        See `keys.py`.
    path : tuple of str or None
        First path of the file in a layer that has it; None where it cannot be found now.
    size : (n,) int64
        Bytes of one copy.
    n_copies, n_layers : (n,) int64
        Copies in all layers of all nodes; layers with at least one, each counted once.
    n_nodes : (n,) int64
        Nodes with at least one copy.
    repeated_bytes : (n,) int64
        Bytes of all copies but one.
    """

    n_nodes: I64

    def to_arrow(self) -> Any:
        """Export the columns.

        Returns
        -------
        pyarrow.Table
            `digest`, `path`, `size`, `n_copies`, `n_layers`, `repeated_bytes`, `n_nodes`.
        """
        import pyarrow as pa  # noqa: PLC0415 - the tasks of a cluster need no tables

        return super().to_arrow().append_column("n_nodes", pa.array(self.n_nodes))


def find_largest(
    merged: MergedContents, node_copies: I64, class_bits: U64, class_sizes: I64, n_files: int
) -> LargestFiles:
    """Find the files among merged contents whose copies take most bytes.

    Parameters
    ----------
    merged : MergedContents
        Its members are layers.
    node_copies : (n_layers,) int64
        How many times all nodes together have each layer.
    class_bits : (n_layers, n_words) uint64
        Which classes have each layer.
    class_sizes : (n_classes,) int64
        Nodes of each class.
    n_files : int
        How many to find.

    Returns
    -------
    LargestFiles
        At most `n_files`; those of the lowest key first if equal.
    """
    n_copies = merged.sum_copies(node_copies)
    row = largest_rows(merged.size, n_copies, n_files)
    first, n_layers = merged.member_start[row], np.diff(merged.member_start)[row]
    start = np.append(0, np.cumsum(n_layers)).astype(np.int64)
    bits = unite_bits(class_bits, merged.member[ragged_arange(first, n_layers)], start)
    return LargestFiles(
        key=merged.row_key[merged.order[first]],
        size=merged.size[row],
        n_copies=n_copies[row],
        n_layers=n_layers,
        n_nodes=unpack_bits(bits, len(class_sizes)).astype(np.int64) @ class_sizes,
        layer_no=merged.member[first],
    )


def name_largest(
    parts: Iterable[LargestFiles], layers: Sequence[StoredContents], n_files: int
) -> FleetFiles:
    """Find the largest files of all partitions, in ascending order of these, and their paths."""
    columns = zip(LargestFiles.none(), *parts, strict=True)
    found = LargestFiles._make(map(np.concatenate, columns))
    row = largest_rows(found.size, found.n_copies, n_files)
    found = LargestFiles._make(each[row] for each in found)
    return FleetFiles(
        found.key, _paths(found, layers), found.size, found.n_copies, found.n_layers, found.n_nodes
    )


def _paths(found: LargestFiles, layers: Sequence[StoredContents]) -> tuple[str | None, ...]:
    paths: list[str | None] = [None] * len(found.size)
    for number in np.unique(found.layer_no).tolist():
        rows = np.flatnonzero(found.layer_no == number)
        try:
            entries = read_stored(layers[number].record)
        except VecacheError:  # removed or damaged since its file of contents was derived
            continue
        if entries is not None:
            for row, path in zip(rows.tolist(), find_paths(entries, found.key[rows]), strict=True):
                paths[row] = path
    return tuple(paths)
