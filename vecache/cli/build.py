"""Write the cache file of a TOC, byte for byte as Podman writes it.

The TOC is the JSON that a store keeps as `zstd-chunked-manifest`; what is compressed with zstd is
unpacked. Without -o the file goes to standard output, unless that is a terminal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, read_input
from vecache.report.output import replacing

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("toc", metavar="TOC", help="the JSON document; `-` reads standard input")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file, by rename")
    parser.add_argument(
        "--layout",
        choices=("dir", "flat"),
        default="dir",
        help="how layers are stored; flat is composefs (default: dir)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    if args.output is None and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("build: a cache file is binary; use -o FILE or a pipe")
    from vecache.cache.writer import pack_cache
    from vecache.errors import TocError
    from vecache.toc.layout import Layout
    from vecache.toc.parse import MAX_TOC_BYTES, Toc

    where = "standard input" if args.toc == "-" else args.toc
    toc = Toc.parse(read_input(args.toc, MAX_TOC_BYTES), path=where)
    if toc.is_blank:  # Podman would write a cache without tags for any JSON object
        raise TocError(f"{where}: not a TOC: it has neither a version nor entries")
    packed = pack_cache(toc.entries, Layout(args.layout))
    if args.output is None:
        sys.stdout.buffer.write(packed)
        return 0
    with replacing(args.output) as file:
        file.write(packed)
    return 0
