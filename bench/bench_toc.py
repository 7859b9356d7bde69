"""Time from the bytes of a TOC to columns, fingerprints, merged files and the cache file.

Synthetic TOCs of the shape of a Debian layer: 250 bytes an entry, every tenth file of three chunks.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from vecache.cache.reader import CacheFile
from vecache.cache.writer import build_cache
from vecache.toc.columns import build_entries
from vecache.toc.exact import parse_exact
from vecache.toc.files import TocFormat, flat_files, merge_entries
from vecache.toc.fingerprint import fingerprints
from vecache.toc.layout import Layout, select_retained
from vecache.toc.parse import Toc

SIZES = [10_000, 100_000]


def make_toc(n_entries: int) -> bytes:
    entries: list[dict[str, Any]] = []
    for number in range(n_entries):
        digest = "sha256:" + hashlib.sha256(b"%d" % number).hexdigest()
        entry: dict[str, Any] = {
            "type": ("reg", "reg", "symlink", "dir", "reg")[number % 5],
            "name": f"usr/share/doc/package-{number // 20}/file-{number}",
            "mode": 0o644 | (number % 3) << 6,
            "modtime": f"2024-01-{number % 28 + 1:02}T00:00:00Z",
        }
        if entry["type"] == "reg":
            entry |= {"size": number, "digest": digest, "offset": 100 * number}
            entry |= {"endOffset": 100 * number + 90}
        if number % 10 in (1, 2):  # behind a regular file
            entry = {"type": "chunk", "name": entry["name"], "chunkDigest": digest}
            entry |= {"offset": 100 * number, "endOffset": 100 * number + 90, "chunkSize": 512}
        if number % 1000 == 0:
            entry["xattrs"] = {"security.capability": "AQAAAgAgAAAAAAAAAAAAAAAAAAA="}
        entries.append(entry)
    document = {"version": 1, "entries": entries, "tarSplitDigest": "sha256:" + "0" * 64}
    return json.dumps(document, separators=(",", ":")).encode()


@pytest.fixture(params=SIZES, scope="module")
def document(request: pytest.FixtureRequest) -> bytes:
    return make_toc(request.param)


@pytest.fixture(scope="module")
def toc(document: bytes) -> Toc:
    return Toc.parse(document)


def bench_parse(benchmark: Any, document: bytes) -> None:
    toc = benchmark(Toc.parse, document)
    assert len(toc.entries) in SIZES


def bench_parse_exact(benchmark: Any, document: bytes) -> None:
    entries = benchmark(lambda: build_entries(parse_exact(document)))
    assert len(entries) in SIZES


def bench_parse_indented(benchmark: Any, document: bytes) -> None:
    """As eStargz writes a TOC."""
    indented = json.dumps(json.loads(document), indent="\t").encode()
    toc = benchmark(Toc.parse, indented)
    assert len(toc.entries) in SIZES


def bench_build_cache(benchmark: Any, document: bytes) -> None:
    benchmark.extra_info["toc_bytes"] = len(document)
    cache = CacheFile.parse(benchmark(build_cache, document))
    assert cache.is_sound()


def bench_select_retained(benchmark: Any, toc: Toc) -> None:
    retained = benchmark(select_retained, toc.entries, Layout.DIR)
    assert len(retained) == len(toc.entries) * 7 // 10


def bench_fingerprints(benchmark: Any, toc: Toc) -> None:
    rows = np.arange(len(toc.entries), dtype=np.int64)
    found = benchmark(fingerprints, toc.entries, rows)
    assert found.shape == (len(toc.entries), 32)


def bench_merge(benchmark: Any, toc: Toc) -> None:
    files = benchmark(merge_entries, toc.entries, TocFormat.ZSTD_CHUNKED, 10**9)
    assert len(files) == len(toc.entries) * 8 // 10


def bench_flat_files(benchmark: Any, toc: Toc) -> None:
    files = merge_entries(toc.entries, TocFormat.ZSTD_CHUNKED, 10**9)
    flat = benchmark(flat_files, files)
    assert len(flat) == len(toc.entries) * 5 // 10
