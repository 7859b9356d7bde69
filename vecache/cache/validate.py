"""List everything that is wrong with a cache file that can be read.

`CacheFile` accepts what the Go code accepts, and a little more; `validate` lists all that a writer
would not have written:

1. `n_hashes` is 3, and `n_words` is 10 bits a tag in whole words.
2. `digest_len` is that of sha256, sha384 or sha512, and `tag_len` is 16 more; 0 and 0 with no tags.
3. `tags_bytes` is a whole number of tags.
4. `vdata_bytes` and `fnames_bytes` together are what follows the tags.
5. Tags are in memcmp order of the whole tag. If digests are out of order, a binary search misses
   some; if only equal digests are, it finds another of their tags first.
6. Each tag begins with the algorithm's name and a colon.
7. The bloom filter admits each tag: Go never finds one that it does not admit.
8. Each tag points at a location inside vdata, of three valid varints, whose name is inside fnames.
9. The bloom filter has no bit that no tag sets: a fuller one rules out less.

Locations and names that no tag points at are not checked. About 0.2 us a tag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vecache.cache.bloom import BloomFilter
from vecache.cache.format import HEADER, LOCATION_BYTES, N_HASHES, SIZES, field_offset
from vecache.cache.search import is_ascending
from vecache.digest import RAW_BYTES
from vecache.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.arrays import Bool
    from vecache.cache.reader import CacheFile

__all__ = ["Problem", "validate"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule that a file breaks."""

    section: str  # `header`, `bloom`, `sizes`, `tags`, `vdata` or `fnames`
    offset: int  # byte offset in the file of the field, or of the first tag that breaks the rule
    reason: str  # what was found and what was wanted
    n_rows: int = 0  # tags that break it; 0 if the rule is about the whole file
    rule: int = field(default=0, compare=False)  # its number in the list above

    def __str__(self) -> str:
        rows = f" ({count(self.n_rows, 'tag')})" if self.n_rows else ""
        return f"{self.section} at byte {self.offset}: {self.reason}{rows}"


def validate(cache: CacheFile) -> list[Problem]:
    """Return all problems: of the header, the sizes, the tags, the locations."""
    problems = [*_check_header(cache), *_check_sizes(cache)]
    if cache.n_tags:
        problems += _check_order(cache)
        problems += _check_digests(cache)
        problems += _check_locations(cache)
    return problems


def _check_header(cache: CacheFile) -> Iterator[Problem]:
    header = cache.header
    has_known_length = cache.algorithm in RAW_BYTES or (header.digest_len == 0 and not cache.n_tags)
    tag_len = header.digest_len + LOCATION_BYTES if header.tag_len else 0
    n_words = BloomFilter.words_for(cache.n_tags)
    rules = (
        (2, "tag_len", header.tag_len == tag_len, f"{tag_len}, digest_len and {LOCATION_BYTES}"),
        (2, "digest_len", has_known_length, "39 (sha256), 55 (sha384) or 71 (sha512)"),
        (1, "n_words", header.n_words == n_words, f"{n_words} for {count(cache.n_tags, 'tag')}"),
        (1, "n_hashes", header.n_hashes == N_HASHES, f"{N_HASHES}"),
    )
    for rule, name, is_followed, wanted in rules:  # four fields
        if not is_followed:
            reason = f"{name}: found {getattr(header, name)}, wanted {wanted}"
            yield Problem("header", field_offset(HEADER, name), reason, rule=rule)


def _check_sizes(cache: CacheFile) -> Iterator[Problem]:
    header = cache.header
    n_rest = header.tags_bytes - header.n_tags * header.tag_len
    if n_rest:
        yield Problem(
            "sizes",
            header.sizes_offset + field_offset(SIZES, "tags_bytes"),
            f"tags_bytes: found {header.tags_bytes}, {n_rest} more than whole tags",
            rule=3,
        )
    n_left = cache.n_bytes - header.vdata_offset
    if header.vdata_bytes + header.fnames_bytes != n_left:
        yield Problem(
            "sizes",
            header.sizes_offset + field_offset(SIZES, "vdata_bytes"),
            f"vdata_bytes and fnames_bytes: found {header.vdata_bytes} and {header.fnames_bytes}, "
            f"wanted {n_left} together",
            rule=4,
        )


def _check_order(cache: CacheFile) -> Iterator[Problem]:
    is_lower = np.zeros(cache.n_tags, np.bool_)
    is_lower[1:] = ~is_ascending(cache.packed)
    yield from _tag_problem(5, cache, is_lower, "the digest is lower than the one before it")
    is_tie = np.zeros(cache.n_tags, np.bool_)
    is_tie[1:] = ~is_ascending(cache.tags.view(np.uint8).reshape(cache.n_tags, cache.tag_len))
    reason = "equal digests are not in the order of their locations' bytes"
    yield from _tag_problem(5, cache, is_tie & ~is_lower, reason)


def _check_digests(cache: CacheFile) -> Iterator[Problem]:
    if cache.algorithm not in RAW_BYTES:
        return  # a problem of the header, reported there
    prefix = cache.algorithm.prefix
    has_prefix = (cache.packed[:, : len(prefix)] == prefix).all(axis=1)
    reason = f"the digest does not begin with {prefix.tobytes().decode()!r}"
    yield from _tag_problem(6, cache, ~has_prefix, reason)
    admitted = cache.bloom.may_contain(cache.packed)
    yield from _tag_problem(7, cache, ~admitted, "the bloom filter does not admit the digest")
    yield from _check_fill(cache)


def _check_fill(cache: CacheFile) -> Iterator[Problem]:
    wanted = BloomFilter.build(cache.packed)
    if (cache.bloom.n_words, cache.bloom.n_hashes) != (wanted.n_words, wanted.n_hashes):
        return  # a problem of the header, reported there
    extra = cache.bloom.bits & ~wanted.bits
    bad = np.flatnonzero(extra)
    if len(bad):
        n_bits = int(np.bitwise_count(extra).sum(dtype=np.int64))
        reason = f"the bloom filter has {n_bits:,} bits that no tag sets"
        yield Problem("bloom", cache.header.bloom_offset + int(bad[0]), reason, rule=9)


def _check_locations(cache: CacheFile) -> Iterator[Problem]:
    offset, length = cache.tags["location_offset"], cache.tags["location_length"]
    n_vdata = np.uint64(len(cache.vdata))
    is_outside = (offset > n_vdata) | (length > n_vdata - offset)
    yield from _tag_problem(
        8, cache, is_outside, f"the location is outside the {n_vdata} bytes of vdata"
    )
    is_corrupt = cache.locate(np.arange(cache.n_tags)).is_corrupt & ~is_outside
    bad = np.flatnonzero(is_corrupt)
    if len(bad):
        first = cache.header.vdata_offset + int(offset[bad[0]])
        reason = "the location is not three varints, or its name is not inside fnames"
        yield Problem("vdata", first, reason, len(bad), rule=8)


def _tag_problem(rule: int, cache: CacheFile, is_bad: Bool, reason: str) -> Iterator[Problem]:
    bad = np.flatnonzero(is_bad)
    if len(bad):
        first = cache.header.tags_offset + int(bad[0]) * cache.tag_len
        yield Problem("tags", first, reason, len(bad), rule=rule)
