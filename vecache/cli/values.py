"""Read the values of options; each function raises the error that argparse shows with the option.

Imports only what the parsers need, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "TRUTH",
    "check_platform",
    "parse_bool",
    "parse_count",
    "parse_count_from_one",
    "parse_scheduler",
    "parse_size",
    "path_ending_in",
]

_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))? ?([kmgtp]i?b|b)?", re.ASCII | re.IGNORECASE)
_MAX_SIZE_LENGTH = 30


TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""Words for a switch."""


def path_ending_in(endings: Sequence[str]) -> Callable[[str], str]:
    """Return a reader of file names with one of these endings."""

    def path(text: str) -> str:
        if os.path.splitext(text)[1].lower() not in endings:
            raise argparse.ArgumentTypeError(
                f"the ending of the file name chooses the format; wanted {' '.join(endings)}"
            )
        return text

    return path


def parse_scheduler(text: str) -> str:
    """Read the address of a Dask scheduler."""
    from vecache.fleet.cluster import check_scheduler

    try:
        return check_scheduler(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_count_from_one(text: str) -> int:
    """Read a whole number from 1."""
    if not (number := parse_count(text)):
        raise argparse.ArgumentTypeError("found 0, wanted a number from 1")
    return number


def parse_count(text: str) -> int:
    """Read a whole number."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}, wanted a whole number")
    return int(text)


def parse_size(text: str) -> int:
    """Read a number of bytes: `1500000`, `200MB` (decimal), `1.5GiB` (binary).

    The number is exact: a fraction of a byte is refused, not rounded.
    """
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > _MAX_SIZE_LENGTH:
        raise argparse.ArgumentTypeError(
            f"found {text[:40]!r}, wanted bytes, such as 1500000, 200MB or 1.5GiB"
        )
    whole, fraction, unit = match[1], match[2] or "", (match[3] or "B").lower()
    base, power = (1024 if "i" in unit else 1000), "bkmgtp".index(unit[0])
    factor: int = base**power
    divisor: int = 10 ** len(fraction)
    n_bytes, rest = divmod(int(whole + fraction) * factor, divisor)
    if rest:
        raise argparse.ArgumentTypeError(f"found {text!r}, which is not a whole number of bytes")
    return n_bytes


def parse_bool(text: str) -> bool:
    """Read the value of `--tls-verify`, as Podman takes it."""
    if text.lower() not in TRUTH:
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}, wanted true or false")
    return TRUTH[text.lower()]


def check_platform(text: str) -> str:
    """Check the value of `--platform`."""
    from vecache.image.manifest import parse_platform

    try:
        parse_platform(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
