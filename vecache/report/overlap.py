"""Write an overlap as text: a matrix, or two lists where it does not fit the screen.

1. What there is, and how much of it would be left without repeats.
2. The matrix, with all bytes and the exclusive bytes of each member. Where it does not fit: the
   members with most exclusive bytes, and the pairs that share most. Where the figures of a pair do
   not fit either, only the metric that was asked for.
3. Of several stores: what each has, and what all of them have in common.
4. The files that are stored more than once.
5. The layers that are in an additional store, and those that are excluded, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.report.excluded import additional_notes, excluded_notes
from vecache.report.layer_names import NameColumn, fits, name_columns, render_named
from vecache.report.terminal import (
    Column,
    Screen,
    count,
    human_bytes,
    human_share,
    render_facts,
    render_table,
)
from vecache.text import display_width, printable, short_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vecache.arrays import I64
    from vecache.report.terminal import Cell
    from vecache.sharing.exclusive import Shares
    from vecache.sharing.matrix import Overlap, PairMatrices
    from vecache.sharing.repeated import RepeatedFiles

__all__ = ["METRICS", "matrix_texts", "overlap_text"]

METRICS = {
    "bytes": "Bytes of {}s in common",
    "files": "Number of files in common",
    "chunks": "Number of chunks in common",
    "jaccard": "Bytes of {}s in common, of what either has",
    "containment": "How much of each row its column has, by {}s",
}
"""Metric -> the matrix's title."""

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
_MAX_COLUMNS = 16
_MAX_PAIRS = 10
_MAX_MEMBERS = 10
_MAX_IMAGES = 3


def overlap_text(
    paths: Mapping[str, str],
    over: Overlap,
    shares: Shares,
    repeated: RepeatedFiles,
    metric: str,
    screen: Screen,
) -> str:
    """Write all parts; `shares` must be of the same contents, members and grain as `over`.

    `paths` is where the stores are, by host.
    """
    hosts = over.contents.hosts
    where = ", ".join(hosts) or paths[""]
    parts = ["\n".join(_summary(where, over, shares))]
    names = [over.contents.layer_names[each.record.key] for each in over.contents.layers]
    of_layers = name_columns(names if over.by == "layer" else [])
    parts += matrix_texts(over, shares.exclusive_bytes, metric, screen, of_layers)
    if hosts:
        parts.append(_hosts(paths, shares, screen))
    if len(repeated):
        title = screen.paint("Files stored more than once", "bold")
        parts.append(f"{title}; EXTRA is all copies but one:\n{_repeated(repeated, screen)}")
    notes = additional_notes(over.contents) + excluded_notes(over.contents)
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def matrix_texts(
    over: PairMatrices,
    exclusive_bytes: I64,
    metric: str,
    screen: Screen,
    of_layers: Sequence[NameColumn] = (),
) -> list[str]:
    """Write the matrix, or the two lists where it does not fit; nothing without members.

    `exclusive_bytes`, (n,) int64, is what no other member has; `of_layers` are the names of layers.
    """
    if not len(over):
        return []
    names = short_labels(over.labels, max_characters=None)
    matrix = _matrix(over, exclusive_bytes, names, metric, screen, of_layers)
    if matrix is not None:
        return matrix
    return [
        _most_exclusive(over, exclusive_bytes, names, screen, of_layers),
        _pairs(over, names, metric, screen),
    ]


def _summary(where: str, over: Overlap, shares: Shares) -> Iterator[str]:
    contents = over.contents
    by_files, by_chunks = shares.dedup
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
        have = "has" if n_sharing == 1 else "have"
        yield f"Of {n_pairs} of {over.by}s, {n_sharing:,} {have} {over.grain}s in common."


def _matrix(
    over: PairMatrices,
    exclusive_bytes: I64,
    names: list[str],
    metric: str,
    screen: Screen,
    of_layers: Sequence[NameColumn],
) -> list[str] | None:
    """Write the matrix, and the names of layers in it or below; None where it does not fit."""
    if len(over) > _MAX_COLUMNS:
        return None
    values, write = _cells(over, metric)
    columns = [
        Column(""),
        Column(over.by.upper()),
        Column("SIZE", "right"),
        Column("EXCLUSIVE", "right"),
        *(Column(f"#{number + 1}", "right") for number in range(len(over))),
    ]
    rows = [
        (
            f"#{i + 1}",
            names[i],
            human_bytes(int(over.bytes[i, i])),
            human_bytes(int(exclusive_bytes[i])),
            *(
                "·" if i == j else write(value) if value else "-"
                for j, value in enumerate(values[i].tolist())
            ),
        )
        for i in range(len(over))
    ]
    if not _fits(columns, rows, screen):
        return None
    title = screen.paint(METRICS[metric].format(over.grain), "bold")
    explained = f"{title}; EXCLUSIVE is what no other {_member(over)} has:\n"
    if fits(columns, rows, of_layers, screen.width or _PIPE_WIDTH):
        return [explained + render_named(columns, rows, of_layers, screen)]
    texts = [explained + render_table(columns, rows, screen)]
    if any(any(each.cells) for each in of_layers):
        texts.append(render_named(columns[:2], [row[:2] for row in rows], of_layers, screen))
    return texts


def _member(over: PairMatrices) -> str:
    """Return what a row is: nodes with the same layers are one."""
    return "row" if over.by == "node" else over.by


def _cells(over: PairMatrices, metric: str) -> tuple[Any, Callable[[Any], str]]:
    """Return the matrix of a metric, and how to write a number of it."""
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


def _name_column(over: PairMatrices, title: str) -> Column:
    # Ids differ in their beginning, names of images in their end.
    return Column(title, truncate="end" if over.by == "layer" else "start")


def _most_exclusive(
    over: PairMatrices,
    exclusive_bytes: I64,
    names: list[str],
    screen: Screen,
    of_layers: Sequence[NameColumn],
) -> str:
    """Write the members with most exclusive bytes."""
    import numpy as np  # noqa: PLC0415 - `vecache overlap --help` does without

    order = np.argsort(-exclusive_bytes, kind="stable")[:_MAX_MEMBERS]
    columns = [
        _name_column(over, over.by.upper()),
        Column("SIZE", "right"),
        Column("EXCLUSIVE", "right"),
        Column("SHARED", "right"),
    ]
    rows = [
        (
            names[i],
            human_bytes(int(over.bytes[i, i])),
            human_bytes(int(exclusive_bytes[i])),
            human_share(1 - exclusive_bytes[i] / over.bytes[i, i]) if over.bytes[i, i] else "-",
        )
        for i in order.tolist()
    ]
    top = [
        NameColumn(each.column, [each.cells[i] for i in order.tolist()] if each.cells else [])
        for each in of_layers
    ]
    title = screen.paint(f"{over.by.capitalize()}s with most exclusive bytes", "bold")
    table = render_named(columns, rows, top, screen)
    return f"{title}, {len(order):,} of {len(over):,}:\n{table}"


def _pairs(over: PairMatrices, names: list[str], metric: str, screen: Screen) -> str:
    """Write the pairs that share most."""
    import numpy as np  # noqa: PLC0415 - as above

    values, _ = _cells(over, metric)
    best = np.maximum(values, values.T)  # containment differs in the two directions
    a, b = np.triu_indices(len(over), 1)
    top = np.argsort(-best[a, b], kind="stable")[:_MAX_PAIRS]
    top = top[best[a[top], b[top]] > 0]
    columns = [
        _name_column(over, over.by.upper()),
        _name_column(over, "AND"),
        *(Column(name, "right") for titles in _PAIR_COLUMNS.values() for name in titles),
    ]
    rows = list(_pair_rows(over, names, a[top].tolist(), b[top].tolist()))
    if not _fits(columns, rows, screen):
        titles = _PAIR_COLUMNS[metric]
        chosen = [n for n, each in enumerate(columns) if n < 2 or each.title in titles]
        columns = [columns[n] for n in chosen]
        rows = [tuple(row[n] for n in chosen) for row in rows]
    title = screen.paint(f"Pairs with most {_PAIR_TITLES[metric]}", "bold")
    n_pairs = int((best[a, b] > 0).sum())
    return f"{title}, {len(top):,} of {n_pairs:,}:\n{render_table(columns, rows, screen)}"


def _pair_rows(
    over: PairMatrices, names: list[str], a: list[int], b: list[int]
) -> Iterator[tuple[str | int, ...]]:
    containment, jaccard = over.containment(), over.jaccard()
    for i, j in zip(a, b, strict=True):
        yield (
            names[i],
            names[j],
            human_bytes(int(over.bytes[i, j])),
            int(over.files[i, j]),
            int(over.chunks[i, j]),
            human_share(jaccard[i, j]),
            human_share(containment[i, j]),
            human_share(containment[j, i]),
        )


def _hosts(paths: Mapping[str, str], shares: Shares, screen: Screen) -> str:
    """Write what each host has, and what all have in common."""
    from vecache.sharing.exclusive import shares as find_shares  # noqa: PLC0415 - as above

    grain = shares.grain
    by_host = shares if shares.by == "host" else find_shares(shares.contents, "host", grain)
    columns = [
        Column("HOST", truncate="end"),
        Column("SIZE", "right"),
        Column("EXCLUSIVE", "right"),
        Column("STORE", truncate="start"),
    ]
    rows = [
        (printable(host), human_bytes(size), human_bytes(exclusive), printable(paths.get(host, "")))
        for host, size, exclusive in zip(
            by_host.labels, by_host.bytes.tolist(), by_host.exclusive_bytes.tolist(), strict=True
        )
    ]
    n_hosts = len(by_host)
    common = int(by_host.by_others[0, -1])  # what the first has that all others have
    largest = int(by_host.bytes.max())
    share = human_share(common / largest if largest else 0.0)
    which = "Both" if n_hosts == 2 else f"All {n_hosts:,} hosts"
    text = (
        f"{which} have {human_bytes(common)} of {grain}s in common, {share} of the largest."
        if n_hosts > 1
        else ""
    )
    title = screen.paint("Hosts", "bold")
    table = render_table(columns, rows, screen)
    return f"{title}; EXCLUSIVE is what no other host has:\n{table}\n{text}".rstrip("\n")


def _few(names: list[str]) -> str:
    """Write some names, and how many there are more."""
    short = ", ".join(short_labels(names)[:_MAX_IMAGES])
    more = len(names) - _MAX_IMAGES
    return f"{short} and {more:,} more" if more > 0 else short


def _repeated(repeated: RepeatedFiles, screen: Screen) -> str:
    columns = [
        Column("EXTRA", "right"),
        Column("SIZE", "right"),
        Column("COPIES", "right"),
        Column("LAYERS", "right"),
        Column("PATH", truncate="start"),
        Column("IMAGES", truncate="end"),
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            human_bytes(row["repeated_bytes"]),
            human_bytes(row["size"]),
            row["n_copies"],
            row["n_layers"],
            row["path"],
            _few(row["images"]),
        )
        for row in repeated.to_arrow().to_pylist()
    ]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return render_table(columns, rows, screen)
