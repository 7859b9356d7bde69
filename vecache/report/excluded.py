"""List the layers that figures exclude, with the reason, and warn of those that were unreadable."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vecache.files import OWNER_ADVICE
from vecache.report.terminal import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.index.load import ExcludedLayer
    from vecache.sharing.contents import Contents

__all__ = ["additional_notes", "excluded_notes", "unread_documents", "unread_warning"]

_MOST_NAMED = 3


def excluded_notes(contents: Contents) -> list[tuple[str, str]]:
    """Return a name and a reason for each excluded layer, or for many with one reason at once."""
    return [
        (name, f"not counted: {reason}")
        for reason, ids in _ids_by_reason(contents.excluded).items()
        for name in (ids if len(ids) <= _MOST_NAMED else [count(len(ids), "layer")])
    ]


def additional_notes(contents: Contents) -> list[tuple[str, str]]:
    """Return a name and a note for layers that are counted, but that no pull reuses."""
    ids = [layer.id[:12] for layer in contents.layers if layer.id in contents.additional_ids]
    names = ids if len(ids) <= _MOST_NAMED else [count(len(ids), "layer")]
    note = "counted, but in an additional store: a pull never reuses its files"
    return [(name, note) for name in names]


def unread_documents(excluded: Iterable[ExcludedLayer]) -> list[dict[str, str]]:
    """Return the JSON documents of the layers that could not be read."""
    return [{"layer": layer.id, "reason": layer.reason} for layer in excluded if layer.is_unread]


def unread_warning(
    excluded: Iterable[ExcludedLayer], n_layers: int, effect: str, *, of_image: bool = False
) -> list[str]:
    """Return lines that say which layers of a store, or an image, could not be read; none if all.

    `effect` says what that does to the figures.
    """
    unread = [layer for layer in excluded if layer.is_unread]
    if not unread:
        return []
    layers = count(n_layers, "image layer" if of_image else "local layer")
    lines = [f"{len(unread):,} of {layers} could not be read: {effect}"]
    reasons = _ids_by_reason(unread)
    for reason, ids in reasons.items():
        name = ", ".join(ids) if len(ids) <= _MOST_NAMED else count(len(ids), "layer")
        lines.append(f"{name}: {reason.replace(f'; {OWNER_ADVICE}', '')}")
    if any(OWNER_ADVICE in reason for reason in reasons):
        lines.append(OWNER_ADVICE)
    if not of_image and any(OWNER_ADVICE not in reason for reason in reasons):
        lines.append("what is damaged can be pulled again, after `podman rmi` of its images")
    return lines


def _ids_by_reason(excluded: Iterable[ExcludedLayer]) -> dict[str, list[str]]:
    """Return the short ids of the layers with each reason, which does not repeat their paths."""
    from vecache.store import bigdata  # noqa: PLC0415 - imports numpy, and `--help` this module

    ids: dict[str, list[str]] = {}
    for layer in excluded:  # layers, not rows
        reason = layer.reason
        for key in (bigdata.CACHE_KEY, bigdata.TOC_KEY, bigdata.LAYER_DATA_KEY):
            file = re.escape(f"/{layer.id}/{bigdata.big_data_file_name(key)}")
            reason = re.sub(rf"\S*{file}(: {key})?", key, reason)
        ids.setdefault(reason, []).append(layer.id.removeprefix("sha256:")[:12])
    return ids
