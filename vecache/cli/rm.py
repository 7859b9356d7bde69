"""Show what removing layers or images would free, and what pulling them again would cost.

Nothing is removed. An image is named as for Podman, a layer by its id or the digest of its blob,
tar or TOC, or by the beginning of one. With an image go its layers, except those that a remaining
image needs or that are below a remaining layer. With a layer go all layers above it and every image
that has one of them, and none below it.

What a removal frees depends on the store. Where every layer has its own copies of its files, all
their bytes are freed. Where layers share blocks (reflinks) or files (hard links), only contents
that no remaining layer holds are freed. Both are shown.

AGAIN is what a new pull of the image alone no longer finds here, in uncompressed bytes; IN TURN is
the same after the images above it were pulled. FETCH is what `vecache plan` expects over the
network for the image alone.

--free SIZE chooses the images: the one that frees most, then the one that frees most besides, and
so on until SIZE is free. ALONE is what one frees alone, ADDS what it frees besides those above it.
Images that containers of the store use are left out.

Exit code: 0 fine, 1 no such layer or image, or --free is out of reach, 3 some layers could not be
read, unless --incomplete-ok.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecache.cli.options import (
    UsageError,
    add_output,
    add_pull,
    limit_to_present,
    load_contents,
    note,
    pull_options,
    pull_sharing,
    show,
    warn_of_unread,
)
from vecache.cli.values import parse_size
from vecache.errors import LayerNotFoundError, VecacheError
from vecache.report.excluded import unread_documents
from vecache.report.free import free_document, free_table, free_text
from vecache.report.output import Report
from vecache.report.terminal import Column, count, human_bytes, render_facts, render_table
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from vecache.index.load import ExcludedLayer
    from vecache.report.terminal import Screen
    from vecache.sharing.contents import Contents, Grain
    from vecache.sharing.free import RemovalOrder
    from vecache.sharing.members import ContentImage
    from vecache.sharing.removal import Removal
    from vecache.store.graphroot import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument(
        "names",
        metavar="LAYER-or-IMAGE",
        nargs="*",
        help="what would be removed, together",
    )
    parser.add_argument(
        "--free",
        metavar="SIZE",
        type=parse_size,
        help="choose the images to remove to free so much: bytes, 200MB, 1.5GiB",
    )
    add_pull(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.sharing.removal import what_if

    if (args.free is None) is not bool(args.names):
        raise UsageError("rm: name layers or images, or let --free SIZE choose images")
    everything, store = load_contents(args.store)
    contents = limit_to_present(everything, args).without_additional()
    grain, shares = pull_sharing(args, store)
    order = None
    if args.free is not None:
        order, in_use = _choose(contents, store, args.free, grain if shares else None)
        args.names = [image.id for image in order.images]
    try:
        removal = what_if(contents, args.names, grain)
    except LayerNotFoundError:
        if args.present is not None:
            _explain_hidden(everything, contents, args.names)
        raise
    fetch, not_planned = _plan_fetch(removal, store, args)
    steps = None if order is None else free_table(order, removal, fetch)
    # What is freed is read from TOCs, the pulls are planned with caches.
    unread = {each.id: each for each in (*not_planned, *contents.excluded) if each.is_unread}
    show(
        Report(
            text=lambda screen: (
                _text(removal, fetch, shares=shares, screen=screen)
                if order is None
                else free_text(order, steps, in_use, _facts(removal, shares=shares), screen)
            ),
            document=lambda: {
                "schema": "vecache.rm/1",
                "store": str(args.store if store is None else store.path),
                **_document(removal, fetch, shares=shares),
                **({} if order is None else free_document(order, steps, in_use)),
                "excluded": unread_documents(unread.values()),
            },
            table=lambda: _table(removal, fetch) if steps is None else steps,
        ),
        args,
    )
    effect = "what is freed and what pulls cost again are upper bounds"
    if not unread.keys().isdisjoint(removal.unknown_ids):
        effect = "what they hold is in no figure, neither freed nor to pull again"
    code = warn_of_unread(args, unread.values(), len(contents.records), effect)
    return code or (1 if order is not None and not order.is_enough else 0)


def _choose(
    contents: Contents, store: Store | None, wanted_bytes: int, grain: Grain | None
) -> tuple[RemovalOrder, list[ContentImage] | None]:
    """Choose the images to remove; also return those in use, None where that is not known."""
    from vecache.sharing.free import what_to_remove
    from vecache.store.containers import images_in_use

    used = None if store is None else images_in_use(store)
    in_use = [image for image in contents.images if image.id in (used or ())]
    order = what_to_remove(contents, wanted_bytes, grain, keep=[image.id for image in in_use])
    return order, None if used is None else in_use


def _explain_hidden(everything: Contents, contents: Contents, names: Sequence[str]) -> None:
    """Raise an error of its own for the first name that the store has, but `--present` hides."""
    from vecache.sharing.removal import find_named

    for name in names:
        try:
            find_named(contents, [name])
        except LayerNotFoundError:
            images, _ = find_named(everything, [name])
            what = "image" if images else "layer"
            raise LayerNotFoundError(
                f"{what} {name!r:.100}: in the store, but hidden by --present, which has not all "
                f"of it; add it there: --present {name:.100}"
            ) from None


def _plan_fetch(
    removal: Removal, store: Store | None, args: argparse.Namespace
) -> tuple[list[int | None], tuple[ExcludedLayer, ...]]:
    """Return the bytes that a pull of each removed image alone would fetch; None where unknown.

    Also return the layers that these pulls exclude.
    """
    from vecache.image.open import open_image
    from vecache.index.layers_cache import LayersCache
    from vecache.index.load import BuildCache
    from vecache.plan.planner import Planner

    if store is None or not removal.images:
        for option, value in (("--layout", args.layout), ("--parallel", args.parallel)):
            if value is not None:
                note(f"{option} does nothing here: no pull is planned")
        return [None] * len(removal.images), ()
    gone = {*removal.layer_ids, *removal.unknown_ids}
    listed = {record.id for record in store.layers()}  # some may have gone since they were read
    present = {record.id for record in removal.contents.records} & listed - gone
    build_cache = BuildCache.of_user(os.environ).folder
    cache = LayersCache.load(store, present=present, build_cache=build_cache)
    planner = Planner(pull_options(args, store))
    fetch: list[int | None] = []
    for image in removal.images:
        try:
            stored = open_image(f"containers-storage:{image.record.id}", store=store)
            fetch.append(planner.plan(stored, cache).fetch_bytes)
        except VecacheError:  # such as no manifest in the store: the other figures are still valid
            fetch.append(None)
    return fetch, cache.excluded


def _table(removal: Removal, fetch: list[int | None]) -> Any:
    import pyarrow as pa

    table = removal.to_arrow()
    planned = iter(fetch)
    column = [next(planned) if removed else 0 for removed in table["is_removed"].to_pylist()]
    return table.append_column("fetch_bytes", pa.array(column, pa.int64()))


def _document(removal: Removal, fetch: list[int | None], *, shares: bool) -> dict[str, Any]:
    from vecache.report.layer_names import names_document

    layers = zip(
        removal.layer_ids,
        removal.layer_bytes.tolist(),
        removal.exclusive_bytes.tolist(),
        strict=True,
    )
    return {
        "grain": removal.grain,
        "freed_now_bytes": removal.freed_bytes if shares else removal.stored_bytes,
        "stored_bytes": removal.stored_bytes,
        "freed_bytes": removal.freed_bytes,
        "orphaned_bytes": removal.orphaned_bytes,
        "unknown_bytes": removal.unknown_bytes,
        "layers": [
            {
                "layer": layer,
                **names_document(removal.contents.layer_names[layer]),
                "stored_bytes": stored,
                "freed_bytes": freed,
            }
            for layer, stored, freed in layers
        ],
        "unknown_layers": removal.unknown_ids,
        "kept_layers": [
            {"layer": layer, "reason": reason} for layer, reason in removal.remaining.items()
        ],
        "images": _table(removal, fetch).to_pylist(),
    }


def _text(removal: Removal, fetch: list[int | None], *, shares: bool, screen: Screen) -> str:
    n_layers = len(removal.layer_ids) + len(removal.unknown_ids)
    n_others = len(removal.contents.images) - len(removal.images)
    going = f"{count(n_layers, 'layer')} and {count(len(removal.images), 'image')} would go"
    parts = [
        f"Nothing is removed. {going}, {count(n_others, 'image')} would remain.",
        render_facts(_facts(removal, shares=shares), screen),
    ]
    if n_layers:
        parts.append(_layers(removal, screen))
    if removal.remaining:
        facts = [(layer_id[:12], reason) for layer_id, reason in removal.remaining.items()]
        title = screen.paint("Layers that remain", "bold")
        parts.append(f"{title}:\n{render_facts(facts, screen)}")
    if removal.images:
        parts.append(_images(removal, fetch, screen))
    return "\n\n".join(parts)


def _facts(removal: Removal, *, shares: bool) -> list[tuple[str, str]]:
    copies = f"{human_bytes(removal.stored_bytes)}, all files of these layers"
    unique = f"{human_bytes(removal.freed_bytes)}, the {removal.grain}s that no remaining layer has"
    if shares:
        how = "reflinks" if removal.grain == "chunk" else "hard links"
        facts = [(f"Freed here, with {how}", unique), ("Freed where layers share nothing", copies)]
    else:
        facts = [("Freed here, without reflinks", copies), ("Freed where layers share", unique)]
    if removal.unknown_ids:
        n_unknown = count(len(removal.unknown_ids), "layer")
        size = f"{human_bytes(removal.unknown_bytes)} as tar archives"
        facts.append(("Besides", f"{n_unknown} of unknown content, {size}"))
    return facts


def _layers(removal: Removal, screen: Screen) -> str:
    from vecache.report.layer_names import name_columns, render_named

    known = removal.contents.layer_names
    names = name_columns([known[each] for each in (*removal.layer_ids, *removal.unknown_ids)])
    rows = [
        *zip(
            (layer_id[:12] for layer_id in removal.layer_ids),
            map(human_bytes, removal.layer_bytes.tolist()),
            map(human_bytes, removal.exclusive_bytes.tolist()),
            strict=True,
        ),
        *((layer_id[:12], "unknown", "unknown") for layer_id in removal.unknown_ids),
    ]
    columns = (Column("LAYER"), Column("BYTES", "right"), Column("EXCLUSIVE", "right"))
    title = screen.paint("Layers that go", "bold")
    note = "EXCLUSIVE is what no other layer has, not even another that goes"
    return f"{title}; {note}:\n{render_named(columns, rows, names, screen)}"


def _images(removal: Removal, fetch: list[int | None], screen: Screen) -> str:
    rows = zip(
        (printable(image.label) for image in removal.images),
        map(human_bytes, removal.pull_bytes.tolist()),
        map(human_bytes, removal.in_turn_bytes.tolist()),
        map(human_bytes, fetch),
        strict=True,
    )
    columns = (
        Column("IMAGE", truncate="start"),
        Column("AGAIN", "right"),
        Column("IN TURN", "right"),
        Column("FETCH", "right"),
    )
    title = screen.paint("Images that go", "bold")
    note = "AGAIN is a new pull of one alone, IN TURN after those above it"
    if removal.unknown_ids:
        note += ", both without layers of unknown content"
    return f"{title}; {note}:\n{render_table(columns, rows, screen)}"
