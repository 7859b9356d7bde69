"""The layout of a cache file, version 3, and the checks of its header.

Podman, Buildah, CRI-O and Skopeo store a layer's cache as the big-data item
`chunked-manifest-cache`. All integers are little-endian; from byte 36 on nothing is aligned.

| at   | type          | name        | meaning                                                  |
|------|---------------|-------------|----------------------------------------------------------|
| 0    | u64           | version     | 3                                                        |
| 8    | u64           | tag_len     | bytes of one tag: digest_len + 16; 0 if there are no tags|
| 16   | u64           | digest_len  | bytes of one packed digest: 39, 55, 71; 0 if no tags     |
| 24   | u64           | n_words     | words in the bloom filter                                |
| 32   | u32           | n_hashes    | 3                                                        |
| 36   | u64 x n_words | bloom       | the filter's bits, lowest bit of the first word first    |
| then | u64           | tags_bytes  | bytes of all tags                                        |
|      | u64           | vdata_bytes | bytes of all locations                                   |
|      | u64           | fnames_bytes| bytes of all names; ignored: names are all that follows  |
|      | tag x n_tags  | tags        | in memcmp order of the whole tag                         |
|      | bytes         | vdata       | locations                                                |
|      | bytes         | fnames      | names                                                    |

- Tag: packed digest (`sha256:` and 32 raw bytes), u64 offset and u64 length of a location in vdata.
- Location: three varints: byte offset of the name in fnames, offset in the file, length.
- Name: u32 length, then its bytes.

`parse_header` checks, in file order, that every section is there before anything is allocated or
sliced; until then the numbers are Python integers of any size. It accepts what the Go code accepts,
with two differences: files that crash it, or in which it never finds anything, are refused, and the
68 bytes that it writes for a layer without regular files, and refuses to read, are an empty cache.
Tags, locations and names are not checked here: see `validate`.

Source: containers/storage pkg/chunked/cache_linux.go writeCacheFileToWriter,
readCacheFileFromMemory; bloom_filter_linux.go readBloomFilter.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.errors import FormatError, LimitError, TruncatedError, VersionError
from vecache.text import describe_content

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TypeAlias

    _Path: TypeAlias = str | os.PathLike[str] | None

__all__ = [
    "HEADER",
    "LOCATION_BYTES",
    "MAX_NAME_BYTES",
    "MAX_TAGS_BYTES",
    "MAX_VERSION",
    "MAX_WORDS",
    "NAME_HEAD_BYTES",
    "N_HASHES",
    "SIZES",
    "VERSION",
    "Header",
    "field_offset",
    "parse_header",
    "tag_dtype",
]

VERSION = 3  # upstream: cacheVersion
N_HASHES = 3  # upstream: bloomFilterHashes
MAX_VERSION = (1 << 16) - 1  # a larger number is the first bytes of some other format
MAX_WORDS = 100_000_000  # upstream: bloomFilterMaxLength
MAX_TAGS_BYTES = 100_000_000  # upstream: maxTagsLen

LOCATION_BYTES = 16  # of a tag: offset and length behind its digest
NAME_HEAD_BYTES = 4  # the length before a name
MAX_NAME_BYTES = 4095  # Linux opens no longer path: PATH_MAX without the NUL

HEADER = np.dtype(
    [
        ("version", "<u8"),
        ("tag_len", "<u8"),
        ("digest_len", "<u8"),
        ("n_words", "<u8"),
        ("n_hashes", "<u4"),
    ]
)
SIZES = np.dtype([("tags_bytes", "<u8"), ("vdata_bytes", "<u8"), ("fnames_bytes", "<u8")])

_PACKED_HEADER = struct.Struct("<QQQQI")  # HEADER and SIZES; much faster than numpy for one record
_PACKED_SIZES = struct.Struct("<QQQ")
_VERSION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Header:
    """The eight numbers of a file, as Python integers, and the offsets of its sections."""

    version: int
    tag_len: int
    digest_len: int
    n_words: int
    n_hashes: int
    # These three stand behind the bloom filter.
    tags_bytes: int
    vdata_bytes: int
    fnames_bytes: int

    @property
    def n_tags(self) -> int:
        """Number of whole tags; bytes behind the last whole tag are ignored, as in Go."""
        return self.tags_bytes // self.tag_len if self.tag_len else 0

    @property
    def bloom_offset(self) -> int:
        """Byte offset of the first word of the bloom filter."""
        return HEADER.itemsize

    @property
    def sizes_offset(self) -> int:
        """Byte offset of `tags_bytes`."""
        return self.bloom_offset + 8 * self.n_words

    @property
    def tags_offset(self) -> int:
        """Byte offset of the first tag."""
        return self.sizes_offset + SIZES.itemsize

    @property
    def vdata_offset(self) -> int:
        """Byte offset of the locations."""
        return self.tags_offset + self.tags_bytes

    @property
    def fnames_offset(self) -> int:
        """Byte offset of the names."""
        return self.vdata_offset + self.vdata_bytes

    def pack(self) -> tuple[bytes, bytes]:
        """Pack the numbers: the 36 bytes before the bloom filter and the 24 behind it."""
        values = astuple(self)
        n_start = len(HEADER.names or ())
        return (
            np.array(values[:n_start], HEADER).tobytes(),
            np.array(values[n_start:], SIZES).tobytes(),
        )


def field_offset(record: np.dtype[Any], name: str) -> int:
    """Return the byte offset of a field in `HEADER` or `SIZES`."""
    assert record.fields is not None  # only plain dtypes have none
    return record.fields[name][1]


def tag_dtype(digest_len: int, tag_len: int) -> np.dtype[Any]:
    """Return the dtype of one tag, unaligned; bytes beyond `digest_len` + 16 are padding."""
    return np.dtype(
        {
            "names": ["digest", "location_offset", "location_length"],
            "formats": [f"V{digest_len}", "<u8", "<u8"],
            "offsets": [0, digest_len, digest_len + 8],
            "itemsize": tag_len,
        }
    )


def parse_header(read: Callable[[int, int], bytes], n_bytes: int, path: _Path = None) -> Header:
    """Read the numbers of a whole cache file and check that its sections are there.

    `read` returns so many bytes from an offset, fewer at the end of the `n_bytes` of the file. The
    first check that fails, in file order, raises a `VersionError` or the kind of `FormatError`.
    """
    packed = read(0, _PACKED_HEADER.size)
    _check_version(packed, path)
    if len(packed) < _PACKED_HEADER.size:
        raise _cut(HEADER, "header", 0, len(packed), path)
    start = _PACKED_HEADER.unpack(packed)
    n_words = start[3]
    _check_words(n_words, n_bytes - _PACKED_HEADER.size, path)
    sizes_offset = _PACKED_HEADER.size + 8 * n_words
    packed = read(sizes_offset, _PACKED_SIZES.size)
    if len(packed) < _PACKED_SIZES.size:
        raise _cut(SIZES, "sizes", sizes_offset, len(packed), path)
    header = Header(*start, *_PACKED_SIZES.unpack(packed))
    _check_tags(header, n_bytes - header.tags_offset, path)
    if header.n_tags:  # without tags nothing refers to a name: the 68-byte file, which Go refuses
        _check_names(header, n_bytes - header.vdata_offset, path)
    return header


def _check_version(data: bytes, path: _Path) -> None:
    if len(data) < _VERSION_BYTES:
        raise TruncatedError(
            f"version: found {len(data)} bytes, wanted {_VERSION_BYTES}",
            section="header",
            offset=0,
            path=path,
        )
    version = int.from_bytes(data[:_VERSION_BYTES], "little")
    if version != VERSION:
        where = f"{path}: " if path is not None else ""
        reason = f"found cache version {version}, wanted {VERSION}"
        if version > MAX_VERSION:
            reason = f"not a cache file: {describe_content(data)}"
        raise VersionError(f"{where}{reason}", version)


def _cut(
    record: np.dtype[Any],
    section: str,
    offset: int,
    n_left: int,
    path: _Path,
) -> TruncatedError:
    """Return an error that names the field of a record in which the file ends."""
    names = {field_offset(record, name): name for name in record.names or ()}
    cut = max(start for start in names if start <= n_left)
    return TruncatedError(
        f"the file ends in {names[cut]}; found {n_left} bytes, wanted {record.itemsize}",
        section=section,
        offset=offset + cut,
        path=path,
    )


def _check_words(n_words: int, n_left: int, path: _Path) -> None:
    if n_words > MAX_WORDS:
        raise LimitError(
            f"n_words: found {n_words}, wanted at most {MAX_WORDS}",
            section="header",
            offset=field_offset(HEADER, "n_words"),
            path=path,
        )
    # Upstream quirk: a filter's bits are counted in 32 bits, and hashes are divided by that count.
    # Source: bloom_filter_linux.go hashFn.
    if 64 * n_words % 2**32 == 0:
        raise FormatError(
            f"n_words: found {n_words}, wanted no multiple of {2**26}: that counts as no bits",
            section="header",
            offset=field_offset(HEADER, "n_words"),
            path=path,
        )
    if 8 * n_words > n_left:
        raise TruncatedError(
            f"found {n_left} bytes, wanted {8 * n_words} for {n_words} words",
            section="bloom",
            offset=HEADER.itemsize,
            path=path,
        )


def _check_tags(header: Header, n_left: int, path: _Path) -> None:
    if header.tags_bytes > MAX_TAGS_BYTES:
        raise LimitError(
            f"tags_bytes: found {header.tags_bytes}, wanted at most {MAX_TAGS_BYTES}",
            section="sizes",
            offset=header.sizes_offset,
            path=path,
        )
    least = header.digest_len + (LOCATION_BYTES if header.tags_bytes else 0)
    if header.tag_len < least:
        raise FormatError(
            f"tag_len: found {header.tag_len}, wanted at least {least} with a digest_len of "
            f"{header.digest_len}",
            section="header",
            offset=field_offset(HEADER, "tag_len"),
            path=path,
        )
    if header.tags_bytes > n_left:
        raise TruncatedError(
            f"found {n_left} bytes, wanted {header.tags_bytes}",
            section="tags",
            offset=header.tags_offset,
            path=path,
        )


def _check_names(header: Header, n_left: int, path: _Path) -> None:
    """Check that names follow the locations. What lies outside the names is found on reading."""
    n_names = n_left - header.vdata_bytes
    if n_names > 0:
        return
    is_cut = n_names < 0 or header.fnames_bytes > 0
    raise (TruncatedError if is_cut else FormatError)(
        f"found {n_left} bytes behind the tags, wanted {header.vdata_bytes} of locations and then "
        "names",
        section="vdata" if n_names < 0 else "fnames",
        offset=header.vdata_offset if n_names < 0 else header.fnames_offset,
        path=path,
    )
