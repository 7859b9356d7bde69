"""What several verbs share: options, where input comes from, and where a result goes."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, json_text, write_report
from vecache.report.terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecache.index.layers_cache import LayersCache
    from vecache.report.output import Report
    from vecache.store.graphroot import Store

__all__ = [
    "UsageError",
    "add_output",
    "add_store",
    "is_picture",
    "load_layers",
    "read_input",
    "show",
]


class UsageError(Exception):
    """A command line that can be read but makes no sense; exit code 2."""


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add `--store`."""
    parser.add_argument(
        "--store",
        metavar="PATH",
        help="graph root of the store; without it, this machine's own, as storage.conf says",
    )


def add_output(parser: argparse.ArgumentParser, endings: Sequence[str] = TABLE_ENDINGS) -> None:
    """Add `--json`, `--jsonl` and `-o`, of which a command line has one at most."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print one JSON document")
    forms.add_argument("--jsonl", action="store_true", help="print one JSON document a line")
    forms.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=_path_ending_in(endings),
        help=f"write a file, by its ending: {' '.join(endings)}",
    )


def is_picture(args: argparse.Namespace) -> bool:
    """Say whether the result is to be drawn."""
    return args.output is not None and args.output.lower().endswith(PICTURE_ENDINGS)


def load_layers(path: str | None) -> tuple[Store, LayersCache]:
    """Open a store and load the caches of its layers."""
    from vecache.index.layers_cache import LayersCache
    from vecache.index.load import KeptCaches
    from vecache.report.progress import Progress
    from vecache.store.graphroot import open_store

    store = open_store(path)
    kept = KeptCaches.of_user(os.environ).folder
    with Progress("Loading layers") as progress:
        return store, LayersCache.load(store, kept=kept, progress=progress.advance)


def read_input(path: str, max_bytes: int) -> bytes:
    """Read a file, or standard input for `-`."""
    if path != "-":
        with open(path, "rb") as file:
            return file.read(max_bytes + 1)
    if sys.stdin is None:
        raise UsageError("`-` is standard input, which is closed")
    return sys.stdin.buffer.read(max_bytes + 1)


def show(report: Report, args: argparse.Namespace) -> None:
    """Print a result, or write it to a file, as the command line says."""
    screen = Screen.of(sys.stdout)
    if args.output is not None:
        write_report(args.output, report)
    elif args.json:
        print(json_text(report.document(), indent=None if screen.width is None else 2))
    elif args.jsonl:
        for line in report.json_lines():
            print(line)
    else:
        print(report.text(screen))


def _path_ending_in(endings: Sequence[str]) -> Callable[[str], str]:
    def path(text: str) -> str:
        if os.path.splitext(text)[1].lower() not in endings:
            raise argparse.ArgumentTypeError(
                f"the file's name must say what to write; it can end in {' '.join(endings)}"
            )
        return text

    return path
