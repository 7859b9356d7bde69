"""How do overlap and shares look? What goes on each picture, and how it is to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.draw.curves import unique_curve
from vecache.draw.heatmap import heatmap
from vecache.draw.treemap import treemap
from vecache.draw.upset import upset

if TYPE_CHECKING:
    from vecache.draw.picture import Picture
    from vecache.sharing.exclusive import Shares
    from vecache.sharing.matrix import Overlap

__all__ = ["draw_overlap", "draw_shares"]


def draw_overlap(over: Overlap, shown: str) -> Picture:
    """Draw a clustered heat map."""
    alike = over.jaccard()
    if shown == "jaccard":
        share = alike
        note = f"Per cent of the bytes of {over.grain}s that either has, which both have"
    elif shown == "containment":
        share = over.containment()
        note = f"Per cent of the row's bytes of {over.grain}s that the column has too"
    else:
        raise ValueError(f"shown: found {shown!r}, wanted 'jaccard' or 'containment'")
    return heatmap(
        share,
        1 - alike,
        over.bytes.diagonal(),
        over.labels,
        title=f"What is shared among {_count(over)}",
        note=f"{note}; those that are alike stand together.",
    )


def draw_shares(shares: Shares, kind: str) -> Picture:
    """Draw who holds what."""
    sets, who = shares.sets, f"{shares.by}s"
    columns = (sets.start, sets.member, sets.n_bytes, shares.labels)
    if kind == "treemap":
        return treemap(
            *columns,
            title=f"Who owns the bytes of {_count(shares)}",
            note=f"A tile is what exactly these {who} have; bytes of {shares.grain}s, each once.",
        )
    if kind == "upset":
        return upset(
            *columns,
            title=f"Who shares what among {_count(shares)}",
            note=f"Bytes of {shares.grain}s that exactly the {who} with a dot have.",
        )
    if kind == "curve":
        return unique_curve(
            shares.bytes,
            shares.new_bytes,
            shares.labels,
            title=f"Unique bytes of {_count(shares)}",
            note=f"Bytes of {shares.grain}s in store order; copies in one {shares.by} count once.",
        )
    raise ValueError(f"kind: found {kind!r}, wanted 'treemap', 'upset' or 'curve'")


def _count(result: Overlap | Shares) -> str:
    return f"{len(result):,} {result.by}{'' if len(result) == 1 else 's'}"
