"""Which layers do the figures leave out, and why? A line a layer, or one for many alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.report.terminal import count

if TYPE_CHECKING:
    from vecache.sharing.contents import Contents

__all__ = ["left_out_notes"]

_MOST_NAMED = 3


def left_out_notes(contents: Contents) -> list[tuple[str, str]]:
    """Say which layers are not counted, and why."""
    ids: dict[str, list[str]] = {}
    for each in contents.left_out:  # layers, not rows
        ids.setdefault(each.reason, []).append(each.record.id[:12])
    return [
        (name, f"not counted: {reason}")
        for reason, named in ids.items()
        for name in (named if len(named) <= _MOST_NAMED else [count(len(named), "layer")])
    ]
