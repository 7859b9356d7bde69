"""Protects digests: the texts that are digests, those that are not, and both directions."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.digest import (
    RAW_BYTES,
    Algorithm,
    Digests,
    check_digest,
    format_digests,
    is_digest,
    parse_digests,
    require_digest,
)
from vecache.errors import ColumnSizeError, DigestError, TocError

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
        at = draw(st.integers(0, len(text) - 1))
        return text[:at] + draw(st.binary(min_size=1, max_size=1)) + text[at + 1 :]
    return text if kind == "good" else draw(st.binary(max_size=160))


@given(st.lists(texts(), max_size=20))
def test_any_texts_are_parsed_by_the_rule(rows: list[bytes]) -> None:
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
def test_formatted_and_parsed_again_is_the_same(rows: list[bytes]) -> None:
    raw = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)
    text = format_digests(raw)
    assert text.to_pylist() == [f"sha256:{row.hex()}" for row in rows]
    assert (parse_digests(text).raw == raw).all()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_arrow_of_every_text_type_sliced_and_with_nulls(kind: pa.DataType) -> None:
    good = "sha256:" + "0f" * 32
    array = pa.array(["x", None, good, "", good], kind)[1:]
    assert parse_digests(array).algorithm.tolist() == [0, 1, 0, 1]
    assert parse_digests(pa.nulls(2)).algorithm.tolist() == [0, 0]
    assert parse_digests(pa.chunked_array([], kind)).algorithm.tolist() == []
    assert parse_digests(pa.chunked_array([array, array])).algorithm.tolist() == [0, 1, 0, 1] * 2


def test_other_types_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="int64"):
        parse_digests(pa.array([1]))
    with pytest.raises(TypeError, match="uint8"):
        Digests.from_raw([[1, 2]])
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        Digests.from_raw(np.zeros((2, 3), np.uint8))


def test_the_first_text_that_is_not_a_digest_is_named() -> None:
    with pytest.raises(DigestError, match=r"here, row 1: 'sha256:\\x1b' is not a digest"):
        parse_digests(["", "sha256:\x1b"]).require_valid("here")
    parse_digests(["", "sha256:" + "0" * 64]).require_valid("here")


def test_more_digests_than_a_column_holds_are_refused_before_any_is_formatted() -> None:
    raw = np.broadcast_to(np.zeros((1, 32), np.uint8), (30_246_249, 32))
    with pytest.raises(ColumnSizeError, match="fewer rows"):
        format_digests(raw)


def test_more_text_than_a_column_holds_is_refused() -> None:
    chunk = pa.array([b"x" * (16 << 20)])
    with pytest.raises(ColumnSizeError, match="fewer rows"):
        parse_digests(pa.chunked_array([chunk] * 128))


@given(texts())
def test_one_text_is_a_digest_by_the_same_rule(text: bytes) -> None:
    decoded = text.decode("latin-1")
    assert is_digest(decoded) == (slow_algorithm(text) in RULE)
    if is_digest(decoded):
        assert require_digest(decoded, "here") == decoded
    else:
        with pytest.raises(DigestError, match=r"^here: .* is not a digest; wanted sha256:"):
            require_digest(decoded, "here")


def test_bytes_with_another_digest_are_refused() -> None:
    digest = "sha512:" + hashlib.sha512(b"content").hexdigest()
    check_digest(b"content", digest, "here")
    with pytest.raises(TocError, match=r"^here: found 7 bytes with the digest sha512:"):
        check_digest(b"changed", digest, "here", TocError)
