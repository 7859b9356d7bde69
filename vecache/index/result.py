"""Results of a look-up, as columns.

The look-up itself finds layer and tag of every query. Offset, length and state need the location
that the tag points at, and the path needs the name: each is read for the whole batch when it is
first used. Reading a location also shows whether the row is corrupt.

16 bytes a query, 17 more once the locations are read. Source of the two quirks:
containers/storage pkg/chunked/cache_linux.go findFileInOtherLayers, findChunkInOtherLayers.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import (
    ArrowExport,
    binary_buffers,
    binary_to_text,
    frozen,
    masked_column,
    slices_to_binary,
)
from vecache.digest import Algorithm
from vecache.errors import LocationError
from vecache.text import count, html_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.arrays import I64, U8, BinaryColumn, Bool
    from vecache.cache.locations import Locations
    from vecache.digest import Digests
    from vecache.index.load import CachedLayer
    from vecache.index.tags import Tags

__all__ = ["LookupResult", "LookupState", "Matches"]

_NAME_OFFSET_BITS = 47
"""As many as an address of a mapped file has; 16 are left for layers, and a process can have no
more than 65,530 maps."""


class LookupState(IntEnum):
    """Outcome of a query."""

    ABSENT = 0
    FOUND = 1
    CORRUPT = 2
    """A layer has the digest, but its location or name lies outside the file: a pull fails."""
    INVALID = 3
    """The query's text is not a digest."""


class LookupResult(ArrowExport):
    """What a look-up found: one row a query, in the order of the queries.

    Made by `LayersCache.lookup`, `find_files` and `find_chunks`.

    Attributes
    ----------
    layer : (n,) int64
        Index in `LayersCache.layers` of the first layer that holds the digest; -1 where absent.
    tag : (n,) int64
        Row of the tag in that layer's cache file; -1 where absent.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store)
    >>> digest = cache.to_arrow()["digest"][0].as_py()
    >>> hits = cache.lookup([digest, "sha256:" + "0" * 64])
    >>> hits
    <LookupResult: 2 queries, 1 found, 2,938 bytes>
    >>> hits.layer.tolist(), hits.length.tolist(), hits.paths().to_pylist()
    ([0, -1], [2938, -1], [b'usr/share/doc/pkg074/copyright', None])
    """

    def __init__(
        self,
        digests: Digests | None,
        layer: I64,
        tag: I64,
        tags: Tags,
        layers: Sequence[CachedLayer],
        threads: int | None = None,
    ) -> None:
        # A million queries are 100 MB: they are held only where `require_sound` would quote them.
        has_invalid = digests is not None and (digests.algorithm == Algorithm.INVALID).any()
        self._invalid = digests if has_invalid else None
        self._tags = tags
        self._layers = layers
        self._threads = threads
        self.layer, self.tag = frozen(layer), frozen(tag)

    @cached_property
    def state(self) -> U8:
        """(n,) uint8, `LookupState` of each query."""
        state = np.full(len(self), LookupState.ABSENT, np.uint8)
        if self._invalid is not None:
            state[self._invalid.algorithm == Algorithm.INVALID] = LookupState.INVALID
        hit = self._is_hit
        state[hit] = np.where(self._located.is_corrupt, LookupState.CORRUPT, LookupState.FOUND)
        return frozen(state)

    @property
    def offset(self) -> I64:
        """(n,) int64, byte position in the uncompressed file; -1 where absent or corrupt."""
        return self._expand(self._located.offset)

    @property
    def length(self) -> I64:
        """(n,) int64, bytes there: the file's size or the chunk's; -1 where absent or corrupt."""
        return self._expand(self._located.length)

    @property
    def is_found(self) -> Bool:
        """(n,) bool, rows whose digest was found and whose location is sound."""
        if not self._located.is_corrupt.any():
            return self._is_hit
        mask: Bool = self.state == LookupState.FOUND
        return mask

    @cached_property
    def _is_hit(self) -> Bool:
        """(n,) bool, rows with a match."""
        return frozen(self.layer >= 0)

    def at_file_start(self) -> LookupResult:
        """Count every match that is not a whole file as absent, as a pull does.

        Returns
        -------
        LookupResult
            n rows. A match that is not at the start of a file, or has an empty name, is absent;
            like Go, this does not search later layers for it.
        """
        located = self._located
        is_file = (located.name_length > 0) & (located.offset == 0)
        is_kept = is_file | located.is_corrupt
        if is_kept.all():
            return self
        is_answer = np.zeros(len(self), np.bool_)
        is_answer[self._is_hit] = is_kept
        return self._limited_to(is_answer, located.take(np.flatnonzero(is_kept)))

    def within(self, n_layers: int) -> LookupResult:
        """Return what a look-up in the first layers alone finds.

        Parameters
        ----------
        n_layers : int
            How many of the layers, from the first.

        Returns
        -------
        LookupResult
            n rows. The first layer that holds a digest answers, so every other answer stays as it
            is; no location is read again.
        """
        is_hit = self._is_hit
        is_within = is_hit & (self.layer < n_layers)
        return self._limited_to(is_within, self._located.take(np.flatnonzero(is_within[is_hit])))

    def _limited_to(self, is_answer: Bool, located: Locations) -> LookupResult:
        """Count other rows as absent; `located` are the locations of the rows that are not."""
        layer, tag = np.where(is_answer, self.layer, -1), np.where(is_answer, self.tag, -1)
        result = LookupResult(self._invalid, layer, tag, self._tags, self._layers, self._threads)
        result.__dict__["_located"] = located
        return result

    def paths(self) -> BinaryColumn:
        """Read the names that the locations point at.

        Returns
        -------
        pyarrow.BinaryArray of n rows
            Path under the layer's target, as the cache holds it; null where absent or corrupt.
        """
        code, names = self._names
        if not len(names):
            return pa.nulls(len(self), pa.binary())
        # Not `take`: that imports pyarrow.compute, 25 ms.
        starts, lengths, data = binary_buffers(names)
        is_named = code >= 0
        return slices_to_binary(data, starts[code], np.where(is_named, lengths[code], 0), is_named)

    def layer_dictionary(self) -> Any:
        """Return the id of each row's layer.

        Returns
        -------
        pyarrow.DictionaryArray of n rows
            Id of the layer in its store; null where absent.
        """
        layer = masked_column(self.layer, self.layer < 0)
        return _dictionary(layer, [item.id for item in self._layers])

    def path_dictionary(self) -> Any:
        """Read the names that the locations point at, each distinct one once.

        Returns
        -------
        pyarrow.DictionaryArray of n rows
            As `paths`; most files have many chunks, so there are fewer names than rows.

        Raises
        ------
        ColumnSizeError
            If the names together exceed what one Arrow column holds, 2 GiB.
        """
        code, names = self._names
        return pa.DictionaryArray.from_arrays(masked_column(code, code < 0), names)

    @property
    def _names(self) -> tuple[I64, BinaryColumn]:
        """(n,) int64: rows in the distinct names, -1 where there is none; and the names."""
        hit = np.flatnonzero(self.layer >= 0)
        hit = hit[self._located.name_offset >= 0]
        layer, name_offset = self.layer[hit], self._expand(self._located.name_offset)[hit]
        code = np.full(len(self), -1, np.int64)
        _, first, code[hit] = np.unique(
            (layer << _NAME_OFFSET_BITS) | name_offset, return_index=True, return_inverse=True
        )
        layer, name_offset = layer[first], name_offset[first]
        return code, self._tags.names(layer, name_offset)

    def to_arrow(self) -> Any:
        r"""Export all columns.

        Returns
        -------
        pyarrow.Table of n rows
            `state` (text), `layer`, `layer_id`, `target`, `path` (text), `offset`, `length`; null
            where absent. A path that is not UTF-8 shows its bytes as `\xNN`.
        """
        is_absent = self.layer < 0
        is_unread = ~self.is_found
        layer = masked_column(self.layer, is_absent)
        states = pa.array([state.name.lower() for state in LookupState], pa.string())
        return pa.table(
            {
                "state": pa.DictionaryArray.from_arrays(masked_column(self.state), states),
                "layer": layer,
                "layer_id": self.layer_dictionary(),
                "target": _dictionary(layer, [item.target for item in self._layers]),
                "path": binary_to_text(self.paths()),
                "offset": masked_column(self.offset, is_unread),
                "length": masked_column(self.length, is_unread),
            }
        )

    def require_sound(self) -> None:
        """Raise for the first query that is not a digest, or whose row is corrupt.

        Raises
        ------
        DigestError
            If a query's text is not a digest.
        LocationError
            If a row's location or name lies outside its file. A pull by Podman fails there too.
        """
        if self._invalid is not None:
            self._invalid.require_valid("look-up")
        if self._located.is_corrupt.any():
            corrupt = np.flatnonzero(self.state == LookupState.CORRUPT)
            layer = self._layers[int(self.layer[corrupt[0]])]
            row = self._tags.row_in_file(int(self.tag[corrupt[0]]))
            raise LocationError(
                f"tag {row} of layer {layer.id} points outside the file or to no path; "
                "delete the cache and Podman builds it again",
                section="tags",
                offset=layer.cache.header.tags_offset + row * layer.cache.tag_len,
                path=layer.cache.path,
            )

    @cached_property
    def _located(self) -> Locations:
        """The locations of the rows with a match."""
        hit = np.flatnonzero(self._is_hit)
        return self._tags.locate(self.layer.take(hit), self.tag.take(hit), self._threads)

    def _expand(self, located: I64) -> I64:
        """(n,) int64: a column of the rows with a match as one of all rows."""
        column = np.full(len(self), -1, np.int64)
        column[self._is_hit] = located
        return frozen(column)

    def __len__(self) -> int:
        return len(self.layer)

    def __repr__(self) -> str:
        n_found = int(self.is_found.sum())
        n_bytes = int(self.length[self.is_found].sum())
        n_invalid = np.count_nonzero(self.state == LookupState.INVALID)
        invalid = f", {n_invalid:,} not a digest" if n_invalid else ""
        queries = count(len(self), "query", "queries")
        return f"<LookupResult: {queries}, {n_found:,} found{invalid}, {n_bytes:,} bytes>"

    def _repr_html_(self) -> str:
        counts = np.bincount(self.state, minlength=len(LookupState)).tolist()
        rows = [(state.name.lower(), counts[state]) for state in LookupState]
        return html_table(repr(self)[1:-1], (), rows)


class Matches(ArrowExport):
    """Every match of a batch of queries, one row each, ordered by the columns.

    Made by `LayersCache.lookup_all`.

    Attributes
    ----------
    query : (n_matches,) int64
        Row of the query.
    layer : (n_matches,) int64
        Index of the layer in `LayersCache.layers`.
    tag : (n_matches,) int64
        Row of the tag in that layer's cache file.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store)
    >>> empty_file = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    >>> matches = cache.lookup_all([empty_file])
    >>> matches
    <Matches: 6 rows>
    >>> matches.layer.tolist()
    [0, 0, 0, 0, 0, 2]
    """

    __slots__ = ("layer", "query", "tag")

    def __init__(self, query: I64, layer: I64, tag: I64) -> None:
        self.query, self.layer, self.tag = frozen(query), frozen(layer), frozen(tag)

    def to_arrow(self) -> Any:
        """Export all columns.

        Returns
        -------
        pyarrow.Table of n_matches rows
            `query`, `layer`, `tag`.
        """
        return pa.table({"query": self.query, "layer": self.layer, "tag": self.tag})

    def __len__(self) -> int:
        return len(self.query)

    def __repr__(self) -> str:
        return f"<Matches: {count(len(self), 'row')}>"

    def _repr_html_(self) -> str:
        rows = zip(self.query.tolist(), self.layer.tolist(), self.tag.tolist(), strict=True)
        return html_table(repr(self)[1:-1], ("query", "layer", "tag"), rows, n_rows=len(self))


def _dictionary(layer: Any, values: list[str]) -> Any:
    """Return one text a row, by the layer's number."""
    return pa.DictionaryArray.from_arrays(layer, pa.array(values, pa.string()))
