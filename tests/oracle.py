"""A cache file in slow, plain Python: structs, slices and loops, one row at a time.

Written from the rules of the format and from what Go does, and with nothing of `vecache`, so that
the two can be compared. `OracleCache` is a file taken apart. `read_cache` and `pack` convert it,
`find_tag` and `locate` look one digest up as containers/storage does, `find` and `find_all` ask
several layers, and `write_cache` builds the file of a TOC. `pack_rows` packs plain rows, good ones
and bad ones.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.toc.oracle import fingerprint, retained, unmarshal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_U64 = 2**64


@dataclass
class OracleCache:
    """A cache file, taken apart; `pack` puts it together, wrong numbers included."""

    tags: list[bytes] = field(default_factory=list)
    vdata: bytes = b""
    fnames: bytes = b""
    tag_len: int = 0
    digest_len: int = 0
    bloom: bytes = bytes(8)
    n_hashes: int = 3

    def pack(self) -> bytes:
        tags = b"".join(self.tags)
        start = (3, self.tag_len, self.digest_len, len(self.bloom) // 8, self.n_hashes)
        sizes = (len(tags), len(self.vdata), len(self.fnames))
        return b"".join(
            [
                struct.pack("<QQQQI", *start),
                self.bloom,
                struct.pack("<QQQ", *sizes),
                tags,
                self.vdata,
                self.fnames,
            ]
        )

    def digests(self) -> list[bytes]:
        return [tag[: self.digest_len] for tag in self.tags]

    def add_name(self, name: bytes, offsets: dict[bytes, int]) -> int:
        """Append a name that `offsets` does not have; return its offset."""
        if name not in offsets:
            offsets[name] = len(self.fnames)
            self.fnames += struct.pack("<I", len(name)) + name
        return offsets[name]

    def add_location(self, *values: int) -> bytes:
        """Append a location; return the pointer to it that a tag holds."""
        location = b"".join(uvarint(value % MAX_U64) for value in values)
        pointer = struct.pack("<QQ", len(self.vdata), len(location))
        self.vdata += location
        return pointer


def read_cache(data: bytes) -> OracleCache:
    """Take a file apart that the reader accepts."""
    version, tag_len, digest_len, n_words, n_hashes = struct.unpack_from("<QQQQI", data, 0)
    assert version == 3
    at = 36 + 8 * n_words
    bloom = data[36:at]
    tags_bytes, vdata_bytes, _ = struct.unpack_from("<QQQ", data, at)
    at += 24
    n_tags = tags_bytes // tag_len if tag_len else 0
    tags = [data[at + i * tag_len : at + (i + 1) * tag_len] for i in range(n_tags)]
    at += tags_bytes
    vdata, fnames = data[at : at + vdata_bytes], data[at + vdata_bytes :]
    return OracleCache(tags, vdata, fnames, tag_len, digest_len, bloom, n_hashes)


def bloom_bits(digest: bytes, n_words: int, n_hashes: int) -> list[int]:
    if not digest:
        return [0] * min(n_hashes, 1)
    n_bits = 64 * n_words % 2**32
    bits = []
    for seed in range(min(n_hashes, len(digest))):  # more seeds only repeat
        split = seed % len(digest)
        bits.append((zlib.crc32(digest[:split]) ^ zlib.crc32(digest[split:])) % n_bits)
    return bits


def may_contain(bloom: bytes, n_hashes: int, digest: bytes) -> bool:
    for bit in bloom_bits(digest, len(bloom) // 8, n_hashes):
        (word,) = struct.unpack_from("<Q", bloom, 8 * (bit // 64))
        if not word & (1 << (bit % 64)):
            return False
    return True


def build_bloom(digests: Iterable[bytes], n_words: int, n_hashes: int = 3) -> bytes:
    words = [0] * n_words
    for digest in digests:
        for bit in bloom_bits(digest, n_words, n_hashes):
            words[bit // 64] |= 1 << (bit % 64)
    return struct.pack(f"<{n_words}Q", *words)


def n_words_for(n_tags: int) -> int:
    """Ten bits a tag in whole words, at least one."""
    return max(1, (10 * n_tags + 63) // 64)


def go_search(have: list[bytes], wanted: bytes) -> int:
    """Search digests, or whole tags by the digests that they begin with (sort.Search)."""
    low, high = 0, len(have)
    while low < high:
        middle = (low + high) // 2
        if have[middle][: len(wanted)] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < len(have) and have[low][: len(wanted)] == wanted else -1


def find_tag(cache: OracleCache, digest: bytes) -> int:
    """Find a digest's tag (findBinaryTag); -1 where it is absent."""
    if len(digest) != cache.digest_len or not may_contain(cache.bloom, cache.n_hashes, digest):
        return -1
    return go_search(cache.tags, digest)


def find(caches: Sequence[OracleCache], digest: bytes) -> tuple[int, int]:
    """(layer, tag) in the first layer that has the digest; (-1, -1) where none has."""
    for layer, cache in enumerate(caches):
        tag = find_tag(cache, digest)
        if tag >= 0:
            return layer, tag
    return -1, -1


def find_all(caches: Sequence[OracleCache], digest: bytes) -> list[tuple[int, int]]:
    """Every (layer, tag) with the digest, whatever the filter and the order say."""
    return [
        (layer, row)
        for layer, cache in enumerate(caches)
        for row, found in enumerate(cache.digests())
        if found == digest
    ]


def read_uvarint(data: bytes, at: int) -> tuple[int, int] | None:
    """Go's binary.ReadUvarint: the value and the offset behind it, or None where it fails."""
    value = 0
    for n_read in range(10):
        if at >= len(data):
            return None
        byte = data[at]
        at += 1
        if byte < 0x80:
            return None if n_read == 9 and byte > 1 else (value | byte << (7 * n_read), at)
        value |= (byte & 0x7F) << (7 * n_read)
    return None


def as_int64(value: int) -> int:
    return value - MAX_U64 if value >= 2**63 else value


def locate(cache: OracleCache, row: int) -> tuple[int, int, int] | None:
    """(name offset, offset, length) of a tag; None where the location is corrupt."""
    offset, length = struct.unpack_from("<QQ", cache.tags[row], cache.digest_len)
    if offset + length > len(cache.vdata):
        return None
    data, at, values = cache.vdata[offset : offset + length], 0, []
    for _ in range(3):
        found = read_uvarint(data, at)
        if found is None:
            return None
        values.append(found[0])
        at = found[1]
    if read_name(cache.fnames, values[0]) is None:
        return None
    return values[0], as_int64(values[1]), as_int64(values[2])


def read_name(fnames: bytes, at: int) -> bytes | None:
    if at + 4 > len(fnames):
        return None
    (n_bytes,) = struct.unpack_from("<I", fnames, at)
    if n_bytes > 4095:  # Go reads it, and cannot open the file
        return None
    return fnames[at + 4 : at + 4 + n_bytes] if at + 4 + n_bytes <= len(fnames) else None


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pack_digest(text: str) -> bytes:
    algorithm, _, digits = text.partition(":")
    return f"{algorithm}:".encode() + bytes.fromhex(digits)


def write_cache(toc: bytes, layout: str) -> bytes:
    """Build the cache file of a TOC (writeCache)."""
    cache, offsets = OracleCache(), dict[bytes, int]()
    entries = unmarshal(toc)["entries"]
    for row, name in retained(entries, layout):
        entry = entries[row]
        name_offset = cache.add_name(name, offsets)
        if entry["digest"]:
            pointer = cache.add_location(name_offset, 0, entry["size"])
            cache.tags.append(pack_digest(entry["digest"].decode()) + pointer)
            cache.tags.append(b"sha256:" + fingerprint(entry) + pointer)
        if entry["chunkdigest"]:
            pointer = cache.add_location(name_offset, entry["chunkoffset"], entry["chunksize"])
            cache.tags.append(pack_digest(entry["chunkdigest"].decode()) + pointer)
    cache.tags.sort()
    cache.tag_len = len(cache.tags[0]) if cache.tags else 0
    cache.digest_len = max(0, cache.tag_len - 16)
    cache.bloom = build_bloom(cache.digests(), n_words_for(len(cache.tags)))
    return cache.pack()


Row = tuple[bytes, bytes, int, int]
"""Packed digest, name, offset, length."""


def pack_rows(
    rows: Sequence[Row],
    *,
    digest_len: int = 39,
    padding: int = 0,
    is_sorted: bool = True,
    n_hashes: int = 3,
    pointers: Mapping[int, bytes] | None = None,  # replace those of some rows
    not_in_bloom: Iterable[bytes] = (),
) -> bytes:
    """Pack a cache file out of plain rows; each option spoils it."""
    cache, offsets = OracleCache(n_hashes=n_hashes), dict[bytes, int]()
    for number, (digest, name, offset, length) in enumerate(rows):
        pointer = cache.add_location(cache.add_name(name, offsets), offset, length)
        pointer = (pointers or {}).get(number, pointer)
        cache.tags.append(digest + pointer + bytes(padding))
    if is_sorted:
        cache.tags.sort()
    if rows:
        cache.digest_len, cache.tag_len = digest_len, digest_len + 16 + padding
    digests = {digest for digest, *_ in rows} - set(not_in_bloom)
    cache.bloom = build_bloom(digests, n_words_for(len(rows)), n_hashes)
    return cache.pack()
