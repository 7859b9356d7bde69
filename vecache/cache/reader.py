"""Read one cache file: which content a layer holds, and where.

1. `CacheFile.open` maps a file, `CacheFile.parse` takes bytes in memory. Both check that the
   sections are there (`format.parse_header`) and copy nothing.
2. `find_tags` finds the tag of each packed digest as the Go code does: the bloom filter first, then
   a binary search (`search.py`).
3. `locate` reads the tags' locations, `names` the names of the locations.

A batch never ends early: absent rows are -1, rows with a bad location are marked. Nothing is stored
per tag. `find_tags` takes about 0.5 us for a digest that is present. It serves single files and
files that are not `is_sound`; for sound files an index over all layers takes a fifth of that.

Source: containers/storage pkg/chunked/cache_linux.go loadLayerBigData, findDigestInternal.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import (
    ArrowExport,
    binary_to_text,
    frozen,
    masked_column,
    slices_to_binary,
)
from vecache.cache.bloom import BloomFilter
from vecache.cache.format import LOCATION_BYTES, NAME_HEAD_BYTES, parse_header, tag_dtype
from vecache.cache.locations import Locations, Section, name_lengths, parse_locations
from vecache.cache.search import find_first, is_ascending
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm, format_digests
from vecache.files import open_mapped, require_whole
from vecache.text import count, html_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from vecache.arrays import I64, U8, BinaryColumn
    from vecache.cache.format import Header
    from vecache.files import FileState

__all__ = ["TAG_COLUMNS", "CacheFile"]

TAG_COLUMNS = pa.schema(
    [
        ("digest", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
"""What `CacheFile.to_arrow` gives."""


class CacheFile(ArrowExport):
    """The cache file of one layer, mapped or in memory. Created by `open` and `parse`.

    Parameters
    ----------
    data : (n_bytes,) uint8
        The whole file.
    path : str or os.PathLike or None
        Where it was read from.
    state : FileState, optional
        Of the file that is mapped.
    header : Header, optional
        Where it was read already.

    Attributes
    ----------
    data : (n_bytes,) uint8
        The whole file, read-only. All other arrays are views of it.
    path : str or os.PathLike or None
        As given.
    state : FileState or None
        As given; None for bytes in memory.
    n_bytes : int
        Size of the file in bytes.
    header : Header
        The numbers of the file, and the byte offsets of its sections.
    bloom : BloomFilter
        The filter over the digests of all tags.
    tags : (n_tags,) structured
        Fields `digest` (V), `location_offset`, `location_length` (uint64,
        little-endian); not aligned.
    packed : (n_tags, digest_len) uint8
        The tags' digests: one row every `tag_len` bytes.
    vdata, fnames : (n,) uint8
        The bytes of all locations, and of all names.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> layer = vecache.LayersCache.load(store).layers[0]
    >>> cache = vecache.CacheFile.open(layer.cache.path)
    >>> cache.n_tags, cache.algorithm.name
    (405, 'SHA256')
    >>> located = cache.locate(cache.find_tags(cache.packed[:1]))
    >>> cache.names(located.name_offset).to_pylist(), located.length.tolist()
    ([b'usr/share/doc/pkg074/copyright'], [2938])
    """

    # Of a thousand files only the headers are read at first, so views are made when they are used.
    __slots__ = ("_is_sound", "data", "header", "n_bytes", "path", "state")

    def __init__(
        self,
        data: U8,
        path: str | os.PathLike[str] | None,
        state: FileState | None = None,
        header: Header | None = None,
    ) -> None:
        self.path = path
        self.state = state
        self.data: U8 = frozen(data.view())
        self.n_bytes = len(data)
        self.header = header or parse_header(_reader(self.data), self.n_bytes, path)
        self._is_sound: bool | None = None

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, beneath: str | os.PathLike[str] | None = None
    ) -> CacheFile:
        """Map a cache file.

        Parameters
        ----------
        path : str or os.PathLike
            The file. It stays mapped as long as the result or a view of it exists.
        beneath : str or os.PathLike, optional
            A folder that the path begins with; no part of the path below it may be a symbolic link.

        Returns
        -------
        CacheFile
            Read-only.

        Raises
        ------
        StoreError
            If it cannot be opened, or is not a regular file.
        VersionError
            If it is of another version.
        FormatError
            If a section is missing, too large, or contradicts another.
        """
        with open_mapped(path, beneath) as (descriptor, data, state):
            header = parse_header(lambda at, n: os.pread(descriptor, n, at), len(data), path)
        return cls(data, path, state, header)

    @classmethod
    def parse(
        cls, data: bytes | memoryview | U8, *, path: str | os.PathLike[str] | None = None
    ) -> CacheFile:
        """Read a cache file from memory.

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
        VersionError
            If it is of another version.
        FormatError
            If a section is missing, too large, or contradicts another.
        """
        if isinstance(data, (str, os.PathLike)):
            found = type(data).__name__
            raise TypeError(f"a cache file: found {found}, wanted bytes; CacheFile.open opens one")
        return cls(np.frombuffer(data, np.uint8), path)

    @property
    def bloom(self) -> BloomFilter:
        """The filter over the digests of all tags."""
        header = self.header
        bits = self.data[header.bloom_offset : header.sizes_offset]
        return BloomFilter(bits, header.n_hashes)

    @property
    def tags(self) -> npt.NDArray[Any]:
        """(n_tags,) structured: `digest`, `location_offset`, `location_length`; not aligned."""
        rows = self._tag_rows
        return rows.reshape(-1).view(tag_dtype(self._n_digest_bytes, rows.shape[1]))

    @property
    def packed(self) -> U8:
        """(n_tags, digest_len) uint8: the tags' digests, one row every `tag_len` bytes."""
        return self._tag_rows[:, : self._n_digest_bytes]

    @property
    def vdata(self) -> U8:
        """(n_bytes,) uint8: the bytes of all locations."""
        return self.data[self.header.vdata_offset : self.header.fnames_offset]

    @property
    def fnames(self) -> U8:
        """(n_bytes,) uint8: the bytes of all names."""
        return self.data[self.header.fnames_offset :]

    @property
    def _n_digest_bytes(self) -> int:
        # A file without tags may announce lengths that are impossible for an array.
        return self.header.digest_len if self.n_tags else 0

    @property
    def _tag_rows(self) -> U8:
        """(n_tags, tag_len) uint8: the bytes of the tags."""
        header = self.header
        tag_len = header.tag_len if header.n_tags else LOCATION_BYTES
        end = header.tags_offset + header.n_tags * tag_len
        return self.data[header.tags_offset : end].reshape(header.n_tags, tag_len)

    @property
    def n_tags(self) -> int:
        """Number of tags."""
        return self.header.n_tags

    @property
    def tag_len(self) -> int:
        """Size of one tag in bytes."""
        return self.header.tag_len

    @property
    def digest_len(self) -> int:
        """Size of one packed digest in bytes."""
        return self.header.digest_len

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the digests, known by their length; INVALID for any other length."""
        for algorithm, n_raw in RAW_BYTES.items():
            if PREFIX_BYTES + n_raw == self.digest_len:
                return algorithm
        return Algorithm.INVALID

    def is_sound(self) -> bool:
        """Return whether a search over sorted keys gives the answers of the Go code.

        Returns
        -------
        bool
            True if tags are in ascending digest order, all begin with the algorithm's name, and the
            bloom filter admits all of them. Checked once, about 75 ns a tag.
        """
        if self._is_sound is None:
            self.require_whole()
            self._is_sound = (
                self.n_tags == 0
                or (
                    self.algorithm is not Algorithm.INVALID
                    and bool(is_ascending(self.packed).all())
                    # In order: if these two begin with the name, all between do.
                    and bool((self.packed[[0, -1], :PREFIX_BYTES] == self.algorithm.prefix).all())
                    and bool(self.bloom.may_contain(self.packed).all())
                )
            )
        return self._is_sound

    def require_whole(self) -> None:
        """Check that the mapped file was not cut since.

        Raises
        ------
        TruncatedError
            If another process has cut it.
        """
        require_whole(self.data, self.path)

    def find_tags(self, packed: U8) -> I64:
        """Find the tag of each digest.

        Parameters
        ----------
        packed : (m, digest_len) uint8
            Packed digests. Digests of another length are absent, which is not an error.

        Returns
        -------
        (m,) int64
            Row in `tags`: the first with that digest if tags are in order, else the one at which
            Go's search ends; -1 where absent.

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
        self.require_whole()
        tag_row = np.full(len(packed), -1, np.int64)
        if self.n_tags and packed.shape[1] == self.digest_len and self.algorithm in RAW_BYTES:
            admitted = np.flatnonzero(self.bloom.may_contain(packed))
            tag_row[admitted] = find_first(self.packed, packed[admitted])
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
        self.require_whole()
        present = np.flatnonzero(tag_row >= 0)
        start = self._n_digest_bytes
        # Offset and length as one item: a gather then fetches each tag from memory once.
        items = self._tag_rows[:, start : start + LOCATION_BYTES].view(f"V{LOCATION_BYTES}")[:, 0]
        pointers = items[tag_row[present]].view("<u8").reshape(-1, 2)
        located = parse_locations(
            self.data,
            self._section("vdata"),
            self._section("fnames"),
            pointers[:, 0],
            pointers[:, 1],
        )
        if len(present) == len(tag_row):
            return located
        return Locations.gather(len(tag_row), [(present, located)])

    def names(self, name_offset: I64) -> BinaryColumn:
        """Read names.

        Parameters
        ----------
        name_offset : (m,) int64
            As `locate` returns them; -1 gives a null.

        Returns
        -------
        pyarrow.BinaryArray of m rows
            Names as the TOC has them: bytes that need not be UTF-8.

        Raises
        ------
        ValueError
            If there is no whole name at an offset.
        ColumnSizeError
            If the names together exceed what one Arrow column holds, 2 GiB.
        """
        self.require_whole()
        n_bytes = name_lengths(self.data, self._section("fnames"), name_offset)
        is_null = name_offset == -1
        if ((n_bytes < 0) & ~is_null).any():
            raise ValueError(
                "name_offset: found offsets without a whole name, wanted those of locate()"
            )
        n_bytes[is_null] = 0
        return slices_to_binary(self.fnames, name_offset + NAME_HEAD_BYTES, n_bytes, ~is_null)

    def to_arrow(self) -> Any:
        r"""Export the tags, in the order of the file.

        Returns
        -------
        pyarrow.Table of n_tags rows
            `digest`, `path`, `offset`, `length`; null where the location is corrupt, and the digest
            where it is of an unknown algorithm. A path that is not UTF-8 shows its bytes as `\xNN`.

        Raises
        ------
        ColumnSizeError
            If digests or paths exceed what one Arrow column holds, 2 GiB.
        """
        located = self.locate(np.arange(self.n_tags))
        algorithm, raw = self.algorithm, self.packed[:, PREFIX_BYTES:]
        is_known = self.n_tags > 0 and algorithm in RAW_BYTES
        return pa.table(
            {
                "digest": format_digests(raw, algorithm)
                if is_known
                else pa.nulls(self.n_tags, pa.string()),
                "path": binary_to_text(self.names(located.name_offset)),
                "offset": masked_column(located.offset, located.is_corrupt),
                "length": masked_column(located.length, located.is_corrupt),
            },
            schema=TAG_COLUMNS,
        )

    def _section(self, name: str) -> Section:
        n_bytes = len(getattr(self, name))
        # An empty section may begin at the end of the file or, without tags, far beyond it.
        start = getattr(self.header, f"{name}_offset") if n_bytes else 0
        return Section(np.array(start), np.array(n_bytes))

    def __repr__(self) -> str:
        where = f" {os.fspath(self.path)!r}" if self.path is not None else ""
        return f"<CacheFile{where}: {count(self.n_tags, 'tag')}, {self.n_bytes:,} bytes>"

    def _repr_html_(self) -> str:
        rows = (
            ("tags", self.n_tags),
            ("algorithm", self.algorithm.name.lower()),
            ("bytes of locations", len(self.vdata)),
            ("bytes of names", len(self.fnames)),
            ("bytes of the file", self.n_bytes),
            ("bloom filter", f"{count(self.bloom.n_words, 'word')}, {self.bloom.fill:.0%} set"),
        )
        return html_table("Cache file", (), rows)


def _reader(data: U8) -> Callable[[int, int], bytes]:
    return lambda offset, n_bytes: data[offset : offset + n_bytes].tobytes()
