"""Made-up stores for pictures: sets of members as columns, the same on every run."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vecache.arrays import F64, I64
    from vecache.draw.picture import Picture


class Sets(NamedTuple):
    """Sets of members, as the pictures take them."""

    start: I64
    member: I64
    n_bytes: I64
    labels: list[str]

    @property
    def total_bytes(self) -> I64:
        total = np.zeros(len(self.labels), np.int64)
        np.add.at(total, self.member, np.repeat(self.n_bytes, np.diff(self.start)))
        return total

    @property
    def jaccard(self) -> F64:
        shared = np.zeros((len(self.labels), len(self.labels)))
        for row, (low, high) in enumerate(zip(self.start[:-1], self.start[1:], strict=True)):
            members = self.member[low:high]
            shared[np.ix_(members, members)] += self.n_bytes[row]
        total = shared.diagonal()
        either = total[:, None] + total - shared
        return np.divide(shared, either, out=np.zeros(shared.shape), where=either > 0)


def make_sets(sets: dict[tuple[int, ...], int], labels: list[str]) -> Sets:
    """Write sets out as columns."""
    start = np.cumsum([0, *map(len, sets)], dtype=np.int64)
    member = np.array([row for members in sets for row in members], np.int64)
    return Sets(start, member, np.array(list(sets.values()), np.int64), labels)


def five_layers() -> Sets:
    """Two pairs that are similar, and one layer that has nothing."""
    sets = {
        (0,): 5_000_000,
        (1,): 1_000_000,
        (0, 1): 9_000_000,
        (2, 3): 7_000_000,
        (0, 1, 2): 2_000_000,
    }
    return make_sets(sets, [layer_id(row) for row in range(5)])


def many_layers(n_layers: int) -> Sets:
    """Families of layers, and a base that every second one has."""
    random = np.random.default_rng(n_layers)
    sets: dict[tuple[int, ...], int] = {
        (row,): int(random.integers(1, 10**8)) for row in range(n_layers)
    }
    for first in range(0, n_layers - 8, 8):
        family = np.arange(first, first + 8)
        for n_members in (2, 3, 5, 8):
            members = np.sort(random.choice(family, n_members, replace=False))
            sets[tuple(members.tolist())] = int(random.integers(1, 10**9))
    sets[tuple(range(0, n_layers, 2))] = 3 * 10**9
    return make_sets(sets, [layer_id(row) for row in range(n_layers)])


def layer_id(row: int) -> str:
    return hashlib.sha256(str(row).encode()).hexdigest()


def svg(picture: Picture) -> str:
    file = io.BytesIO()
    picture.write(file, "svg")
    return file.getvalue().decode()


def png_size(picture: Picture) -> tuple[int, int]:
    file = io.BytesIO()
    picture.write(file, "png")
    head = file.getvalue()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
