"""Go's binary search over the tags of one file, for many digests at once.

`sort.Search` halves a range until it is empty. On tags in ascending order it ends at the first one
that is not below the digest. On tags that are out of order it still ends somewhere, and whoever
wants to say what the Go code would find has to end there too: so every query here takes the very
steps that Go takes, all queries together, one halving after another.

Digests are compared as runs of bytes of one length (numpy's `S`, only inside array expressions,
where the NULs that it drops from the end make no difference).

Source: Go sort/search.go Search; containers/storage pkg/chunked/cache_linux.go findBinaryTag.

One cache file: which content a layer holds, and where.

1. `CacheFile.open` maps the file, `CacheFile.parse` takes bytes that are in memory. Both prove that
   the sections are there (`header.parse_header`) and copy nothing.
2. `find_tags` gives the tag of each packed digest, found as the Go code finds it: the bloom filter
   first, then its binary search, which has a definite answer on tags that are out of order too.
3. `locate` reads the tags' locations, `names` the locations' names.

A batch never ends early: rows that are absent are -1, rows whose location is bad are marked.
Nothing is kept per tag. `find_tags` takes about 0.5 us for a digest that is there; it is made for
single files and for files that are not `is_sound`. Of sound ones an index over all layers answers
in a fifth of that.

Source: containers/storage pkg/chunked/cache_linux.go loadLayerBigData, findBinaryTag,
findDigestInternal.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.arrays import frozen, slices_to_binary
from vecache.cache.bloom import BloomFilter
from vecache.cache.format import LOCATION_BYTES, NAME_HEAD_BYTES, parse_header, tag_dtype
from vecache.cache.locations import Section, name_lengths, parse_locations
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.files import map_file
from vecache.text import html_table

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import I64, U8, BinaryColumn, Bool
    from vecache.cache.locations import Locations

__all__ = ["CacheFile", "find_first", "steps_up"]


def find_first(have: U8, wanted: U8) -> I64:
    """Find the row at which Go's search for each digest ends, where that row is equal.

    Parameters
    ----------
    have : (n, digest_len) uint8
        Digests of the tags, in the order of the file; n and digest_len are not 0.
    wanted : (m, digest_len) uint8
        Digests to find.

    Returns
    -------
    (m,) int64
        Row in `have`; -1 where absent.

    Examples
    --------
    >>> have = np.array([[1, 0], [2, 0], [2, 0]], np.uint8)
    >>> find_first(have, np.array([[2, 0], [1, 1]], np.uint8)).tolist()
    [1, -1]
    """
    tags, queries = _as_text(have), _as_text(wanted)
    low = np.zeros(len(queries), np.int64)
    high = np.full(len(queries), len(tags), np.int64)
    for _ in range(len(tags).bit_length()):  # halvings
        middle = (low + high) >> 1
        is_open = low < high
        is_below = tags[np.minimum(middle, len(tags) - 1)] < queries
        low = np.where(is_open & is_below, middle + 1, low)
        high = np.where(is_open & ~is_below, middle, high)
    is_found = tags[np.minimum(low, len(tags) - 1)] == queries
    return np.where(is_found & (low < len(tags)), low, -1)


def steps_up(have: U8) -> Bool:
    """Compare each row with the one before it.

    Parameters
    ----------
    have : (n, n_columns) uint8
        Runs of bytes; n is not 0.

    Returns
    -------
    (n - 1,) bool
        True where a row is equal to the one before it, or above it in memcmp order.
    """
    if have.shape[1] == 0:
        return np.ones(len(have) - 1, np.bool_)
    text = _as_text(have)
    return text[:-1] <= text[1:]


def _as_text(packed: U8) -> npt.NDArray[Any]:
    """(n,) S view of (n, width) uint8 whose rows are whole, at any distance."""
    return packed.view(f"S{packed.shape[1]}")[:, 0]


class CacheFile:
    """A cache file, mapped or in memory.

    Made by `open` and `parse`.

    Parameters
    ----------
    data : (n_bytes,) uint8
        The whole file.
    path : str or os.PathLike or None
        Where it came from.

    Attributes
    ----------
    data, path
        As given.
    n_bytes : int
        Bytes of the file.
    header : Header
        Its numbers.
    bloom : BloomFilter
        Over the digests of all tags.
    tags : (n_tags,) structured
        Fields `digest` (V), `location_offset`, `location_length` (<u8); a view, not aligned.
    packed : (n_tags, digest_len) uint8
        The tags' digests; a view, one row every `tag_len` bytes.
    vdata, fnames : (n_bytes,) uint8
        Locations and names; views.
    """

    __slots__ = (
        "_is_sound",
        "_pointers",
        "bloom",
        "data",
        "fnames",
        "header",
        "n_bytes",
        "packed",
        "path",
        "tags",
        "vdata",
    )

    def __init__(self, data: U8, path: str | os.PathLike[str] | None) -> None:
        data = frozen(data.view())
        header = parse_header(data, path)
        # A file without tags may announce lengths that no array can have.
        digest_len, tag_len = (header.digest_len, header.tag_len) if header.n_tags else (0, 16)
        tags = data[header.tags_offset : header.tags_offset + header.n_tags * tag_len]
        self.path = path
        self.data: U8 = data
        self.n_bytes = len(data)
        self.header = header
        self.bloom = BloomFilter(data[header.bloom_offset : header.sizes_offset], header.n_hashes)
        self.tags: npt.NDArray[Any] = tags.view(tag_dtype(digest_len, tag_len))
        rows = tags.reshape(header.n_tags, tag_len)
        self.packed: U8 = rows[:, :digest_len]
        # Offset and length in one piece: a gather then fetches each tag from memory once.
        self._pointers = rows[:, digest_len : digest_len + LOCATION_BYTES].view(
            f"V{LOCATION_BYTES}"
        )[:, 0]
        self.vdata: U8 = data[header.vdata_offset : header.fnames_offset]
        self.fnames: U8 = data[header.fnames_offset :]
        self._is_sound: bool | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CacheFile:
        """Map a cache file.

        Parameters
        ----------
        path : str or os.PathLike
            The file. It stays mapped as long as the result or a view of it lives.

        Returns
        -------
        CacheFile
            Read-only.

        Raises
        ------
        StoreError
            If it cannot be opened, or is no regular file.
        VersionError, FormatError
            As `header.parse_header` says.
        """
        return cls(map_file(path), path)

    @classmethod
    def parse(
        cls, data: bytes | memoryview | U8, *, path: str | os.PathLike[str] | None = None
    ) -> CacheFile:
        """Read a cache file that is in memory.

        Parameters
        ----------
        data : bytes-like
            The whole file; not copied.
        path : str or os.PathLike, optional
            For messages.

        Returns
        -------
        CacheFile
            Holds a reference to `data`.

        Raises
        ------
        TypeError
            If it is not bytes-like.
        VersionError, FormatError
            As `header.parse_header` says.
        """
        return cls(np.frombuffer(data, np.uint8), path)

    @property
    def n_tags(self) -> int:
        """Number of tags."""
        return self.header.n_tags

    @property
    def tag_len(self) -> int:
        """Bytes of one tag."""
        return self.header.tag_len

    @property
    def digest_len(self) -> int:
        """Bytes of one packed digest."""
        return self.header.digest_len

    @property
    def algorithm(self) -> Algorithm:
        """Which digests the file can hold, by their length; INVALID where there are none such."""
        for algorithm, n_raw in RAW_BYTES.items():
            if PREFIX_BYTES + n_raw == self.digest_len:
                return algorithm
        return Algorithm.INVALID

    def is_sound(self) -> bool:
        """Tell whether a search over sorted keys gives what the Go code gives.

        Returns
        -------
        bool
            True where tags are in ascending digest order, all begin with the algorithm's name, and
            the bloom filter admits all of them. Checked once, about 75 ns a tag.
        """
        if self._is_sound is None:
            self._is_sound = self.n_tags == 0 or (
                self.algorithm is not Algorithm.INVALID
                and bool(steps_up(self.packed).all())
                and self._has_prefix(self.packed[[0, -1]])  # in order: all between have it too
                and bool(self.bloom.may_contain(self.packed).all())
            )
        return self._is_sound

    def find_tags(self, packed: U8) -> I64:
        """Find the tag of each digest.

        Parameters
        ----------
        packed : (m, digest_len) uint8
            Packed digests. Those of another length are not in this file, which is no error.

        Returns
        -------
        (m,) int64
            Row in `tags`: the first with that digest where tags are in order, else the one that
            Go's search happens on; -1 where absent.

        Raises
        ------
        TypeError
            If it is not a two-dimensional array of uint8.
        """
        if packed.dtype != np.uint8 or packed.ndim != 2:
            raise TypeError(
                f"packed digests: found {packed.dtype} of shape {packed.shape}, wanted uint8 of "
                "shape (m, digest_len)"
            )
        tag_row = np.full(len(packed), -1, np.int64)
        if self.n_tags and packed.shape[1] == self.digest_len and self.algorithm in RAW_BYTES:
            asked = np.flatnonzero(self.bloom.may_contain(packed))
            tag_row[asked] = find_first(self.packed, packed[asked])
        return tag_row

    def locate(self, tag_row: I64) -> Locations:
        """Read the locations of tags.

        Parameters
        ----------
        tag_row : (m,) int64
            Rows in `tags`; -1 gives a row of -1 that is not marked corrupt.

        Returns
        -------
        Locations
            m rows.

        Raises
        ------
        IndexError
            If a row is not in `tags`.
        """
        asked = np.flatnonzero(tag_row >= 0)
        pointers = self._pointers[tag_row[asked]].view("<u8").reshape(-1, 2)
        located = parse_locations(
            self.data,
            self._section("vdata"),
            self._section("fnames"),
            pointers[:, 0],
            pointers[:, 1],
        )
        return located if len(asked) == len(tag_row) else located.expand(asked, len(tag_row))

    def names(self, name_offset: I64) -> BinaryColumn:
        """Read names.

        Parameters
        ----------
        name_offset : (m,) int64
            As `locate` gives them; -1 gives a null.

        Returns
        -------
        pyarrow.BinaryArray of m rows
            The names' bytes as they stand in the TOC.

        Raises
        ------
        ValueError
            If no whole name stands there.
        ColumnSizeError
            If the names together exceed what one Arrow column holds, 2 GiB.
        """
        n_bytes = name_lengths(self.data, self._section("fnames"), name_offset)
        is_null = name_offset == -1
        if ((n_bytes < 0) & ~is_null).any():
            raise ValueError("name_offset: wanted offsets that locate() gave, found others")
        n_bytes[is_null] = 0
        return slices_to_binary(self.fnames, name_offset + NAME_HEAD_BYTES, n_bytes, ~is_null)

    def _section(self, name: str) -> Section:
        n_bytes = len(getattr(self, name))
        # An empty section may stand where the file ends, or, without tags, beyond all files.
        start = getattr(self.header, f"{name}_offset") if n_bytes else 0
        return Section(np.array(start), np.array(n_bytes))

    def _has_prefix(self, packed: U8) -> bool:
        return bool((packed[:, :PREFIX_BYTES] == self.algorithm.prefix).all())

    def __repr__(self) -> str:
        where = f" {os.fspath(self.path)!r}" if self.path is not None else ""
        return f"<CacheFile{where}: {self.n_tags:,} tags, {self.n_bytes:,} bytes>"

    def _repr_html_(self) -> str:
        rows = (
            ("tags", self.n_tags),
            ("algorithm", self.algorithm.name.lower()),
            ("bytes of locations", len(self.vdata)),
            ("bytes of names", len(self.fnames)),
            ("bytes of the file", self.n_bytes),
            ("bloom filter", f"{self.bloom.n_words:,} words, {self.bloom.fill:.0%} set"),
        )
        return html_table("Cache file", (), rows)
