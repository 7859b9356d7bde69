"""Fields are read as Go reads them; an error names document and field, and quotes no string."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.errors import ConfigError, ImageError
from vecache.json_fields import Fields, load_json, parse_fields

if TYPE_CHECKING:
    from collections.abc import Callable

DEEP = b"[" * 100_000


def fields(**values: Any) -> Fields:
    return parse_fields(json.dumps(values), "file", ImageError)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON at line 1, column 1"),
        (b'{"a": 1,\n "b"}', "not JSON at line 2, column 5"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        ("\ufeff{}".encode(), "not JSON"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"9" * 5000, "value has 5000 digits$"),
        (DEEP, "nested too deeply"),
    ],
)
def test_what_go_cannot_read_is_an_error_of_the_callers_class(data: bytes, reason: str) -> None:
    for error in (ImageError, ConfigError):
        with pytest.raises(error, match=f"^file: .*{reason}"):
            load_json(data, "file", error)


@pytest.mark.parametrize(
    ("data", "kind"), [(b"[]", "an array"), (b"null", "null"), (b"1.5", "a n")]
)
def test_a_document_must_be_one_object(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=f"^file: found {kind}.*, wanted an object$"):
        parse_fields(data, "file", ImageError)


READERS: dict[str, Callable[[Fields], object]] = {
    "a string": lambda each: each.text("x"),
    "an integer": lambda each: each.integer("x"),
    "an object": lambda each: each.object("x"),
    "an array": lambda each: each.text_array("x"),
}
VALUES = ["secret", 7, {"secret": 1}, ["secret"], True, 1.5]


@pytest.mark.parametrize("wanted", READERS)
@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_another_kind_is_named_and_not_quoted(wanted: str, value: Any) -> None:
    if VALUES.index(value) == list(READERS).index(wanted):
        READERS[wanted](fields(x=value))
        return
    with pytest.raises(ImageError, match=f"^file: x: found an? .*, wanted {wanted}$") as caught:
        READERS[wanted](fields(x=value))
    assert "secret" not in str(caught.value)


def test_a_missing_field_is_like_null() -> None:
    for each in (fields(), fields(x=None)):
        assert "x" not in each
        assert each.text("x", "default") == "default"
        assert each.integer("x", 3) == 3
        assert each.object("x", {}).values == {}
        assert each.text_array("x", []) == []
        assert each.texts("x") == {}
        for wanted, read in READERS.items():
            with pytest.raises(ImageError, match=f"^file: x is missing, wanted {wanted}$"):
                read(each)


def test_integers_have_64_bits() -> None:
    for value in (2**63 - 1, -(2**63)):
        assert fields(x=value).integer("x") == value
    for value in (2**63, -(2**63) - 1, 10**4000):
        with pytest.raises(ImageError, match=r"x: found -?\d{19,40}, wanted an integer of 64 bits"):
            fields(x=value).integer("x")
    with pytest.raises(ImageError, match=r"^file: x: found -1, wanted a size in bytes$"):
        fields(x=-1).size("x")


def test_items_are_named_by_their_index() -> None:
    each = fields(objects=[{"a": 1}, {}], texts=["x", 5], map={"k": 5})
    assert [inner.values for inner in each.objects("objects")] == [{"a": 1}, {}]
    with pytest.raises(ImageError, match=r"^file: objects\[1\]: a is missing"):
        each.objects("objects")[1].integer("a")
    with pytest.raises(ImageError, match=r"^file: texts\[1\]: found an integer, wanted a string"):
        each.text_array("texts")
    with pytest.raises(ImageError, match=r"^file: map: k: found an integer, wanted a string"):
        each.texts("map")


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    each = parse_fields(rb'{"x": ["\ud800x", "\ud83d\ude00"], "y": "\udc00"}', "file", ImageError)
    assert each.text_array("x") == ["\ufffdx", "\U0001f600"]
    assert each.text("y") == "\ufffd"


def test_of_repeated_fields_the_last_one_wins() -> None:
    assert parse_fields(b'{"x": 1, "x": 2}', "file", ImageError).integer("x") == 2


@given(data=st.binary(max_size=40) | st.text('{}[]":,0123esd', max_size=40).map(str.encode))
def test_any_bytes_are_an_object_or_the_callers_error(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert parse_fields(data, "file", ImageError).where == "file"
