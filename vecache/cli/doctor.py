"""Check every cache file, TOC and record of a store, and the user's cache folder.

Each finding has the number of the rule that is broken, what was found, what was wanted and what to
do. A hint is not wrong: Podman sets it right by itself, such as a cache file that it writes at its
next pull. Caches and files of additional stores, which no pull reuses, are not checked.

Exit code: 0 all is sound, 3 something is wrong.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecache.cli.options import add_output, add_store, open_named_store, show
from vecache.report.output import Report
from vecache.report.terminal import Progress

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser, can_be_incomplete=False)
    parser.add_argument("--hints", action="store_true", help="show hints too")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.doctor.check import diagnose
    from vecache.files import cache_folder
    from vecache.report.doctor import doctor_document, doctor_table, doctor_text

    store = open_named_store(args.store)
    with Progress("Checking layers") as progress:
        result = diagnose(store, cache_folder(os.environ), progress.advance_to)
    show(
        Report(
            text=lambda screen: doctor_text(result, screen, show_hints=args.hints),
            document=lambda: doctor_document(result),
            table=lambda: doctor_table(result),
        ),
        args,
    )
    return 3 if result.wrong else 0
