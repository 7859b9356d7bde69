"""Choose tags of a repository: from a list, and from ranges in version order.

`1.20..1.30,latest` names a range and a tag. A range takes the tags from the first to the last that
have the form of one of these two: the same text around as many numbers. So `1.20..1.30` takes 1.21
and not 1.21.3, nor 1.21-alpine, which are other series of the same repository.

In version order runs of digits compare as numbers, all else as text, and a tag comes before those
that it is the beginning of: 1.9, 1.9-rc, 1.9.1, 1.10.
"""

from __future__ import annotations

import re
from bisect import bisect
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vecache.errors import ImageNameError, ImageNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_SERIES",
    "Item",
    "TagChoice",
    "choose_tags",
    "has_range",
    "parse_tags",
    "version_key",
]

MAX_SERIES = 500
"""Most tags to choose."""

_MAX_CHARACTERS = 100_000
_MAX_COMPARED = 500  # of long tags each takes a millisecond or two
_MAX_SHOWN = 5
_PARTS = re.compile("[0-9]+|[^0-9]+")

Item: TypeAlias = tuple[str, str]
"""First and last tag of a range; the same for one tag."""


class TagChoice(NamedTuple):
    """The tags that were chosen."""

    tags: tuple[str, ...]  # in the order in which they were named; each once
    skipped: tuple[str, ...]  # those inside a range that have another form


def parse_tags(text: str) -> tuple[Item, ...]:
    """Parse `A`, `A..B` or several of these with commas between them.

    Examples
    --------
    >>> parse_tags("1.8..1.10,latest")
    (('1.8', '1.10'), ('latest', 'latest'))
    """
    if not isinstance(text, str):
        raise TypeError(f"tags: found {type(text).__name__}, wanted text such as 'latest,1.2..1.3'")
    if len(text) > _MAX_CHARACTERS:
        raise ImageNameError(f"tags: found {len(text):,} characters, wanted {_MAX_CHARACTERS:,}")
    items = []
    for item in text.split(","):
        first, dots, last = item.strip().partition("..")
        if not first or (dots and not last):
            wanted = "wanted tags and ranges such as 1.20..1.30,latest"
            raise ImageNameError(f"tags: found {item[:130]!r}, {wanted}")
        items.append((first, last or first))
    return tuple(items)


def has_range(items: Sequence[Item]) -> bool:
    """Return whether the tags must be listed to know which are chosen."""
    return any(first != last for first, last in items)


def choose_tags(items: Sequence[Item], listed: Sequence[str], where: str) -> TagChoice:
    """Choose the tags; a tag that is named alone need not be in the list."""
    chosen: dict[str, None] = {}
    skipped: dict[str, None] = {}
    for first, last in items:
        if first == last:
            chosen[first] = None
            continue
        between = _tags_between(first, last, listed, where)
        forms = {_form(first), _form(last)}
        for tag in between:
            (chosen if _form(tag) in forms else skipped)[tag] = None
    if len(chosen) > MAX_SERIES:
        raise ImageNameError(f"{where}: found {len(chosen):,} such tags, wanted {MAX_SERIES:,}")
    return TagChoice(tuple(chosen), tuple(tag for tag in skipped if tag not in chosen))


def version_key(tag: str) -> tuple[object, ...]:
    """Return what sorts tags in version order.

    Examples
    --------
    >>> sorted(["1.10", "1.9.1", "v2", "1.9"], key=version_key)
    ['1.9', '1.9.1', '1.10', 'v2']
    """
    parts = []
    for part in _PARTS.findall(tag):
        digits = part.lstrip("0") if part[0] in "0123456789" else None
        # By length first, as numbers compare: a number may have any number of digits.
        parts.append((1, 0, part) if digits is None else (0, len(digits), digits))
    return tuple(parts), tag  # 1.01 and 1.1 are as good as equal


def _tags_between(first: str, last: str, listed: Sequence[str], where: str) -> list[str]:
    for end in (first, last):
        if end not in listed:
            similar = ", ".join(map(repr, _similar(end, listed))) or "none is similar"
            raise ImageNotFoundError(
                f"{where}: no tag {end!r} among {len(listed):,}; tags there: {similar}"
            )
    low, high = version_key(first), version_key(last)
    if low > high:
        raise ImageNameError(f"{first}..{last}: found the later tag first, wanted {last}..{first}")
    keys = {tag: version_key(tag) for tag in listed}
    return sorted((tag for tag, key in keys.items() if low <= key <= high), key=keys.__getitem__)


def _similar(wanted: str, listed: Sequence[str]) -> list[str]:
    """Return tags that somebody may have meant: longer ones, neighbours, or similar texts."""
    longer = sorted((tag for tag in listed if tag.startswith(wanted)), key=version_key)
    if longer:
        return longer[:_MAX_SHOWN]
    form = _form(wanted)
    alike = sorted((tag for tag in listed if _form(tag) == form), key=version_key)
    at = bisect([version_key(tag) for tag in alike], version_key(wanted))
    neighbours = alike[max(at - _MAX_SHOWN // 2, 0) :][:_MAX_SHOWN]
    return neighbours or get_close_matches(wanted, listed[:_MAX_COMPARED], _MAX_SHOWN)


def _form(tag: str) -> str:
    """Return a tag with a 0 for each number."""
    return re.sub("[0-9]+", "0", tag)
