"""How does an overlap look to people? As a matrix, or as two lists where there are too many.

1. What there is, and how much of it would be left without repeats.
2. The matrix, with what each holds in all and alone. Where it does not fit: those that cost most
   alone, and the pairs that share most.
3. The files that are stored more than once.
4. What was left out, and why.

On a screen too narrow for all figures of a pair, only what was asked for is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.report.excluded import excluded_notes
from vecache.report.terminal import (
    Column,
    Screen,
    count,
    display_width,
    human_bytes,
    human_share,
    render_facts,
    render_table,
)
from vecache.text import printable, short_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vecache.report.terminal import Cell
    from vecache.sharing.exclusive import RepeatedFiles, Shares
    from vecache.sharing.matrix import Overlap

__all__ = ["METRICS", "overlap_text"]

METRICS = {
    "bytes": "Bytes of {}s in common",
    "files": "Number of files in common",
    "chunks": "Number of chunks in common",
    "jaccard": "Bytes of {}s in common, of what either has",
    "containment": "How much of each row its column has, by {}s",
}
"""Name of a metric -> what the matrix shows."""

_PAIR_TITLES = {
    **{metric: f"{metric} in common" for metric in ("bytes", "files", "chunks")},
    "jaccard": "in common, of what either has",
    "containment": "of one in the other",
}
_PAIR_COLUMNS = {
    "bytes": ("BYTES",),
    "files": ("FILES",),
    "chunks": ("CHUNKS",),
    "jaccard": ("JACCARD",),
    "containment": ("OF FIRST", "OF SECOND"),
}
_PIPE_WIDTH = 132
_MOST_COLUMNS = 16
_MOST_PAIRS = 10
_MOST_MEMBERS = 10


def overlap_text(
    where: str,
    over: Overlap,
    alone: Shares,
    repeated: RepeatedFiles,
    metric: str,
    screen: Screen,
) -> str:
    """Write what there is to see."""
    parts = ["\n".join(_summary(where, over, alone))]
    names = short_labels(
        [label.removesuffix(":latest") for label in over.labels], max_characters=None
    )
    if len(over):
        matrix = _matrix(over, alone, names, metric, screen)
        if matrix is None:
            parts += [_costliest(over, alone, names, screen), _pairs(over, names, metric, screen)]
        else:
            parts.append(matrix)
    if len(repeated):
        title = screen.paint("Files stored more than once", "bold")
        parts.append(f"{title}; EXTRA is all copies but one:\n{_repeated(repeated, screen)}")
    notes = excluded_notes(over.contents)
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def _summary(where: str, over: Overlap, alone: Shares) -> Iterator[str]:
    contents = over.contents
    by_files, by_chunks = alone.dedup
    n_excluded = len(contents.excluded)
    yield (
        f"{printable(where)}: {count(len(contents.layers), 'layer')}"
        f"{f' and {n_excluded:,} not counted' if n_excluded else ''}, "
        f"{count(len(contents.images), 'image')}, {human_bytes(by_files.logical_bytes)} in files."
    )
    if by_files.logical_bytes:
        by_file, by_chunk = (
            f"{human_bytes(each.unique_bytes)} "
            f"({human_share(1 - each.unique_bytes / by_files.logical_bytes)} less)"
            for each in (by_files, by_chunks)
        )
        yield f"Without repeated files it would be {by_file},"
        yield f"without repeated chunks and holes {by_chunk}."
    if len(over) > 1:
        n_sharing = int(((over.bytes > 0).sum() - (over.bytes.diagonal() > 0).sum()) // 2)
        n_pairs = count(len(over) * (len(over) - 1) // 2, "pair")
        yield f"Of {n_pairs} of {over.by}s, {n_sharing:,} have {over.grain}s in common."


def _matrix(
    over: Overlap, alone: Shares, names: list[str], metric: str, screen: Screen
) -> str | None:
    """Write the whole matrix; None where it does not fit."""
    if len(over) > _MOST_COLUMNS:
        return None
    values, written = _cells(over, metric)
    columns = [
        Column(""),
        Column(over.by.upper()),
        Column("SIZE", "right"),
        Column("ALONE", "right"),
        *(Column(f"#{number + 1}", "right") for number in range(len(over))),
    ]
    rows = [
        (
            f"#{i + 1}",
            names[i],
            human_bytes(int(alone.bytes[i])),
            human_bytes(int(alone.exclusive_bytes[i])),
            *(
                "·" if i == j else written(value) if value else "-"
                for j, value in enumerate(values[i].tolist())
            ),
        )
        for i in range(len(over))
    ]
    if not _fits(columns, rows, screen):
        return None
    title = screen.paint(METRICS[metric].format(over.grain), "bold")
    explained = f"{title}; ALONE is what no other {over.by} has:\n"
    return explained + render_table(columns, rows, screen)


def _cells(over: Overlap, metric: str) -> tuple[Any, Callable[[Any], str]]:
    """Give the matrix that is shown, and say how one figure of it is written."""
    match metric:
        case "jaccard":
            return over.jaccard(), human_share
        case "containment":
            return over.containment(), human_share
        case "bytes":
            return over.bytes, human_bytes
        case _:
            return getattr(over, metric), "{:,}".format


def _fits(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], screen: Screen) -> bool:
    lines = render_table(columns, rows, Screen()).split("\n")
    return max(map(display_width, lines)) <= (screen.width or _PIPE_WIDTH)


def _name_column(over: Overlap, title: str) -> Column:
    """Of an id the beginning says which it is, of a name the end."""
    return Column(title, keep="start" if over.by == "layer" else "end")


def _costliest(over: Overlap, alone: Shares, names: list[str], screen: Screen) -> str:
    """Write what the costliest members have alone."""
    import numpy as np  # noqa: PLC0415 - `vecache overlap --help` does without

    order = np.argsort(-alone.exclusive_bytes, kind="stable")[:_MOST_MEMBERS]
    columns = [
        _name_column(over, over.by.upper()),
        Column("SIZE", "right"),
        Column("ALONE", "right"),
        Column("SHARED", "right"),
    ]
    rows = (
        (
            names[i],
            human_bytes(int(alone.bytes[i])),
            human_bytes(int(alone.exclusive_bytes[i])),
            human_share(1 - alone.exclusive_bytes[i] / alone.bytes[i]) if alone.bytes[i] else "-",
        )
        for i in order.tolist()
    )
    title = screen.paint(f"{over.by.capitalize()}s that cost most alone", "bold")
    return f"{title}, {len(order):,} of {len(over):,}:\n{render_table(columns, rows, screen)}"


def _pairs(over: Overlap, names: list[str], metric: str, screen: Screen) -> str:
    """Write the pairs that share most."""
    import numpy as np  # noqa: PLC0415 - as above

    values, _ = _cells(over, metric)
    best = np.maximum(values, values.T)  # containment is not the same both ways
    a, b = np.triu_indices(len(over), 1)
    top = np.argsort(-best[a, b], kind="stable")[:_MOST_PAIRS]
    top = top[best[a[top], b[top]] > 0]
    columns = [
        _name_column(over, over.by.upper()),
        _name_column(over, "AND"),
        *(Column(name, "right") for titles in _PAIR_COLUMNS.values() for name in titles),
    ]
    rows = list(_pair_rows(over, names, a[top].tolist(), b[top].tolist()))
    if not _fits(columns, rows, screen):
        kept = [n for n, each in enumerate(columns) if n < 2 or each.title in _PAIR_COLUMNS[metric]]
        columns = [columns[n] for n in kept]
        rows = [tuple(row[n] for n in kept) for row in rows]
    title = screen.paint(f"Pairs with most {_PAIR_TITLES[metric]}", "bold")
    n_pairs = int((best[a, b] > 0).sum())
    return f"{title}, {len(top):,} of {n_pairs:,}:\n{render_table(columns, rows, screen)}"


def _pair_rows(
    over: Overlap, names: list[str], a: list[int], b: list[int]
) -> Iterator[tuple[str | int, ...]]:
    contained, alike = over.containment(), over.jaccard()
    for i, j in zip(a, b, strict=True):
        yield (
            names[i],
            names[j],
            human_bytes(int(over.bytes[i, j])),
            int(over.files[i, j]),
            int(over.chunks[i, j]),
            human_share(alike[i, j]),
            human_share(contained[i, j]),
            human_share(contained[j, i]),
        )


def _repeated(repeated: RepeatedFiles, screen: Screen) -> str:
    columns = [
        Column("EXTRA", "right"),
        Column("SIZE", "right"),
        Column("COPIES", "right"),
        Column("LAYERS", "right"),
        Column("PATH", keep="end"),
    ]
    rows = (
        (
            human_bytes(row["repeated_bytes"]),
            human_bytes(row["size"]),
            row["n_copies"],
            row["n_layers"],
            row["path"],
        )
        for row in repeated.to_arrow().to_pylist()
    )
    return render_table(columns, rows, screen)
