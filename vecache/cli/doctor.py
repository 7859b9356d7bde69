"""Check every cache file, TOC and record of a store, and the user's cache folder.

Each finding has the number of the rule that is broken, what was found, what was wanted and what to
do. A hint is not wrong: Podman sets it right by itself, such as a cache file that it writes at its
next pull. Caches and files of additional stores, which no pull reuses, are not checked.

--fix builds caches that are wrong again, byte for byte as Podman does, lists those that no record
lists, and removes temporary files of vecache and what is damaged in the user's cache folder. It
writes under the store's locks, and touches no file of a layer, no TOC, and of Podman's records only
the listing of caches. Hints are left to Podman. --fix --dry-run shows first what there is to do.

--deep reads all files that a pull may reuse, and compares their size and sha256, and that of each
chunk, with the TOC.

Exit code: 0 all is sound, 3 something is wrong, after --fix: still wrong.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, add_output, add_store, open_named_store, show
from vecache.report.output import Report
from vecache.report.terminal import Progress

if TYPE_CHECKING:
    import argparse

    from vecache.doctor.check import Diagnosis
    from vecache.store.graphroot import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser, can_be_incomplete=False)
    parser.add_argument("--hints", action="store_true", help="show hints too")
    parser.add_argument("--deep", action="store_true", help="hash the files of layers too")
    parser.add_argument("--fix", action="store_true", help="mend what can be mended")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="with --fix: show what there is to do, and do nothing",
    )
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.doctor.check import check_contents, require_files
    from vecache.doctor.mend import mend, plan_actions, require_writable
    from vecache.report.doctor import doctor_document, doctor_table, doctor_text

    if args.dry_run and not args.fix:
        raise UsageError("doctor: --dry-run does nothing without --fix")
    store = open_named_store(args.store)
    if args.fix:
        require_writable(store)
    if args.deep:
        require_files(store)
    result = _diagnose(store)
    actions = plan_actions(result.findings) if args.fix else []
    if actions and not args.dry_run:
        with Progress("Mending", len(actions)) as progress:
            actions = mend(store, actions, progress.advance)
        result = _diagnose(store)
    if args.deep:
        with Progress("Hashing files", unit="bytes") as progress:
            check_contents(result, progress.advance)
    show(
        Report(
            text=lambda screen: doctor_text(result, actions, screen, show_hints=args.hints),
            document=lambda: doctor_document(result, actions),
            table=lambda: doctor_table(result),
        ),
        args,
    )
    return 3 if result.wrong else 0


def _diagnose(store: Store) -> Diagnosis:
    from vecache.doctor.check import diagnose
    from vecache.files import cache_folder

    with Progress("Checking layers") as progress:
        return diagnose(store, cache_folder(os.environ), progress.advance_to)
