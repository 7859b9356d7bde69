"""Synthetic layers for benchmarks: cache files and TOCs of random digests, seeded, quick to make.

Names, locations and bloom filter are those a writer makes: two tags on each name, one location a
tag, in the order of the TOC, while the tags are in the order of their digests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.cache.bloom import BloomFilter
from vecache.cache.format import N_HASHES, VERSION, Header, tag_dtype
from vecache.cache.locations import pack_locations
from vecache.cache.reader import CacheFile
from vecache.digest import Digests, format_digests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vecache.arrays import I64, U8

__all__ = [
    "contents",
    "layer_bytes",
    "make_layers",
    "random_digests",
    "toc_bytes",
    "write_store",
]

_DIGEST_LEN, _TAG_LEN = 39, 55
_LAYERS_OF_SHARED = 4  # on average
_NAME = b"usr/share/00000000.dat"


def random_digests(rng: np.random.Generator, n: int) -> U8:
    """(n, 32) uint8: sha256 digests as good as any."""
    return rng.integers(0, 2**64, (n, 4), np.uint64).view(np.uint8)


def contents(numbers: I64) -> Digests:
    """Digests of made-up contents: a function of the number, distributed like a hash."""
    words = numbers.astype(np.uint64)[:, None] + np.arange(4, dtype=np.uint64) * np.uint64(2**60)
    for shift in (30, 27, 31):  # splitmix64
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(0xBF58476D1CE4E5B9)
    return Digests.from_raw(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 32))


def toc_bytes(numbers: I64, n_files: int) -> bytes:
    """The TOC's JSON as Buildah writes it, about 300 bytes an entry; files have several chunks."""
    return b"".join(_toc_parts(numbers, n_files))


def _toc_parts(numbers: I64, n_files: int) -> Iterator[bytes]:
    file_digests = format_digests(contents(numbers).raw).to_pylist()
    chunk_digests = format_digests(contents(numbers + 2**40).raw).to_pylist()
    n_each = len(numbers) // n_files
    yield b'{"version":1,"entries":['
    for row, (digest, chunk_digest) in enumerate(zip(file_digests, chunk_digests, strict=True)):
        file, chunk_no = divmod(row, n_each)
        chunk = (
            f'"offset":{2_000 * row},"endOffset":{2_000 * row + 1_900},"chunkSize":5000,'
            f'"chunkOffset":{5_000 * chunk_no},"chunkDigest":"{chunk_digest}"}}'
        )
        name = f'"name":"usr/lib/made-up/{file % 700:03}/file-{file}",'
        whole = (
            f'"mode":420,"size":{5_000 * n_each},"modtime":"2024-02-03T04:05:06Z",'
            f'"accesstime":"0001-01-01T00:00:00Z","digest":"{digest}",'
        )
        kind = f'"type":"chunk",{name}' if chunk_no else f'"type":"reg",{name}{whole}'
        yield (b"," if row else b"") + f"{{{kind}{chunk}".encode()
    yield b"]}"


def make_layers(n_tags: int, n_layers: int, seed: int = 7) -> tuple[list[CacheFile], U8]:
    """Return layers in memory with so many tags in all, and their digests; all digests differ."""
    raw = random_digests(np.random.default_rng(seed), n_tags)
    shares = np.array_split(raw, n_layers)
    return [CacheFile.parse(layer_bytes(share, digest_order(share))) for share in shares], raw


def digest_order(raw: U8) -> I64:
    """(n,) int64: the memcmp order of random digests; their first 8 bytes must differ."""
    prefix = raw[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)
    order = np.argsort(prefix)
    if len(raw) > 1 and not (np.diff(prefix[order]) > 0).all():
        raise ValueError("digests: found two that begin with the same 8 bytes; take another seed")
    return order


def layer_bytes(raw: U8, order: I64) -> bytes:
    """Pack the cache file of a layer whose TOC has these (n_tags, 32) digests."""
    n_tags = len(raw)
    fnames = _pack_names(-(-n_tags // 2))
    name_offset = np.arange(n_tags, dtype=np.uint64) // 2 * (4 + len(_NAME))
    size = np.arange(n_tags, dtype=np.uint64) * 2654435761 % 100_000 + 1
    vdata, starts = pack_locations(name_offset, np.zeros(n_tags, np.uint64), size)
    tags = np.zeros(n_tags, tag_dtype(_DIGEST_LEN, _TAG_LEN))
    packed = tags.view(np.uint8).reshape(n_tags, _TAG_LEN)[:, :_DIGEST_LEN]
    packed[:, :7] = np.frombuffer(b"sha256:", np.uint8)
    packed[:, 7:] = raw[order]
    tags["location_offset"] = starts[:-1][order]
    tags["location_length"] = np.diff(starts)[order]
    bloom = BloomFilter.build(packed)
    head, sizes = Header(
        version=VERSION,
        tag_len=_TAG_LEN if n_tags else 0,
        digest_len=_DIGEST_LEN if n_tags else 0,
        n_words=bloom.n_words,
        n_hashes=N_HASHES,
        tags_bytes=tags.nbytes,
        vdata_bytes=vdata.nbytes,
        fnames_bytes=fnames.nbytes,
    ).pack()
    return b"".join([head, bloom.bits.data, sizes, tags.tobytes(), vdata.data, fnames.data])


def _pack_names(n_names: int) -> U8:
    """(n_names * 26,) uint8: length and bytes of names that differ in eight digits."""
    row = np.frombuffer(len(_NAME).to_bytes(4, "little") + _NAME, np.uint8)
    fnames = np.tile(row, (n_names, 1))
    number = np.arange(n_names)
    for digit in range(8):
        fnames[:, 4 + len("usr/share/") + 7 - digit] += (number // 10**digit % 10).astype(np.uint8)
    return fnames.reshape(-1)


def write_store(
    folder: Path, n_tags: int, n_layers: int, *, seed: int = 7, shared: float = 0.2
) -> tuple[list[Path], U8, I64]:
    """Write layers into a folder, a part of whose tags are in four layers on average.

    Returns
    -------
    paths : list of Path
        The cache files, in layer order.
    raw : (n_tags, 32) uint8
        The digests of all tags: layers in order, in each the tags in the order of its file.
    first : (n_tags,) int64
        Index in `raw` of the first tag with each digest, known from how the layers were made.
    """
    rng = np.random.default_rng(seed)
    counts = np.full(n_layers, n_tags // n_layers)
    counts[: n_tags % n_layers] += 1
    n_shared = int(shared * counts[-1])  # of each layer: a window of a pool, so none comes twice
    pool = random_digests(rng, max(n_shared, int(shared * n_tags) // _LAYERS_OF_SHARED))
    first_of_pool = np.full(len(pool), -1, np.int64)
    raw, first = np.empty((n_tags, 32), np.uint8), np.arange(n_tags)
    paths, end = [], 0
    for number, count in enumerate(counts.tolist()):
        own = random_digests(rng, count)
        window = (rng.integers(0, max(1, len(pool))) + np.arange(n_shared)) % max(1, len(pool))
        own[:n_shared] = pool[window]
        order = digest_order(own)
        start, end = end, end + count
        raw[start:end] = own[order]
        position = np.empty(count, np.int64)  # of each digest, by its index in `own`
        position[order] = np.arange(start, end)
        is_new = first_of_pool[window] < 0
        first_of_pool[window[is_new]] = position[:n_shared][is_new]
        first[position[:n_shared]] = first_of_pool[window]
        paths.append(folder / f"{number:05}.cache")
        paths[-1].write_bytes(layer_bytes(own, order))
    return paths, raw, first
