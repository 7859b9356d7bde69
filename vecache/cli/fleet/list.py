"""List the nodes of a fleet: how old they are, what they hold, and how much of it is shared.

SHARED is the share of a node's bytes in layers that another node has too, and UNREAD how many of
its layers and images could not be read when its snapshot was made.

Exit code: 0 all nodes were read, 3 one is damaged; the others are listed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vecache.cli.options import add_output, show
from vecache.report.terminal import Progress
from vecache.text import printable

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("fleet", metavar="FLEET", help="the folder")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.report.fleet_list import fleet_report, list_fleet
    from vecache.store.fleet import open_fleet

    fleet = open_fleet(args.fleet)
    with Progress("Reading nodes") as progress:
        listed = list_fleet(fleet, progress=progress.advance)
    show(fleet_report(listed), args)
    for each in listed.errors:
        print(f"vecache: error: {printable(each['error'])}", file=sys.stderr)
    return 3 if listed.errors else 0
