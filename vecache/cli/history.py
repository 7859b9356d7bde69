"""Show what each image of a series costs a node that has the one before, or the first one.

Name the IMAGEs in their order; or one repository or OCI layout without a tag, and its --tags. There
A..B takes the tags from A to B in version order, in which numbers compare as numbers; only those
that have the form of A or B: 1.20..1.30 takes 1.21, but not 1.21.3 or 1.21-alpine.

The first table shows the bytes that each image fetches, by the one image that the node has: NOTHING
at all, the PREVIOUS one or the FIRST one; SAVED is what that is less than after NOTHING. PRESENT,
PARTIAL and WHOLE count the layers that the node has after the previous image, pulls in part, or
fetches as whole blobs. Below is what is MISSING, uncompressed, by its cause, where BEST is the
least that any client could miss; and what the layers at each place cost over all pulls. No store is
read: the nodes are imaginary, and by default without reflinks, as on ext4.

--between plans all pairs. -o draws the curve if the file ends in .svg or .png, with --between a
heat map of all pairs; other endings give a row for each layer of each pull.

Exit code: 0 fine, 1 no such image or tag, 2 wrong usage, 3 bad or unreadable input.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vecache.cli.images import (
    BadImages,
    add_images,
    note_origins,
    note_platform,
    open_images,
    registry_access,
    sort_out_images,
)
from vecache.cli.options import (
    UsageError,
    add_output,
    note,
    show,
)
from vecache.cli.values import parse_count_from_one
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, Report
from vecache.report.terminal import Progress, count
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vecache.draw.picture import Picture
    from vecache.image.model import Image
    from vecache.image.series import Series
    from vecache.plan.history import History

_MAX_NAMED = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_images(parser)
    parser.set_defaults(present=None)
    parser.add_argument(
        "--tags",
        metavar="A..B",
        help="the tags of the one IMAGE: A..B, A,B,C or both, as in 1.20..1.30,latest",
    )
    parser.add_argument("--between", action="store_true", help="plan all pairs of images")
    node = parser.add_argument_group("the nodes")
    node.add_argument(
        "--reflink",
        choices=("yes", "no"),
        default="no",
        help="whether their file system has reflinks (default: no)",
    )
    node.add_argument("--hard-links", action="store_true", help="they reuse files by hard link")
    node.add_argument(
        "--layout",
        choices=("dir", "flat"),
        default="dir",
        help="how layers are stored; flat is composefs (default: dir)",
    )
    node.add_argument(
        "--parallel",
        metavar="N",
        type=parse_count_from_one,
        help="layers copied at a time (default: 6)",
    )
    add_output(parser, (*TABLE_ENDINGS, *PICTURE_ENDINGS))


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.plan.series import count_layers, history
    from vecache.report.history import history_document, history_lines, history_text
    from vecache.store.settings import DEFAULT_PARALLEL

    sort_out_images(args)
    images = deque(_open_images(args))
    note_origins(images)
    n_layers = count_layers(images, between=args.between)
    with Progress("Planning layers", n_layers) as progress:
        found = history(
            (images.popleft() for _ in range(len(images))),  # none is held here: see `history`
            reflink=args.reflink == "yes",
            hard_links=args.hard_links,
            layout=args.layout,
            parallel=args.parallel or DEFAULT_PARALLEL,
            between=args.between,
            progress=progress.advance,
        )
    show(
        Report(
            text=lambda screen: history_text(found, screen),
            document=lambda: history_document(found),
            table=found.to_arrow,
            lines=lambda: history_lines(found),
            picture=lambda file, form: _draw(found, args).write(file, form),
        ),
        args,
    )
    return 0


def _draw(found: History, args: argparse.Namespace) -> Picture:
    return found.plot("heatmap" if args.between else "curve")


def _open_images(args: argparse.Namespace) -> Sequence[Image]:
    if args.tags is None:
        if len(args.image) < 2:
            raise UsageError("found one image, wanted several in their order, or --tags")
        return open_images(args, None, BadImages(keep_going=False))
    if len(args.image) > 1:
        raise UsageError(
            f"--tags: found {count(len(args.image), 'image')}, wanted one without a tag"
        )
    from vecache.image.series import find_series

    (reference,) = args.image
    series = find_series(reference, args.tags, registry_access(args))
    if len(series.tags) < 2:
        raise UsageError("--tags: found one tag, wanted several")
    _note_choice(series)
    with Progress("Opening images", len(series.tags)) as progress:
        images = series.open(platform=args.platform, progress=progress.advance)
    note_platform(args, images)
    return images


def _note_choice(series: Series) -> None:
    """Say which tags were taken, where the user did not name each."""
    if not series.n_listed:
        return
    tags, skipped = series.tags, series.skipped
    named = ", ".join(tags)
    if len(tags) > _MAX_NAMED:
        named = f"{', '.join(tags[: _MAX_NAMED - 1])}, ..., {tags[-1]}"
    note(printable(f"{len(tags):,} of {count(series.n_listed, 'tag')} taken: {named}"))
    if skipped:
        what = f"{count(len(skipped), 'tag')} of another form between them left out"
        note(printable(f"{what}, such as {skipped[0]}; --tags takes them by name"))
