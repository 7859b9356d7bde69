"""The history of a series of images as text and as JSON.

Scripts read the document: keys are never renamed. What is not known is null: the bytes of a layer
that is fetched whole, and what the node of the first image has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from vecache.plan.best import Best
from vecache.plan.history import EXCESS, NOTHING, STATES, After
from vecache.plan.layer_plan import LayerState
from vecache.report.documents import options_document
from vecache.report.plan import advice, options_text
from vecache.report.terminal import (
    Column,
    count,
    human_bytes,
    human_share,
    render_table,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.arrays import I64
    from vecache.plan.history import History
    from vecache.report.terminal import Cell, Screen

__all__ = ["history_document", "history_lines", "history_text"]

_SCHEMA = "vecache.history/1"
_SUMS = ("total_bytes", "missing_bytes", "fetch_bytes", "slack_bytes", "toc_bytes", "requests")
_BETWEEN = ("missing_bytes", "fetch_bytes", "toc_bytes", "requests")
_AFTER: dict[str, After] = {"After the previous:": "previous", "After the first:": "first"}
_MAX_LAYERS = 25
_MAX_COLUMNS = 12
_COLUMNS = (
    Column("IMAGE", truncate="start"),
    Column("PRESENT", "right"),
    Column("PARTIAL", "right"),
    Column("WHOLE", "right"),
    Column("NOTHING", "right"),
    Column("PREVIOUS", "right"),
    Column("SAVED", "right"),
    Column("FIRST", "right"),
    Column("SAVED", "right"),
)
_LAYER_COLUMNS = (
    Column("LAYER", "right"),
    Column("PRESENT", "right"),
    Column("PARTIAL", "right"),
    Column("WHOLE", "right"),
    Column("FETCH", "right"),
    Column("MISSING", "right"),
    Column("BEST", "right"),
)


def history_document(found: History) -> dict[str, Any]:
    """Describe all pulls of a history."""
    return {
        "schema": _SCHEMA,
        "images": list(found.images),
        "options": options_document(found.options),
        "steps": list(_steps(found)),
    }


def history_lines(found: History) -> Iterator[dict[str, Any]]:
    """Describe the pulls of one image after another."""
    for step in _steps(found):
        yield {"schema": _SCHEMA, **step}


def _steps(found: History) -> Iterator[dict[str, Any]]:
    rows = {after: found.rows(after).tolist() for after in get_args(After)}
    saved = {after: found.saved(after).tolist() for after in get_args(After)}
    sizes = found.pulls["present"] + found.pulls["partial"] + found.pulls["whole"]
    ends = np.cumsum(sizes).tolist()
    between = {name: found.matrix(name) for name in _BETWEEN} if found.is_between else {}
    for number, image in enumerate(found.images):
        step: dict[str, Any] = {"image": image}
        for after in get_args(After):
            row = rows[after][number]
            layers = found.layers[ends[row] - sizes[row] : ends[row]]
            figures = _figures(found.pulls[row], found)
            figures["saved"] = saved[after][number]
            step[after] = figures | {"layers": [_layer(each, found) for each in layers]}
        if between:
            step["between"] = {name: values[number].tolist() for name, values in between.items()}
        yield step


def _figures(row: Any, found: History) -> dict[str, Any]:
    """Describe one pull, without its layers."""
    return {
        "after": None if row["after"] == NOTHING else found.images[row["after"]],
        **{name: int(row[name]) for name in _SUMS},
        **{
            f"{name}_bounds": [int(row[f"{end}_{name}_bytes"]) for end in ("least", "most")]
            for name in ("missing", "fetch")
        },
        "whole_bytes": int(row["whole_bytes"]),
        "states": {str(state): int(row[state]) for state in STATES},
        "best": _best(row),
    }


def _layer(row: Any, found: History) -> dict[str, Any]:
    state = STATES[row["state"]]
    is_whole = state is LayerState.WHOLE
    figures: dict[str, Any] = {name: int(row[name]) for name in _SUMS}
    if is_whole:
        figures |= {"total_bytes": None, "missing_bytes": None}
    return {
        "blob": found.blobs[row["blob"]],
        "state": str(state),
        **figures,
        "best": None if is_whole else _best(row),
    }


def _best(row: Any) -> dict[str, Any]:
    return {
        "missing_bytes": int(row["best_missing_bytes"]),
        "gap": {str(cause): int(row[name]) for name, cause in EXCESS.items()},
    }


def history_text(found: History, screen: Screen) -> str:
    """Lay out what each image costs, by cause and by layer, and what all together do."""
    names = short_labels(found.images, max_characters=None)
    title = f"What each of {count(len(found), 'image')} fetches, by what the node has"
    parts = [
        f"{title}\nnodes {options_text(found.options)}",
        render_table(_COLUMNS, _image_rows(found, names), screen),
    ]
    if causes := [name for name in EXCESS if found.figures(name)[1:].any()]:
        title = screen.paint("Missing after the previous image, by cause", "bold")
        columns = [Column(EXCESS[name].replace("_", " ").upper(), "right") for name in causes]
        columns = [_COLUMNS[0], Column("MISSING", "right"), Column("BEST", "right"), *columns]
        rows = _cause_rows(found, names, causes)
        parts.append(f"{title}:\n{render_table(columns, rows, screen)}")
    parts += [_layers_text(found, screen), *_matrix_text(found, names, screen)]
    return "\n\n".join([*parts, "\n".join(_summary(found, screen))])


def _image_rows(found: History, names: list[str]) -> Iterator[tuple[Cell, ...]]:
    states = [found.figures(str(state)).tolist() for state in STATES]
    fetch = {after: found.figures("fetch_bytes", after).tolist() for after in get_args(After)}
    saved = {after: found.saved(after).tolist() for after in ("previous", "first")}
    for number, name in enumerate(names):
        is_later = number > 0
        yield (
            name,
            *(counts[number] for counts in states),
            human_bytes(fetch["nothing"][number]),
            *(
                cell if is_later else None
                for after, shares in saved.items()
                for cell in (human_bytes(fetch[after][number]), human_share(shares[number]))
            ),
        )


def _cause_rows(found: History, names: list[str], causes: list[str]) -> Iterator[tuple[Cell, ...]]:
    columns = [found.figures(name) for name in ("missing_bytes", "best_missing_bytes", *causes)]
    is_known = (found.figures("partial") > 0) | (found.figures("whole") == 0)
    for number, values in enumerate(np.stack(columns, 1).tolist()):
        if number:
            yield (names[number], *(human_bytes(n) if is_known[number] else None for n in values))


def _layers_text(found: History, screen: Screen) -> str:
    """Lay out what each place in the images costs, over all pulls after the previous image."""
    layers = found.layers
    layers = layers[(layers["image"] > 0) & (layers["after"] == layers["image"] - 1)]
    n_places = int(layers["layer"].max(initial=0))
    present, partial, whole = (
        _sum_by_place(layers, layers["state"] == code, n_places) for code in range(len(STATES))
    )
    fetch, *known = (
        _sum_by_place(layers, layers[name], n_places)
        for name in ("fetch_bytes", "missing_bytes", "best_missing_bytes")
    )
    shown = np.sort(np.argsort(-fetch, kind="stable")[:_MAX_LAYERS])
    rows = (
        (
            place + 1,
            *(int(counts[place]) for counts in (present, partial, whole)),
            human_bytes(int(fetch[place])),
            *(
                human_bytes(int(n_bytes[place])) if partial[place] or not whole[place] else None
                for n_bytes in known
            ),
        )
        for place in shown.tolist()
    )
    more = f" ({len(shown)} of {n_places}, which fetch most)" if len(shown) < n_places else ""
    title = screen.paint("Layers from the bottom, after the previous image", "bold")
    return f"{title}, over all pulls{more}:\n{render_table(_LAYER_COLUMNS, rows, screen)}"


def _sum_by_place(layers: Any, values: Any, n_places: int) -> I64:
    total = np.zeros(n_places, np.int64)
    np.add.at(total, layers["layer"] - 1, values)
    return total


def _matrix_text(found: History, names: list[str], screen: Screen) -> Iterator[str]:
    """Yield the matrix of all pairs, where there is one and it is small."""
    if not found.is_between or not 2 < len(found) <= _MAX_COLUMNS:
        return
    fetched = found.matrix("fetch_bytes").tolist()
    columns = [Column(""), _COLUMNS[0]]
    columns += [Column(f"#{number + 1}", "right") for number in range(len(found))]
    rows = (
        (f"#{number + 1}", name, *map(human_bytes, fetched[number]))
        for number, name in enumerate(names)
    )
    title = screen.paint("Fetched for the row's image by a node that has the column's", "bold")
    yield f"{title}; #N for #N: by one that has nothing:\n{render_table(columns, rows, screen)}"


def _summary(found: History, screen: Screen) -> Iterator[str]:
    """Yield in sentences what the images after the first one cost all together."""
    alone = _sum(found, "fetch_bytes", "nothing")
    for title, after in _AFTER.items():
        fetch = _sum(found, "fetch_bytes", after)
        less = f" ({human_share((alone - fetch) / alone)} less than an empty node)" if alone else ""
        yield (
            f"{title:<20}{human_bytes(fetch)} of data{less} and "
            f"{human_bytes(_sum(found, 'toc_bytes', after))} of TOCs, "
            f"in {count(_sum(found, 'requests', after), 'request')}."
        )
    least, most = (human_bytes(_sum(found, f"{end}_fetch_bytes")) for end in ("least", "most"))
    if least != most:
        yield (
            f"{'By timing:':<20}{least} to {most} of data after the previous one, "
            f"{found.options.parallel} layers at a time."
        )
    if n_whole := _sum(found, "whole"):
        n_bytes = human_bytes(_sum(found, "whole_bytes"))
        yield f"{'Whole blobs:':<20}{n_whole:,} of {n_bytes} after the previous, not in MISSING."
    excess = {str(cause): _sum(found, name) for name, cause in EXCESS.items()}
    best = Best(_sum(found, "best_missing_bytes"), excess)
    if total := sum(excess.values()):
        yield (
            f"{'Best possible:':<20}{human_bytes(best.missing_bytes)} missing after the previous "
            f"one, {human_bytes(total)} less:"
        )
        yield from (f"  {screen.paint(words, 'dim')}" for words in advice(best))


def _sum(found: History, name: str, after: After = "previous") -> int:
    """Add up a figure of all images but the first."""
    return sum(found.figures(name, after)[1:].tolist())
