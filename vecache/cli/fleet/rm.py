"""Show what removing layers or images on all nodes of a fleet would free.

Nothing is removed. From each node that has them goes what `vecache rm` says for that node alone: an
image's layers, except those that a remaining image needs or that are below a remaining layer; a
layer with all layers above it and every image that has one of them.

What a removal frees depends on the node. Where every layer has its own copies of its files, ALL
FILES of the layers are freed. Where layers share blocks (reflinks) or files (hard links), only what
no remaining layer of the node has. FREED HERE is the one that the node's settings make it. Without
--grain, chunks count on nodes with reflinks, and files on the others.

Exit code: 0 fine, 1 no node has such a layer or image, 3 some nodes or layers could not be read, or
a name is ambiguous on a node, unless --incomplete-ok.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.options import add_fleet, add_output, add_tasks, show, warn
from vecache.report.output import Report
from vecache.report.terminal import Progress

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument(
        "names",
        metavar="LAYER-or-IMAGE",
        nargs="+",
        help="what would be removed, together",
    )
    add_fleet(parser)
    parser.add_argument(
        "--grain",
        choices=("file", "chunk"),
        help="what layers share on all nodes (default: as each node's settings say)",
    )
    add_tasks(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.fleet.classes import class_label
    from vecache.fleet.removal import what_if_fleet
    from vecache.report.fleet_excluded import unread_fleet_warning
    from vecache.report.fleet_removal import fleet_removal_document, fleet_removal_text

    with Progress("Comparing layers, tasks done") as progress:
        removal = what_if_fleet(
            args.fleet,
            args.names,
            args.grain,
            scheduler=args.scheduler,
            processes=args.processes,
            progress=progress.advance,
        )
    show(
        Report(
            text=lambda screen: fleet_removal_text(removal, screen),
            document=lambda: fleet_removal_document(args.fleet, removal),
            table=removal.to_arrow,
        ),
        args,
    )
    effect = "what is freed is an upper bound, without the layers that go and could not be read"
    lines = unread_fleet_warning(removal.contents, effect)
    for each in removal.removals:
        lines += [f"node {class_label(each.nodes)}: {problem}" for problem in each.problems]
    return warn(args, lines)
