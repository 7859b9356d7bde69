"""The cache file as slow, plain Python: structs, dicts and loops, one row at a time.

Written from the format's description, with nothing of `vecache` in it, so that the two can be
compared.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

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


def read_cache(data: bytes) -> OracleCache:
    version, tag_len, digest_len, n_words, n_hashes = struct.unpack_from("<QQQQI", data, 0)
    assert version == 3
    place = 36 + 8 * n_words
    bloom = data[36:place]
    tags_bytes, vdata_bytes, _ = struct.unpack_from("<QQQ", data, place)
    place += 24
    n_tags = tags_bytes // tag_len if tag_len else 0
    tags = [data[place + i * tag_len : place + (i + 1) * tag_len] for i in range(n_tags)]
    place += tags_bytes
    vdata, fnames = data[place : place + vdata_bytes], data[place + vdata_bytes :]
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


def build_bloom(digests: list[bytes], n_words: int, n_hashes: int = 3) -> bytes:
    words = [0] * n_words
    for digest in digests:
        for bit in bloom_bits(digest, n_words, n_hashes):
            words[bit // 64] |= 1 << (bit % 64)
    return struct.pack(f"<{n_words}Q", *words)


def go_search(have: list[bytes], wanted: bytes) -> int:
    """Search digests, or whole tags by the digests that they begin with."""
    low, high = 0, len(have)
    while low < high:
        middle = (low + high) // 2
        if have[middle][: len(wanted)] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < len(have) and have[low][: len(wanted)] == wanted else -1


def find_tag(cache: OracleCache, digest: bytes) -> int:
    if not may_contain(cache.bloom, cache.n_hashes, digest):
        return -1
    return go_search(cache.tags, digest)


def read_uvarint(data: bytes, place: int) -> tuple[int, int] | None:
    value = 0
    for n_read in range(10):
        if place >= len(data):
            return None
        byte = data[place]
        place += 1
        if byte < 0x80:
            return None if n_read == 9 and byte > 1 else (value | byte << (7 * n_read), place)
        value |= (byte & 0x7F) << (7 * n_read)
    return None


def as_int64(value: int) -> int:
    return value - MAX_U64 if value >= 2**63 else value


def locate(cache: OracleCache, row: int) -> tuple[int, int, int] | None:
    offset, length = struct.unpack_from("<QQ", cache.tags[row], cache.digest_len)
    if offset + length > len(cache.vdata):
        return None
    data, place, values = cache.vdata[offset : offset + length], 0, []
    for _ in range(3):
        found = read_uvarint(data, place)
        if found is None:
            return None
        values.append(found[0])
        place = found[1]
    if read_name(cache.fnames, values[0]) is None:
        return None
    return values[0], as_int64(values[1]), as_int64(values[2])


def read_name(fnames: bytes, place: int) -> bytes | None:
    if place + 4 > len(fnames):
        return None
    (n_bytes,) = struct.unpack_from("<I", fnames, place)
    return fnames[place + 4 : place + 4 + n_bytes] if place + 4 + n_bytes <= len(fnames) else None


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pack_digest(text: str) -> bytes:
    algorithm, _, digits = text.partition(":")
    return f"{algorithm}:".encode() + bytes.fromhex(digits)


def fingerprint(entry: dict[str, Any]) -> str:
    numbers = (entry.get("uid", 0), entry.get("gid", 0), entry.get("mode", 0))
    message = entry["digest"] + "{}:{}:{:o}".format(*numbers)
    xattrs = entry.get("xattrs", {})
    for name in sorted(xattrs, key=str.encode):
        message += name + xattrs[name]
    return "sha256:" + hashlib.sha256(message.encode()).hexdigest()


def write_cache(toc: bytes, layout: str) -> bytes:
    cache, places = OracleCache(), dict[str, int]()
    for name, entry in _kept(json.loads(toc)["entries"], layout):
        if name not in places:
            places[name] = len(cache.fnames)
            cache.fnames += struct.pack("<I", len(name.encode())) + name.encode()
        if entry.get("digest"):
            location = (places[name], 0, entry.get("size", 0))
            _add(cache, location, [entry["digest"], fingerprint(entry)])
        if entry.get("chunkDigest"):
            place = (places[name], entry.get("chunkOffset", 0), entry.get("chunkSize", 0))
            _add(cache, place, [entry["chunkDigest"]])
    cache.tags.sort()
    cache.tag_len = len(cache.tags[0]) if cache.tags else 0
    cache.digest_len = max(0, cache.tag_len - 16)
    cache.bloom = build_bloom(cache.digests(), max(1, (10 * len(cache.tags) + 63) // 64))
    return cache.pack()


def _add(cache: OracleCache, location: tuple[int, int, int], digests: list[str]) -> None:
    packed = b"".join(uvarint(value % MAX_U64) for value in location)
    where = struct.pack("<QQ", len(cache.vdata), len(packed))
    cache.tags += [pack_digest(digest) + where for digest in digests]
    cache.vdata += packed


def _kept(entries: list[dict[str, Any]], layout: str) -> list[tuple[str, dict[str, Any]]]:
    kept, seen = [], set()
    for entry in entries:
        if entry["type"] == "reg" and not entry.get("size") and not entry.get("digest"):
            entry["digest"] = "sha256:" + hashlib.sha256().hexdigest()
        digest, chunk = entry.get("digest"), entry.get("chunkDigest")
        if layout == "flat":
            if entry["type"] == "reg" and digest not in seen:
                seen.add(digest)
                digits = entry["digest"].partition(":")[2]
                kept.append((f"{digits[:2]}/{digits[2:]}", entry))
        elif digest or (chunk and chunk not in seen):
            kept.append((entry["name"], entry))
            if not digest:
                seen.add(chunk)
    return kept
