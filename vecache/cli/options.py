"""What several verbs share: options, loading a store, opening images, showing a result.

Imports only what the parsers need, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecache.cli.values import (
    parse_count_from_one,
    parse_scheduler,
    path_ending_in,
)
from vecache.errors import VecacheError
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, write_report
from vecache.report.terminal import Progress, Screen
from vecache.text import ZSTD_MAGIC, printable, wrap_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecache.index.layers_cache import LayersCache
    from vecache.index.load import ExcludedLayer
    from vecache.plan.options import PlanOptions
    from vecache.report.output import Report
    from vecache.sharing.contents import Contents, Grain
    from vecache.store.graphroot import Store
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = [
    "UsageError",
    "add_fleet",
    "add_incomplete_ok",
    "add_output",
    "add_pull",
    "add_pull_settings",
    "add_store",
    "add_tasks",
    "error_text",
    "is_picture",
    "limit_to_present",
    "load_contents",
    "load_layers",
    "note",
    "open_named_store",
    "pull_options",
    "pull_sharing",
    "read_input",
    "show",
    "warn",
    "warn_of_unread",
    "warn_of_unread_records",
]

_STORE_HELP = (
    "graph root of the store, a file that `vecache snapshot` wrote, or FLEET#NODE "
    "(default: this machine's store, as storage.conf says)"
)
_DATASET_HELP = (
    "graph root, file of `vecache snapshot`, FLEET#NODE, data set of `vecache export`, or folder "
    "of TOCs (default: this machine's store, as storage.conf says)"
)


class UsageError(Exception):
    """A command line that makes no sense; exit code 2."""


class _Switch(argparse.BooleanOptionalAction):
    """Set an option to true or false as argparse does, but refuse both: one would do nothing."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        super().__call__(parser, namespace, None, option)
        if before not in (None, getattr(namespace, self.dest)):
            raise argparse.ArgumentError(self, "found both, wanted one of them")


def add_store(
    parser: argparse.ArgumentParser,
    *,
    can_be_dataset: bool = False,
    can_be_several: bool = False,
    can_be_incomplete: bool = True,
) -> None:
    """Add `--store`, and `--incomplete-ok` for a store that cannot be read as a whole."""
    several: dict[str, Any] = {"action": "append"} if can_be_several else {}
    parser.add_argument(
        "--store",
        metavar="PATH",
        **several,
        help=(_DATASET_HELP if can_be_dataset or can_be_several else _STORE_HELP)
        + ("; may be given several times" if can_be_several else ""),
    )
    if can_be_incomplete:
        add_incomplete_ok(parser)


def add_incomplete_ok(parser: argparse.ArgumentParser) -> None:
    """Add `--incomplete-ok`."""
    parser.add_argument(
        "--incomplete-ok",
        action="store_true",
        help="exit with 0, not 3, where layers of the store could not be read",
    )


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Add `--fleet`, and `--incomplete-ok` for a fleet that cannot be read as a whole."""
    parser.add_argument(
        "--fleet", metavar="FLEET", required=True, help="folder that `vecache fleet add` made"
    )
    parser.add_argument(
        "--incomplete-ok",
        action="store_true",
        help="exit with 0, not 3, where nodes or layers could not be read",
    )


def add_output(parser: argparse.ArgumentParser, endings: Sequence[str] = TABLE_ENDINGS) -> None:
    """Add `--json`, `--jsonl` and `-o`, which exclude each other."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print one JSON document")
    forms.add_argument("--jsonl", action="store_true", help="print one JSON document per line")
    forms.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=path_ending_in(endings),
        help=f"write a file; its ending chooses the format: {' '.join(endings)}",
    )


def add_pull(parser: argparse.ArgumentParser, *, can_be_several: bool = False) -> None:
    """Add the options that describe the store that pulls."""
    add_store(parser, can_be_several=can_be_several)
    pull = parser.add_argument_group("the pull; storage.conf decides by default")
    pull.add_argument(
        "--present",
        metavar="NAME",
        nargs="*",
        action="extend",
        help="count only these layers as present, named by id or digest, or by an image that has "
        "them; none without a NAME",
    )
    add_pull_settings(pull)


def add_pull_settings(pull: argparse._ArgumentGroup) -> None:
    """Add the options for how layers are pulled, which storage.conf and containers.conf set."""
    pull.add_argument(
        "--reflink",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the store's file system has reflinks; auto tests it (default: auto)",
    )
    pull.add_argument(
        "--hard-links",
        action=_Switch,
        default=None,
        help="reuse files by hard link (default: storage.conf)",
    )
    pull.add_argument(
        "--layout",
        choices=("dir", "flat"),
        default=None,
        help="how layers are stored; flat is composefs (default: storage.conf)",
    )
    pull.add_argument(
        "--parallel",
        metavar="N",
        type=parse_count_from_one,
        help="layers copied at a time (default: containers.conf, else 6)",
    )


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where tasks run, one of which may be given."""
    where = parser.add_argument_group("where the work is done; default: in this process")
    either = where.add_mutually_exclusive_group()
    either.add_argument(
        "--processes", metavar="N", type=parse_count_from_one, help="in N processes of this machine"
    )
    either.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        type=parse_scheduler,
        help="by the workers of this Dask scheduler, which is trusted: it can run any code here; "
        "they need this version of vecache, and the same paths",
    )


def load_layers(
    path: str | None, present: Sequence[str] | None = None
) -> tuple[Store, LayersCache]:
    """Open a store and load the caches of its layers, or of those named in `present`."""
    from vecache.index.layers_cache import LayersCache
    from vecache.index.load import BuildCache

    store = open_named_store(path)
    build_cache = BuildCache.of_user(os.environ).folder
    with Progress("Loading layers") as progress:
        cache = LayersCache.load(
            store, present=present, build_cache=build_cache, progress=progress.advance
        )
    return store, cache


def open_named_store(path: str | None) -> Store:
    """Open the store that `--store` names, or the machine's own."""
    from vecache.errors import StoreError
    from vecache.store.open import open_store

    if path is not None:
        return open_store(path)
    try:
        return open_store()
    except StoreError as error:
        raise StoreError(f"{error}; --store names another") from error


def load_contents(path: str | None) -> tuple[Contents, Store | None]:
    """Read the contents of layers; the store is None where `path` is another kind of folder."""
    from vecache.sharing.sources import find_store, read_contents

    store = open_named_store(None) if path is None else find_store(Path(path))
    with Progress("Reading layers") as progress:
        contents = read_contents(path if store is None else store, progress=progress.advance_to)
    return contents, store


def limit_to_present(contents: Contents, args: argparse.Namespace) -> Contents:
    """Drop the layers that do not count as present."""
    from vecache.store.find import find_present

    if args.present is None:
        return contents
    images = [image.record for image in contents.images]
    return contents.limited_to(find_present(contents.records, images, args.present))


def pull_options(args: argparse.Namespace, store: Store, **more: Any) -> PlanOptions:
    """Return the options of a pull: the command line's, else those of the store's machine."""
    from vecache.plan.options import pull_options

    return pull_options(
        store,
        reflink="auto" if args.reflink == "auto" else args.reflink == "yes",
        hard_links=args.hard_links,
        layout=args.layout,
        parallel=args.parallel,
        **more,
    )


def pull_sharing(args: argparse.Namespace, store: Store | None) -> tuple[Grain, bool]:
    """Return the grain at which layers of the store share, and whether they share blocks at all."""
    if store is None:
        if args.reflink == "auto":
            note("what --store names does not say how its store shares: no reflinks are assumed")
        reflink, hard_links = args.reflink == "yes", bool(args.hard_links)
    else:
        options = pull_options(args, store)
        reflink, hard_links = options.reflink, options.hard_links
    return ("chunk" if reflink else "file"), reflink or hard_links


def read_input(path: str, max_bytes: int) -> bytes:
    """Read up to `max_bytes + 1` bytes of a file, or of standard input for `-`; unpack zstd."""
    if path != "-":
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    elif sys.stdin is None:
        raise UsageError("`-` is standard input, which is closed")
    else:
        data = sys.stdin.buffer.read(max_bytes + 1)
    if not data.startswith(ZSTD_MAGIC):
        return data
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read(max_bytes + 1))
    except (pa.ArrowException, OSError) as error:
        raise VecacheError(f"{path}: damaged zstd: {error}") from error


def error_text(error: VecacheError | OSError) -> str:
    """Return what an error says, with the file that an error of the system is about."""
    if isinstance(error, VecacheError):
        return str(error)
    where = error.filename if error.filename is not None else "input or output"
    folder = os.path.dirname(os.fsdecode(where))
    if isinstance(error, FileNotFoundError) and folder and not os.path.lexists(folder):
        return f"{os.fsdecode(where)}: there is no folder {folder}"
    return f"{os.fsdecode(where)}: {error.strerror or error}"


def is_picture(args: argparse.Namespace) -> bool:
    """Return whether `-o` asks for a picture."""
    return args.output is not None and args.output.lower().endswith(PICTURE_ENDINGS)


def show(report: Report, args: argparse.Namespace) -> None:
    """Print a result, or write it to a file, as the command line says."""
    screen = Screen.of(sys.stdout)
    if args.output is not None:
        write_report(args.output, report)
    elif args.json:
        indent = None if screen.width is None else 2
        for part in report.json_document(indent=indent):
            print(part, end="")
        print()
    elif args.jsonl:
        for line in report.json_lines():
            print(line)
    else:
        print(wrap_lines(report.text(screen), screen.width))


def warn_of_unread(
    args: argparse.Namespace,
    excluded: Iterable[ExcludedLayer],
    n_layers: int,
    effect: str,
    *,
    of_image: bool = False,
) -> int:
    """Say on stderr which layers could not be read, and return the exit code.

    `effect` says what that does to the figures. The code is 0 where all layers could be read.
    """
    from vecache.report.excluded import unread_warning

    return warn(args, unread_warning(excluded, n_layers, effect, of_image=of_image))


def warn(args: argparse.Namespace, lines: Sequence[str]) -> int:
    """Say on stderr what could not be read, if there are such lines, and return the exit code."""
    for line in lines:
        print(f"vecache: warning: {printable(line)}", file=sys.stderr)
    return 3 if lines and not args.incomplete_ok else 0


def warn_of_unread_records(
    args: argparse.Namespace,
    layers: Sequence[LayerRecord],
    images: Iterable[ImageRecord],
    effect: str,
) -> int:
    """Say on stderr of which records a snapshot has not all, and return the exit code."""
    from vecache.index.load import ExcludedLayer

    unread = [
        ExcludedLayer(each, each.unreadable, is_unread=True) for each in layers if each.unreadable
    ]
    code = warn_of_unread(args, unread, len(layers), effect)
    unread_images = [image for image in images if image.unreadable]
    for image in unread_images:
        line = printable(f"image {image.id[:12]}: {image.unreadable}")
        print(f"vecache: warning: {line}", file=sys.stderr)
    return code or (3 if unread_images and not args.incomplete_ok else 0)


def note(text: str) -> None:
    """Say on stderr what a reader of the result should know."""
    print(f"vecache: note: {text}", file=sys.stderr)
