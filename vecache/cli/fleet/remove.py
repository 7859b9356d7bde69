"""Remove nodes from a fleet, and what no other node has.

The objects of removed nodes go at once, unless another process reads the fleet or adds to it; they
go with the next removal then. What a crash has left behind goes with them.

Exit code: 0 the nodes are removed, 1 there is no node of that name; none is removed then.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vecache.cli.options import note
from vecache.report.terminal import count, human_bytes
from vecache.text import printable

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("fleet", metavar="FLEET", help="the folder")
    parser.add_argument("node", metavar="NODE", nargs="+", help="names of nodes")


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.store.sweep_fleet import remove_nodes

    swept = remove_nodes(Path(args.fleet), args.node)
    print(
        f"{', '.join(dict.fromkeys(args.node))}: removed, and {human_bytes(swept.n_bytes)} in "
        f"{count(swept.n_files, 'file')} that no other node has"
    )
    if swept.problem:
        note(printable(f"objects that no node has were left there: {swept.problem}"))
    return 0
