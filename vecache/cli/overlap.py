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

from vecache.cli.options import STORE_HELP, add_output, load_contents, show
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, Report
from vecache.report.overlap import METRICS, overlap_text

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vecache.draw.picture import Picture
    from vecache.sharing.exclusive import Shares
    from vecache.sharing.matrix import Overlap

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
        "--metric", choices=tuple(METRICS), default="bytes", help="what is shown (default: bytes)"
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
    from vecache.sharing.exclusive import repeated_files, shares
    from vecache.sharing.matrix import overlap

    contents, store = load_contents(args.store)
    where = str(args.store if store is None else store.root)
    over = overlap(contents, args.by, args.grain)
    alone = shares(contents, args.by, args.grain)
    show(
        Report(
            text=lambda screen: overlap_text(
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
        "by": over.by,
        "grain": over.grain,
        "labels": over.labels,
        "files": over.files,
        "chunks": over.chunks,
        "bytes": over.bytes,
        "exclusive_bytes": alone.exclusive_bytes,
        "new_bytes": alone.new_bytes,
        "cumulative_bytes": alone.cumulative_bytes,
        "dedup": {
            each.grain: {
                "logical_bytes": each.logical_bytes,
                "unique_bytes": each.unique_bytes,
                "ratio": each.ratio,
            }
            for each in alone.dedup
        },
        "excluded": [
            {"layer": each.record.id, "reason": each.reason} for each in over.contents.excluded
        ],
    }
