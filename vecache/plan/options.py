"""The options of a plan: what it depends on besides the image and the layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vecache.toc.layout import Layout

__all__ = ["GAP_BYTES", "MAX_RANGES", "PlanOptions", "parse_ranges"]

MAX_RANGES = 1024
"""Most ranges of one request (upstream: maxNumberMissingChunks)."""

GAP_BYTES = 1024
"""Ranges at most this far apart are merged (upstream: autoMergePartsThreshold)."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How the pull is made.

    Attributes
    ----------
    reflink : bool
        Whether the file system of the store can share blocks. Without it no chunk is reused.
    hard_links : bool
        Whether files are reused by hard link (storage.conf `use_hard_links`), which takes a file of
        equal owner, mode and extended attributes.
    layout : Layout
        How the pulled layers are stored; FLAT is composefs.
    max_ranges : int
        Most ranges that one request asks for, at least 1.
    gap_bytes : int
        Gaps between ranges of at most this size are fetched too.
    whole_blobs : bool
        Whether the registry sends whole blobs only.
    accepted_ranges : int or None
        Most ranges that the registry accepts in one request; it answers 400 to more, and Podman
        asks again with fewer. None: it accepts any number.
    """

    reflink: bool = False
    hard_links: bool = False
    layout: Layout = Layout.DIR
    max_ranges: int = MAX_RANGES
    gap_bytes: int = GAP_BYTES
    whole_blobs: bool = False
    accepted_ranges: int | None = None

    def __post_init__(self) -> None:
        if self.max_ranges < 1:
            raise ValueError(f"max_ranges: found {self.max_ranges}, wanted at least 1")
        if self.accepted_ranges is not None and self.accepted_ranges < 1:
            raise ValueError(f"accepted_ranges: found {self.accepted_ranges}, wanted at least 1")
        if not 0 <= self.gap_bytes < 2**63:
            raise ValueError(f"gap_bytes: found {self.gap_bytes}, wanted 0 to 2**63 - 1")


def parse_ranges(text: str) -> dict[str, int | bool]:
    """Parse the value of `--ranges` into fields of `PlanOptions`.

    Examples
    --------
    >>> parse_ranges("one"), parse_ranges("whole"), parse_ranges("64")
    ({'max_ranges': 1}, {'whole_blobs': True}, {'max_ranges': 64})
    """
    if text == "whole":
        return {"whole_blobs": True}
    number = "1" if text == "one" else text
    if not re.fullmatch("[0-9]{1,9}", number) or not int(number):
        raise ValueError(f"ranges: found {text!r}, wanted a number from 1, `one` or `whole`")
    return {"max_ranges": int(number)}
