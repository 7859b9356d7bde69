"""Draw curves of bytes: unique bytes as members are added, and fetched bytes by a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from vecache.draw.picture import (
    BLUE,
    DARK_ORANGE,
    FONT_SIZE,
    INK,
    ORANGE,
    PALE,
    PLAIN_TEXT,
    Picture,
    bytes_text,
    labelled_rows,
    show_bytes,
    text_inches,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import I64

__all__ = ["limit_curve", "unique_curve"]

_LEFT, _HEAD, _HEIGHT, _RIGHT = 0.85, 0.8, 3.6, 1.9
_MIN_WIDTH, _MAX_WIDTH = 5.5, 14.0
_MIN_LABEL_PITCH = 0.16


def unique_curve(
    n_bytes: I64, new_bytes: I64, labels: Sequence[str], *, title: str, note: str
) -> Picture:
    """Draw the cumulative bytes of members with and without sharing.

    Parameters
    ----------
    n_bytes : (n,) int64
        All bytes of each member.
    new_bytes : (n,) int64
        Bytes that no member before it has.
    labels : sequence of n str
        Shortened here.
    title, note : str
        See `Picture`.

    Returns
    -------
    Picture
        Two lines; the area between them is what sharing saves.
    """
    names = short_labels(labels)
    width = min(_MAX_WIDTH, max(_MIN_WIDTH, _MIN_LABEL_PITCH * len(names)))
    height = _HEAD + _HEIGHT + text_inches(names, FONT_SIZE - 1) + 0.2
    picture = Picture(_LEFT + width + _RIGHT, height, title, note)
    axes = picture.add_axes(_LEFT, _HEAD, width, _HEIGHT)
    if not len(names):
        return picture
    x = np.arange(len(names))
    logical, unique = np.cumsum(n_bytes), np.cumsum(new_bytes)
    axes.fill_between(x, unique, logical, color=PALE, linewidth=0)
    dots = "o" if len(names) <= 40 else ""
    axes.plot(x, logical, color=DARK_ORANGE, marker=dots, markersize=4)
    axes.plot(x, unique, color=BLUE, marker=dots, markersize=4)
    shown = labelled_rows(len(names), width / len(names), _MIN_LABEL_PITCH)
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
    """Draw the bytes fetched under each limit.

    Parameters
    ----------
    limit : (n,) int64
        The limit at each point, ascending.
    fetch_bytes : (n,) int64
        Bytes fetched.
    slack_bytes : (n,) int64
        How many of these are not needed.
    limit_name : str
        The title of the axis.
    title, note : str
        See `Picture`.

    Returns
    -------
    Picture
        Needed bytes and slack above them; the limit on a logarithmic scale.
    """
    picture = Picture(_LEFT + 6.5 + _RIGHT, _HEAD + _HEIGHT + 0.6, title, note)
    axes = picture.add_axes(_LEFT, _HEAD, 6.5, _HEIGHT)
    if not len(limit):
        return picture
    needed = fetch_bytes - slack_bytes
    is_bytes = "bytes" in limit_name
    axes.set_xscale("symlog", linthresh=1, base=10 if is_bytes else 2)
    axes.fill_between(limit, 0, needed, color=BLUE, alpha=0.25, linewidth=0, step="post")
    axes.fill_between(
        limit, needed, fetch_bytes, color=ORANGE, alpha=0.45, linewidth=0, step="post"
    )
    axes.plot(limit, fetch_bytes, color=INK, drawstyle="steps-post", linewidth=1.4)
    axes.set_xlim(int(limit[0]), max(int(limit[-1]), int(limit[0]) + 1))
    axes.set_ylim(0, max(int(fetch_bytes.max()) * 1.08, 1))
    axes.xaxis.set_major_formatter(
        EngFormatter("B") if is_bytes else StrMethodFormatter("{x:,.0f}")
    )
    axes.set_xlabel(limit_name, fontsize=FONT_SIZE, color=INK)
    axes.minorticks_off()
    axes.tick_params(axis="x", pad=7)  # below the lowest label of the other axis
    show_bytes(axes, "y")
    ends = ((0, (4, 4), "bottom"), (-1, (6, 0), "center"))
    for row, offset, vertical in ends[-len(limit) :]:  # of one point only the last
        axes.annotate(
            bytes_text(int(fetch_bytes[row])),
            (int(limit[row]), int(fetch_bytes[row])),
            offset,
            textcoords="offset points",
            ha="left",
            va=vertical,
            fontsize=FONT_SIZE,
            color=INK,
        )
    return picture


def _end_labels(axes: Axes, logical: int, unique: int) -> None:
    """Label both lines at their ends, the upper one above and the lower one below its end."""
    saved = 100 * (1 - unique / logical) if logical else 0.0
    texts = (
        (logical, f"each its own copy\n{bytes_text(logical)}", "bottom", DARK_ORANGE),
        (unique, f"each content once\n{bytes_text(unique)}, {saved:.1f} % less", "top", BLUE),
    )
    for height, text, vertical, colour in texts:
        axes.annotate(
            text,
            (1, height),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va=vertical,
            color=colour,
            fontsize=FONT_SIZE,
        )
