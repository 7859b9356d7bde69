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

__all__ = [
    "additional_notes",
    "excluded_document",
    "excluded_notes",
    "reason_notes",
    "unread_documents",
    "unread_warning",
]

_MOST_NAMED = 3


def reason_notes(reasons: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a name and a reason for each layer, given by id, or for many with one reason at once.

    Reasons do not repeat the paths of layers.
    """
    return [
        (name, reason)
        for reason, ids in _ids_by_reason(reasons).items()
        for name in (ids if len(ids) <= _MOST_NAMED else [count(len(ids), "layer")])
    ]


def excluded_notes(contents: Contents) -> list[tuple[str, str]]:
    """Return a name and a reason for each excluded layer, or for many with one reason at once."""
    return reason_notes(
        (each.record.key, f"not counted: {each.reason}") for each in contents.excluded
    )


def additional_notes(contents: Contents) -> list[tuple[str, str]]:
    """Return a name and a note for layers that are counted, but that no pull reuses."""
    note = "counted, but in an additional store: a pull never reuses its files"
    keys = [layer.record.key for layer in contents.layers]
    return reason_notes((each, note) for each in keys if each in contents.additional_ids)


def unread_documents(excluded: Iterable[ExcludedLayer]) -> list[dict[str, str]]:
    """Return the JSON documents of the layers that could not be read."""
    return [excluded_document(layer) for layer in excluded if layer.is_unread]


def excluded_document(layer: ExcludedLayer) -> dict[str, str]:
    """Return the JSON document of an excluded layer, with its host where there are several."""
    host = {"host": layer.record.host} if layer.record.host else {}
    return {**host, "layer": layer.id, "reason": layer.reason}


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
    reasons = _ids_by_reason((layer.record.key, layer.reason) for layer in unread)
    for reason, ids in reasons.items():
        name = ", ".join(ids) if len(ids) <= _MOST_NAMED else count(len(ids), "layer")
        lines.append(f"{name}: {reason.replace(f'; {OWNER_ADVICE}', '')}")
    if any(OWNER_ADVICE in reason for reason in reasons):
        lines.append(OWNER_ADVICE)
    if not of_image and any(OWNER_ADVICE not in reason for reason in reasons):
        lines.append("what is damaged can be pulled again, after `podman rmi` of its images")
    return lines


def _ids_by_reason(reasons: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the short keys of the layers with each reason, which does not repeat their paths."""
    from vecache.store import bigdata  # noqa: PLC0415 - imports numpy, and `--help` this module

    ids: dict[str, list[str]] = {}
    for layer_key, reason in reasons:  # layers, not rows
        host, mark, layer_id = layer_key.rpartition(": ")
        short = reason
        for key in (bigdata.CACHE_KEY, bigdata.TOC_KEY, bigdata.LAYER_DATA_KEY):
            file = re.escape(f"/{layer_id}/{bigdata.big_data_file_name(key)}")
            short = re.sub(rf"\S*{file}(: {key})?", key, short)
        ids.setdefault(short, []).append(f"{host}{mark}{layer_id.removeprefix('sha256:')[:12]}")
    return ids
