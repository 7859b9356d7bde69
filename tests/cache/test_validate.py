"""Protects `validate`: a sound file has no problems, and each rule, broken alone, is reported."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests import oracle
from tests.golden import debian_cache, debian_layers, golden_cache, needs_debian, small_layers
from vecache.cache.reader import CacheFile
from vecache.cache.validate import Problem, validate

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_podmans_files_have_no_problems(store: str, layer: str) -> None:
    assert validate(CacheFile.parse(golden_cache(store, layer))) == []


@needs_debian
def test_real_files_have_no_problems() -> None:
    for layer in debian_layers():
        assert validate(CacheFile.parse(debian_cache(layer))) == []


def good() -> oracle.OracleCache:
    """Three digests, the second of them twice; the file is 327 bytes."""
    digests = [b"sha256:" + bytes([n]) * 32 for n in (1, 2, 2, 3)]
    tags = [d + struct.pack("<QQ", 3 * i, 3) for i, d in enumerate(digests)]
    return oracle.OracleCache(
        tags, b"\0\1\2" * 4, b"\1\0\0\0a", 55, 39, oracle.build_bloom(digests, 1)
    )


TAGS = 36 + 8 + 24
VDATA = TAGS + 4 * 55


def swap(rows: tuple[int, int]) -> Callable[[oracle.OracleCache], None]:
    def change(cache: oracle.OracleCache) -> None:
        one, two = rows
        cache.tags[one], cache.tags[two] = cache.tags[two], cache.tags[one]

    return change


def set_tag(row: int, digest: bytes | None, pointer: tuple[int, int]) -> Callable[..., None]:
    def change(cache: oracle.OracleCache) -> None:
        cache.tags[row] = (digest or cache.tags[row][:39]) + struct.pack("<QQ", *pointer)

    return change


def set_field(name: str, value: object) -> Callable[[oracle.OracleCache], None]:
    return lambda cache: setattr(cache, name, value)


RULES = {
    "hashes": (set_field("n_hashes", 2), Problem("header", 32, "n_hashes: found 2, wanted 3")),
    "words": (
        set_field("bloom", bytes([255] * 16)),
        Problem("header", 24, "n_words: found 2, wanted 1 for 4 tags"),
    ),
    "digest order": (
        swap((0, 3)),
        Problem("tags", TAGS + 55, "the digest is lower than the one before it", 2),
    ),
    "order of equals": (
        swap((1, 2)),
        Problem(
            "tags", TAGS + 110, "equal digests are not in the order of their locations' bytes", 1
        ),
    ),
    "filter": (
        set_field("bloom", bytes(8)),
        Problem("tags", TAGS, "the bloom filter does not admit the digest", 4),
    ),
    "fuller filter": (
        set_field("bloom", bytes([255] * 8)),
        Problem("bloom", 36, "the bloom filter has 55 bits that no tag sets"),
    ),
    "outside vdata": (
        set_tag(3, None, (10, 3)),
        Problem("tags", TAGS + 165, "the location is outside the 12 bytes of vdata", 1),
    ),
    "varint": (
        set_field("vdata", b"\0\1\2" * 3 + b"\0\1\x80"),
        Problem(
            "vdata",
            VDATA + 9,
            "the location is not three varints, or its name is not inside fnames",
            1,
        ),
    ),
    "name": (
        set_field("fnames", b"\2\0\0\0a"),
        Problem(
            "vdata", VDATA, "the location is not three varints, or its name is not inside fnames", 4
        ),
    ),
}


@pytest.mark.parametrize(("change", "problem"), RULES.values(), ids=RULES.keys())
def test_each_rule_broken_alone_is_reported(
    change: Callable[[oracle.OracleCache], None], problem: Problem
) -> None:
    cache = good()
    assert validate(CacheFile.parse(cache.pack())) == []
    change(cache)
    assert validate(CacheFile.parse(cache.pack())) == [problem]


def test_problems_have_the_numbers_of_the_rules_in_the_docstring() -> None:
    numbers = []
    for change, _ in RULES.values():
        cache = good()
        change(cache)
        numbers += [problem.rule for problem in validate(CacheFile.parse(cache.pack()))]
    assert numbers == [1, 1, 5, 5, 7, 9, 8, 8, 8]


def test_a_digest_that_begins_otherwise_is_reported() -> None:
    cache = good()
    cache.tags[0] = b"SHA256:" + cache.tags[0][7:]
    cache.bloom = oracle.build_bloom(cache.digests(), 1)
    assert validate(CacheFile.parse(cache.pack())) == [
        Problem("tags", TAGS, "the digest does not begin with 'sha256:'", 1)
    ]


def test_lengths_that_do_not_fit_are_reported() -> None:
    cache = good()
    cache.digest_len = 38
    reasons = [str(problem) for problem in validate(CacheFile.parse(cache.pack()))]
    assert reasons[0] == "header at byte 8: tag_len: found 55, wanted 54, digest_len and 16"
    assert reasons[1].startswith("header at byte 16: digest_len: found 38, wanted 39 (sha256)")
    assert reasons[2].endswith("(4 tags)")


def test_sizes_that_do_not_add_up_are_reported() -> None:
    data = bytearray(good().pack() + b"more")
    data[44:52] = struct.pack("<Q", 4 * 55 + 7)  # takes its last bytes from vdata
    problems = validate(CacheFile.parse(bytes(data[:-1])))
    assert problems[0] == Problem("sizes", 44, "tags_bytes: found 227, 7 more than whole tags")
    assert problems[1].reason.endswith("found 12 and 5, wanted 13 together")


def test_a_file_without_tags_may_announce_anything() -> None:
    data = bytearray(oracle.OracleCache().pack())
    assert validate(CacheFile.parse(bytes(data))) == []
    data[52:60] = b"\xff" * 8
    assert [problem.section for problem in validate(CacheFile.parse(bytes(data)))] == ["sizes"]


def test_digests_of_no_bytes_are_one_problem() -> None:
    tags = [struct.pack("<QQ", 0, 3)] * 2
    cache = oracle.OracleCache(tags, b"\0\1\2", b"\1\0\0\0a", 16, 0)
    assert [problem.offset for problem in validate(CacheFile.parse(cache.pack()))] == [16]
