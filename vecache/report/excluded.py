"""List the layers that figures exclude, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.report.terminal import count

if TYPE_CHECKING:
    from vecache.sharing.contents import Contents

__all__ = ["excluded_notes"]

_MOST_NAMED = 3


def excluded_notes(contents: Contents) -> list[tuple[str, str]]:
    """Return a name and a reason for each excluded layer, or for many with one reason at once."""
    ids: dict[str, list[str]] = {}
    for each in contents.excluded:  # layers, not rows
        ids.setdefault(each.reason, []).append(each.record.id[:12])
    return [
        (name, f"not counted: {reason}")
        for reason, named in ids.items()
        for name in (named if len(named) <= _MOST_NAMED else [count(len(named), "layer")])
    ]
