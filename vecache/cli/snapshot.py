"""Write all that plans of a store need into one file, for use on other machines.

The file holds the records of layers and images, TOCs, manifests and configs, and how this machine
pulls: storage.conf, containers.conf, whether the file system can reflink. `--store FILE` takes it
wherever a graph root is taken, and gives the figures of this machine. `tar -tvf FILE` lists it.

Exit code: 0 all is in it, 3 some could not be read, unless --incomplete-ok. It is named, and
figures with the snapshot are upper bounds then.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecache.cli.options import add_store, note, warn_of_unread_records
from vecache.report.output import replacing
from vecache.report.terminal import Progress, count, human_bytes
from vecache.text import printable

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the file to write")


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.store.open import open_store
    from vecache.store.write_snapshot import write_snapshot

    store = open_store(args.store)
    with replacing(args.output) as file, Progress("Reading layers") as progress:
        written = write_snapshot(store, file, progress=progress.advance)
    print(
        f"{printable(args.output)}: {human_bytes(os.stat(args.output).st_size)}, "
        f"{count(len(written.layers), 'layer')} and {count(len(written.images), 'image')} of "
        f"{printable(store.title)}"
    )
    for removed in written.removed:
        note(f"{removed[:12]} was removed meanwhile, and is left out")
    effect = "figures with the snapshot are upper bounds"
    return warn_of_unread_records(args, written.layers, written.images, effect)
