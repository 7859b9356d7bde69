"""Look up in the layers of one node, where all matches in all layers of a fleet are known.

`matches.py` finds, for each digest of an image, every layer that has it. A node's answer is the
first of *its* layers in *its* order. So its matches are written into one table, the last layer's
first: what is left for each digest is the match in the first layer. That takes about 5 ns a match,
and a look-up is then one read.

Layers of the image itself are appended as they are committed, and answer what no layer before
them does. All indexes of one plan share one table: an index with fewer layers than the table counts
answers of later layers as absent.

An index is made for one image: other digests than those of its columns cannot be looked up.
8 bytes a digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.index.lookup import LayerIndex
from vecache.index.tags import LayerTags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I32, I64, BinaryColumn
    from vecache.cache.locations import Locations
    from vecache.cache.reader import CacheFile
    from vecache.digest import Digests
    from vecache.index.matches import TagMatches

__all__ = ["RankedIndex"]


class _Answers:
    """The first match of each digest, in the order of one node's layers.

    The last row stands for no digest: code -1.
    """

    __slots__ = ("layer", "match", "n_layers")

    def __init__(self, layer: I32, match: I32, n_layers: int) -> None:
        self.layer, self.match, self.n_layers = layer, match, n_layers

    @classmethod
    def of_layers(cls, matches: TagMatches, numbers: I64) -> _Answers:
        layer, match = np.full((2, len(matches.table) + 1), -1, np.int32)
        last_first = numbers[::-1]
        rows = matches.rows_of(last_first)
        codes = matches.code[rows]
        match[codes] = rows  # of several matches of a digest the one that is written last stays
        counts = matches.start[last_first + 1] - matches.start[last_first]
        layer[codes] = np.repeat(np.arange(len(numbers), dtype=np.int32)[::-1], counts)
        return cls(layer, match, len(numbers))

    def append(self, matches: TagMatches, number: int) -> None:
        """Add one more layer; it answers what is absent so far."""
        start, stop = matches.start[number : number + 2].tolist()
        code = matches.code[start:stop]
        is_new = np.flatnonzero(self.layer.take(code) < 0)
        new = code.take(is_new)
        self.layer[new] = self.n_layers
        self.match[new] = start + is_new
        self.n_layers += 1

    def copy(self, n_layers: int) -> _Answers:
        """Return the answers of the first layers alone."""
        is_kept = self.layer < n_layers
        layer, match = (np.where(is_kept, each, np.int32(-1)) for each in (self.layer, self.match))
        return _Answers(layer, match, n_layers)


class RankedIndex(LayerIndex):
    """The index of one node's layers, to look up the digests of one image.

    The tags that it finds are rows of the matches, not of a file; `tags` has their locations. Only
    the first match is known: what asks for all of them needs a `LayerIndex`.

    Made by `of_layers`.
    """

    __slots__ = ("_answers", "_matches")

    def __init__(self, files: Sequence[CacheFile], matches: TagMatches, answers: _Answers) -> None:
        tags = _MatchTags(files, matches)
        super().__init__(files, (), np.ones(len(files), np.bool_), tags)
        self._matches, self._answers = matches, answers

    @classmethod
    def of_layers(cls, matches: TagMatches, numbers: I64) -> RankedIndex:
        """Make the index of some layers.

        Parameters
        ----------
        matches : TagMatches
            Of the image's digests.
        numbers : (n_layers,) int64
            Which of the files of `matches` the node's layers have, in store order.

        Returns
        -------
        RankedIndex
            A layer's number is its index in `numbers`.
        """
        files = [matches.files[number] for number in numbers.tolist()]
        return cls(files, matches, _Answers.of_layers(matches, numbers))

    def append(self, file: CacheFile) -> RankedIndex:
        """Return an index with one more layer at the end; this one stays as it is.

        The file must be one of those of the matches.
        """
        answers = self._answers
        if answers.n_layers != len(self.files):
            answers = answers.copy(len(self.files))
        answers.append(self._matches, self._matches.number_of(file))
        return RankedIndex((*self.files, file), self._matches, answers)

    def find_first(self, digests: Digests, threads: int | None = None) -> tuple[I64, I64]:
        """Find the match that Go would answer with; as `LayerIndex.find_first`.

        Raises ValueError for digests that are not of a column of the image.
        """
        code = self._matches.table.codes(digests)
        answers = self._answers
        layer, match = (
            column.take(code).astype(np.int64) for column in (answers.layer, answers.match)
        )
        if answers.n_layers > len(self.files):
            is_behind = layer >= len(self.files)
            layer[is_behind], match[is_behind] = -1, -1
        return layer, match

    def iter_all(self, digests: Digests) -> Iterator[tuple[I64, I64, I64]]:
        """Not known here."""
        raise NotImplementedError("the index of a node of a fleet knows first matches only")


class _MatchTags:
    """What matches point at, as `LayerTags` is for tags."""

    __slots__ = ("_files", "_matches")

    def __init__(self, files: Sequence[CacheFile], matches: TagMatches) -> None:
        self._files, self._matches = files, matches

    def append(self, file: CacheFile) -> _MatchTags:
        return _MatchTags((*self._files, file), self._matches)

    def locate(self, layer_no: I64, tag_row: I64, threads: int | None = None) -> Locations:
        return self._matches.locations.locate(np.zeros(len(layer_no), np.int64), tag_row, threads)

    def names(self, layer_no: I64, name_offset: I64) -> BinaryColumn:
        return LayerTags.of_files(self._files).names(layer_no, name_offset)

    def row_in_file(self, tag_row: int) -> int:
        return int(self._matches.tag[tag_row])
