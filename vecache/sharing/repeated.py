"""Find the files whose copies, in all layers and within one, take most bytes.

`repeated_files` goes through the contents of all layers block by block and holds only the largest
rows so far. The tables have no paths, so the TOC of the first layer that has one of these files is
read once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, ragged_arange
from vecache.digest import format_digests
from vecache.sharing.content_table import merge_tables
from vecache.sharing.sources import read_contents
from vecache.text import html_table, short_command, short_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8
    from vecache.sharing.contents import Contents

__all__ = ["RepeatedFiles", "largest_rows", "repeated_files"]


def repeated_files(source: Any, n_files: int = 20) -> RepeatedFiles:
    """Find the files whose copies take most bytes, those of the lowest digest first if equal."""
    contents = read_contents(source)
    none = np.zeros(0, np.int64)
    columns: list[Any] = [np.zeros((0, 32), np.uint8), none, none]
    layers: list[I64] = []  # that have each file
    for merged in merge_tables(contents.content_tables("file")):
        block: tuple[Any, ...] = (merged.key, merged.size, merged.n_copies)
        top = largest_rows(merged.size, merged.n_copies, n_files)
        columns = [np.concatenate([a, b[top]]) for a, b in zip(columns, block, strict=True)]
        bounds = zip(merged.member_start[top], merged.member_start[top + 1], strict=True)
        layers += [merged.member[start:stop] for start, stop in bounds]  # files that are shown
        order = largest_rows(columns[1], columns[2], n_files)
        columns = [column[order] for column in columns]
        layers = [layers[row] for row in order.tolist()]
    key, size, n_copies = columns
    first_layer = np.array([each[0] for each in layers], np.int64)
    names = contents.layer_names
    records = [contents.layers[number].record for number in first_layer.tolist()]
    return RepeatedFiles(
        key,
        _find_paths(contents, first_layer, key),
        size,
        n_copies,
        np.array([len(each) for each in layers], np.int64),
        images=tuple(_find_images(contents, layers)),
        created_by=tuple(names[record.key].created_by for record in records),
    )


def largest_rows(size: I64, n_copies: I64, n_files: int) -> I64:
    """Return the rows whose copies but one take most bytes, the largest first."""
    repeated_bytes = size * (n_copies - 1)
    order = np.argsort(-repeated_bytes, kind="stable")[:n_files]
    return order[repeated_bytes[order] > 0]


def _find_images(contents: Contents, layers: Sequence[I64]) -> Iterator[tuple[str, ...]]:
    """Yield the images that have one of the layers of each file, in store order."""
    labels = contents.labels("image")
    start, image = contents.image_numbers()
    for numbers in layers:  # files that are shown
        rows = ragged_arange(start[numbers], start[numbers + 1] - start[numbers])
        yield tuple(labels[number] for number in np.unique(image[rows]).tolist())


@dataclass(frozen=True, eq=False, repr=False)
class RepeatedFiles(ArrowExport):
    """Files that are stored more than once, the one whose copies take most bytes first.

    Attributes
    ----------
    key : (n, 32) uint8
        See `keys.py`.
    path : tuple of str or None
        First path of the file in the first layer that has it; None where it cannot be found now.
    size : (n,) int64
        Bytes of one copy.
    n_copies, n_layers : (n,) int64
        Copies in all layers, and layers with at least one.
    repeated_bytes : (n,) int64
        Bytes of all copies but one.
    images : tuple of tuple of str, or None
        Names of the images that have each file; None where that is not known.
    created_by : tuple of str, or None
        What made the first layer that has each file, as the config of an image says.
    """

    key: U8
    path: tuple[str | None, ...]
    size: I64
    n_copies: I64
    n_layers: I64
    images: tuple[tuple[str, ...], ...] | None = field(default=None, kw_only=True)
    created_by: tuple[str, ...] | None = field(default=None, kw_only=True)

    @property
    def repeated_bytes(self) -> I64:
        """(n,) int64, bytes of all copies but one."""
        return self.size * (self.n_copies - 1)

    def to_arrow(self) -> Any:
        """Export the columns.

        Returns
        -------
        pyarrow.Table
            `digest`, `path`, `size`, `n_copies`, `n_layers`, `repeated_bytes`, and where it is
            known `images`, a list of names, and `created_by`, null where no image says it.
        """
        more = {}
        if self.images is not None:
            more["images"] = pa.array(self.images, pa.list_(pa.string()))
        if self.created_by is not None:
            more["created_by"] = pa.array([text or None for text in self.created_by], pa.string())
        return pa.table(
            {
                "digest": format_digests(self.key),
                "path": pa.array(self.path, pa.string()),
                "size": self.size,
                "n_copies": self.n_copies,
                "n_layers": self.n_layers,
                "repeated_bytes": self.repeated_bytes,
                **more,
            }
        )

    def __len__(self) -> int:
        return len(self.size)

    def __repr__(self) -> str:
        return f"<RepeatedFiles: {len(self):,} files, {int(self.repeated_bytes.sum()):,} bytes>"

    def _repr_html_(self) -> str:
        columns = (self.size, self.n_copies, self.n_layers, self.repeated_bytes)
        titles = ["path", "size", "copies", "layers", "repeated bytes"]
        cells: list[Any] = [self.path, *(column.tolist() for column in columns)]
        if self.images is not None:
            titles.append("images")
            cells.append([", ".join(short_labels(each)) for each in self.images])
        if self.created_by is not None:
            titles.append("created by")
            cells.append(map(short_command, self.created_by))
        return html_table(
            repr(self)[1:-1],
            titles,
            zip(*cells, strict=True),
            n_rows=len(self),
        )


def _find_paths(contents: Contents, layer_no: I64, key: U8) -> tuple[str | None, ...]:
    """Read the TOC of each of these layers once more, for the few files that are listed."""
    paths: list[str | None] = [None] * len(key)
    if contents.source is None:
        return tuple(paths)
    for number in np.unique(layer_no).tolist():
        rows = np.flatnonzero(layer_no == number)
        found = contents.source.find_paths(contents.layers[number].record, key[rows])
        for row, path in zip(rows.tolist(), found, strict=True):
            paths[row] = path
    return tuple(paths)
