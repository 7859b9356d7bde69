"""Show what pulling images costs each node of a fleet, before any of them starts.

Each image is planned by itself on each node, as `vecache plan --store FLEET#NODE` does. Nodes that
are equal in layers, their order and settings are one row. The first table shows the bytes that one
node fetches, data and TOCs; the second what all nodes together miss (uncompressed) and FETCH, in
how many REQUESTS, which node fetches least, and what reflinks on all nodes would save.

-o writes a row for each node and image, and draws a heat map if the file ends in .svg or .png.

Exit code: 0 fine, 1 no such image, 2 wrong usage, 3 bad or unreadable input: also an image that
cannot be planned on some node, and layers of nodes that could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING

from vecache.cli.images import (
    BadImages,
    add_images,
    note_origins,
    open_images,
    read_image_list,
    registry_access,
    sort_out_images,
)
from vecache.cli.options import (
    UsageError,
    add_fleet,
    add_output,
    add_pull_settings,
    add_tasks,
    show,
    warn,
)
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS, Report
from vecache.report.terminal import Progress
from vecache.text import printable

if TYPE_CHECKING:
    import argparse

    from vecache.fleet.fleet_plan import FleetPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_images(parser)
    parser.set_defaults(present=None)
    parser.add_argument(
        "--images",
        metavar="FILE",
        help="also plan the images that this file names, one a line; `-` is standard input",
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="plan the other images if one cannot be opened or read; exit with 3 then",
    )
    add_fleet(parser)
    add_pull_settings(parser.add_argument_group("the pull; the settings of each node by default"))
    add_tasks(parser)
    add_output(parser, (*TABLE_ENDINGS, *PICTURE_ENDINGS))


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.report.fleet_plan import (
        fleet_plan_document,
        fleet_plan_errors,
        fleet_plan_text,
        fleet_plan_unread,
    )

    if "-" in args.image:
        raise UsageError("`-` is no image; `--images -` reads images from standard input")
    args.image += [] if args.images is None else read_image_list(args.images)
    sort_out_images(args)
    bad = BadImages(keep_going=args.keep_going)
    plan = _plan(args, bad)
    show(
        Report(
            text=lambda screen: fleet_plan_text(args.fleet, plan, screen),
            document=lambda: fleet_plan_document(args.fleet, plan, bad.errors),
            table=plan.to_arrow,
            picture=lambda file, form: plan.plot().write(file, form),
        ),
        args,
    )
    effect = "what they hold counts as missing, so figures are upper bounds"
    code = warn(args, fleet_plan_unread(plan, effect))
    errors = fleet_plan_errors(plan)
    for line in errors:
        print(f"vecache: error: {printable(line)}", file=sys.stderr)
    bad.warn(len(args.image))
    return 3 if errors or bad.errors else code


def _plan(args: argparse.Namespace, bad: BadImages) -> FleetPlan:
    """Open the images, and plan them on all nodes."""
    from vecache.fleet.classes import PullChoices
    from vecache.fleet.plan import OpenOptions, Run, plan_on_nodes

    access = registry_access(args)
    images = deque(open_images(args, None, bad, access))
    note_origins(images)
    names = [image.reference for image in images]
    reflink = {"auto": None, "yes": True, "no": False}[args.reflink]
    choices = PullChoices(reflink, args.hard_links, args.layout, args.parallel)
    opening = OpenOptions(args.platform, access)
    with Progress("Planning images", len(images)) as progress:
        run_where = Run(args.scheduler, args.processes, progress.advance)
        plan, failures = plan_on_nodes(images, args.fleet, choices, run_where, opening)
    for number, error in failures.items():
        with bad.collect(names[number]):
            raise error
    return plan
