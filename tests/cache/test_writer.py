"""Protects the writer: the bytes that Podman wrote, and those of a slow writer for any TOC."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.golden import (
    debian_cache,
    debian_layers,
    debian_toc,
    golden_cache,
    golden_toc,
    needs_debian,
    small_layers,
)
from vecache.cache.reader import CacheFile
from vecache.cache.validate import validate
from vecache.cache.writer import build_cache, pack_cache
from vecache.digest import EMPTY_SHA256, Algorithm
from vecache.errors import DigestError, TocError
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc


def sha(content: str, name: str = "sha256") -> str:
    return f"{name}:{hashlib.new(name, content.encode()).hexdigest()}"


def toc(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"version": 1, "entries": entries}).encode()


def file(name: str, content: str, **more: Any) -> dict[str, Any]:
    entry = {"type": "reg", "name": name, "size": len(content), "mode": 0o644}
    return {**entry, "digest": sha(content), **more}


def chunk(name: str, content: str, offset: int, **more: Any) -> dict[str, Any]:
    location = {"chunkOffset": offset, "chunkSize": len(content)}
    return {"type": "chunk", "name": name, "chunkDigest": sha(content), **location, **more}


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_writes_what_podman_wrote(store: str, layer: str) -> None:
    layout = "flat" if store == "flat" else "dir"
    assert build_cache(golden_toc(store, layer), layout) == golden_cache(store, layer)


@needs_debian
@pytest.mark.parametrize("layer", debian_layers())
def test_writes_what_podman_wrote_for_real_layers(layer: str) -> None:
    assert build_cache(debian_toc(layer)) == debian_cache(layer)


NAME = st.sampled_from(["a", "usr/bin/é", "usr/bin/b", "", "\\x2d\t\"'", "日本", "long/" * 40])
CONTENT = st.sampled_from(["", "x", "y" * 200, "z" * 20_000, *map(str, range(20))])
NUMBER = st.one_of(st.integers(-3, 300), st.sampled_from([2**63 - 1, -(2**63), 0o100755, 2**40]))
ENTRY = st.one_of(
    st.builds(file, NAME, CONTENT, uid=NUMBER, gid=NUMBER, mode=NUMBER, size=NUMBER),
    st.builds(
        lambda entry, part, size: {**entry, "chunkDigest": sha(part), "chunkSize": size},
        st.builds(file, NAME, CONTENT),
        CONTENT,
        NUMBER,
    ),
    st.builds(file, NAME, CONTENT, xattrs=st.dictionaries(NAME.filter(bool), NAME, max_size=3)),
    st.builds(chunk, NAME, CONTENT, NUMBER),
    st.builds(lambda name: {"type": "dir", "name": name}, NAME),
    st.builds(lambda name: {"type": "reg", "name": name, "size": 0}, NAME),
)


@given(st.lists(ENTRY, max_size=25), st.sampled_from(["dir", "flat"]))
def test_writes_what_the_oracle_writes(entries: list[dict[str, Any]], layout: str) -> None:
    if layout == "flat":
        entries = [e for e in entries if e["type"] != "reg" or e.get("digest") or not e["size"]]
    data = build_cache(toc(*entries), layout)
    assert data == oracle.write_cache(toc(*entries), layout)
    cache = CacheFile.parse(data)
    assert cache.is_sound()
    assert validate(cache) == []


def test_equal_digests_are_in_the_order_of_little_endian_offsets() -> None:
    cache = CacheFile.parse(build_cache(toc(*[file(f"{i:03}", "same") for i in range(150)])))
    wanted = np.frombuffer(oracle.pack_digest(sha("same")), np.uint8)
    rows = np.flatnonzero((cache.packed == wanted).all(axis=1))
    offsets = cache.tags["location_offset"][rows].tolist()
    assert offsets == sorted(offsets, key=lambda offset: offset.to_bytes(8, "little"))
    assert offsets != sorted(offsets)
    assert cache.find_tags(wanted[None]).tolist() == rows[:1].tolist()


def test_a_toc_without_regular_files_gives_the_68_bytes() -> None:
    data = build_cache(toc({"type": "dir", "name": "etc"}))
    assert data == oracle.OracleCache().pack()
    assert len(data) == 68
    assert build_cache(toc()) == data


def test_an_empty_file_has_the_digest_of_the_empty_input() -> None:
    cache = CacheFile.parse(build_cache(toc({"type": "reg", "name": "a", "size": 0})))
    assert cache.n_tags == 2
    assert oracle.pack_digest(EMPTY_SHA256) in [row.tobytes() for row in cache.packed]


@pytest.mark.parametrize(
    ("name", "which"), [("sha384", Algorithm.SHA384), ("sha512", Algorithm.SHA512)]
)
def test_chunks_alone_may_be_of_another_algorithm(name: str, which: Algorithm) -> None:
    entries = [chunk("a", str(i), i, chunkDigest=sha(str(i), name)) for i in range(9)]
    data = build_cache(toc(*entries))
    assert data == oracle.write_cache(toc(*entries), "dir")
    assert CacheFile.parse(data).algorithm is which
    assert CacheFile.parse(data).is_sound()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([file("a", "x", digest=sha("x", "sha512"))], "entry 0, 'a': 'sha512:.*one length"),
        ([file("a", "x"), chunk("b", "y", 0, chunkDigest=sha("y", "sha384"))], "entry 1, 'b'"),
        ([chunk("b", "y", 0, chunkDigest=sha("y", "sha384")), file("a", "x")], "here sha384"),
        (
            [file("a", "x"), file("b", "x", digest="sha256:abc")],
            "'sha256:abc': this is",
        ),
        ([file("a", "x", digest="x")], "entry 0, 'a': 'x': this is not a digest"),
        ([file("a", "x", chunkDigest="y")], "'y': this is not a digest"),
        ([chunk("b", "y", 0, chunkDigest=sha("y").upper())], "this is not a digest"),
        ([{"type": "dir", "name": "d", "digest": "z"}], "entry 0, 'd'"),
    ],
)
def test_digests_that_cannot_be_written_are_named(
    entries: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DigestError, match=message):
        build_cache(toc(*entries))


def test_a_digest_that_is_not_retained_is_not_checked() -> None:
    entries = [file("a", "x"), chunk("a", "y", 0), {"type": "symlink", "name": "l"}]
    assert CacheFile.parse(build_cache(toc(*entries, chunk("a", "y", 9)))).n_tags == 3


def test_unknown_layouts_and_broken_tocs_are_refused() -> None:
    with pytest.raises(ValueError, match="diagonal"):
        build_cache(toc(), "diagonal")
    with pytest.raises(TocError):
        build_cache(b"{")


def test_entries_and_bytes_give_the_same() -> None:
    data = golden_toc("dir", small_layers()[0][1])
    assert pack_cache(Toc.parse(data).entries, Layout.DIR) == build_cache(data, Layout.DIR)
