"""Write all tags of a store as one table.

One row a tag: digest, kind (file, chunk, hole, fingerprint), layer, path, offset and size;
`in_files` and `in_chunks` mark what `vecache overlap` counts. The ending of FILE selects the
format: .parquet, .arrow or .csv. A name without an ending is a folder: a data set for stores of any
size, with the layers and images. Up to a million tags are one Parquet file, more are divided by the
first byte of the digest into 256.

--store can be given several times: then the file has a column `host` and is no data set, and the
folder has a folder host=NAME for each store.

DuckDB, Polars, pandas and Spark read the folder and the .parquet file. So do the verbs `overlap`,
`gather` and `rm` with --store, and `vecache.open_dataset`. In .csv a path that a spreadsheet would
run as a formula (it begins with = + - or @) has an apostrophe before it.

Exit code: 0 all layers are in it, 3 some could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, add_store, warn_of_unread
from vecache.cli.several import load_several
from vecache.report.excluded import excluded_notes
from vecache.report.output import replacing
from vecache.report.terminal import Progress, Screen, count, render_facts
from vecache.text import printable

if TYPE_CHECKING:
    import argparse

_ENDINGS = (".parquet", ".arrow", ".csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser, can_be_several=True)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help=f"a file that ends in {' '.join(_ENDINGS)}, or a folder",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    ending = os.path.splitext(args.output)[1].lower()
    is_folder = not ending or args.output.endswith("/") or os.path.isdir(args.output)
    if not is_folder and ending not in _ENDINGS:
        raise UsageError(
            f"export: found ending {ending!r}, wanted {' '.join(_ENDINGS)}, or none for a folder"
        )
    from vecache.sharing.export import export_dataset, write_tags

    contents = load_several(args.store).contents
    if is_folder:
        with Progress("Writing tags") as progress:
            export_dataset(contents, args.output, progress=progress.advance_to)
    else:
        with replacing(args.output) as file:
            write_tags(contents, file, ending)
    n_layers = count(len(contents.layers), "layer")
    of_hosts = f" of {count(len(contents.hosts), 'host')}" if contents.hosts else ""
    print(f"{printable(args.output)}: all tags of {n_layers}{of_hosts}")
    notes = excluded_notes(contents)
    if notes:
        print(render_facts(notes, Screen()))
    effect = "their tags are left out, so figures of what one layer alone has are upper bounds"
    return warn_of_unread(args, contents.excluded, len(contents.records), effect)
