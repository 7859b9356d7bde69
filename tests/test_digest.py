"""Protects reading and writing digests: what is one, what is none, and nothing in between."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.digest import RAW_BYTES, Algorithm, Digests, format_digests, parse_digests
from vecache.errors import DigestError

RULE = {
    Algorithm.SHA256: re.compile(rb"sha256:[0-9a-f]{64}"),
    Algorithm.SHA384: re.compile(rb"sha384:[0-9a-f]{96}"),
    Algorithm.SHA512: re.compile(rb"sha512:[0-9a-f]{128}"),
}


def slow_algorithm(text: bytes) -> Algorithm:
    for algorithm, rule in RULE.items():
        if rule.fullmatch(text):
            return algorithm
    return Algorithm.INVALID if text else Algorithm.NONE


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(["sha256", "sha384", "sha512"]))
    text = f"{name}:{hashlib.new(name, draw(st.binary(max_size=2))).hexdigest()}".encode()
    kind = draw(st.sampled_from(["good", "good", "cut", "changed", "any"]))
    if kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if kind == "changed":
        place = draw(st.integers(0, len(text) - 1))
        return text[:place] + draw(st.binary(min_size=1, max_size=1)) + text[place + 1 :]
    return text if kind == "good" else draw(st.binary(max_size=160))


@given(st.lists(texts(), max_size=20))
def test_any_texts_are_read_by_the_rule(rows: list[bytes]) -> None:
    digests = parse_digests(rows)
    assert digests.algorithm.tolist() == [slow_algorithm(row) for row in rows]
    assert digests.to_text().to_pylist() == rows
    for algorithm, n_raw in RAW_BYTES.items():
        numbers, packed = digests.packed(algorithm)
        wanted = [
            row[:7] + bytes.fromhex(row[7:].decode()) for row in map(rows.__getitem__, numbers)
        ]
        assert [row.tobytes() for row in packed] == wanted
        assert packed.shape == (len(numbers), 7 + n_raw)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=9))
def test_written_and_read_again_is_the_same(rows: list[bytes]) -> None:
    raw = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)
    text = format_digests(raw)
    assert text.to_pylist() == [f"sha256:{row.hex()}" for row in rows]
    assert (parse_digests(text).raw == raw).all()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_arrow_of_every_text_type_sliced_and_with_nulls(kind: pa.DataType) -> None:
    good = "sha256:" + "0f" * 32
    array = pa.array(["x", None, good, "", good], kind)[1:]
    assert parse_digests(array).algorithm.tolist() == [0, 1, 0, 1]
    assert parse_digests(pa.chunked_array([array, array])).algorithm.tolist() == [0, 1, 0, 1] * 2


def test_other_types_are_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="int64"):
        parse_digests(pa.array([1]))
    with pytest.raises(TypeError, match="uint8"):
        Digests.from_raw([[1, 2]])
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        Digests.from_raw(np.zeros((2, 3), np.uint8))


def test_the_first_text_that_is_no_digest_is_named() -> None:
    with pytest.raises(DigestError, match=r"here, row 1: 'sha256:\\x1b' is not a digest"):
        parse_digests(["", "sha256:\x1b"]).require_valid("here")
    parse_digests(["", "sha256:" + "0" * 64]).require_valid("here")
