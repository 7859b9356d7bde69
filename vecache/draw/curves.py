"""How do bytes grow? Unique bytes layer by layer, and bytes on the wire by ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from vecache.draw.picture import (
    ALONE,
    FONT_SIZE,
    INK,
    PALE,
    PLAIN_TEXT,
    SHARED,
    Picture,
    bytes_text,
    show_bytes,
    text_inches,
    thinned,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import I64

__all__ = ["limit_curve", "unique_curve"]

_LEFT, _HEAD, _HEIGHT, _RIGHT = 0.85, 0.8, 3.6, 1.9
_NARROWEST, _WIDEST = 5.5, 14.0
_LABEL_PITCH = 0.16


def unique_curve(
    n_bytes: I64, new_bytes: I64, labels: Sequence[str], *, title: str, note: str
) -> Picture:
    """Draw what members take with sharing and without, as they come one after another.

    Parameters
    ----------
    n_bytes : (n,) int64
        All that each has.
    new_bytes : (n,) int64
        What none before it has.
    labels : sequence of str
        One a member, shortened here.
    title, note : str
        What it shows, and how to read it.

    Returns
    -------
    Picture
        Two lines, and what is saved between them.
    """
    names = short_labels(labels)
    width = min(_WIDEST, max(_NARROWEST, 0.08 * len(names)))
    full_width = max(_LEFT + width + _RIGHT, text_inches([note]))
    picture = Picture(
        full_width, _HEAD + _HEIGHT + text_inches(names, FONT_SIZE - 1) + 0.2, title, note
    )
    axes = picture.add_axes(_LEFT, _HEAD, width, _HEIGHT)
    if not len(names):
        return picture
    place = np.arange(len(names))
    logical, unique = np.cumsum(n_bytes), np.cumsum(new_bytes)
    axes.fill_between(place, unique, logical, color=PALE, linewidth=0)
    dots = "o" if len(names) <= 40 else ""
    axes.plot(place, logical, color=ALONE, marker=dots, markersize=4)
    axes.plot(place, unique, color=SHARED, marker=dots, markersize=4)
    shown = thinned(len(names), width / len(names), _LABEL_PITCH)
    axes.set_xticks(shown, [names[row] for row in shown], rotation=90, **PLAIN_TEXT)
    axes.tick_params(axis="x", labelsize=FONT_SIZE - 1)
    _end_labels(axes, int(logical[-1]), int(unique[-1]))
    axes.set_ylim(0, max(int(logical[-1]) * 1.04, 1))
    axes.margins(x=0.02)
    show_bytes(axes, "y")
    return picture


def limit_curve(
    limit: I64, fetch_bytes: I64, slack_bytes: I64, *, limit_name: str, title: str, note: str
) -> Picture:
    """Draw what each limit costs on the wire.

    Parameters
    ----------
    limit : (n,) int64
        What each point allows, ascending.
    fetch_bytes : (n,) int64
        Bytes on the wire.
    slack_bytes : (n,) int64
        How many of them nobody needs.
    limit_name : str
        What the limit is of: the title of the axis.
    title, note : str
        What it shows, and how to read it.

    Returns
    -------
    Picture
        Bytes that are needed, and those that come along; the limit on a scale of powers.
    """
    width = max(_LEFT + 6.5 + _RIGHT, text_inches([note]))
    picture = Picture(width, _HEAD + _HEIGHT + 0.6, title, note)
    axes = picture.add_axes(_LEFT, _HEAD, 6.5, _HEIGHT)
    if not len(limit):
        return picture
    needed = fetch_bytes - slack_bytes
    is_bytes = "bytes" in limit_name
    axes.set_xscale("symlog", linthresh=1, base=10 if is_bytes else 2)
    axes.fill_between(limit, 0, needed, color=SHARED, alpha=0.25, linewidth=0, step="post")
    axes.fill_between(limit, needed, fetch_bytes, color=ALONE, alpha=0.45, linewidth=0, step="post")
    axes.plot(limit, fetch_bytes, color=INK, drawstyle="steps-post", linewidth=1.4)
    axes.set_xlim(int(limit[0]), max(int(limit[-1]), int(limit[0]) + 1))
    axes.set_ylim(0, max(int(fetch_bytes.max()) * 1.08, 1))
    axes.xaxis.set_major_formatter(
        EngFormatter("B") if is_bytes else StrMethodFormatter("{x:,.0f}")
    )
    axes.set_xlabel(limit_name, fontsize=FONT_SIZE, color=INK)
    axes.minorticks_off()
    show_bytes(axes, "y")
    for row, side in ((0, "left"), (-1, "right")):
        text = bytes_text(int(fetch_bytes[row]))
        where = (int(limit[row]), int(fetch_bytes[row]))
        axes.annotate(
            text,
            where,
            (4 if row == 0 else 6, 4 if row == 0 else 0),
            textcoords="offset points",
            ha="left",
            va="bottom" if side == "left" else "center",
            fontsize=FONT_SIZE,
            color=INK,
        )
    return picture


def _end_labels(axes: Axes, logical: int, unique: int) -> None:
    """Name both lines where they end, one above its end and one below, so that both can be read."""
    saved = 100 * (1 - unique / logical) if logical else 0.0
    texts = (
        (logical, f"each its own copy\n{bytes_text(logical)}", "bottom", ALONE),
        (unique, f"each content once\n{bytes_text(unique)}, {saved:.1f} % less", "top", SHARED),
    )
    for height, text, side, colour in texts:
        axes.annotate(
            text,
            (1, height),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va=side,
            color=colour,
            fontsize=FONT_SIZE,
        )
