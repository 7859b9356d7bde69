"""The header of a cache file, read and judged.

Every section that the numbers announce is proved to be there, in file order, before anybody
allocates or slices: numbers from a file are Python integers until then, of any size.

What is accepted is what the Go code accepts, with two differences: files that make it crash or
never find anything are refused, and the 68 bytes that it writes for a layer without regular files,
and then refuses, are an empty cache. Tags, locations and names are not looked at.

Source: containers/storage pkg/chunked/cache_linux.go readCacheFileFromMemory;
bloom_filter_linux.go readBloomFilter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.cache.format import (
    HEADER,
    LOCATION_BYTES,
    MAX_TAGS_BYTES,
    MAX_WORDS,
    SIZES,
    VERSION,
    Header,
    field_offset,
)
from vecache.errors import FormatError, LimitError, TruncatedError, VersionError

if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    import numpy as np

    from vecache.arrays import U8

    _Path: TypeAlias = str | os.PathLike[str] | None

__all__ = ["parse_header"]

_VERSION_BYTES = 8
_NO_VERSION = 1 << 16  # such numbers are the first bytes of something else


def parse_header(data: U8, path: _Path = None) -> Header:
    """Read the numbers of a cache file and check that its sections are there.

    Parameters
    ----------
    data : (n_bytes,) uint8
        The whole file.
    path : str or os.PathLike, optional
        For messages.

    Returns
    -------
    Header
        Of a file whose bloom filter, tags and locations lie inside `data`.

    Raises
    ------
    VersionError
        If it is of another version.
    TruncatedError
        If the file ends inside a section.
    LimitError
        If the bloom filter or the tags are longer than containers/storage reads.
    FormatError
        If the numbers contradict each other.
    """
    _check_version(data, path)
    start = _read(HEADER, "header", data, 0, path)
    n_words = start[3]
    _check_words(n_words, len(data) - HEADER.itemsize, path)
    sizes = _read(SIZES, "sizes", data, HEADER.itemsize + 8 * n_words, path)
    header = Header(*start, *sizes)
    _check_tags(header, len(data) - header.tags_offset, path)
    if header.n_tags:  # else nothing points at a name: the 68-byte file, which Go refuses
        _check_names(header, len(data) - header.vdata_offset, path)
    return header


def _check_version(data: U8, path: _Path) -> None:
    if len(data) < _VERSION_BYTES:
        raise TruncatedError(
            f"version: found {len(data)} bytes, wanted {_VERSION_BYTES}",
            section="header",
            offset=0,
            path=path,
        )
    version = int.from_bytes(data[:_VERSION_BYTES].tobytes(), "little")
    if version != VERSION:
        where = f"{path}: " if path is not None else ""
        hint = "; this is no cache file" if version >= _NO_VERSION else ""
        raise VersionError(f"{where}found cache version {version}, wanted {VERSION}{hint}")


def _read(
    record: np.dtype[Any], section: str, data: U8, offset: int, path: _Path
) -> tuple[int, ...]:
    """Read one packed record as Python integers."""
    n_left = len(data) - offset
    if n_left < record.itemsize:
        places = {field_offset(record, name): name for name in record.names or ()}
        cut = max(place for place in places if place <= n_left)
        raise TruncatedError(
            f"the file ends in {places[cut]}; found {n_left} bytes, wanted {record.itemsize}",
            section=section,
            offset=offset + cut,
            path=path,
        )
    values: tuple[int, ...] = data[offset : offset + record.itemsize].view(record)[0].item()
    return values


def _check_words(n_words: int, n_left: int, path: _Path) -> None:
    place = field_offset(HEADER, "n_words")
    if n_words > MAX_WORDS:
        raise LimitError(
            f"n_words: found {n_words}, wanted at most {MAX_WORDS}",
            section="header",
            offset=place,
            path=path,
        )
    # Upstream quirk: a filter's bits are counted in 32 bits, and hashes are divided by that count.
    # Source: bloom_filter_linux.go hashFn.
    if 64 * n_words % 2**32 == 0:
        raise FormatError(
            f"n_words: found {n_words}, wanted no multiple of {2**26}: that counts as no bits",
            section="header",
            offset=place,
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
    """Check that names follow the locations; whoever points outside them is found out later."""
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
