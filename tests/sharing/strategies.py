"""Random layers that share much: TOCs over a few contents, in which a digest has one size."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import strategies as st

N_CONTENTS = 12


def content(number: int, algorithm: str = "sha256") -> tuple[str, int]:
    """Digest and size of a content; some digests have their first 8, 16 or 31 bytes in common."""
    text = hashlib.new(algorithm, bytes([number])).hexdigest()
    alike = hashlib.new(algorithm, b"alike").hexdigest()
    n_alike = (0, 0, 8, 16, 31)[number % 5] * 2
    return f"{algorithm}:{alike[:n_alike]}{text[n_alike:]}", number * 37 + 1


def _file(name: str, whole: tuple[str, int], parts: list[tuple[str, int, str]]) -> list[Any]:
    """Entries of one file; the last of several chunks may leave its size open."""
    digest, size = whole
    head: dict[str, Any] = {"type": "reg", "name": name, "digest": digest, "size": size}
    if not parts:
        return [head]
    entries: list[dict[str, Any]] = []
    offset = 0
    for number, (chunk, n_bytes, kind) in enumerate(parts):
        entry: dict[str, Any] = head if number == 0 else {"type": "chunk", "name": name}
        is_last = number == len(parts) - 1
        entry |= {"chunkDigest": chunk, "chunkOffset": offset}
        if not (is_last and kind == "open"):
            entry["chunkSize"] = n_bytes
        if kind == "zeros":
            entry["chunkType"] = "zeros"
        offset += n_bytes
        entries.append(entry)
    head["size"] = offset
    head["digest"] = "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return entries


_CONTENTS = st.builds(
    content,
    st.integers(0, N_CONTENTS - 1),
    st.sampled_from(["sha256", "sha256", "sha256", "sha512"]),
)
_CHUNKS = st.builds(
    lambda pair, kind: (*pair, kind), _CONTENTS, st.sampled_from(["", "", "zeros", "open"])
)
_FILES = st.builds(
    _file,
    st.sampled_from(["etc/hosts", "bin/sh", "usr/lib/libz.so", "あ"]),
    _CONTENTS,
    st.lists(_CHUNKS, max_size=3),
)
_OTHERS = st.sampled_from(
    [
        [{"type": "reg", "name": "empty", "size": 0}],
        [{"type": "reg", "name": "unnamed", "size": 5}],
        [{"type": "dir", "name": "etc/"}],
        [{"type": "hardlink", "name": "bin/bash", "linkName": "bin/sh"}],
    ]
)


def _document(runs: list[list[Any]]) -> bytes:
    entries = [entry for run in runs for entry in run]
    return json.dumps({"version": 1, "entries": entries}).encode()


TOCS = st.builds(_document, st.lists(_FILES | _OTHERS, max_size=8))
LAYERS = st.lists(TOCS, max_size=6)
