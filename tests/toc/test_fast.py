"""Protects the fast parser: where documents are cut, names, integers, and bounded memory."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toc.test_parse import by_exact, by_fast, one
from vecache.toc.columns import INTEGERS
from vecache.toc.fast import parse_fast
from vecache.toc.parse import Toc
from vecache.toc.scan import FIELDS, PAD_BYTES, parse_integers

MANY_XATTRS = b",".join(b'"user.%d":"x"' % i for i in range(70))

# Each on the fast path in one piece; cut anywhere, it is read equally or left alone.
READ_FAST: dict[str, bytes] = {
    "one field": one(b'{"name":"a"}'),
    "numbers at the end": one(b'{"name":"a","uid":0},{"name":"b","gid":-9999999999999999}'),
    "brackets in a name": one(b'{"name":"},{"},{"name":"[{]}"},{"name":"}],"}'),
    "an end of entries in a name": one(b'{"name":"a"},{"name":"},{\\"name\\":\\"b"}'),
    "colons and commas": one(b'{"name":":","linkName":","},{"name":":,","size":1}'),
    "a number in a name": one(b'{"name":":5,"},{"name":"\\":5,\\""}'),
    "escaped quotes": one(rb'{"name":"\"","linkName":"\\"},{"name":"\\\"","size":3}'),
    "back-slashes before the quote": one(rb'{"name":"\\\\","size":1},{"name":"\\\\\\","uid":2}'),
    "escaped field name": one(rb'{"n\u0061me":"a","s\u0069ze":5,"type":"reg"}'),
    "raw UTF-8 and not": one(b'{"name":"\xc3\xa9\xff","linkName":"\xe3\x81\x82"}'),
    "surrogates": one(rb'{"name":"\ud83d\ude00"},{"name":"\ud83d","linkName":"\ude00"}'),
    "empty texts": one(b'{"name":"","linkName":""},{"type":"","digest":""}'),
    "no xattrs": one(b'{"xattrs":{},"name":"a"},{"name":"b","xattrs":{}},{"name":"c"}'),
    "xattrs": one(b'{"xattrs":{"b":"1","a":""},"name":"a"},{"name":"b","xattrs":{"name":"x"}}'),
    "escaped xattrs": one(rb'{"xattrs":{"\"":"\\","a":"}},{"},"name":"a"},{"name":"b"}'),
    "many xattr names": one(b'{"name":"a","xattrs":{' + MANY_XATTRS + b"}}"),
    "no version": b'{"entries":[{"name":"a"}],"tarSplitDigest":""}',
    "three times": one(
        b'{"name":"a","accesstime":"2024-02-29T01:02:03Z","modtime":"0001-01-01T00:00:00Z"},'
        b'{"changetime":"2000-01-01T00:00:00Z","modtime":"2024-02-29T01:02:03Z"}'
    ),
    "indented": (
        b'{\n\t"version": 1,\n\t"entries": [\n\t\t{\n\t\t\t"name": "a b",\n\t\t\t"size": 1\n'
        b'\t\t},\n\t\t{\n\t\t\t"name": ": x",\n\t\t\t"xattrs": {\n\t\t\t\t"a": "b"\n'
        b"\t\t\t}\n\t\t}\n\t]\n}\n"
    ),
    "white space in all places": (
        b' {\r\n"version" :\t1 , "entries" : [ { "name" : " a " , "uid"\n:\n7\n} '
        b',\n{ "xattrs" : { } , "name" : "b" } ] , "tarSplitDigest" : "" } '
    ),
}

LEFT_ALONE: dict[str, bytes] = {
    "no entries": b'{"version":1,"entries":[]}',
    "an empty entry": one(b"{}"),
    "an empty entry between": one(b'{"name":"a"},{},{"name":"b"}'),
    "null": one(b'{"name":null}'),
    "null entry": one(b'{"name":"a"},null'),
    "true": one(b'{"name":true}'),
    "unknown field": one(b'{"name":"a","x":"b"}'),
    "unknown field of nine letters": one(b'{"chunkSizf":1}'),
    "unknown end of a known field": one(b'{"chunkDigess":"a"}'),
    "begin of a known field": one(b'{"chunkDig":"a"}'),
    "field without a name": one(b'{"":"a"}'),
    "letter case": one(b'{"Name":"a"}'),
    "repeated": one(b'{"name":"a","size":1,"name":"a"}'),
    "repeated xattrs": one(b'{"xattrs":{"a":"b"},"xattrs":{"a":"b"}}'),
    "repeated xattr": one(b'{"xattrs":{"a":"b","c":"d","a":"b"}}'),
    "xattr without a name": one(b'{"xattrs":{"":"b"}}'),
    "xattr that is a number": one(b'{"xattrs":{"a":1}}'),
    "xattrs in xattrs": one(b'{"xattrs":{"a":{"b":"c"}}}'),
    "xattrs that do not end": one(b'{"xattrs":{"a":"b"},{"name":"c"}'),
    "xattrs that end twice": one(b'{"xattrs":{"a":"b"}},"name":"c"}'),
    "other field with attributes": one(b'{"name":{"a":"b"}}'),
    "other field with none": one(b'{"name":{}}'),
    "xattrs that are a text": one(b'{"xattrs":"a"}'),
    "xattrs that are a number": one(b'{"xattrs":5}'),
    "text that is a number": one(b'{"name":5}'),
    "integer that is a text": one(b'{"size":"5"}'),
    "integer of 17 digits": one(b'{"size":12345678901234567}'),
    "leading zero": one(b'{"size":01}'),
    "no digit": one(b'{"size":-}'),
    "two signs": one(b'{"size":--1}'),
    "plus": one(b'{"size":+1}'),
    "fraction": one(b'{"size":1.5}'),
    "exponent": one(b'{"size":1e3}'),
    "digits and others": one(b'{"size":12:4}'),
    "comma for a colon": one(b'{"name","a"}'),
    "colon for a comma": one(b'{"name":"a":"type":"b"}'),
    "two colons": one(b'{"name"::"a"}'),
    "no comma": one(b'{"name":"a""type":"b"}'),
    "comma at the end": one(b'{"name":"a",}'),
    "comma behind an entry": one(b'{"name":"a"},'),
    "no bracket between": one(b'{"name":"a"},"name":"b"}'),
    "name without a value": one(b'{"name":"a","type"}'),
    "value without a name": one(b'{"a","name":"b"}'),
    "an array in an entry": one(b'{"name":["a"]}'),
    "an array for an entry": one(b'["name","a"]'),
    "two more brackets": one(b'{"name":"a"}],"entries":[{"name":"b"}'),
    "control character": one(b'{"name":"a\x1f"}'),
    "line break in a text": b'{"entries":[ {"name": "a,\nb"}, {"name": "c"}]}',
    "bad escape": one(rb'{"name":"\x"}'),
    "bad escape in a skipped field": one(rb'{"userName":"\u12"}'),
    "back-slash between": one(b'{"name":\\"a"}'),
    "open text": one(b'{"name":"a'),
    "two numbers": b'{"entries":[ {"size": 1 2}]}',
    "number in two parts": b'{"entries":[ {"size": -\n1}]}',
    "other white space": b'{"entries":[ {"name":\x0b"a"}]}',
    "nothing but quotes": one(b'{"' + b'"' * 40 + b'"}'),
    "other order": b'{"entries":[{"name":"a"}],"version":1}',
    "two arrays": b'{"entries":[{"name":"a"}],"entries":[{"name":"b"}]}',
    "more behind": one(b'{"name":"a"}') + b"x",
    "bad digest that looks like an end": b'{"entries":[{"name":"a"}],"tarSplitDigest":"]}"}',
}


@pytest.mark.parametrize("case", READ_FAST)
def test_documents_on_the_fast_path_are_read_equally(case: str) -> None:
    data = READ_FAST[case]
    wanted = by_exact(data)
    assert by_fast(data) == wanted
    found = [by_fast(data, piece_bytes) for piece_bytes in range(1, len(data))]
    assert all(result in (wanted, None) for result in found)


@pytest.mark.parametrize("form", [{"indent": "\t"}, {"indent": 2}, {}])
def test_white_space_is_removed_in_pieces(form: dict[str, Any]) -> None:
    names = [f"a b, {i:03}" for i in range(50)]
    entries = [{"name": name, "size": i, "xattrs": {"a": "b"}} for i, name in enumerate(names)]
    data = json.dumps({"version": 1, "entries": entries}, **form).encode()
    for piece_bytes in (100, 150, 1_000):
        parsed = parse_fast(data, piece_bytes)
        assert parsed is not None
        assert parsed.integers["size"].tolist() == list(range(50))
        assert parsed.texts["name"].to_pylist() == [name.encode() for name in names]


def test_entries_of_equal_length_are_read_in_pieces_of_any_size() -> None:
    data = one(b",".join(b'{"name":"%03d","size":%d}' % (i, i) for i in range(10, 60)))
    for piece_bytes in (30, 60, 100, 333):
        parsed = parse_fast(data, piece_bytes)
        assert parsed is not None
        assert parsed.integers["size"].tolist() == list(range(10, 60))


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_other_documents_are_left_to_the_exact_path(case: str) -> None:
    data = LEFT_ALONE[case]
    assert [parse_fast(data, piece_bytes) for piece_bytes in (1, 10, 1_000)] == [None] * 3


def test_every_field_is_known_by_its_name() -> None:
    values: dict[str, Any] = dict.fromkeys(FIELDS, b'"2024-02-29T01:02:03Z"')
    values |= dict.fromkeys((*INTEGERS, "innerOffset"), b"7") | {"xattrs": b'{"a":"b"}'}
    for name, value in values.items():
        data = one(b'{"%s":%s}' % (name.encode(), value))
        assert by_fast(data) == by_exact(data) not in (None, "refused")


@given(st.lists(st.integers(-(10**16) + 1, 10**16 - 1), min_size=1))
def test_integers_are_parsed(values: list[int]) -> None:
    texts = [b"%d" % value for value in values]
    ends = PAD_BYTES + np.cumsum([len(text) + 1 for text in texts]) - 1
    buffer = np.frombuffer(b"9" * PAD_BYTES + b":".join(texts), np.uint8)
    starts = ends - [len(text) for text in texts]
    parsed = parse_integers(buffer, starts, ends)
    assert parsed is not None
    assert parsed.tolist() == values


@given(st.binary(min_size=1, max_size=18) | st.text("0123456789-/:", min_size=1).map(str.encode))
def test_bytes_are_an_integer_only_where_json_has_one(text: bytes) -> None:
    buffer = np.frombuffer(b"0" * PAD_BYTES + text, np.uint8)
    parsed = parse_integers(buffer, np.array([PAD_BYTES]), np.array([len(buffer)]))
    digits = text.removeprefix(b"-")
    is_one = digits.isdigit() and len(digits) <= 16 and (digits == b"0" or digits[:1] != b"0")
    assert (None if parsed is None else parsed.tolist()) == ([int(text)] if is_one else None)


def test_a_large_entry_is_not_scanned() -> None:
    data = one(b'{"name":"%s"}' % (b"x" * 5_000_000))
    assert parse_fast(data) is None
    assert len(Toc.parse(data).entries) == 1
