"""Protects against damage: every byte of the header has a meaning, and none can do harm.

A table maps the name of a field and a new value to the error that it causes and where. Besides,
every prefix of a file, and any bytes at all, give either a cache file that answers queries or one
of this package's own errors; never another exception, and never memory that the size of the file
does not explain.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import golden_cache, small_layers
from vecache.cache.format import HEADER, SIZES, field_offset
from vecache.cache.reader import CacheFile
from vecache.cache.validate import validate
from vecache.errors import (
    FormatError,
    LimitError,
    TruncatedError,
    VecacheError,
    VersionError,
)

# Podman's own files: 68 bytes without tags, 264 bytes with 3 tags, 7 kB with 80.
EMPTY, SMALLEST, GOOD = sorted({golden_cache(*row) for row in small_layers()}, key=len)[:3]
HEAD = CacheFile.parse(GOOD).header
LEFT = len(GOOD) - HEAD.vdata_offset

HUGE = (2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def field_of(name: str) -> tuple[int, int]:
    """Return byte offset and length of a field of GOOD."""
    if name in (HEADER.names or ()):
        return field_offset(HEADER, name), HEADER[name].itemsize
    return HEAD.sizes_offset + field_offset(SIZES, name), 8


def with_field(name: str, value: int, data: bytes = GOOD) -> bytes:
    offset, n_bytes = field_of(name)
    return data[:offset] + value.to_bytes(n_bytes, "little") + data[offset + n_bytes :]


TABLE = [
    # field, new value, class, section, offset of the error
    ("tag_len", 0, FormatError, "header", 8),
    ("tag_len", 38, FormatError, "header", 8),
    ("tag_len", 54, FormatError, "header", 8),
    ("digest_len", 40, FormatError, "header", 8),
    ("digest_len", 56, FormatError, "header", 8),
    *[("digest_len", value, FormatError, "header", 8) for value in HUGE],
    ("n_words", 0, FormatError, "header", 24),
    ("n_words", 2**26, FormatError, "header", 24),
    ("n_words", 100_000_000, TruncatedError, "bloom", 36),
    ("n_words", 100_000_001, LimitError, "header", 24),
    ("n_words", 2**27, LimitError, "header", 24),
    *[("n_words", value, LimitError, "header", 24) for value in HUGE],
    ("n_words", len(GOOD) // 8, TruncatedError, "bloom", 36),
    ("n_words", (len(GOOD) - 36) // 8, TruncatedError, "sizes", 36 + (len(GOOD) - 36) // 8 * 8),
    ("tags_bytes", 100_000_000, TruncatedError, "tags", HEAD.tags_offset),
    ("tags_bytes", 100_000_001, LimitError, "sizes", HEAD.sizes_offset),
    *[("tags_bytes", value, LimitError, "sizes", HEAD.sizes_offset) for value in HUGE],
    ("vdata_bytes", LEFT, TruncatedError, "fnames", len(GOOD)),
    ("vdata_bytes", LEFT + 1, TruncatedError, "vdata", HEAD.vdata_offset),
    *[("vdata_bytes", value, TruncatedError, "vdata", HEAD.vdata_offset) for value in HUGE],
]


@pytest.mark.parametrize(("field", "value", "error", "section", "offset"), TABLE)
def test_each_wrong_number_is_refused_with_its_class_and_offset(
    field: str, value: int, error: type[FormatError], section: str, offset: int
) -> None:
    with pytest.raises(FormatError) as caught:
        CacheFile.parse(with_field(field, value), path="some/file")
    found = caught.value
    assert (type(found), found.section, found.offset) == (error, section, offset)
    assert str(found).startswith(f"some/file: {section} at byte {offset}: ")


@pytest.mark.parametrize("version", [0, 2, 4, *HUGE])
def test_other_versions_are_refused(version: int) -> None:
    found = f"found cache version {version}, wanted 3" if version < 2**16 else "not a cache file"
    with pytest.raises(VersionError, match=f"some/file: {found}"):
        CacheFile.parse(with_field("version", version), path="some/file")


def test_the_version_is_checked_before_anything_else() -> None:
    with pytest.raises(VersionError):
        CacheFile.parse(b"\4" + bytes(7))
    with pytest.raises(TruncatedError):
        CacheFile.parse(b"\4" + bytes(6))


def test_tags_without_any_names_are_refused() -> None:
    data = with_field("fnames_bytes", 0, with_field("vdata_bytes", LEFT))
    with pytest.raises(FormatError, match="fnames at byte") as caught:
        CacheFile.parse(data)
    assert type(caught.value) is FormatError


ACCEPTED = [
    ("fnames_bytes", 0),
    *[("fnames_bytes", value) for value in HUGE],  # as in Go, which does not read it
    ("n_hashes", 0),
    ("n_hashes", 2**32 - 1),
    ("tag_len", 56),
    *[("tag_len", value) for value in HUGE],  # less than one tag
    ("digest_len", 0),
    ("digest_len", 38),
    ("tags_bytes", 0),
    ("tags_bytes", 1),
    ("tags_bytes", HEAD.tags_bytes - 1),
    ("vdata_bytes", 0),
    ("vdata_bytes", LEFT - 1),
]


def query_everything(cache: CacheFile) -> None:
    """Query all tags of a file, sound or not, and check that the answers agree with each other."""
    cache.is_sound()
    validate(cache)
    tag_row = cache.find_tags(cache.packed)
    assert ((tag_row >= -1) & (tag_row < cache.n_tags)).all()
    found = cache.locate(np.arange(cache.n_tags))
    assert len(cache.names(found.name_offset)) == cache.n_tags
    assert ((found.name_offset == -1) == found.is_corrupt).all()


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_what_go_accepts_is_accepted_and_validate_reports_it(field: str, value: int) -> None:
    cache = CacheFile.parse(with_field(field, value))
    query_everything(cache)
    assert validate(cache)


def test_no_hashes_admit_everything() -> None:
    cache = CacheFile.parse(with_field("n_hashes", 0))
    assert cache.find_tags(cache.packed).min() >= 0
    assert cache.bloom.false_positive_rate() == 1


def outcome(data: bytes) -> str:
    """Return "refused", "corrupt names", or the unexpected outcome of parsing a cut file."""
    try:
        cache = CacheFile.parse(data)
    except TruncatedError:
        return "refused"
    except Exception as error:  # so that the test names every length that fails
        return repr(error)
    is_corrupt = cache.locate(np.arange(cache.n_tags)).is_corrupt
    return "corrupt names" if is_corrupt.any() and validate(cache) else "accepted"


def test_a_file_cut_anywhere_is_refused_or_has_corrupt_names() -> None:
    """Where only names are cut, the file is read, as in Go, and those names are corrupt."""
    fnames = CacheFile.parse(SMALLEST).header.fnames_offset
    wanted = {n: "refused" if n <= fnames else "corrupt names" for n in range(len(SMALLEST))}
    assert {n: outcome(SMALLEST[:n]) for n in wanted} == wanted


def test_the_empty_cache_cut_anywhere_is_refused() -> None:
    assert len(EMPTY) == 68
    assert {n: outcome(EMPTY[:n]) for n in range(68)} == dict.fromkeys(range(68), "refused")


def read_or_refuse(data: bytes) -> None:
    try:
        cache = CacheFile.parse(data)
    except VecacheError:
        return
    query_everything(cache)


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(lambda b: GOOD[:8] + b)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


ANY_U64 = st.one_of(st.integers(0, 100), st.sampled_from(HUGE), st.integers(0, 2**64 - 1))
NUMBERS = ["tag_len", "digest_len", "n_words", "tags_bytes", "vdata_bytes", "fnames_bytes"]


@given(st.dictionaries(st.sampled_from(NUMBERS), ANY_U64))
def test_any_numbers_are_read_or_refused(numbers: dict[str, int]) -> None:
    data = GOOD
    for name, value in numbers.items():
        data = with_field(name, value, data)
    read_or_refuse(data)


@given(
    st.lists(st.tuples(st.integers(0, len(SMALLEST) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(SMALLEST)),
    st.binary(max_size=8),
)
def test_any_damage_is_read_or_refused(
    changes: list[tuple[int, int]], n_bytes: int, behind: bytes
) -> None:
    data = bytearray(SMALLEST)
    for offset, byte in changes:
        data[offset] = byte
    read_or_refuse(bytes(data))
    read_or_refuse(bytes(data[:n_bytes]) + behind)


def test_a_header_cannot_make_the_reader_allocate() -> None:
    numbers = [*HUGE, 2**26, 2**27, 99_999_999, 100_000_000, 100_000_001]
    tracemalloc.start()
    for name in NUMBERS:
        for value in numbers:
            read_or_refuse(with_field(name, value))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
