"""How do ids of 64 digits and names of images fit beside a row? Shortened, and some left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MOST_CHARACTERS", "short_labels", "thinned"]

MOST_CHARACTERS = 28
_DIGEST = re.compile(r"(?:\w+:)?([0-9a-f]{32,})")
_DIGEST_CHARACTERS = 12


def short_labels(labels: Sequence[str]) -> list[str]:
    r"""Shorten labels to what people tell them apart by.

    Parameters
    ----------
    labels : sequence of str
        Ids, digests, names of images, names of files.

    Returns
    -------
    list of str
        Of ids and digests the first 12 digits; of names what comes behind the folders that all
        have in common, and of long ones the end. Where two would look alike they are numbered. What
        cannot be shown is escaped.

    Examples
    --------
    >>> short_labels(["sha256:" + "ab" * 32, "a\nb", "registry.example.com/project/app:latest"])
    ['abababababab', 'a\\nb', '…mple.com/project/app:latest']
    >>> short_labels(["localhost:5000/team/base:1", "localhost:5000/team/app:2"])
    ['base:1', 'app:2']
    """
    n_common = _common_folder(labels) if len(labels) > 1 else 0
    short: list[str] = []
    taken: set[str] = set()
    for label in labels:  # labels, not rows
        text = unique = _short(label[n_common:])
        number = 1
        while unique in taken:
            number += 1
            unique = f"{text} ({number})"
        taken.add(unique)
        short.append(unique)
    return short


def thinned(n_labels: int, pitch: float, least: float) -> range:
    """Choose which rows get their label.

    Parameters
    ----------
    n_labels : int
        How many rows there are.
    pitch : float
        How far apart they are.
    least : float
        How far apart labels must be, in the same unit.

    Returns
    -------
    range
        All rows, or each second, third and so on.

    Examples
    --------
    >>> list(thinned(5, 0.3, 0.1)), list(thinned(5, 0.06, 0.1))
    ([0, 1, 2, 3, 4], [0, 2, 4])
    """
    step = max(1, -int(-least // pitch)) if pitch > 0 else 1
    return range(0, n_labels, step)


def _common_folder(labels: Sequence[str]) -> int:
    """Count the characters up to the last slash that all labels have in common."""
    low, high = min(labels), max(labels)
    n_alike = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low.rfind("/", 0, n_alike) + 1


def _short(label: str) -> str:
    digest = _DIGEST.fullmatch(label)
    if digest:
        return digest[1][:_DIGEST_CHARACTERS]
    text = printable(label)
    return text if len(text) <= MOST_CHARACTERS else f"…{text[1 - MOST_CHARACTERS :]}"
