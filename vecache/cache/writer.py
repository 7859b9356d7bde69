"""Build a cache file from the entries of a TOC, byte for byte as Podman writes it.

1. `toc.layout.select_retained` selects entries and their names.
2. All digests must be of one algorithm, hard-link fingerprints (sha256) included.
3. Names are stored once each, in the order in which they first appear.
4. A location for each file digest, then one for the entry's chunk digest, in TOC order.
5. A tag for each digest and fingerprint, sorted by memcmp: tags with equal digests are in the order
   of the *little-endian bytes* of their offsets.
6. The bloom filter over all tags, and the header.

About 2 ms a megabyte of TOC after parsing, of which sha256 takes 0.5. Memory is about 250 bytes an
entry.

Source: containers/storage pkg/chunked/cache_linux.go writeCache, writeCacheFileToWriter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_buffers
from vecache.cache.bloom import BloomFilter
from vecache.cache.format import N_HASHES, NAME_HEAD_BYTES, VERSION, Header
from vecache.cache.locations import pack_locations
from vecache.digest import PREFIX_BYTES, RAW_BYTES, WANTED_DIGEST, Algorithm
from vecache.errors import DigestError
from vecache.text import quoted
from vecache.toc.fingerprint import fingerprints
from vecache.toc.layout import Layout, select_retained
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, BinaryColumn, Bool
    from vecache.digest import Digests
    from vecache.toc.entries import Entries
    from vecache.toc.layout import RetainedEntries

__all__ = ["build_cache", "pack_cache"]


def build_cache(toc_data: bytes, layout: str | Layout = "dir") -> bytes:
    """Build the cache file of a layer from its TOC.

    Parameters
    ----------
    toc_data : bytes
        The TOC's JSON, uncompressed.
    layout : Layout or str
        `dir`, or `flat` for composefs.

    Returns
    -------
    bytes
        The file that Podman would write.

    Raises
    ------
    TocError
        If the TOC cannot be read, or has no such layout.
    DigestError
        If a digest is invalid, or not all are of one algorithm.
    ValueError
        If there is no layout of that name.

    Examples
    --------
    >>> import vecache
    >>> layer = vecache.LayersCache.load(vecache.open_sample()).layers[0]
    >>> toc = layer.record.big_data_path("zstd-chunked-manifest").read_bytes()
    >>> data = vecache.build_cache(toc)
    >>> len(data), data == layer.cache.data.tobytes()
    (28819, True)
    """
    layout = Layout(layout)
    return pack_cache(Toc.parse(toc_data).entries, layout)


def pack_cache(entries: Entries, layout: Layout) -> bytes:
    """Build the cache file of a layer from the entries of its TOC."""
    retained = select_retained(entries, layout)
    algorithm = _find_algorithm(entries, retained)
    name_offset, fnames = _pack_names(retained.name)
    is_file = entries.digest.is_present[retained.entry_row]
    is_chunk = entries.chunk_digest.is_present[retained.entry_row]
    has_location = np.column_stack([is_file, is_chunk])
    vdata, starts = _pack_locations(entries, retained.entry_row, name_offset, has_location)
    file_location, chunk_location = (np.cumsum(has_location).reshape(has_location.shape) - 1).T
    packed = _pack_digests(
        entries, retained.entry_row[is_file], retained.entry_row[is_chunk], algorithm
    )
    of_file = file_location[is_file]  # two tags on each: the digest and the fingerprint
    location = np.concatenate([of_file, of_file, chunk_location[is_chunk]])
    tags = _pack_tags(packed, starts.take(location), np.diff(starts).take(location))
    bloom = BloomFilter.build(packed)
    start, sizes = Header(
        version=VERSION,
        tag_len=tags.shape[1] if len(tags) else 0,
        digest_len=packed.shape[1] if len(tags) else 0,
        n_words=bloom.n_words,
        n_hashes=N_HASHES,
        tags_bytes=tags.nbytes,
        vdata_bytes=vdata.nbytes,
        fnames_bytes=fnames.nbytes,
    ).pack()
    return b"".join([start, bloom.bits.data, sizes, tags.data, vdata.data, fnames.data])


def _find_algorithm(entries: Entries, retained: RetainedEntries) -> Algorithm:
    """Return the one algorithm of all digests, SHA256 if there are none; refuse a mixture."""
    file = entries.digest.algorithm[retained.entry_row]
    chunk = entries.chunk_digest.algorithm[retained.entry_row]
    fingerprint = np.where(file == Algorithm.NONE, Algorithm.NONE, Algorithm.SHA256)
    used = np.column_stack([file, fingerprint, chunk]).reshape(-1)  # in the order of writing
    given = np.flatnonzero(used != Algorithm.NONE)
    if not len(given):
        return Algorithm.SHA256
    first = Algorithm(int(used[given[0]]))
    bad = given[(used[given] != first) | (used[given] == Algorithm.INVALID)]
    if len(bad):
        row, which = divmod(int(bad[0]), 3)
        digests = entries.chunk_digest if which == 2 else entries.digest
        _refuse(entries, int(retained.entry_row[row]), digests, first)
    return first


def _refuse(entries: Entries, row: int, digests: Digests, first: Algorithm) -> NoReturn:
    reason = (
        f"this is not a digest; {WANTED_DIGEST}"
        if digests.algorithm[row] == Algorithm.INVALID
        else f"a cache file holds digests of one length, here {first.name.lower()} (the hard-link "
        "fingerprint of a file is always sha256)"
    )
    name, text = entries.name[row].as_py(), digests.to_text()[row].as_py()
    raise DigestError(f"entry {row}, {quoted(name)}: {quoted(text)}: {reason}")


def _pack_names(names: BinaryColumn) -> tuple[I64, U8]:
    """(m,) int64 offset of each name in fnames, and fnames: each distinct name once."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only building needs it

    encoded = names.dictionary_encode()  # numbered as they first appear
    _, lengths, _ = binary_buffers(encoded.dictionary)
    heads = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(NAME_HEAD_BYTES), len(lengths), [None, pa.py_buffer(lengths.astype("<u4"))]
    ).cast(pa.binary())
    packed = pc.binary_join_element_wise(heads, encoded.dictionary, b"")
    begins, sizes, fnames = binary_buffers(packed)
    return begins.take(encoded.indices.to_numpy()), fnames[: int(sizes.sum())]


def _pack_locations(
    entries: Entries, entry_row: I64, name_offset: I64, has_location: Bool
) -> tuple[U8, I64]:
    """Pack the locations for which the (m, 2) mask is set: the file's, then its chunk's."""
    zeros = np.zeros(len(entry_row), np.int64)
    columns = (
        (name_offset, name_offset),
        (zeros, entries.chunk_offset[entry_row]),
        (entries.size[entry_row], entries.chunk_size[entry_row]),
    )
    # Go writes uint64(int64): negative numbers wrap.
    return pack_locations(
        *(np.column_stack(pair)[has_location].view(np.uint64) for pair in columns)
    )


def _pack_digests(entries: Entries, file_row: I64, chunk_row: I64, algorithm: Algorithm) -> U8:
    """(n_tags, digest_len) uint8: file digests, fingerprints, chunk digests."""
    if algorithm is not Algorithm.SHA256:  # then there are only chunk digests
        return entries.chunk_digest.take(chunk_row).packed(algorithm)[1]
    found = fingerprints(entries, file_row)
    raw = [
        entries.digest.raw.take(file_row, axis=0),
        found,
        entries.chunk_digest.raw.take(chunk_row, axis=0),
    ]
    packed = np.empty((sum(map(len, raw)), PREFIX_BYTES + RAW_BYTES[algorithm]), np.uint8)
    packed[:, :PREFIX_BYTES] = algorithm.prefix
    np.concatenate(raw, out=packed[:, PREFIX_BYTES:])
    return packed


def _pack_tags(packed: U8, offset: I64, length: I64) -> U8:
    """(n_tags, tag_len) uint8, sorted by all bytes of a tag."""
    tags = np.empty((len(packed), packed.shape[1] + 16), np.uint8)
    tags[:, :-16] = packed
    tags[:, -16:] = np.column_stack([offset, length]).astype("<i8", copy=False).view(np.uint8)
    if not len(tags):
        return tags
    # Most digests differ in their first 8 raw bytes, which sort ten times as fast as whole tags.
    key = np.ascontiguousarray(packed[:, PREFIX_BYTES:][:, :8]).view(">u8")[:, 0].astype(np.uint64)
    order = np.argsort(key)
    tags, key = tags.take(order, axis=0), key.take(order)
    is_equal = key[1:] == key[:-1]
    rows = np.flatnonzero(np.append(is_equal, False) | np.append(False, is_equal))
    whole = tags.view(f"S{tags.shape[1]}")
    whole[rows] = np.sort(whole[rows], axis=0)
    return tags
