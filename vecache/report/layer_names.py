"""Tables of layers with the names that people know: the images of each, and what made it.

IMAGES is the smallest image that has the layer, and the number of others: `base +2`. CREATED BY is
the instruction that made it. A column without any name is left out.

On a terminal that is too narrow, columns that matter less are left out first, and a line below the
table names them; then names are cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vecache.report.terminal import Column, Screen, render_table
from vecache.text import display_width, printable, short_command, short_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vecache.report.terminal import Cell
    from vecache.store.names import LayerNames

__all__ = [
    "NameColumn",
    "add_names",
    "command_column",
    "fits",
    "name_columns",
    "names_document",
    "render_named",
    "row_names",
]

_GAP = 2
_LEAST_WIDTH = 16  # of a column of names, if other columns have to go for it
_MAX_CHARACTERS = 80  # of a command, where no terminal cuts it


class NameColumn(NamedTuple):
    """A column of names, with a cell for each row."""

    column: Column
    cells: list[Cell]


def name_columns(names: Sequence[LayerNames]) -> list[NameColumn]:
    """Return the two columns of names, for one layer a row."""
    known = dict.fromkeys(name for each in names for name in each.image_names)
    whole = [name.removesuffix(":latest") for name in known]
    last = [name.rpartition("/")[2] for name in whole]
    is_clear = len(set(last)) == len(known)
    short = short_labels(last if is_clear else whole, max_characters=None)
    label = dict(zip(known, short, strict=True))
    images: list[Cell] = [
        f"{label[each.image_names[0]]}{_more(each)}" if each.image_names else None for each in names
    ]
    return [
        NameColumn(Column("IMAGES", truncate="start"), images),
        command_column([each.created_by for each in names]),
    ]


def command_column(created_by: Sequence[str]) -> NameColumn:
    """Return the column of what made each layer, for one layer a row."""
    cells: list[Cell] = [_cut(printable(short_command(each))) or None for each in created_by]
    return NameColumn(Column("CREATED BY", truncate="end"), cells)


def render_named(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    names: Sequence[NameColumn],
    screen: Screen,
    *,
    optional: Sequence[str] = (),
) -> str:
    """Lay out a table with columns of names at its end.

    `optional` are titles of columns, in the order in which they are left out. Rows below the named
    ones, such as sums, have no name.
    """
    names = [each for each in names if any(each.cells)]
    shown, hidden = list(range(len(columns))), []
    for title in optional if screen.width is not None else ():
        if _names_fit(columns, rows, shown, names, screen.width or 0):
            break
        shown = [number for number in shown if columns[number].title != title]
        hidden.append(title)
    least = sum(_GAP + len(each.column.title) for each in names)
    if hidden and _table_width(columns, rows, shown) + least > (screen.width or 0):
        shown, hidden = list(range(len(columns))), []  # rows become blocks, which have room
    table = render_table(
        [*(columns[number] for number in shown), *(each.column for each in names)],
        [
            (
                *(row[number] for number in shown),
                *(each.cells[n] if n < len(each.cells) else "" for each in names),
            )
            for n, row in enumerate(rows)
        ],
        screen,
    )
    if not hidden:
        return table
    note = f"Not shown at this width: {', '.join(hidden)}"
    return f"{table}\n{screen.paint(note, 'dim')}"


def fits(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    names: Sequence[NameColumn],
    width: int,
) -> bool:
    """Return whether a table fits with its names, which may be cut, but not to nothing."""
    named = [each for each in names if any(each.cells)]
    return _names_fit(columns, rows, range(len(columns)), named, width)


def names_document(names: LayerNames) -> dict[str, Any]:
    """Return what JSON documents say of the names of a layer."""
    return {"image_names": list(names.image_names), "created_by": names.created_by or None}


def add_names(table: Any, layer_names: Mapping[str, LayerNames]) -> Any:
    """Add the names of the layers in the column `layer_id` to a table; `host` may be one too."""
    import pyarrow as pa  # noqa: PLC0415 - `--help` does without

    from vecache.store.names import LayerNames  # noqa: PLC0415 - as above
    from vecache.store.records import with_host  # noqa: PLC0415 - as above

    hosts = table["host"].to_pylist() if "host" in table.column_names else [""] * len(table)
    ids = table["layer_id"].to_pylist()
    documents = [
        names_document(layer_names.get(with_host(host, each), LayerNames()))
        for host, each in zip(hosts, ids, strict=True)
    ]
    types = {"image_names": pa.list_(pa.string()), "created_by": pa.string()}
    for name, kind in types.items():
        table = table.append_column(name, pa.array([each[name] for each in documents], kind))
    return table


def row_names(rows: Sequence[Mapping[str, Any]]) -> list[LayerNames]:
    """Return the names of the layers of rows that have them."""
    from vecache.store.names import LayerNames  # noqa: PLC0415 - `--help` does without

    return [LayerNames(tuple(row["image_names"]), row["created_by"] or "") for row in rows]


def _names_fit(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    shown: Sequence[int],
    names: Sequence[NameColumn],
    width: int,
) -> bool:
    wanted = sum(_GAP + min(_width(each), _LEAST_WIDTH) for each in names)
    return _table_width(columns, rows, shown) + wanted <= width


def _more(names: LayerNames) -> str:
    n_more = len(names.image_names) - 1
    return f" +{n_more:,}" if n_more else ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _width(names: NameColumn) -> int:
    cells = (display_width(cell) for cell in names.cells if isinstance(cell, str))
    return max(len(names.column.title), *cells)


def _table_width(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], shown: Sequence[int]
) -> int:
    """Return the columns of a terminal that some columns of a table take, uncut."""
    some = [[row[number] for number in shown] for row in rows]
    lines = render_table([columns[number] for number in shown], some, Screen()).split("\n")
    return max(map(display_width, lines))
