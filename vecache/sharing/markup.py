"""How do results of this room show themselves in a notebook? As one small table, all escaped."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["html_table"]


def html_table(
    caption: str,
    titles: Sequence[str],
    rows: Iterable[Sequence[str | int | float | None]],
    *,
    n_rows: int,
    n_shown: int = 20,
) -> str:
    """Write a table as HTML.

    Parameters
    ----------
    caption : str
        What it shows.
    titles : sequence of str
        One a column.
    rows : iterable of sequences of str, int, float or None
        One cell a column. Whole numbers get thousands separators, others are shares of 1.
    n_rows : int
        How many rows there are, whatever `rows` yields.
    n_shown : int
        How many are written.

    Returns
    -------
    str
        One `<table>` element.

    Examples
    --------
    >>> html_table("1 layer", ["id"], [["<b>"]], n_rows=1)
    '<table><caption>1 layer</caption><tr><th>id</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in islice(rows, n_shown))
    more = f" (the first {n_shown:,} of {n_rows:,} rows)" if n_rows > n_shown else ""
    return f"<table><caption>{escape(caption)}{more}</caption><tr>{head}</tr>{body}</table>"


def _cell(cell: str | float | None) -> str:
    if cell is None or isinstance(cell, str):
        return f"<td>{escape(cell or '')}</td>"
    text = f"{cell:,}" if isinstance(cell, int) else f"{cell:.1%}"
    return f'<td style="text-align: right">{text}</td>'
