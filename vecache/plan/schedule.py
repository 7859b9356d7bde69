"""When each layer of a pull looks for local content, and which layers of its own image it finds.

Podman copies several layers at a time. A layer starts as soon as one of the slots is free, in the
order of the manifest; it looks for local content when it has read its own TOC; and it joins the
store when it and all layers before it are done. So what a layer finds of its own image is always
the first few of it: a number, here called `visible`.

- `visible_in_waves` takes all layers to last equally long: with N slots, each N layers find those
  before them. It needs nothing measured, and equals what was recorded where layers are alike.
- `visible_over_network` simulates the transfers over one link that all slots share.

A layer that is present when it starts takes no time, and stands as None.

Neither is exact: disks, processors and other traffic decide too. Bounds hold whatever the timing:
at best a layer finds all layers before it, at worst none.

Source: containers/image copy/single.go copyLayers; storage/storage_dest.go queueOrCommit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["IsPresent", "Transfer", "visible_in_waves", "visible_over_network"]

IsPresent: TypeAlias = "Callable[[int, int], bool]"
"""Whether a layer is not pulled if it starts when so many layers of its image are committed."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one step of a layer puts on the wire."""

    n_bytes: int
    requests: int  # one after another


def visible_in_waves(
    n_layers: int, slots: int, is_present: IsPresent | None = None
) -> list[int | None]:
    """Return how many layers each one finds, where all take equally long.

    Examples
    --------
    >>> visible_in_waves(8, 3)
    [0, 0, 0, 3, 3, 3, 6, 6]
    >>> visible_in_waves(4, 1)
    [0, 1, 2, 3]
    """
    visible: list[int | None] = []
    committed = n_pulled = 0
    for layer in range(n_layers):
        if n_pulled == slots:
            committed, n_pulled = layer, 0
        if is_present is not None and is_present(layer, committed):
            visible.append(None)
        else:
            visible.append(committed)
            n_pulled += 1
    return visible


def visible_over_network(
    tocs: Sequence[Transfer],
    data: Callable[[int, int], Transfer],
    slots: int,
    bytes_per_second: float,
    round_trip_seconds: float,
    is_present: IsPresent | None = None,
) -> list[int | None]:
    """Return how many layers each one finds, from a simulation of all transfers.

    `tocs` has one item per layer; `data(layer, visible)` returns what a layer fetches when it finds
    so many of its image.

    Examples
    --------
    A small layer is done before a large one looks, in a third slot that it frees:

    >>> sizes = [1, 100, 100]
    >>> visible_over_network(
    ...     [Transfer(1, 1)] * 3, lambda layer, _: Transfer(sizes[layer], 1), 2, 10.0, 0.01
    ... )
    [0, 0, 1]
    """
    n_layers = len(tocs)
    visible: list[int | None] = [None] * n_layers
    is_done = [False] * n_layers
    active: list[_Step] = []
    started = committed = 0
    while True:
        while len(active) < slots and started < n_layers:
            if is_present is not None and is_present(started, committed):
                is_done[started] = True
                committed = _count_committed(is_done, committed)
            else:
                active.append(_Step.of(started, tocs[started], round_trip_seconds))
            started += 1
        if not active:
            return visible
        finished = _advance(active, bytes_per_second)
        # Done layers are committed before others look: Podman commits in the thread that is done.
        for step in finished:
            is_done[step.layer] |= step.has_looked
        committed = _count_committed(is_done, committed)
        for step in finished:
            active.remove(step)
            if not step.has_looked:
                visible[step.layer] = committed
                transfer = data(step.layer, committed)
                looked = _Step.of(step.layer, transfer, round_trip_seconds)
                looked.has_looked = True
                active.append(looked)


def _count_committed(is_done: list[bool], committed: int) -> int:
    """Return how many layers are committed: those that are done, with all before them."""
    while committed < len(is_done) and is_done[committed]:
        committed += 1
    return committed


@dataclass(slots=True, eq=False)
class _Step:
    """A transfer under way: it waits for its round trips, then takes its share of the link."""

    layer: int
    wait: float
    n_bytes: float
    has_looked: bool = False

    @classmethod
    def of(cls, layer: int, transfer: Transfer, round_trip: float) -> _Step:
        return cls(layer, transfer.requests * round_trip, float(transfer.n_bytes))


def _advance(active: list[_Step], bytes_per_second: float) -> list[_Step]:
    """Let time pass until a wait or a transfer ends, and return the steps that are finished."""
    sending = [step for step in active if step.wait <= 0]
    share = bytes_per_second / max(len(sending), 1)
    seconds = min(step.wait if step.wait > 0 else step.n_bytes / share for step in active)
    for step in active:
        if step.wait > 0:
            step.wait = 0.0 if step.wait <= seconds else step.wait - seconds
        else:
            is_sent = step.n_bytes / share <= seconds
            step.n_bytes = 0.0 if is_sent else step.n_bytes - seconds * share
    return [step for step in active if step.wait <= 0 and step.n_bytes <= 0]
