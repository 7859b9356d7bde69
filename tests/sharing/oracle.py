"""What layers share, found with sets, dicts and loops: slow, and easy to check by reading.

Reads TOC documents with the standard library's JSON and imports nothing of the package.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from typing import Any

Held = dict[str, int]
"""Digest -> size."""


def grains(toc: bytes) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(digest, size) of every counted file and chunk of a TOC, with repeats, in TOC order."""
    files: list[tuple[str, int]] = []
    chunks: list[tuple[str, int]] = []
    for head, *rest in _runs(json.loads(toc)["entries"]):
        if head["type"] != "reg":
            continue
        size, digest = head.get("size", 0), head.get("digest", "")
        if size > 0 and digest:
            files.append((digest, size))
        parts = [head, *rest]
        if not any(part.get("chunkDigest") for part in parts):
            is_hole = all(part.get("chunkType") == "zeros" for part in parts)
            if size > 0 and digest and not is_hole:
                chunks.append((digest, size))
            continue
        left = size
        for part in parts:
            n_bytes = part.get("chunkSize", 0) or left
            left -= n_bytes
            if part.get("chunkDigest") and part.get("chunkType") != "zeros" and n_bytes > 0:
                chunks.append((part["chunkDigest"], n_bytes))
    return files, chunks


def _runs(entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Entries, each with the chunk entries behind it."""
    runs: list[list[dict[str, Any]]] = []
    for entry in entries:
        if entry["type"] == "chunk":
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def held(rows: list[tuple[str, int]]) -> Held:
    """Distinct contents."""
    contents: Held = {}
    for digest, size in rows:
        contents.setdefault(digest, size)
    return contents


def union(layers: list[Held]) -> Held:
    """What an image holds."""
    contents: Held = {}
    for layer in layers:
        contents |= layer
    return contents


def matrices(members: list[Held]) -> tuple[list[list[int]], list[list[int]]]:
    """(counts, bytes) of what each pair shares."""
    shared = [[set(a) & set(b) for b in members] for a in members]
    return (
        [[len(both) for both in row] for row in shared],
        [
            [sum(a[digest] for digest in both) for both in row]
            for a, row in zip(members, shared, strict=True)
        ],
    )


def sharing(members: list[Held]) -> tuple[list[int], list[Counter[int]], list[int]]:
    """Of each member: bytes that only it has; bytes by number of others; bytes new in order."""
    n_members = Counter(digest for member in members for digest in member)
    exclusive, by_others, new = [], [], []
    seen: set[str] = set()
    for member in members:
        histogram: Counter[int] = Counter()
        for digest, size in member.items():
            histogram[n_members[digest] - 1] += size
        exclusive.append(histogram[0])
        by_others.append(histogram)
        new.append(sum(size for digest, size in member.items() if digest not in seen))
        seen |= set(member)
    return exclusive, by_others, new


def greedy(target: Held, layers: list[Held]) -> tuple[list[tuple[int, int]], int]:
    """Steps (layer, bytes it adds) of a greedy cover, and the bytes that no layer has."""
    left = dict(target)
    steps: list[tuple[int, int]] = []
    while True:
        gains = [sum(size for digest, size in left.items() if digest in layer) for layer in layers]
        best = max(range(len(layers)), key=lambda number: (gains[number], -number), default=None)
        if best is None or gains[best] == 0:
            return steps, sum(left.values())
        steps.append((best, gains[best]))
        left = {digest: size for digest, size in left.items() if digest not in layers[best]}


def fewest(target: Held, layers: list[Held]) -> int:
    """The least number of layers that together hold all that any of them has of the target."""
    wanted = {digest for digest in target if any(digest in layer for layer in layers)}
    for n_layers in range(len(layers) + 1):
        for chosen in combinations(layers, n_layers):
            if wanted <= {digest for layer in chosen for digest in layer}:
                return n_layers
    raise AssertionError("all layers hold what they hold")
