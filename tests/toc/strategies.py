"""TOC documents for hypothesis: sensible ones, odd ones, and ones with a byte or two changed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
FEW_HEX = st.sampled_from([c * 64 for c in "0aef"])
DIGESTS = st.one_of(
    FEW_HEX.map("sha256:".__add__),
    HEX.map("sha256:".__add__),
    st.sampled_from(["", "sha256:", "sha256:ABC", "md5:00", "sha512:" + "ab" * 64]),
)
INTEGERS = st.one_of(
    st.integers(-3, 5),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**63, -(2**63) - 1, 10**25]),
)
NAMES = st.one_of(
    st.sampled_from(["a", "b/", ".prefetch.landmark", "stargz.index.json", "dev/null"]),
    st.text(max_size=6),
    st.sampled_from(['"\\\t', "\ud800", "\u3042\U0001f600", "\x00", "null,"]),
)
TIMES = st.one_of(
    st.datetimes().map(lambda t: f"{t:%Y-%m-%dT%H:%M:%S}Z".zfill(20)),
    st.sampled_from(["2024-02-29T1:02:03,5+24:60", "2023-02-29T00:00:00Z", "", "now"]),
)
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
KINDS = st.sampled_from(
    ["reg", "reg", "chunk", "chunk", "dir", "symlink", "hardlink", "char", "block", "fifo", "x", ""]
)
XATTRS = st.dictionaries(
    st.sampled_from(["security.capability", "user.a", "user.b", "user.\u00e9", '"', ""])
    | st.text(),
    st.text(max_size=4),
    max_size=3,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "type": KINDS,
    "name": NAMES,
    "linkName": NAMES,
    **dict.fromkeys(["mode", "size", "uid", "gid", "devMajor", "devMinor"], INTEGERS),
    **dict.fromkeys(["offset", "endOffset", "chunkSize", "chunkOffset"], INTEGERS),
    **dict.fromkeys(["modtime", "accesstime", "changetime"], TIMES),
    "digest": DIGESTS,
    "chunkDigest": DIGESTS,
    "chunkType": st.sampled_from(["", "zeros", "other"]),
    "xattrs": XATTRS,
}


def _fields(names: list[str]) -> st.SearchStrategy[list[tuple[str, Any]]]:
    return st.tuples(*(st.tuples(st.just(name), FIELDS[name]) for name in names)).map(list)


def _spelled(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [name, name, name.upper(), name.title(), name.replace("k", "\u212a").replace("i", "\u0130")]
    )


PLAIN_ENTRIES = st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=8).flatmap(_fields)
ODD_FIELDS = st.one_of(
    st.tuples(st.sampled_from(sorted(FIELDS)).flatmap(_spelled), ODD),
    st.tuples(st.text(max_size=3), ODD),
    st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(_spelled(name), FIELDS[name])),
)
ODD_ENTRIES = st.one_of(
    st.tuples(PLAIN_ENTRIES, st.lists(ODD_FIELDS, max_size=2)).map(lambda pair: pair[0] + pair[1]),
    st.none(),
)


def _dump(value: Any, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))


def _dump_entry(pairs: list[tuple[str, Any]] | None, ascii_only: bool) -> str:
    """Write an object with its fields in order, repeats and all."""
    if pairs is None:
        return "null"
    fields = (f"{_dump(name, ascii_only)}:{_dump(value, ascii_only)}" for name, value in pairs)
    return f"{{{','.join(fields)}}}"


def _document(entries: list[Any], top: list[tuple[str, Any]], ascii_only: bool) -> bytes:
    listed = ",".join(_dump_entry(entry, ascii_only) for entry in entries)
    fields = [f"{_dump(name, True)}:{_dump(value, ascii_only)}" for name, value in top]
    middle = len(fields) // 2
    text = ",".join([*fields[:middle], f'"entries":[{listed}]', *fields[middle:]])
    return f"{{{text}}}".encode("utf-8", "surrogatepass")


TOP_FIELDS = st.one_of(
    st.tuples(st.just("version"), st.integers(0, 3)),
    st.tuples(st.just("tarSplitDigest"), DIGESTS),
)
ODD_TOP_FIELDS = st.one_of(
    TOP_FIELDS,
    st.tuples(st.sampled_from(["version", "tarSplitDigest", "entries", "Entries", "x"]), ODD),
)
SENSIBLE = st.builds(
    _document, st.lists(PLAIN_ENTRIES, max_size=5), st.lists(TOP_FIELDS, max_size=2), st.booleans()
)
ODD_DOCUMENTS = st.builds(
    _document,
    st.lists(ODD_ENTRIES, max_size=4),
    st.lists(ODD_TOP_FIELDS, max_size=3),
    st.booleans(),
)
DOCUMENTS = SENSIBLE | ODD_DOCUMENTS

# What writers write: at least a type and a name, and nothing that Go refuses but digests.
WRITTEN_FIELDS = {
    **FIELDS,
    **{
        name: st.integers(-(10**16) + 1, 10**16 - 1) | st.integers(0, 20)
        for name, strategy in FIELDS.items()
        if strategy is INTEGERS
    },
    **dict.fromkeys(["modtime", "accesstime"], st.just("2024-02-29T01:02:03Z")),
    "changetime": st.just("0001-01-01T00:00:00Z"),
    "xattrs": st.dictionaries(st.text(min_size=1, max_size=3), st.text(max_size=4), max_size=3),
    **dict.fromkeys(["userName", "groupName"], NAMES),
    "innerOffset": st.integers(0, 10**16 - 1),
}
_OTHERS = sorted(set(WRITTEN_FIELDS) - {"type", "name"})
WRITTEN_ENTRIES = st.lists(st.sampled_from(_OTHERS), unique=True, max_size=8).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: WRITTEN_FIELDS[name] for name in ("type", "name", *names)}
    )
)


def _write(entries: list[dict[str, Any]], end: dict[str, str], form: dict[str, Any]) -> bytes:
    document = {"version": 1, "entries": entries, **end}
    return json.dumps(document, **form).encode("utf-8", "surrogatepass")


WRITTEN = st.builds(
    _write,
    st.lists(WRITTEN_ENTRIES, min_size=1, max_size=6),
    st.sampled_from([{}, {"tarSplitDigest": "sha256:" + "0" * 64}]),
    st.fixed_dictionaries(
        {"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, None, "\t", " "])}
    ).flatmap(
        lambda form: st.just(
            {**form, "separators": (",", ":") if form["indent"] is None else (",", ": ")}
        )
    ),
)


def changed(documents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Documents in which a run of bytes was cut out and another put in."""
    inserts = st.one_of(
        st.binary(max_size=3),
        st.sampled_from(
            [b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"\0", b"\\", b"\\ud800", b"1e3"]
        ),
    )

    def change(document: bytes, number: int, n_cut: int, insert: bytes) -> bytes:
        at = number % (len(document) + 1)
        return document[:at] + insert + document[at + n_cut :]

    return st.builds(change, documents, st.integers(0, 10**6), st.integers(0, 6), inserts)
