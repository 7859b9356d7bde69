"""Show what the nodes of a fleet have in common, and how often each byte is there.

A node is the union of its layers; nodes with the same layers are one row. SIZE is all that a node
holds, each content once; EXCLUSIVE is what no node of another row holds. The other figures are what
the row and the column have in common: bytes, files, chunks; or shares, by bytes: jaccard (in
common, of what either has) and containment (in common, of what the row has).

--grain file compares whole files, --grain chunk compares chunks. Where there are too many nodes for
a matrix, the pairs that share most are shown; -o writes every pair, and a heat map if the file ends
in .svg or .png. What is read of each layer is kept beside its TOC in the fleet folder, or in
~/.cache/vecache where that cannot be written, so that the next run takes less time. Workers on
other machines need the fleet folder at the same path, and take long where they cannot write there.

Exit code: 0 all nodes and layers were read, 3 some could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.comparison import add_comparison, check_metric
from vecache.cli.options import add_fleet, add_output, add_tasks, show, warn
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, Report
from vecache.report.terminal import Progress

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_fleet(parser)
    add_comparison(parser)
    add_tasks(parser)
    add_output(parser, (*TABLE_ENDINGS, *PICTURE_ENDINGS))


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.fleet.overlap import overlap_fleet
    from vecache.report.fleet_excluded import unread_fleet_warning
    from vecache.report.fleet_overlap import fleet_overlap_document, fleet_overlap_text

    check_metric(args)
    with Progress("Comparing nodes, tasks done") as progress:
        over = overlap_fleet(
            args.fleet,
            args.grain,
            scheduler=args.scheduler,
            processes=args.processes,
            progress=progress.advance,
        )
    metric = args.metric
    show(
        Report(
            text=lambda screen: fleet_overlap_text(args.fleet, over, metric or "bytes", screen),
            document=lambda: fleet_overlap_document(args.fleet, over),
            table=over.to_arrow,
            picture=lambda file, form: over.plot(metric or "jaccard").write(file, form),
        ),
        args,
    )
    effect = "exclusive bytes are upper bounds, shared bytes and sums are lower bounds"
    return warn(args, unread_fleet_warning(over.contents, effect))
