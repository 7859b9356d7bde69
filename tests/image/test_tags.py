"""Protects the choice of tags: version order, ranges of one form, and clear errors."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.errors import ImageNameError, ImageNotFoundError, VecacheError
from vecache.image.tags import choose_tags, has_range, parse_tags, version_key

ORDERED = [
    *("0.9", "1", "1.2", "1.2-alpine", "1.2-rc1", "1.2.0", "1.2.9", "1.2.10", "1.3", "1.9-alpine"),
    *("1.10", "1.11.1", "2", "2.0", "10", "edge", "latest", "v1.9", "v1.10", "v1.10.1"),
]


def chosen(text: str, listed: list[str] = ORDERED) -> list[str]:
    shuffled = random.Random(text).sample(listed, len(listed))
    return list(choose_tags(parse_tags(text), shuffled, "x").tags)


def test_numbers_compare_as_numbers() -> None:
    shuffled = random.Random(0).sample(ORDERED, len(ORDERED))
    assert sorted(shuffled, key=version_key) == ORDERED
    assert sorted(["9" * 9_999, "1" + "0" * 9_999, "007", "8"], key=version_key) == [
        *("007", "8", "9" * 9_999, "1" + "0" * 9_999),
    ]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("1.2..1.10", ["1.2", "1.3", "1.10"]),
        ("1.2..1.11.1", ["1.2", "1.2.0", "1.2.9", "1.2.10", "1.3", "1.10", "1.11.1"]),
        ("1.2.0..1.11.1", ["1.2.0", "1.2.9", "1.2.10", "1.11.1"]),
        ("1.2-alpine..1.9-alpine", ["1.2-alpine", "1.9-alpine"]),
        ("v1.9..v1.10", ["v1.9", "v1.10"]),
        ("2..latest", ["2", "10", "latest"]),
        ("1.3..1.3", ["1.3"]),
        ("latest, 1.2..1.3,latest,new", ["latest", "1.2", "1.3", "new"]),
        ("b,a", ["b", "a"]),
    ],
)
def test_a_range_takes_the_tags_of_its_form(text: str, tags: list[str]) -> None:
    assert chosen(text) == tags


def test_what_a_range_skips_is_said() -> None:
    choice = choose_tags(parse_tags("1.2..1.3,1.2.9"), ORDERED, "x")
    assert choice.skipped == ("1.2-alpine", "1.2-rc1", "1.2.0", "1.2.10")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ImageNameError, "found '', wanted tags and ranges such as"),
        ("a,,b", ImageNameError, "found ''"),
        ("1..", ImageNameError, r"found '1\.\.'"),
        ("..2", ImageNameError, r"found '\.\.2'"),
        ("a," * 60_000, ImageNameError, "found 120,000 characters"),
        ("1.10..1.2", ImageNameError, "found the later tag first, wanted 1.2..1.10"),
        (
            "1.2..1.30",
            ImageNotFoundError,
            "no tag '1.30' among 20; tags there: '1.3', '1.10', '2.0'$",
        ),
        ("1.11..1.3", ImageNotFoundError, "no tag '1.11' among 20; tags there: '1.11.1'"),
        ("v2.0..v3", ImageNotFoundError, "no tag 'v2.0' among 20; tags there: 'v1.9', 'v1.10'$"),
        ("latst..zzz", ImageNotFoundError, "tags there: 'latest'$"),
        ("a..zzz", ImageNotFoundError, "tags there: none is similar"),
        (",".join(f"a{n}" for n in range(501)), ImageNameError, "found 501 such tags, wanted 500"),
    ],
)
def test_refusals(text: str, error: type[VecacheError], message: str) -> None:
    with pytest.raises(error, match=message):
        choose_tags(parse_tags(text), ORDERED, "x")


def test_only_a_range_needs_a_list() -> None:
    assert not has_range(parse_tags("a,b..b,c"))
    assert has_range(parse_tags("a,b..c"))


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1), st.data())
def test_any_range_is_in_order_and_between_its_ends(listed: list[str], data: st.DataObject) -> None:
    """Layouts may have any text as a tag."""
    ends = sorted(
        data.draw(st.lists(st.sampled_from(listed), min_size=2, max_size=2)), key=version_key
    )
    choice = choose_tags([(ends[0], ends[1])], listed, "x")
    assert {*ends} <= {*choice.tags}
    for tags in choice:
        assert list(tags) == sorted(tags, key=version_key)
        assert all(tag in listed for tag in tags)
    assert not {*choice.tags} & {*choice.skipped}
