"""Protects parsing: both parsers read a TOC as Go does, and any other bytes are a TocError."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import (
    GOLDEN_DEBIAN,
    debian_layers,
    debian_toc,
    golden_toc,
    needs_debian,
    small_layers,
)
from tests.toc import oracle
from tests.toc.compare import entry_rows, oracle_rows, outcome
from tests.toc.strategies import DOCUMENTS, SENSIBLE, WRITTEN, changed
from vecache.digest import EMPTY_SHA256
from vecache.errors import TocError
from vecache.toc.columns import ParsedToc, build_entries
from vecache.toc.entries import ChunkKind, EntryKind
from vecache.toc.exact import parse_exact
from vecache.toc.fast import parse_fast
from vecache.toc.parse import MAX_TOC_BYTES, Toc

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN_TOCS = [golden_toc(store, layer) for store, layer in small_layers()]
SHA = b"sha256:" + b"0" * 64


def content(parsed: ParsedToc) -> tuple[Any, ...]:
    digests = list(parsed.tar_split_digests)
    return parsed.version, digests[-1:], entry_rows(build_entries(parsed))


def by_exact(data: bytes) -> Any:
    return outcome(lambda: content(parse_exact(data)), TocError)


def by_oracle(data: bytes) -> Any:
    """What Go answers, except for what the package refuses on purpose: see JSONITER_ACCEPTS."""
    if not oracle.is_json(data):
        return "refused"
    toc = outcome(lambda: oracle.unmarshal(data), oracle.RefusedError)
    if toc == "refused" or toc["has_wrapped"]:
        return "refused"
    digests = [] if toc["tarsplitdigest"] is None else [toc["tarsplitdigest"]]
    return toc["version"], digests, oracle_rows(toc["entries"])


def by_fast(data: bytes, piece_bytes: int = 1 << 20) -> Any:
    """The content, "refused", or None where the document is left to the exact path."""
    parsed = parse_fast(data, piece_bytes)
    return None if parsed is None else outcome(lambda: content(parsed), TocError)


def check_both(data: bytes) -> None:
    """The exact path agrees with the oracle; the fast path agrees or leaves it alone."""
    wanted = by_oracle(data)
    assert by_exact(data) == wanted
    for piece_bytes in (1 << 20, 1, 30):
        assert by_fast(data, piece_bytes) in (wanted, None)


@given(DOCUMENTS)
def test_both_parsers_agree_with_the_oracle(data: bytes) -> None:
    check_both(data)


@given(changed(DOCUMENTS | WRITTEN | st.sampled_from(GOLDEN_TOCS)))
def test_both_parsers_agree_on_damaged_documents(data: bytes) -> None:
    check_both(data)


@given(
    st.binary(max_size=40) | st.text(alphabet='{}[]",:\\un01e.- tl', max_size=30).map(str.encode)
)
def test_any_bytes_give_only_a_toc_error(data: bytes) -> None:
    assert isinstance(outcome(lambda: Toc.parse(data), TocError), Toc | str)
    check_both(data)


@given(WRITTEN)
def test_what_writers_write_takes_the_fast_path(data: bytes) -> None:
    wanted = by_oracle(data)
    assert by_fast(data) == by_exact(data) == wanted
    assert by_fast(data, 50) in (wanted, None)


@given(SENSIBLE)
def test_white_space_changes_nothing(data: bytes) -> None:
    import json  # noqa: PLC0415 - only to lay the document out

    text = data.decode("utf-8", "surrogatepass")
    loose = json.dumps(json.loads(text, object_pairs_hook=dict), indent="\t").encode()
    tight = json.dumps(json.loads(text, object_pairs_hook=dict), separators=(",", ":")).encode()
    assert by_exact(b" \r\n" + loose + b"\n\t ") == by_exact(tight)


@pytest.mark.parametrize("store_and_layer", small_layers(), ids="-".join)
def test_golden_tocs_take_the_fast_path_and_agree(store_and_layer: tuple[str, str]) -> None:
    data = golden_toc(*store_and_layer)
    assert by_fast(data) == by_fast(data, 1_000) == by_exact(data) == by_oracle(data)


@needs_debian
def test_debian_tocs_take_the_fast_path_and_agree() -> None:
    assert GOLDEN_DEBIAN.is_dir()
    for layer in debian_layers():
        data = debian_toc(layer)
        assert by_fast(data) == by_fast(data, 100_000) == by_exact(data)


def peak_bytes(call: Callable[[], object]) -> int:
    """The most memory of Python that a call takes at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def one(entry: bytes) -> bytes:
    return b'{"version":1,"entries":[' + entry + b"]}"


# What the document's only entry becomes: the fields that are not at their default.
ONE_ENTRY: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nothing": (b"{}", {}),
    "null is an entry": (b"null", {}),
    "reg without digest": (b'{"type":"reg"}', {"kind": 1, "digest": EMPTY_SHA256.encode()}),
    "reg with size": (b'{"type":"reg","size":1}', {"kind": 1, "size": 1}),
    "dir without digest": (b'{"type":"dir"}', {"kind": int(EntryKind.DIR)}),
    "type is case-sensitive": (b'{"type":"REG"}', {"kind": int(EntryKind.OTHER)}),
    "zeros": (b'{"chunkType":"zeros"}', {"chunk_kind": int(ChunkKind.ZEROS)}),
    "other chunk": (b'{"chunkType":"ZEROS"}', {"chunk_kind": int(ChunkKind.OTHER)}),
    "letter case": (b'{"NAME":"a","LinkName":"b"}', {"name": b"a", "linkname": b"b"}),
    "Kelvin sign": ('{"lin\u212aname":"b"}'.encode(), {"linkname": b"b"}),
    "dotted I": ('{"s\u0130ze":3}'.encode(), {"size": 3}),
    "escaped field name": (rb'{"n\u0061me":"a"}', {"name": b"a"}),
    "last one wins": (b'{"uid":1,"UID":2}', {"uid": 2}),
    "null text wins too": (b'{"name":"a","name":null}', {}),
    "unknown fields": (b'{"x":[{"":[1e3,-0.5]}],"y":null,"name":"a"}', {"name": b"a"}),
    "unknown long integer": (b'{"x":' + b"9" * 5000 + b"}", {}),
    "least integer": (b'{"uid":-9223372036854775808}', {"uid": -(2**63)}),
    "greatest integer": (b'{"gid":9223372036854775807}', {"gid": 2**63 - 1}),
    "minus zero": (b'{"mode":-0}', {}),
    "no xattrs": (b'{"xattrs":{}}', {}),
    "null xattrs": (b'{"xattrs":null}', {}),
    "xattrs of a link": (b'{"xattrs":{"b":"1","a":""}}', {"xattrs": {b"a": b"", b"b": b"1"}}),
    "null xattr": (b'{"xattrs":{"a":null}}', {"xattrs": {b"a": b""}}),
    "last xattr wins": (b'{"xattrs":{"a":"1","a":"2"}}', {"xattrs": {b"a": b"2"}}),
    "last xattrs win": (b'{"xattrs":{"a":"1"},"xattrs":{"b":"2"}}', {"xattrs": {b"b": b"2"}}),
    "escapes": (rb'{"name":"\\x2d\"\/\b\f\n\r\t\u0000"}', {"name": b'\\x2d"/\b\f\n\r\t\0'}),
    "escaped back-slash u": (rb'{"name":"\\u00e9"}', {"name": rb"\u00e9"}),
    "raw and escaped letter": (
        '{"name":"\u3042\\u3042"}'.encode(),
        {"name": "\u3042".encode() * 2},
    ),
    "surrogate pair": (rb'{"name":"\ud83d\ude00"}', {"name": "\U0001f600".encode()}),
    "lone surrogates": (rb'{"name":"\ud800x\udc00"}', {"name": "\ufffdx\ufffd".encode()}),
    "three surrogates": (rb'{"name":"\ud83d\ud83d\ude00"}', {"name": "\ufffd".encode() * 3}),
    "surrogate and quote": (rb'{"name":"\ud800\u0022"}', {"name": '\ufffd"'.encode()}),
    "surrogate and escape": (rb'{"name":"\ud800\n"}', {"name": "\ufffd\n".encode()}),
    "invalid UTF-8": (b'{"name":"\xff\xc3"}', {"name": b"\xff\xc3"}),
    "delete character": (b'{"name":"\x7f"}', {"name": b"\x7f"}),
    "a text that says null": (b'{"name":"null, null"}', {"name": b"null, null"}),
    "invalid digest": (b'{"digest":"sha256:ABC"}', {"digest": b"sha256:ABC"}),
    "fields of eStargz": (b'{"userName":"a","groupName":"b","innerOffset":1}', {}),
    "skipped values of all kinds": (
        rb'{"x":[0,-0.5,1e9,1E-400,0.1e37,12e307,"\"\u00e9",true,false,null,[],{},[[]]],"name":"a"}',
        {"name": b"a"},
    ),
    "skipped brackets in brackets": (
        rb'{"x": {"":{"a":[1,{"b":[ ] , "c" : { } }],"d":[[1],2]}}, "name" :"a"}',
        {"name": b"a"},
    ),
    "those with odd values": (b'{"userName":1,"innerOffset":"b"}', {}),
    "time with zone": (b'{"modtime":"2024-02-29T07:08:09.5-07:00"}', {}),
}


@pytest.mark.parametrize("case", ONE_ENTRY)
def test_one_entry_is_read_as_go_reads_it(case: str) -> None:
    entry, wanted = ONE_ENTRY[case]
    data = one(entry)
    default = oracle_rows([oracle.new_entry()])[0]
    assert entry_rows(Toc.parse(data).entries) == [default | wanted]
    check_both(data)


WHOLE = {
    "no fields": (b"{}", 0),
    "null": (b"null", 0),
    "white space around": (b' \n{"entries":[{}]}\r\t ', 1),
    "no entries": (b'{"version":1}', 0),
    "null entries": (b'{"entries":null}', 0),
    "empty entries": (b'{"entries":[]}', 0),
    "entries add up": (b'{"entries":[{}],"ENTRIES":[{},{}]}', 3),
    "unknown fields": (b'{"x":{"entries":[1]},"entries":[{}]}', 1),
    "name only in what is skipped": (b'{"x":{"":1},"entries":[{}]}', 1),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_document_has_as_many_entries_as_go_finds(case: str) -> None:
    data, n_entries = WHOLE[case]
    assert len(Toc.parse(data).entries) == n_entries
    check_both(data)


REFUSED = {
    "nothing": b"",
    "white space": b" ",
    "an array": b"[]",
    "a text": b'"{}"',
    "byte order mark": b"\xef\xbb\xbf{}",
    "cut short": b'{"entries":[{}',
    "more behind": b"{} x",
    "second document": b"{}\n{}",
    "second document beside": b"{}{}",
    "NUL behind": b"{}\0",
    "NUL and more behind": b'{"entries":[]}\0{"entries":[{}]}',
    "NUL between": b'{"entries":\0[]}',
    "NUL in a name": b'{"entries":[{"name":"a\0b"}]}',
    "entries is an object": b'{"entries":{}}',
    "entries is a text": b'{"entries":""}',
    "entry is an array": one(b"[]"),
    "entry is a number": one(b"1"),
    "xattrs is an array": one(b'{"xattrs":[]}'),
    "xattr is a number": one(b'{"xattrs":{"a":1}}'),
    "text is a number": one(b'{"name":1}'),
    "text is true": one(b'{"name":true}'),
    "text is an object": one(b'{"name":{}}'),
    "integer is a text": one(b'{"size":"1"}'),
    "integer is true": one(b'{"size":true}'),
    "integer is null": one(b'{"size":null}'),
    "integer with a point": one(b'{"size":1.0}'),
    "integer with an exponent": one(b'{"size":1e3}'),
    "integer with a leading zero": one(b'{"size":01}'),
    "integer with a plus": one(b'{"size":+1}'),
    "hexadecimal integer": one(b'{"size":0x1}'),
    "integer too large": one(b'{"size":9223372036854775808}'),
    "integer too small": one(b'{"size":-9223372036854775809}'),
    "integer of many digits": one(b'{"size":' + b"1" * 5000 + b"}"),
    "version is a text": b'{"version":"1"}',
    "version is null": b'{"version":null}',
    "an earlier field of a wrong type": one(b'{"size":"1","size":1}'),
    "empty field name": b'{"":1}',
    "empty field name in an entry": one(b'{"name":"a","":"b"}'),
    "empty field name in xattrs": one(b'{"xattrs":{"":"b"}}'),
    "control character": one(b'{"name":"a\tb"}'),
    "control character in an unknown field": b'{"x":"\n"}',
    "unknown escape": one(rb'{"name":"\x2d"}'),
    "escape cut short": one(rb'{"name":"\u12"}'),
    "escaped brackets": rb"\u007b\u007d",
    "not a number": b'{"x":NaN}',
    "infinity": b'{"x":-Infinity}',
    "number beyond float64": b'{"x":1e400}',
    "number beyond float32": b'{"x":0.1e99}',
    "negative number beyond float64": b'{"x":[1,-1e400]}',
    "digits beyond float64 with an exponent": b'{"x":' + b"9" * 400 + b"e1}",
    "skipped array with a comma too many": b'{"x":[1,]}',
    "skipped object with a comma too many": b'{"x":{"a":1,}}',
    "skipped array that begins with a comma": b'{"x":[,1]}',
    "skipped brackets crossed": b'{"x":[{"a":[1}]]}',
    "skipped empty brackets crossed": b'{"x":[}}',
    "skipped field without a value": b'{"x":{"a"}}',
    "skipped name that is a number": b'{"x":{1:1}}',
    "skipped number cut short": b'{"x":[1.]}',
    "skipped exponent cut short": b'{"x":[1e+]}',
    "skipped number with two points": b'{"x":[1.2.3]}',
    "skipped leading zero": b'{"x":[01]}',
    "skipped word cut short": b'{"x":[tru]}',
    "skipped text cut short": b'{"x":["a]}',
    "skipped array cut short": b'{"x":[1,[2',
    "trailing comma": one(b"{},"),
    "comment": b"{}//",
    "bad time": one(b'{"modtime":"2024-13-01T00:00:00Z"}'),
    "empty time": one(b'{"accesstime":""}'),
    "null time": one(b'{"changetime":null}'),
    "an earlier bad time": one(b'{"modtime":"x","modtime":"2024-01-01T00:00:00Z"}'),
    "empty tar-split digest": b'{"tarSplitDigest":""}',
    "null tar-split digest": b'{"tarSplitDigest":null}',
    "an earlier bad one": b'{"tarSplitDigest":"x","tarSplitDigest":"' + SHA + b'"}',
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_go_refuses_is_a_toc_error(case: str) -> None:
    data = REFUSED[case]
    with pytest.raises(TocError):
        Toc.parse(data)
    check_both(data)


# Each class of documents that jsoniter accepts and `exact` lists as refused.
JSONITER_ACCEPTS = {
    "nothing but a closing bracket": b"}",
    "no opening bracket of entries": b'{"version":1,"entries":]}',
    "no opening bracket of an entry": one(b"}"),
    "no opening bracket of xattrs": one(b'{"xattrs":}}'),
    "comma for the first bracket": b',"version":1}',
    "comma for the bracket of entries": b'{"entries":,{"type":"reg"}]}',
    "comma for the bracket of an entry": one(b',"type":"reg"}'),
    "comma for the bracket of xattrs": one(b'{"xattrs":,"a":"b"}}'),
    "bracket for the comma of a document": b'{"version":1{"entries":[]}',
    "bracket for the comma of an entry": one(b'{"name":"a"{"type":"reg"}'),
    "bracket for the comma of xattrs": one(b'{"xattrs":{"a":"b"{"c":"d"}}'),
    "bracket for the comma of entries": one(b'{"name":"a"}[{"name":"b"}'),
    "empty name for the end of an entry": one(b'{"name":"a","":'),
    "empty name for the end of xattrs": one(b'{"xattrs":{"a":"b","":}'),
    "empty name for the end of a document": b'{"version":1,"":',
    "leading zeros after a minus": b'{"x":-01}',
    "no digit before the point after a minus": b'{"x":-.5}',
    "plus after a minus": b'{"x":-+0.5e1}',
    "control character after an escape": one(b'{"name":"\\n\tb"}'),
    "integer that wraps": one(b'{"size":21000000000000000000}'),
    "negative integer that wraps": one(b'{"uid":-25000000000000000001}'),
}


@pytest.mark.parametrize("case", JSONITER_ACCEPTS)
def test_what_only_jsoniter_accepts_is_refused(case: str) -> None:
    data = JSONITER_ACCEPTS[case]
    toc = oracle.unmarshal(data)
    assert toc["has_wrapped"] == oracle.is_json(data)
    with pytest.raises(TocError):
        Toc.parse(data)
    check_both(data)


@pytest.mark.parametrize(
    "opening", [b"[", b'{"x":', b'{"entries":[', b'{"entries":[{"xattrs":{"a":']
)
def test_deep_nesting_is_refused(opening: bytes) -> None:
    for n_levels in (500, 5_000, 200_000):
        with pytest.raises(TocError):
            Toc.parse(b'{"x":' + opening * n_levels)
    with pytest.raises(TocError, match="nested too deeply"):  # jsoniter reads 10,000 levels
        Toc.parse(b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}")


def test_a_document_over_the_limit_is_refused() -> None:
    with pytest.raises(TocError, match="found 157,286,401 bytes, wanted at most 157,286,400"):
        Toc.parse(b" " * (MAX_TOC_BYTES + 1))


# Small when compressed, and each takes gigabytes, or half a minute, where every value is kept.
BOMBS = {
    "objects": (b'{"entries":[', b"{},", b"{}]}", "objects, arrays and nulls"),
    "nulls": (b'{"entries":[', b"null,", b"{}]}", "objects, arrays and nulls"),
    "texts": (b'{"x":[', b'"ab",', b'""]}', "values"),
    "integers": (b'{"x":[', b"0,", b"0]}", "values"),
    "floats": (b'{"x":[', b"0e1,", b"0]}", "values"),
    "large exponents": (b'{"x":[', b"0e99" + b" " * 12 + b",", b"0]}", "large exponents"),
    "fields": (b'{"entries":[{', b'"u":0,', b'"uid":0}]}', "values"),
    "escapes": (b'{"entries":[{"name":"', rb"\u00e9", b'"}]}', "escapes"),
    "attributes": (
        b'{"entries":[{"xattrs":{',
        b'"user.a":"aaaaaaaa",',
        b'"b":""}}]}',
        "extended attributes",
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_document_of_small_values_is_refused_before_it_takes_memory(case: str) -> None:
    begin, unit, end, reason = BOMBS[case]
    n_units = 1_100_000 if case == "large exponents" else 2_500_000
    with pytest.raises(TocError, match=reason):
        Toc.parse(begin + unit * n_units + end)


def test_what_is_skipped_takes_no_memory() -> None:
    data = (
        b'{"x":['
        + b'"ab",' * 900_000
        + b'""],"entries":[{"x":{"a":['
        + b"1.5," * 99_000
        + b"0]}}]}"
    )
    assert len(Toc.parse(data).entries) == 1
    assert peak_bytes(lambda: Toc.parse(data)) < 2 * len(data)


def test_an_entry_and_a_document_have_a_thousand_fields_at_most() -> None:
    for field in (b'"UID":1,', b'"u":1,', b'"u":[],', b'"type":null,', b'"xattrs":{},'):
        assert Toc.parse(one(b"{" + field * 999 + b'"size":7}')).entries.size.tolist() == [7]
        with pytest.raises(TocError, match="an entry has over 1,000 fields"):
            Toc.parse(one(b"{" + field * 1_000 + b'"size":7}'))
    assert Toc.parse(b"{" + b'"version":1,' * 999 + b'"version":2}').version == 2
    with pytest.raises(TocError, match="over 1,000 fields beside the entries"):
        Toc.parse(b"{" + b'"version":1,' * 1_000 + b'"version":2}')


def test_as_many_times_as_there_are_are_checked() -> None:
    times = [b'"MODTIME":"2024-01-01T00:00:00.%06dZ"' % n for n in range(70_000)]

    def document(times: list[bytes]) -> bytes:
        return b'{"entries":[{' + b"},{".join(times) + b"}]}"

    assert len(Toc.parse(document(times)).entries) == len(times)
    for bad in (0, 65_536, 69_999):
        with pytest.raises(TocError, match="'now' is not an RFC 3339 time"):
            Toc.parse(document([*times[:bad], b'"modtime":"now"', *times[bad + 1 :]]))


def test_entries_and_attributes_beyond_one_block_keep_their_order() -> None:
    entries = [b'{"NAME":"%d","xattrs":{"b":"%d","a":"x"}}' % (n, n) for n in range(20_000)]
    data = b'{"entries":[' + b",".join(entries) + b"]}"
    parsed = Toc.parse(data).entries
    assert parsed.name.to_pylist() == [b"%d" % n for n in range(20_000)]
    assert parsed.xattrs.entry_row.tolist() == [n // 2 for n in range(40_000)]
    assert parsed.xattrs.name.to_pylist() == [b"a", b"b"] * 20_000
    assert parsed.xattrs.value[39_999].as_py() == b"19999"


def test_what_else_a_toc_says() -> None:
    data = b'{"version":7,"entries":[{"type":"reg"}],"tarSplitDigest":"' + SHA + b'"}'
    toc = Toc.parse(memoryview(data))
    assert (toc.version, toc.tar_split_digest, toc.n_bytes) == (7, SHA.decode(), len(data))
    assert repr(toc) == f"<Toc: 1 entries, 1 files, {len(data)} bytes of JSON>"
    assert '<td>files</td><td style="text-align: right">1</td>' in toc._repr_html_()
    assert Toc.parse(b"{}").tar_split_digest is None


def test_messages_say_which_file() -> None:
    with pytest.raises(TocError, match=r"^layer/toc: TOC: not JSON, near byte 1: "):
        Toc.parse(b"{]", path="layer/toc")


def test_messages_name_the_first_bad_time() -> None:
    times = ",".join(f'{{"name":null,"modtime":"bad {n}"}}' for n in range(20)).encode()
    with pytest.raises(TocError, match="'bad 0' is not an RFC 3339 time"):
        Toc.parse(one(times))


def test_only_bytes_are_parsed() -> None:
    with pytest.raises(TypeError, match="found str, wanted the bytes of its JSON"):
        Toc.parse("{}")  # type: ignore[arg-type]
