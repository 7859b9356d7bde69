"""Labels stay short and tell rows apart, whatever strangers have called them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vecache.draw.labels import MOST_CHARACTERS, short_labels, thinned


@given(st.lists(st.text(max_size=60)))
def test_no_two_look_alike_and_all_can_be_shown(labels: list[str]) -> None:
    short = short_labels(labels)
    assert len(set(short)) == len(labels)
    assert all(text.isprintable() for text in short)
    assert all(len(text) <= MOST_CHARACTERS + len(f" ({len(labels)})") for text in short)


def test_equal_beginnings_are_numbered() -> None:
    assert short_labels(["a" * 64, "a" * 63 + "b"]) == ["a" * 12, "a" * 12 + " (2)"]


def test_folders_that_all_have_in_common_are_left_out() -> None:
    assert short_labels(["localhost/x/a", "localhost/x/b/c"]) == ["a", "b/c"]
    assert short_labels(["localhost/x/a"]) == ["localhost/x/a"]


def test_labels_are_left_out_evenly_where_rows_are_narrow() -> None:
    assert list(thinned(7, 1.0, 1.0)) == list(range(7))
    assert list(thinned(7, 0.4, 1.0)) == [0, 3, 6]
