"""Show what layers, or images, share with each other.

SIZE is all that a layer holds, each content once; EXCLUSIVE is what no other layer holds. The other
figures are what the row and the column have in common: bytes, files, chunks; or shares, by bytes:
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

_MAX_FILES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
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
    """Run the verb, print its result, and return the exit code."""
    from vecache.sharing.exclusive import shares
    from vecache.sharing.matrix import overlap

    contents, store = load_contents(args.store)
    where = str(args.store if store is None else store.path)
    over = overlap(contents, args.by, args.grain)
    member_shares = shares(contents, args.by, args.grain)
    show(
        Report(
            text=lambda screen: overlap_text(
                where,
                over,
                member_shares,
                member_shares.repeated_files(_MAX_FILES),
                args.metric,
                screen,
            ),
            document=lambda: _document(where, over, member_shares),
            table=over.to_arrow,
            picture=lambda file, form: _picture(over, member_shares, args).write(file, form),
        ),
        args,
    )
    return 0


def _picture(over: Overlap, member_shares: Shares, args: argparse.Namespace) -> Picture:
    if args.picture != "heatmap":
        return member_shares.plot(args.picture)
    return over.plot("containment" if args.metric == "containment" else "jaccard")


def _document(where: str, over: Overlap, member_shares: Shares) -> dict[str, Any]:
    return {
        "store": where,
        "by": over.by,
        "grain": over.grain,
        "labels": over.labels,
        "files": over.files,
        "chunks": over.chunks,
        "bytes": over.bytes,
        "exclusive_bytes": member_shares.exclusive_bytes,
        "new_bytes": member_shares.new_bytes,
        "cumulative_bytes": member_shares.cumulative_bytes,
        "dedup": {
            dedup.grain: {
                "logical_bytes": dedup.logical_bytes,
                "unique_bytes": dedup.unique_bytes,
                "ratio": dedup.ratio,
            }
            for dedup in member_shares.dedup
        },
        "excluded": [
            {"layer": layer.id, "reason": layer.reason} for layer in over.contents.excluded
        ],
    }
