"""Show what layers, or images, share with each other.

SIZE is all that a layer holds, each content once; EXCLUSIVE is what no other layer holds. The other
figures are what the row and the column have in common: bytes, files, chunks; or shares, by bytes:
jaccard (in common, of what either has) and containment (in common, of what the row has).

--store can be given several times: stores, snapshots, nodes of fleets, data sets. Each row then
begins with its host, a layer that two stores have is a layer of each, and --by host compares the
stores. `vecache fleet overlap` compares many.

--grain file compares whole files, which is what a pull without reflinks can reuse; --grain chunk
compares chunks. An image is the union of its layers. Layers of additional stores count, though a
pull reuses nothing of them. Where there are too many for a matrix, the pairs that share most are
shown; -o writes every pair. If the file ends in .svg or .png it draws --picture instead: a
clustered heatmap; upset, the largest sets of layers that share; a treemap of who owns the bytes; or
the curve of unique bytes in store order.

Exit code: 0 all layers were read, 3 some could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.comparison import add_comparison, check_metric
from vecache.cli.options import (
    UsageError,
    add_output,
    add_store,
    is_picture,
    show,
    warn_of_unread,
)
from vecache.cli.several import load_several
from vecache.report.excluded import excluded_document
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, Report
from vecache.report.overlap import overlap_text

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vecache.draw.picture import Picture
    from vecache.sharing.exclusive import Shares
    from vecache.sharing.matrix import Overlap

_MAX_FILES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser, can_be_several=True)
    parser.add_argument(
        "--by",
        choices=("layer", "image", "host"),
        default="layer",
        help="what is compared (default: layer)",
    )
    add_comparison(parser)
    parser.add_argument(
        "--picture",
        choices=("heatmap", "upset", "treemap", "curve"),
        help="what -o FILE.svg or FILE.png draws (default: heatmap)",
    )
    add_output(parser, (*TABLE_ENDINGS, *PICTURE_ENDINGS))


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.sharing.exclusive import shares
    from vecache.sharing.matrix import overlap

    _check_options(args)
    stores = load_several(args.store)
    contents = stores.contents
    if args.by == "host" and not contents.hosts:
        raise UsageError("--by host compares stores: name several, each with --store")
    over = overlap(contents, args.by, args.grain)
    member_shares = shares(contents, args.by, args.grain)
    show(
        Report(
            text=lambda screen: overlap_text(
                stores.paths,
                over,
                member_shares,
                member_shares.repeated_files(_MAX_FILES),
                args.metric or "bytes",
                screen,
            ),
            document=lambda: {
                "schema": "vecache.overlap/1",
                **stores.document(),
                **_document(over, member_shares),
            },
            table=over.to_arrow,
            picture=lambda file, form: _picture(over, member_shares, args).write(file, form),
        ),
        args,
    )
    effect = "exclusive bytes are upper bounds, shared bytes and sums are lower bounds"
    if args.by == "image":
        effect = "images are counted without them, so no figure of an image that has one is a bound"
    return warn_of_unread(args, contents.excluded, len(contents.records), effect)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what would do nothing."""
    is_drawn = is_picture(args)
    if args.picture is not None and not is_drawn:
        raise UsageError("--picture needs -o FILE.svg or -o FILE.png")
    if args.metric is not None and is_drawn and args.picture not in (None, "heatmap"):
        raise UsageError(f"--metric: the picture {args.picture!r} has none; only a heatmap has")
    check_metric(args)


def _picture(over: Overlap, member_shares: Shares, args: argparse.Namespace) -> Picture:
    if args.picture not in (None, "heatmap"):
        return member_shares.plot(args.picture)
    return over.plot(args.metric or "jaccard")


def _document(over: Overlap, member_shares: Shares) -> dict[str, Any]:
    from vecache.report.layer_names import names_document

    contents = over.contents
    return {
        "by": over.by,
        "grain": over.grain,
        "labels": over.labels,
        **({"hosts": over.hosts} if over.hosts else {}),
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
        "layers": [
            {
                **({"host": each.record.host} if contents.hosts else {}),
                "layer": each.id,
                **names_document(contents.layer_names[each.record.key]),
            }
            for each in contents.layers
        ],
        "additional_layers": [
            layer.record.key
            for layer in contents.layers
            if layer.record.key in contents.additional_ids
        ],
        "excluded": [
            {**excluded_document(each), "is_unread": each.is_unread} for each in contents.excluded
        ],
    }
