"""Which files are stored more than once, and what do their copies cost? The costliest of them.

Copies are counted in all layers together, those within one layer too. The keys of all layers are
gone through in stretches, and only the costliest rows so far are kept. Names are not kept with the
keys; so the TOC of each layer that is the first to have one of these files is read once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.digest import format_digests
from vecache.sharing.contents import Grain
from vecache.sharing.holdings import join_holdings
from vecache.sharing.sources import read_contents
from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.arrays import I64, U8
    from vecache.sharing.contents import Contents

__all__ = ["RepeatedFiles", "repeated_files"]


@dataclass(frozen=True, eq=False, repr=False)
class RepeatedFiles:
    """Files that are stored more than once, the costliest first.

    Attributes
    ----------
    key : (n, 32) uint8
        See `keys.py`.
    path : tuple of str or None
        Where the first layer that has it keeps it first; None where that cannot be found any more.
    size : (n,) int64
        Bytes of one copy.
    n_copies, n_layers : (n,) int64
        Copies in all layers, and how many layers have one.
    """

    key: U8
    path: tuple[str | None, ...]
    size: I64
    n_copies: I64
    n_layers: I64

    @property
    def repeated_bytes(self) -> I64:
        """(n,) int64, bytes of all copies but one."""
        return self.size * (self.n_copies - 1)

    def to_arrow(self) -> Any:
        """Export the columns.

        Returns
        -------
        pyarrow.Table
            `digest`, `path`, `size`, `n_copies`, `n_layers`, `repeated_bytes`.
        """
        return pa.table(
            {
                "digest": format_digests(self.key),
                "path": pa.array(self.path, pa.string()),
                "size": self.size,
                "n_copies": self.n_copies,
                "n_layers": self.n_layers,
                "repeated_bytes": self.repeated_bytes,
            }
        )

    def __len__(self) -> int:
        return len(self.size)

    def __repr__(self) -> str:
        return f"<RepeatedFiles: {len(self):,} files, {int(self.repeated_bytes.sum()):,} bytes>"

    def _repr_html_(self) -> str:
        columns = (self.size, self.n_copies, self.n_layers, self.repeated_bytes)
        return html_table(
            repr(self)[1:-1],
            ("path", "size", "copies", "layers", "repeated bytes"),
            zip(self.path, *(column.tolist() for column in columns), strict=True),
            n_rows=len(self),
        )


def repeated_files(source: Any, n_files: int = 20) -> RepeatedFiles:
    """Find the files whose copies cost most.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        Whose layers.
    n_files : int
        How many to find.

    Returns
    -------
    RepeatedFiles
        That many at most, by the bytes of all copies but one; ties by digest.

    Raises
    ------
    StoreError, DatasetError
        If the source cannot be read.
    """
    contents = read_contents(source)
    found = _Costliest(n_files)
    for joined in join_holdings(contents.holdings(Grain.FILE)):
        found.add(
            joined.key,
            joined.holder[joined.holder_start[:-1]],
            joined.size,
            joined.n_copies,
            np.diff(joined.holder_start),
        )
    key, first_layer, size, n_copies, n_layers = found.columns
    return RepeatedFiles(key, _find_paths(contents, first_layer, key), size, n_copies, n_layers)


def _find_paths(contents: Contents, layer_no: I64, key: U8) -> tuple[str | None, ...]:
    """Read the TOC of each layer once more, for the few files that are to be shown."""
    paths: list[str | None] = [None] * len(key)
    source = contents.source
    if source is None:
        return tuple(paths)
    for number in np.unique(layer_no).tolist():
        rows = np.flatnonzero(layer_no == number)
        found = source.find_paths(contents.layers[number].record, key[rows])
        for row, path in zip(rows.tolist(), found, strict=True):
            paths[row] = path
    return tuple(paths)


class _Costliest:
    """Keeps the rows with the most repeated bytes of all that are added."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        none = np.zeros(0, np.int64)
        self.columns: tuple[Any, ...] = (np.zeros((0, 32), np.uint8), none, none, none, none)

    def add(self, *columns: Any) -> None:
        joined = [np.concatenate(pair) for pair in zip(self.columns, columns, strict=True)]
        _, _, size, n_copies, _ = joined
        repeated = size * (n_copies - 1)
        order = np.argsort(-repeated, kind="stable")[: self._n_rows]
        self.columns = tuple(column[order[repeated[order] > 0]] for column in joined)
