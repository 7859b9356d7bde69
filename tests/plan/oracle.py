"""A pull as slow, plain Python: one file, chunk and gap at a time, in the order of the Go code.

Stands on the oracles of TOCs and of cache files, and on nothing of `vecache`.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any

from tests.oracle import OracleCache, find_tag, locate, pack_digest, read_name
from tests.toc.oracle import fingerprint, flat_files, merge, unmarshal

MAX_U64 = 2**64

CAUSES = ("hard_links", "no_reflink", "first_match", "flat_layout", "repeated")


class PullFailedError(Exception):
    """Go returns an error: a location is corrupt."""


@dataclass
class Part:
    """A missing part: a run of bytes in the blob, and what brings it."""

    offset: int
    length: int
    file: int
    is_local: bool = False
    n_chunks: int = 1


@dataclass
class OraclePull:
    """What one layer's pull comes to."""

    missing: int = 0
    total: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)
    chunks: dict[int, str] = field(default_factory=dict)


def merge_missing_chunks(parts: list[Part], target: int, threshold: int) -> list[Part]:
    """mergeMissingChunks, step by step; gaps are uint64."""

    def get_gap(parts: list[Part], i: int) -> int:
        return (parts[i].offset - parts[i - 1].offset - parts[i - 1].length) % MAX_U64

    if not parts:
        return []
    coalesced = [parts[0]]
    for i in range(1, len(parts)):
        previous, part = coalesced[-1], parts[i]
        if (
            get_gap(parts, i) == 0
            and not previous.is_local
            and not part.is_local
            and previous.file == part.file
        ):
            previous.length += part.length
            parts[i] = Part(part.offset, part.length, part.file)
        else:
            coalesced.append(part)
    gaps = []
    last, n_sources = -1, 0
    for i, part in enumerate(coalesced):
        if part.is_local:
            continue
        n_sources += 1
        if last >= 0:
            end = coalesced[last].offset + coalesced[last].length
            gaps.append(((part.offset - end) % MAX_U64, last, i))
        last = i
    gaps.sort(key=lambda gap: gap[0])
    is_merged = [False] * len(coalesced)
    remaining = n_sources - target
    for cost, start, end in gaps:
        if remaining < 0 and cost > threshold:
            continue
        for i in range(start + 1, end + 1):
            is_merged[i] = True
        remaining -= 1
    merged = [coalesced[0]]
    for i in range(1, len(coalesced)):
        if not is_merged[i]:
            merged.append(coalesced[i])
        else:
            end = coalesced[i].offset + coalesced[i].length
            merged[-1] = Part(merged[-1].offset, end - merged[-1].offset, -1)
    return merged


def as_ranges(parts: list[Part]) -> list[tuple[int, int]]:
    return [(p.offset, p.offset + p.length - 1) for p in parts if not p.is_local]


def find_first(caches: list[OracleCache], digest: bytes) -> tuple[int, int, bytes | None] | None:
    """Layer, offset and name of the first match; None where there is none."""
    for number, cache in enumerate(caches):
        row = find_tag(cache, digest) if cache.tags else -1
        if row >= 0:
            located = locate(cache, row)
            if located is None:
                raise PullFailedError
            return number, located[1], read_name(cache.fnames, located[0])
    return None


def find_file(caches: list[OracleCache], digest: bytes) -> int | None:
    """Layer of the first match, if that is at the start of a file and has a name."""
    found = find_first(caches, digest)
    return found[0] if found is not None and found[1] == 0 and found[2] else None


def holds(caches: list[OracleCache], digest: bytes) -> bool:
    """Whether any tag of any layer has the digest and a sound location."""
    return any(
        cache.tags[row].startswith(digest) and locate(cache, row) is not None
        for cache in caches
        for row in range(len(cache.tags))
    )


def file_list(toc: bytes, toc_offset: int, *, estargz: bool, layout: str) -> list[dict[str, Any]]:
    """The files that a pull walks through, with entry and chunks; `wanted` if they need bytes."""
    entries = unmarshal(toc)["entries"]
    files = merge(entries, estargz=estargz, toc_offset=toc_offset)
    if layout == "flat":
        files = flat_files(entries, files)
    for file in files:
        file["entry"] = entries[file["row"]]
        name = posixpath.basename(posixpath.normpath(file["name"]))
        file["is_whiteout"] = name.startswith(b".wh.")
        is_file = file["entry"]["type"] == b"reg" and file["entry"]["size"] != 0
        file["wanted"] = is_file and not file["is_whiteout"]
        for chunk in file["chunks"]:
            chunk["entry"] = entries[chunk["row"]]
    return files


def replay(
    files: list[dict[str, Any]],
    caches: list[OracleCache],
    *,
    reflink: bool,
    hard_links: bool,
    max_ranges: int = 1024,
    gap_bytes: int = 1024,
) -> OraclePull:
    """ApplyDiff, as far as it decides what is fetched."""
    pull = OraclePull()
    parts: list[Part] = []
    for number, file in enumerate(files):
        entry = file["entry"]
        if file["is_whiteout"] or entry["type"] in (b"dir", b"symlink", b"hardlink"):
            continue
        pull.total += entry["size"]
        if not file["wanted"]:
            continue
        query = b"sha256:" + fingerprint(entry) if hard_links else packed(entry["digest"])
        if query and find_file(caches, query) is not None:
            pull.files[number] = "reused"
            continue
        pull.files[number] = "fetched"
        pull.missing += entry["size"]
        for chunk in file["chunks"]:
            what = chunk_action(chunk, caches, reflink=reflink)
            pull.chunks[chunk["row"]] = what
            if what != "fetched":
                pull.missing -= chunk["size"]
            start = chunk["entry"]["offset"]
            parts.append(Part(start, chunk["end"] - start, number, what != "fetched"))
    pull.ranges = as_ranges(merge_missing_chunks(parts, max_ranges, gap_bytes))
    return pull


def chunk_action(chunk: dict[str, Any], caches: list[OracleCache], *, reflink: bool) -> str:
    if chunk["entry"]["chunktype"] == b"zeros":
        return "hole"
    digest = packed(chunk["entry"]["chunkdigest"])
    if reflink and digest and chunk["entry"]["chunktype"] == b"":
        # A corrupt location ends the pull, whether the chunk could be checked or not.
        found = find_first(caches, digest)
        if found is not None and found[1] >= 0 and chunk["entry"]["chunksize"] > 0:
            return "reused"
    return "fetched"


def packed(digest: bytes) -> bytes:
    return pack_digest(digest.decode()) if digest else b""


def best(
    files: list[dict[str, Any]],
    caches: list[OracleCache],
    complete: list[OracleCache],
    *,
    reflink: bool,
    hard_links: bool,
) -> list[int]:
    """Missing bytes of the replay, and after each of the five rules is lifted, in order."""
    pull = replay(files, caches, reflink=reflink, hard_links=hard_links)
    is_open = {number for number, what in pull.files.items() if what == "fetched"}
    saved = {row for row, what in pull.chunks.items() if what != "fetched"}
    steps = [pull.missing]

    def count() -> None:
        n_bytes = 0
        for number in is_open:
            n_bytes += files[number]["entry"]["size"]
            n_bytes -= sum(c["size"] for c in files[number]["chunks"] if c["row"] in saved)
        steps.append(min(n_bytes, steps[-1]))

    def close_files(is_found: Any) -> None:
        for number in list(is_open):
            digest = packed(files[number]["entry"]["digest"])
            if digest and is_found(digest):
                is_open.discard(number)

    def save_chunks(is_found: Any, *, least_size: int = 0) -> None:
        for number in is_open:
            for chunk in files[number]["chunks"]:
                if chunk["entry"]["chunksize"] < least_size:
                    continue
                digest = packed(chunk["entry"]["chunkdigest"])
                if digest and chunk["entry"]["chunktype"] == b"" and is_found(digest):
                    saved.add(chunk["row"])

    def quietly(find: Any) -> Any:
        def is_found(digest: bytes) -> bool:
            try:
                return find(caches, digest) is not None
            except PullFailedError:
                return False

        return is_found

    if hard_links:
        close_files(quietly(find_file))
    count()
    if not reflink:
        save_chunks(quietly(find_first), least_size=1)
    count()
    for layers in (caches, complete):
        close_files(lambda digest, layers=layers: holds(layers, digest))
        save_chunks(lambda digest, layers=layers: holds(layers, digest))
        count()
    _drop_repeats(files, is_open, saved)
    count()
    return steps


def _drop_repeats(files: list[dict[str, Any]], is_open: set[int], saved: set[int]) -> None:
    seen_files: set[bytes] = set()
    seen_chunks: set[bytes] = set()
    for number in sorted(is_open):
        digest = files[number]["entry"]["digest"]
        if digest in seen_files:
            is_open.discard(number)
            continue
        if digest:
            seen_files.add(digest)
        for chunk in files[number]["chunks"]:
            if chunk["row"] in saved or chunk["entry"]["chunktype"] != b"":
                continue
            key = chunk["entry"]["chunkdigest"]
            if not key and len(files[number]["chunks"]) == 1:
                key = digest
            if key in seen_chunks:
                saved.add(chunk["row"])
            elif key:
                seen_chunks.add(key)
