"""When each layer of a pull looks for local content, and which layers of its own image it finds.

Podman copies several layers at a time. A layer starts as soon as one of the slots is free, in the
order of the manifest; it looks for local content when it has read its own TOC; and it joins the
store when it and all layers before it are done. So what a layer finds of its own image is always
the first few of it: a number, here called `visible`.

- `visible_in_waves` takes all layers to last equally long: with N slots, each N layers find those
  before them. It needs nothing measured, and equals what was recorded where layers are alike.
- `visible_over_network` simulates the transfers over one link that all slots share.

Neither is exact: disks, processors and other traffic decide too. Bounds hold whatever the timing:
at best a layer finds all layers before it, at worst none.

Source: containers/image copy/single.go copyLayers; storage/storage_dest.go queueOrCommit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Transfer", "visible_in_waves", "visible_over_network"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one step of a layer puts on the wire."""

    n_bytes: int
    requests: int  # one after another


def visible_in_waves(n_layers: int, slots: int) -> list[int]:
    """Return how many layers each one finds, where all take equally long.

    Examples
    --------
    >>> visible_in_waves(8, 3)
    [0, 0, 0, 3, 3, 3, 6, 6]
    >>> visible_in_waves(4, 1)
    [0, 1, 2, 3]
    """
    return [layer // slots * slots for layer in range(n_layers)]


def visible_over_network(
    tocs: Sequence[Transfer],
    data: Callable[[int, int], Transfer],
    slots: int,
    bytes_per_second: float,
    round_trip_seconds: float,
) -> list[int]:
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
    visible = [0] * n_layers
    is_done = [False] * n_layers
    active: list[_Step] = []
    started = committed = 0
    while committed < n_layers:
        while len(active) < slots and started < n_layers:
            active.append(_Step.of(started, tocs[started], round_trip_seconds))
            started += 1
        finished = _advance(active, bytes_per_second)
        # Done layers are committed before others look: Podman commits in the thread that is done.
        for step in finished:
            is_done[step.layer] |= step.has_looked
        while committed < n_layers and is_done[committed]:
            committed += 1
        for step in finished:
            active.remove(step)
            if not step.has_looked:
                visible[step.layer] = committed
                transfer = data(step.layer, committed)
                looked = _Step.of(step.layer, transfer, round_trip_seconds)
                looked.has_looked = True
                active.append(looked)
    return visible


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
