"""The bytes of a cache file, version 3.

What Podman, Buildah, CRI-O and Skopeo keep for a layer as the big-data item
`chunked-manifest-cache`. All integers are little-endian; from byte 36 on nothing is aligned.

| at   | type          | name        | meaning                                                  |
|------|---------------|-------------|----------------------------------------------------------|
| 0    | u64           | version     | 3                                                        |
| 8    | u64           | tag_len     | bytes of one tag: digest_len + 16; 0 where no tags       |
| 16   | u64           | digest_len  | bytes of one packed digest: 39, 55, 71; 0 where no tags  |
| 24   | u64           | n_words     | words in the bloom filter                                |
| 32   | u32           | n_hashes    | 3                                                        |
| 36   | u64 x n_words | bloom       | the filter's bits, lowest bit of the first word first    |
| then | u64           | tags_bytes  | bytes of all tags                                        |
|      | u64           | vdata_bytes | bytes of all locations                                   |
|      | u64           | fnames_bytes| bytes of all names; not read, names are all that is left |
|      | tag x n_tags  | tags        | in memcmp order of the whole tag                         |
|      | bytes         | vdata       | locations                                                |
|      | bytes         | fnames      | names                                                    |

- Tag: packed digest (`sha256:` and 32 raw bytes), u64 offset and u64 length of a location in vdata.
- Location: three varints: the name's byte in fnames, offset in the file, length.
- Name: u32 length, then its bytes.

Does not judge what it describes: `header.py` does, and `validate.py`.

Source: containers/storage pkg/chunked/cache_linux.go writeCacheFileToWriter.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "HEADER",
    "LOCATION_BYTES",
    "MAX_TAGS_BYTES",
    "MAX_WORDS",
    "NAME_HEAD_BYTES",
    "N_HASHES",
    "SIZES",
    "VERSION",
    "Header",
    "field_offset",
    "tag_dtype",
]

VERSION = 3  # upstream: cacheVersion
N_HASHES = 3  # upstream: bloomFilterHashes
MAX_WORDS = 100_000_000  # upstream: bloomFilterMaxLength
MAX_TAGS_BYTES = 100_000_000  # upstream: maxTagsLen

LOCATION_BYTES = 16  # of a tag: offset and length behind its digest
NAME_HEAD_BYTES = 4  # the length before a name

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


@dataclass(frozen=True, slots=True)
class Header:
    """The eight numbers of a file, as Python integers, and where each section begins.

    Attributes
    ----------
    version, tag_len, digest_len, n_words, n_hashes : int
        As they stand before the bloom filter.
    tags_bytes, vdata_bytes, fnames_bytes : int
        As they stand behind it.
    """

    version: int
    tag_len: int
    digest_len: int
    n_words: int
    n_hashes: int
    tags_bytes: int
    vdata_bytes: int
    fnames_bytes: int

    @property
    def n_tags(self) -> int:
        """Whole tags; bytes behind the last whole one are nobody's, as in Go."""
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
        """Write the numbers.

        Returns
        -------
        start, sizes : bytes
            The 36 bytes before the bloom filter, and the 24 behind it.
        """
        values = astuple(self)
        n_start = len(HEADER.names or ())
        return (
            np.array(values[:n_start], HEADER).tobytes(),
            np.array(values[n_start:], SIZES).tobytes(),
        )


def field_offset(record: np.dtype[Any], name: str) -> int:
    """Find a field in a packed record.

    Parameters
    ----------
    record : numpy.dtype
        `HEADER` or `SIZES`.
    name : str
        One of its fields.

    Returns
    -------
    int
        Bytes before it.
    """
    assert record.fields is not None  # only plain dtypes have none
    return record.fields[name][1]


def tag_dtype(digest_len: int, tag_len: int) -> np.dtype[Any]:
    """Describe one tag.

    Parameters
    ----------
    digest_len : int
        Bytes of one packed digest.
    tag_len : int
        Bytes of one tag; what it has more than `digest_len` + 16 is padding.

    Returns
    -------
    numpy.dtype
        Fields `digest` (V), `location_offset` and `location_length` (both <u8), unaligned.
    """
    return np.dtype(
        {
            "names": ["digest", "location_offset", "location_length"],
            "formats": [f"V{digest_len}", "<u8", "<u8"],
            "offsets": [0, digest_len, digest_len + 8],
            "itemsize": tag_len,
        }
    )
