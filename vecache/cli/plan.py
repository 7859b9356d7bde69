"""Show what a pull will reuse, fetch and ask for, before it starts.

MISSING and TOTAL are the figures that Podman logs: uncompressed bytes, those that no local layer
has and all of them. FETCH is what comes over the wire for them, compressed, in RANGES of one
request. BLOB is the layer's digest in the registry, CREATED BY what made it, as the image says.
Several images are planned in the given order, each against what the ones before it left.

BEST is the least that any client could miss given the same layers; the lines below it say what
keeps this pull from it, and what would save how much.

-o FILE.svg or FILE.png draws a bar for each layer, or for each of several images; with --curve,
bytes against the number of ranges.

Exit code: 0 fine, 1 no such image or layer, 2 wrong usage (a malformed reference is), 3 bad or
unreadable input: also layers of the store that could not be read, unless --incomplete-ok, and with
--keep-going an image without a plan; 4 over the limit of --fail-over. 3 comes before 4: figures
that are not complete cannot be held against a limit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vecache.cli.explanation import show_explanations
from vecache.cli.images import BadImages, add_images, open_images, read_image_list, sort_out_images
from vecache.cli.options import (
    UsageError,
    add_output,
    add_pull,
    is_picture,
    load_layers,
    pull_options,
    show,
    warn_of_unread,
)
from vecache.cli.values import parse_count, parse_count_from_one, parse_size
from vecache.report.output import PICTURE_ENDINGS, TABLE_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.draw.picture import Picture
    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.options import PlanOptions
    from vecache.report.output import Report
    from vecache.store.graphroot import Store

_DEFAULT_RTT_MS = 50.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_images(parser)
    parser.add_argument(
        "--images",
        metavar="FILE",
        help="also plan the images that this file names, one a line; `-` is standard input",
    )
    add_pull(parser)
    registry = parser.add_argument_group("the registry and the network")
    registry.add_argument(
        "--ranges",
        metavar="N",
        type=_ranges,
        default={},
        help="ranges in one request: a number, `one`, or `whole` for whole blobs (default: 1024)",
    )
    registry.add_argument(
        "--accepts",
        metavar="N",
        type=parse_count_from_one,
        help="the registry answers 400 to more ranges than this; Podman asks again with fewer",
    )
    registry.add_argument(
        "--gap",
        metavar="BYTES",
        type=parse_count,
        help="also fetch gaps up to this size (default: 1024)",
    )
    registry.add_argument(
        "--bandwidth", metavar="MBIT", type=_positive, help="estimate the time, in Mbit/s"
    )
    registry.add_argument(
        "--rtt",
        metavar="MS",
        type=_milliseconds,
        help=f"round trip of a request, for the estimate (default: {_DEFAULT_RTT_MS:.0f})",
    )
    more = parser.add_argument_group("what to show")
    more.add_argument("--explain", metavar="PATH", help="explain where one file comes from")
    more.add_argument(
        "--curve",
        action="store_true",
        help="bytes against the number of ranges",
    )
    more.add_argument(
        "--best-order", action="store_true", help="find an order of the images that fetches least"
    )
    gate = parser.add_argument_group("for a gate in CI")
    gate.add_argument(
        "--fail-over",
        metavar="SIZE",
        type=parse_size,
        help="exit with 4 if all images together may fetch more bytes than this, data and TOCs: "
        "1500000, 200MB, 1GiB",
    )
    gate.add_argument(
        "--keep-going",
        action="store_true",
        help="plan the other images if one cannot be opened or planned; exit with 3 then",
    )
    add_output(parser, (*TABLE_ENDINGS, *PICTURE_ENDINGS))


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    if "-" in args.image:
        raise UsageError("`-` is no image; `--images -` reads images from standard input")
    args.image += [] if args.images is None else read_image_list(args.images)
    sort_out_images(args)
    _check_options(args)
    store, cache = load_layers(args.store, args.present)
    options = pull_options(args, store, **_registry_options(args))
    bad = BadImages(keep_going=args.keep_going)
    images = open_images(args, store, bad)
    note = ""
    if args.best_order:
        if args.keep_going:  # an order is one of images that can all be planned
            images = [plan.image for plan in _plan_images(images, cache, options, bad)]
        if images:
            images, note = _order_images(images, cache, options)
    plans = _plan_images(images, cache, options, bad)
    is_explained = True
    if args.explain is not None:
        is_explained = show_explanations(plans, bad, args)
    else:
        show(_report(plans, bad.errors, store.title, note, args), args)
    for warning in _warnings(plans, store):
        print(f"vecache: note: {warning}", file=sys.stderr)
    code = _warn_of_unread(args, plans, cache)
    bad.warn(len(args.image))
    is_over = args.fail_over is not None and _is_over(plans, args.fail_over)
    return code or (3 if bad.errors else 4 if is_over else 0 if is_explained else 1)


def _warn_of_unread(
    args: argparse.Namespace, plans: Sequence[ImagePlan], cache: LayersCache
) -> int:
    """Say which layers of the store could not be read, or not as BEST needs them."""
    effect = "what they hold counts as missing, so figures are upper bounds"
    code = warn_of_unread(args, cache.excluded, len(cache.records), effect)
    if args.curve or args.explain is not None or _is_table(args):
        return code
    unread = {each.id: each for plan in plans for each in plan.best.unread}
    effect = "only the chunks in their caches count, so BEST may be less"
    flat = [replace(each, is_unread=True) for each in unread.values()]
    return code | warn_of_unread(args, flat, len(cache.records), effect)


def _is_table(args: argparse.Namespace) -> bool:
    """Return whether the result is written as a table of files and chunks."""
    others = (".json", ".jsonl", *PICTURE_ENDINGS)
    return args.output is not None and not args.output.lower().endswith(others)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what makes no sense, or would do nothing."""
    if args.curve and len(args.image) > 1:
        raise UsageError("--curve: found several images, wanted one")
    if args.curve and args.keep_going:
        raise UsageError("--keep-going does nothing with --curve, which is of one image")
    if args.best_order and len(args.image) == 1:
        raise UsageError("--best-order: found one image, wanted several")
    if args.curve and args.explain is not None:
        raise UsageError("--curve and --explain exclude each other")
    if is_picture(args) and args.explain is not None:
        raise UsageError("--explain is text: it cannot be drawn")
    if args.rtt is not None and args.bandwidth is None:
        raise UsageError("--rtt needs --bandwidth; without it no time is estimated")
    given = {"--gap": args.gap is not None, "--accepts": args.accepts is not None}
    if args.curve and (args.ranges or any(given.values())):
        raise UsageError("--curve shows all limits; --ranges, --gap and --accepts choose one")
    for option, is_given in given.items():
        if is_given and "whole_blobs" in args.ranges:
            raise UsageError(f"{option} does nothing with --ranges whole")


def _plan_images(
    images: list[Image], cache: LayersCache, options: PlanOptions, bad: BadImages
) -> list[ImagePlan]:
    """Plan images one after another; one that cannot be planned leaves the layers as they were."""
    from vecache.plan.planner import Planner
    from vecache.report.terminal import Progress

    planner, plans = Planner(options), []
    with Progress("Planning layers", sum(len(image.layers) for image in images)) as progress:
        for image in images:
            with bad.collect(image.reference):
                plans.append(planner.plan(image, cache, progress.advance))
                cache = plans[-1].cache_after
    return plans


def _is_over(plans: Sequence[ImagePlan], limit: int) -> bool:
    """Return whether more bytes than the limit may be fetched, and print by what figure."""
    expected = sum(plan.fetch_bytes + plan.toc_bytes for plan in plans)
    # A layer that an image has twice may be pulled twice, and its TOC read twice.
    toc_bytes = sum(layer.toc_bytes for plan in plans for layer in plan.most)
    most = sum(plan.fetch_bounds[1] for plan in plans) + toc_bytes
    if most <= limit:
        return False
    found = f"{most:,} bytes of data and TOCs to fetch"
    if most != expected:
        found = f"up to {found}, depending on timing ({expected:,} expected)"
    line = f"vecache: over the limit: {found}; --fail-over allows {limit:,}"
    print(line, file=sys.stderr)
    return True


def _registry_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `PlanOptions` that the command line sets."""
    named = {**args.ranges, "gap_bytes": args.gap, "accepted_ranges": args.accepts}
    if (network := _network(args)) is not None:
        named["bytes_per_second"], named["round_trip_seconds"] = network
    return {name: value for name, value in named.items() if value is not None}


def _order_images(
    images: list[Image], cache: LayersCache, options: PlanOptions
) -> tuple[list[Image], str]:
    from vecache.plan.order import best_order
    from vecache.report.terminal import Progress, human_bytes

    with Progress("Trying orders") as progress:
        found = best_order(images, cache, options, progress=progress.advance)
    saved = found.given_fetch_bytes - found.fetch_bytes
    note = f"This order fetches {human_bytes(saved)} less than the given one."
    if not saved:
        note = "The given order is kept: none was found that fetches less."
    if found.method == "exact":
        note += " All orders were tried."
    return [images[index] for index in found.order], note


def _warnings(plans: Sequence[ImagePlan], store: Store) -> Iterator[str]:
    """Yield the settings that make Podman fetch whole blobs, and what was assumed instead."""
    whole = [
        layer.layer
        for plan in plans
        for layer in plan.layers
        if layer.state == "whole" and layer.layer.toc_format is not None
    ]
    if not plans:
        return
    options = plans[0].options
    path = str(store.config.path or "storage.conf, of which there is none,")
    if store.snapshot is not None:
        path += f" on {store.snapshot.host}"
    if whole and not options.partial:
        yield f"{path} does not set enable_partial_images: Podman fetches whole blobs"
    elif whole:
        yield (
            f"{path} does not set insecure_allow_unpredictable_image_contents: "
            "Podman fetches eStargz layers, and those without a tar-split, whole"
        )
    elif store.snapshot is not None and not store.is_own:
        yield f"{path} was that of another store: enable_partial_images is assumed"
    elif store.config.path and not store.config.enable_partial_images and not store.is_own:
        yield f"{path} does not set enable_partial_images; for this other store it is assumed"
    if options.convert and options.partial and any(plan.whole_layers for plan in plans):
        yield (
            f"{path} sets convert_images: a layer without a TOC gets one in the pull, and what "
            "later layers reuse of it is not known before"
        )


def _report(
    plans: Sequence[ImagePlan],
    errors: Sequence[dict[str, str]],
    store: str,
    note: str,
    args: argparse.Namespace,
) -> Report:
    """Choose what is shown: a curve, one plan or several."""
    import pyarrow as pa

    from vecache.plan.arrow import plan_to_arrow
    from vecache.report.documents import plan_document, plan_lines, plans_document
    from vecache.report.output import Report
    from vecache.report.plan import image_text, images_text

    if args.curve:
        return _curve_report(plans[0], args)
    only = plans[0] if len(args.image) == len(plans) == 1 else None
    network = _network(args)
    seconds = None if network is None else sum(plan.seconds(*network) for plan in plans)
    return Report(
        text=lambda screen: (
            images_text(plans, store, screen, note=note, seconds=seconds)
            if only is None
            else image_text(only, store, screen, seconds=seconds)
        ),
        document=lambda: plan_document(only) if only else plans_document(plans, errors),
        # An Arrow file holds one dictionary per column, and each plan has its own.
        table=lambda: pa.concat_tables(
            [plan.to_arrow() for plan in plans] or [plan_to_arrow("", ())]
        ).unify_dictionaries(),
        lines=lambda: plan_lines(plans, errors),
        picture=lambda file, form: _draw(plans, only).write(file, form),
    )


def _draw(plans: Sequence[ImagePlan], only: ImagePlan | None) -> Picture:
    from vecache.plan.picture import plot_images

    return plot_images(plans) if only is None else only.plot()


def _curve_report(plan: ImagePlan, args: argparse.Namespace) -> Report:
    from vecache.report.output import Report
    from vecache.report.plan import curve_table, curve_text
    from vecache.text import printable

    curve, network = plan.curve(), _network(args)
    by_ranges, by_gap = curve_table(curve, network), curve_table(plan.curve("gap_bytes"), network)
    name = printable(plan.image.reference)
    return Report(
        text=lambda screen: curve_text(plan, by_ranges, screen),
        document=lambda: {
            "schema": "vecache.plan-curve/1",
            "image": plan.image.reference,
            "by_ranges": by_ranges.to_pylist(),
            "by_gap": by_gap.to_pylist(),
        },
        table=lambda: by_ranges,
        picture=lambda file, form: curve.plot(f"Bytes on the wire for {name}").write(file, form),
    )


def _network(args: argparse.Namespace) -> tuple[float, float] | None:
    """Return bytes per second and seconds of a round trip; None where no bandwidth is given."""
    if args.bandwidth is None:
        return None
    milliseconds = _DEFAULT_RTT_MS if args.rtt is None else args.rtt
    return args.bandwidth * 1e6 / 8, milliseconds / 1e3


def _ranges(text: str) -> dict[str, Any]:
    from vecache.plan.options import parse_ranges

    try:
        return parse_ranges(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> float:
    value = _milliseconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number above 0")
    return value


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number from 0")
    return value
