"""How does a result show itself in a notebook? As one small table, with everything escaped.

Names come from files of strangers: what looks like markup in them is text, and what a terminal
would act on is escaped as it is there. Long tables show their first rows and say so.
"""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from vecache.report.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["html_table"]


def html_table(
    caption: str,
    titles: Sequence[str],
    rows: Iterable[Sequence[str | bytes | int | None]],
    *,
    n_rows: int,
    n_shown: int = 20,
) -> str:
    """Write a table as HTML.

    Parameters
    ----------
    caption : str
        What it shows, with the figures that matter.
    titles : sequence of str
        One a column.
    rows : iterable of sequences of str, bytes, int or None
        One cell a column; numbers stand right and get thousands separators.
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
    head = "".join(f"<th>{_text(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in islice(rows, n_shown))
    more = f" (the first {n_shown:,} of {n_rows:,} rows)" if n_rows > n_shown else ""
    return f"<table><caption>{_text(caption)}{more}</caption><tr>{head}</tr>{body}</table>"


def _cell(cell: str | bytes | int | None) -> str:
    if isinstance(cell, int):
        return f'<td style="text-align: right">{cell:,}</td>'
    return f"<td>{'' if cell is None else _text(cell)}</td>"


def _text(text: str | bytes) -> str:
    return escape(printable(text))
