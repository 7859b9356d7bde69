"""Show what layers, or images, share with each other.

SIZE is all that a layer holds, each content once; ALONE is what no other layer holds. The figures
behind are what the row and the column have in common: bytes, files, chunks; or shares, by bytes:
jaccard (in common, of what either has) and containment (in common, of what the row has).

--grain file compares whole files, which is what a pull without reflinks can reuse; --grain chunk
compares chunks. An image is the union of its layers. Where there are too many for a matrix, the
pairs that share most are shown; -o writes every pair. If the file ends in .svg or .png it draws
--picture instead: a clustered heatmap; upset, the largest sets of layers that share; a treemap of
who owns the bytes; or the curve of unique bytes in store order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.contents import STORE_HELP, count, left_out_notes, load_contents
from vecache.cli.options import add_output, show
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, Report
from vecache.report.table import Column, human_bytes, human_share, render_facts, render_table
from vecache.report.terminal import Screen, display_width
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from vecache.draw.picture import Picture
    from vecache.sharing.matrix import Overlap
    from vecache.sharing.repeated import RepeatedFiles
    from vecache.sharing.shares import Shares

_METRICS = {
    "bytes": "Bytes of {}s in common",
    "files": "Number of files in common",
    "chunks": "Number of chunks in common",
    "jaccard": "Bytes of {}s in common, of those that either has",
    "containment": "How much of each row its column has, by bytes of {}s",
}
"""Name -> what the matrix shows."""

_PAIR_TITLES = {
    **{metric: f"{metric} in common" for metric in ("bytes", "files", "chunks")},
    "jaccard": "in common, of what either has",
    "containment": "of one in the other",
}
_PIPE_WIDTH = 132
_MOST_COLUMNS = 16
_MOST_PAIRS = 10
_MOST_HOLDERS = 10
_MOST_FILES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb understands."""
    parser.add_argument("--store", metavar="PATH", help=STORE_HELP)
    parser.add_argument(
        "--by",
        choices=("layer", "image"),
        default="layer",
        help="what is compared (default: layer)",
    )
    parser.add_argument(
        "--grain",
        choices=("file", "chunk"),
        default="file",
        help="compare whole files or chunks (default: file)",
    )
    parser.add_argument(
        "--metric", choices=tuple(_METRICS), default="bytes", help="what is shown (default: bytes)"
    )
    parser.add_argument(
        "--picture",
        choices=("heatmap", "upset", "treemap", "curve"),
        default="heatmap",
        help="what -o FILE.svg or FILE.png draws (default: heatmap)",
    )
    add_output(parser, (*TABLE_ENDINGS, *PICTURE_ENDINGS))


def run(args: argparse.Namespace) -> int:
    """Do it, print it, and return the exit code."""
    from vecache.sharing.matrix import overlap
    from vecache.sharing.repeated import repeated_files
    from vecache.sharing.shares import shares

    contents, store = load_contents(args.store)
    where = str(args.store if store is None else store.root)
    over = overlap(contents, args.by, args.grain)
    alone = shares(contents, args.by, args.grain)
    show(
        Report(
            text=lambda screen: _text(
                where, over, alone, repeated_files(contents, _MOST_FILES), args.metric, screen
            ),
            document=lambda: _document(where, over, alone),
            table=over.to_arrow,
            picture=lambda file, form: _picture(over, alone, args).write(file, form),
        ),
        args,
    )
    return 0


def _picture(over: Overlap, alone: Shares, args: argparse.Namespace) -> Picture:
    if args.picture != "heatmap":
        return alone.plot(args.picture)
    return over.plot("containment" if args.metric == "containment" else "jaccard")


def _document(where: str, over: Overlap, alone: Shares) -> dict[str, Any]:
    return {
        "store": where,
        "by": str(over.by),
        "grain": str(over.grain),
        "labels": over.labels,
        "files": over.files,
        "chunks": over.chunks,
        "bytes": over.bytes,
        "own_bytes": alone.own_bytes,
        "new_bytes": alone.new_bytes,
        "cumulative_bytes": alone.cumulative_bytes,
        "dedup": {
            str(each.grain): {
                "logical_bytes": each.logical_bytes,
                "unique_bytes": each.unique_bytes,
                "ratio": each.ratio,
            }
            for each in alone.dedup
        },
        "left_out": [
            {"layer": each.record.id, "reason": each.reason} for each in over.contents.left_out
        ],
    }


def _text(
    where: str,
    over: Overlap,
    alone: Shares,
    repeated: RepeatedFiles,
    metric: str,
    screen: Screen,
) -> str:
    parts = [_summary(where, over, alone)]
    names = _short_names(over)
    if len(over):
        matrix = _matrix(over, alone, names, metric, screen)
        parts += [matrix] if matrix else _lists(over, alone, names, metric, screen)
    if len(repeated):
        title = screen.paint("Files stored more than once", "bold")
        parts.append(f"{title}; EXTRA is all copies but one:\n{_repeated(repeated, screen)}")
    notes = left_out_notes(over.contents)
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def _summary(where: str, over: Overlap, alone: Shares) -> str:
    by_files, by_chunks = alone.dedup
    n_sharing = int(((over.bytes > 0).sum() - (over.bytes.diagonal() > 0).sum()) // 2)
    n_pairs = len(over) * (len(over) - 1) // 2
    n_layers, n_images = len(over.contents.layers), len(over.contents.images)
    counted = f"{count(n_layers, 'layer')}, {count(n_images, 'image')}"
    by_file = f"{human_bytes(by_files.unique_bytes)} ({human_share(_saved(by_files))} less)"
    by_chunk = f"{human_bytes(by_chunks.unique_bytes)} ({human_share(_saved(by_chunks))} less)"
    lines = [
        f"{printable(where)}: {counted}, {human_bytes(by_files.logical_bytes)} in files.",
        f"Without repeated files it would be {by_file},",
        f"without repeated chunks {by_chunk}.",
        f"Of {count(n_pairs, 'pair')} of {over.by}s, {n_sharing:,} have {over.grain}s in common.",
    ]
    return "\n".join(lines)


def _saved(ratio: Any) -> float:
    return 1 - ratio.unique_bytes / ratio.logical_bytes if ratio.logical_bytes else 0.0


def _short_names(over: Overlap) -> list[str]:
    """Ids as far as Podman shows them; names of images without what all of them begin with."""
    if over.by == "layer":
        is_hex = all(len(label) == 64 for label in over.labels)
        return [label[:12] if is_hex else printable(label) for label in over.labels]
    return [printable(label.removesuffix(":latest")).rpartition("/")[2] for label in over.labels]


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


def _matrix(
    over: Overlap, alone: Shares, names: list[str], metric: str, screen: Screen
) -> str | None:
    """Write the whole matrix; None where it does not fit."""
    if len(over) > _MOST_COLUMNS:
        return None
    values, written = _cells(over, metric)
    columns = [
        Column(""),
        Column(str(over.by).upper()),
        Column("SIZE", "right"),
        Column("ALONE", "right"),
        *(Column(f"#{number + 1}", "right") for number in range(len(over))),
    ]
    rows = [
        (
            f"#{i + 1}",
            names[i],
            human_bytes(int(alone.bytes[i])),
            human_bytes(int(alone.own_bytes[i])),
            *(
                "·" if i == j else written(value) if value else "-"
                for j, value in enumerate(values[i].tolist())
            ),
        )
        for i in range(len(over))
    ]
    plain = render_table(columns, rows, Screen())
    width = max(map(display_width, plain.split("\n")))
    if width > (screen.width or _PIPE_WIDTH):
        return None
    return f"{screen.paint(_METRICS[metric].format(over.grain), 'bold')}:\n" + render_table(
        columns, rows, screen
    )


def _lists(
    over: Overlap, alone: Shares, names: list[str], metric: str, screen: Screen
) -> Iterator[str]:
    """Write what each holder costs alone, and the pairs that share most."""
    import numpy as np

    order = np.argsort(-alone.own_bytes, kind="stable")[:_MOST_HOLDERS]
    title = screen.paint(f"{str(over.by).capitalize()}s that cost most alone", "bold")
    yield f"{title}, {len(order):,} of {len(over):,}:\n" + render_table(
        [
            Column(str(over.by).upper(), keep="end"),
            Column("SIZE", "right"),
            Column("ALONE", "right"),
            Column("SHARED", "right"),
        ],
        [
            (
                names[i],
                human_bytes(int(alone.bytes[i])),
                human_bytes(int(alone.own_bytes[i])),
                human_share(1 - alone.own_bytes[i] / alone.bytes[i]) if alone.bytes[i] else "-",
            )
            for i in order.tolist()
        ],
        screen,
    )
    values, _ = _cells(over, metric)
    best = np.maximum(values, values.T)  # containment is not the same both ways
    a, b = np.triu_indices(len(over), 1)
    top = np.argsort(-best[a, b], kind="stable")[:_MOST_PAIRS]
    top = top[best[a[top], b[top]] > 0]
    title = screen.paint(f"Pairs with most {_PAIR_TITLES[metric]}", "bold")
    yield f"{title}, {len(top):,} of {int((best[a, b] > 0).sum()):,}:\n" + render_table(
        [
            Column(str(over.by).upper(), keep="end"),
            Column("AND", keep="end"),
            *(Column(name, "right") for name in ("BYTES", "FILES", "CHUNKS")),
            *(Column(name, "right") for name in ("JACCARD", "OF FIRST", "OF SECOND")),
        ],
        _pairs(over, names, a[top].tolist(), b[top].tolist()),
        screen,
    )


def _pairs(
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
    rows = repeated.to_arrow().to_pylist()
    return render_table(
        [
            Column("EXTRA", "right"),
            Column("SIZE", "right"),
            Column("COPIES", "right"),
            Column("LAYERS", "right"),
            Column("PATH", keep="end"),
        ],
        [
            (
                human_bytes(row["repeated_bytes"]),
                human_bytes(row["size"]),
                row["n_copies"],
                row["n_layers"],
                row["path"],
            )
            for row in rows
        ],
        screen,
    )
