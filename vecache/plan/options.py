"""The options of a plan: what it depends on besides the image and the layers."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from vecache.store.settings import DEFAULT_PARALLEL
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vecache.store.graphroot import Store

__all__ = [
    "GAP_BYTES",
    "MAX_RANGES",
    "PlanOptions",
    "chosen_options",
    "parse_ranges",
    "pull_options",
]

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
        Whether the registry ignores which range is asked for, and sends the blob from its start.
    accepted_ranges : int or None
        Most ranges that the registry accepts in one request; it answers 400 to more, and Podman
        asks again with fewer. None: it accepts any number.
    parallel : int
        Layers that are copied at a time, at least 1 (containers.conf `image_parallel_copies`).
    partial : bool
        Whether layers are pulled in part at all (storage.conf `enable_partial_images`).
    estargz : bool
        Whether eStargz layers are (`insecure_allow_unpredictable_image_contents`).
    unpredictable : bool or None
        Whether the same setting leaves all layers unchecked, so that those pulled in part are
        identified by their TOC. None: if any layer of the store was pulled so.
    convert : bool
        Whether layers without a TOC are converted and get one (`convert_images`).
    bytes_per_second : float or None
        Bandwidth, from which it is simulated when each layer is done. None: all layers are taken to
        last equally long.
    round_trip_seconds : float
        From a request to the first byte of its answer, for the simulation.
    """

    reflink: bool = False
    hard_links: bool = False
    layout: Layout = Layout.DIR
    max_ranges: int = MAX_RANGES
    gap_bytes: int = GAP_BYTES
    whole_blobs: bool = False
    accepted_ranges: int | None = None
    parallel: int = DEFAULT_PARALLEL
    partial: bool = True
    estargz: bool = True
    unpredictable: bool | None = None
    convert: bool = False
    bytes_per_second: float | None = None
    round_trip_seconds: float = 0.05

    def __post_init__(self) -> None:
        for name in ("reflink", "hard_links", "whole_blobs", "partial", "estargz", "convert"):
            value = getattr(self, name)
            if value not in (True, False):  # "no" would count as yes
                raise TypeError(f"{name}: found {value!r}, wanted True or False")
        for name in ("parallel", "max_ranges", "accepted_ranges"):
            value = getattr(self, name)
            if value is None and name == "accepted_ranges":
                continue
            if not isinstance(value, SupportsIndex):
                raise TypeError(f"{name}: found {value!r}, wanted a whole number")
            if operator.index(value) < 1:
                raise ValueError(f"{name}: found {value}, wanted at least 1")
        if not 0 <= self.gap_bytes < 2**63:
            raise ValueError(f"gap_bytes: found {self.gap_bytes}, wanted 0 to 2**63 - 1")


def pull_options(
    store: Store | None,
    *,
    reflink: bool | Literal["auto"] | None = None,
    hard_links: bool | None = None,
    layout: str | None = None,
    parallel: int | None = None,
    partial: bool | None = None,
    **more: Any,
) -> PlanOptions:
    """Return the options of a pull into a store: what is None, its machine decides."""
    if isinstance(reflink, str) and reflink != "auto":
        raise ValueError(f'reflink: found {reflink!r}, wanted True, False, "auto" or None')
    known = None if reflink == "auto" else reflink
    if store is None:
        options = PlanOptions(reflink=bool(known), **more)
    else:
        settings = store.pull_settings(reflink=known)
        options = PlanOptions(
            **{each.name: getattr(settings, each.name) for each in fields(settings)},
            unpredictable=settings.estargz if store.is_own else None,
            **more,
        )
    named: dict[str, Any] = {
        "hard_links": hard_links,
        "layout": None if layout is None else Layout(layout),
        "parallel": parallel,
        "partial": partial,
    }
    return replace(options, **{name: value for name, value in named.items() if value is not None})


def chosen_options(
    options: PlanOptions | None, store: Store | None, settings: Mapping[str, Any]
) -> PlanOptions:
    """Return the options that are given, or those of the settings; never both."""
    if options is None:
        return pull_options(store, **settings)
    if settings:
        raise TypeError(f"options: found them and {', '.join(settings)}, wanted one of the two")
    return options


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
