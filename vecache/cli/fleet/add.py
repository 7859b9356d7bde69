"""Add nodes to a fleet: a folder in which layers that nodes share are stored once.

A node is a file of `vecache snapshot`, and is named by its host; or a store of this machine, with
--store. The folder is made if it is not there. A node's newer snapshot replaces the older one; an
older one changes nothing. `vecache VERB --store FLEET#NODE` gives the figures of the node.

Several processes may add to one folder at the same time, also on a shared disk.

Exit code: 0 all was added, 2 wrong usage, 3 a snapshot was not added; or, unless --incomplete-ok,
some of a store could not be read when its snapshot was made.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.cli.options import (
    UsageError,
    add_incomplete_ok,
    error_text,
    note,
    warn_of_unread_records,
)
from vecache.errors import StoreError, VecacheError
from vecache.report.terminal import Progress, count, human_bytes
from vecache.text import printable

if TYPE_CHECKING:
    import argparse

    from vecache.store.records import ImageRecord, LayerRecord
    from vecache.store.write_fleet import AddedNode

_CHANGES = {
    "added": "added",
    "replaced": "replaced",
    "unchanged": "as it was",
    "older": "not changed: it has a newer snapshot",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("fleet", metavar="FLEET", help="the folder")
    parser.add_argument("snapshot", metavar="SNAPSHOT", nargs="*", help="files to add")
    parser.add_argument("--store", metavar="PATH", help="graph root to add, as it is now")
    add_incomplete_ok(parser)
    parser.add_argument("--name", metavar="NODE", help="name of the node (default: its host)")


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.store.fleet import check_node_name
    from vecache.store.sweep_fleet import sweep

    sources = len(args.snapshot) + (args.store is not None)
    if not sources:
        raise UsageError("name a SNAPSHOT that `vecache snapshot -o FILE` wrote, or --store PATH")
    for folder in filter(os.path.isdir, args.snapshot):
        raise UsageError(f"{folder}: a folder, wanted a SNAPSHOT; --store PATH adds a graph root")
    if args.name is not None and sources > 1:
        raise UsageError(f"--name names one node, found {sources} to add")
    if args.name is not None:
        try:
            check_node_name(args.name)
        except StoreError as error:
            raise UsageError(f"--name: {error}") from None
    code, leaves_objects = 0, False
    for source in [*args.snapshot, *filter(None, [args.store])]:
        try:
            added = _add(args, source, is_store=source is args.store)
        except VecacheError as error:
            if sources == 1:
                raise
            text = printable(error_text(error))
            print(f"vecache: error: {text}", file=sys.stderr)  # the others may be fine
            code = 3
            continue
        print(_line(added))
        leaves_objects |= added.leaves_objects
        effect = f"figures of the node {added.name} are upper bounds"
        code = max(code, warn_of_unread_records(args, *_records(added), effect))
    if leaves_objects:
        swept = sweep(Path(args.fleet))
        if swept.problem:
            note(printable(f"objects that no node has were left there: {swept.problem}"))
    return code


def _add(args: argparse.Namespace, source: str, *, is_store: bool) -> AddedNode:
    from vecache.store.open import open_store
    from vecache.store.write_fleet import add_snapshot, add_store

    with Progress("Reading layers") as progress:
        if is_store:
            store = open_store(source)
            return add_store(Path(args.fleet), store, args.name, progress=progress.advance)
        return add_snapshot(Path(args.fleet), Path(source), args.name, progress=progress.advance)


def _line(added: AddedNode) -> str:
    time = added.snapshot.time.isoformat(timespec="seconds")
    line = f"{added.name}: {_CHANGES[added.change]}; snapshot of {time}"
    if added.change == "older":
        return line
    layers, images = _records(added)
    counts = f"{count(len(layers), 'layer')}, {count(len(images), 'image')}"
    return f"{line}, {counts}, {human_bytes(added.n_new_bytes)} that no node had"


def _records(added: AddedNode) -> tuple[list[LayerRecord], list[ImageRecord]]:
    """Return the layers and images of a node; none where it was not even read."""
    roots = added.snapshot.roots
    return (
        [layer for root in roots for layer in root.layers or ()],
        [image for root in roots for image in root.images or ()],
    )
