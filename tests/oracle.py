"""The slow model: one digest at a time, layer by layer, with structs, slices and loops.

Written from the rules of the format and from what Go does, not from `vecache`. It parses files that
the reader accepts, answers look-ups the way containers/storage does, and packs files from plain
tags, good ones and bad ones.
"""

from __future__ import annotations

import bisect
import math
import struct
import zlib
from dataclasses import dataclass, field

N_HASHES = 3
CORRUPT = "corrupt"
ABSENT = "absent"


@dataclass
class SlowFile:
    """A cache file as plain Python values."""

    digest_len: int
    tag_len: int
    words: list[int]
    n_hashes: int
    tags: list[bytes]
    vdata: bytes
    fnames: bytes

    @classmethod
    def parse(cls, data: bytes) -> SlowFile:
        _, tag_len, digest_len, n_words, n_hashes = struct.unpack_from("<QQQQI", data)
        at = 36 + 8 * n_words
        words = list(struct.unpack_from(f"<{n_words}Q", data, 36))
        tags_bytes, vdata_bytes, _ = struct.unpack_from("<QQQ", data, at)
        at += 24
        n_tags = tags_bytes // tag_len if tag_len else 0
        tags = [data[at + i * tag_len : at + (i + 1) * tag_len] for i in range(n_tags)]
        at += tags_bytes
        return cls(
            digest_len,
            tag_len,
            words,
            n_hashes,
            tags,
            data[at : at + vdata_bytes],
            data[at + vdata_bytes :],
        )

    def may_contain(self, packed: bytes) -> bool:
        modulus = (64 * len(self.words)) & 0xFFFFFFFF
        for seed in range(self.n_hashes):
            split = seed % len(packed)
            bit = (zlib.crc32(packed[:split]) ^ zlib.crc32(packed[split:])) % modulus
            if not self.words[bit // 64] >> (bit % 64) & 1:
                return False
        return True

    def find_tag(self, packed: bytes) -> int:
        """Go's findBinaryTag: sort.Search, then one comparison."""
        if len(packed) != self.digest_len or not self.tags or not self.may_contain(packed):
            return -1
        low, high = 0, len(self.tags)
        while low < high:
            middle = (low + high) // 2
            if self.tags[middle][: self.digest_len] >= packed:
                high = middle
            else:
                low = middle + 1
        if low < len(self.tags) and self.tags[low][: self.digest_len] == packed:
            return low
        return -1

    def location(self, tag_row: int) -> tuple[bytes, int, int] | str:
        """(name, offset, length), or CORRUPT."""
        tag = self.tags[tag_row]
        at, n_bytes = struct.unpack_from("<QQ", tag, self.digest_len)
        if at + n_bytes > len(self.vdata):
            return CORRUPT
        numbers, rest = [], self.vdata[at : at + n_bytes]
        for _ in range(3):
            number, rest = read_uvarint(rest)
            if number < 0:
                return CORRUPT
            numbers.append(number)
        place, offset, length = numbers
        if place + 4 > len(self.fnames):
            return CORRUPT
        (n_name,) = struct.unpack_from("<I", self.fnames, place)
        if place + 4 + n_name > len(self.fnames):
            return CORRUPT
        return self.fnames[place + 4 : place + 4 + n_name], signed(offset), signed(length)


def read_uvarint(data: bytes) -> tuple[int, bytes]:
    """Go's binary.ReadUvarint; -1 where it fails."""
    value = 0
    for index, byte in enumerate(data[:10]):
        if index == 9 and byte > 1:
            return -1, data
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, data[index + 1 :]
    return -1, data


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def find(files: list[SlowFile], packed: bytes) -> tuple[int, int]:
    """(layer, tag) of the first layer that holds the digest; (-1, -1) where none does."""
    for layer, file in enumerate(files):
        tag = file.find_tag(packed)
        if tag >= 0:
            return layer, tag
    return -1, -1


def find_all(files: list[SlowFile], packed: bytes) -> list[tuple[int, int]]:
    """Every (layer, tag) with the digest, whatever the filter and the order say."""
    return [
        (layer, row)
        for layer, file in enumerate(files)
        if file.digest_len == len(packed)
        for row, tag in enumerate(file.tags)
        if tag[: file.digest_len] == packed
    ]


@dataclass
class Packer:
    """Packs a cache file out of plain tags; each field can be spoiled."""

    digest_len: int = 39
    padding: int = 0
    is_sorted: bool = True
    n_hashes: int = N_HASHES
    left_out_of_bloom: set[bytes] = field(default_factory=set)

    def pack(self, rows: list[tuple[bytes, bytes, int, int]], wrong: dict[int, bytes]) -> bytes:
        """Rows are (packed digest, name, offset, length); `wrong` replaces a row's pointer."""
        vdata, fnames, places = b"", b"", {}
        tags: list[bytes] = []
        for number, (digest, name, offset, length) in enumerate(rows):
            if name not in places:
                places[name] = len(fnames)
                fnames += struct.pack("<I", len(name)) + name
            location = b"".join(uvarint(n) for n in (places[name], offset, length))
            pointer = wrong.get(number, struct.pack("<QQ", len(vdata), len(location)))
            tag = digest + pointer + bytes(self.padding)
            if self.is_sorted:
                bisect.insort(tags, tag)
            else:
                tags.append(tag)
            vdata += location
        n_words = max(1, math.ceil(10 * len(tags) / 64))
        words = [0] * n_words
        for digest, *_ in rows:
            if digest in self.left_out_of_bloom:
                continue
            for seed in range(self.n_hashes):
                split = seed % len(digest)
                bit = (zlib.crc32(digest[:split]) ^ zlib.crc32(digest[split:])) % (64 * n_words)
                words[bit // 64] |= 1 << (bit % 64)
        tag_len = self.digest_len + 16 + self.padding if tags else 0
        digest_len = self.digest_len if tags else 0
        body = b"".join(tags)
        return (
            struct.pack("<QQQQI", 3, tag_len, digest_len, n_words, self.n_hashes)
            + struct.pack(f"<{n_words}Q", *words)
            + struct.pack("<QQQ", len(body), len(vdata), len(fnames))
            + body
            + vdata
            + fnames
        )
