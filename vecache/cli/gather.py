"""Show the fewest local layers that hold most of an image, greedily.

First the layer that holds most bytes of the image, then the one that holds most of what is left,
and so on. ADDS is what a layer holds that those above it do not, LEFT what is missing after it.
Bytes are uncompressed, each content of the image once; `vecache plan` shows what a pull fetches.

Without reflinks a pull reuses whole files only, so files are counted; with reflinks, chunks. With
--hard-links it reuses only files of equal owner, mode and attributes, which is not checked here.
Layers of additional stores do not count: a pull reuses nothing of them.

--store can be given several times: the layers are then the fewest of any of these stores, and each
row has its host. An image of containers-storage: is looked up in the first that is a store.

Exit code: 0 fine, 1 no such image, 3 some layers could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.images import BadImages, add_images, note_origins, open_images, sort_out_images
from vecache.cli.options import (
    UsageError,
    add_output,
    add_pull,
    limit_to_present,
    note,
    pull_sharing,
    show,
    warn_of_unread,
)
from vecache.cli.several import load_several
from vecache.report.excluded import excluded_notes, unread_documents
from vecache.report.output import Report, json_rows
from vecache.report.terminal import (
    Column,
    count,
    human_bytes,
    human_share,
    render_facts,
)
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vecache.report.terminal import Screen
    from vecache.sharing.contents import Contents, Grain
    from vecache.sharing.gather import Cover

_COLUMNS = (
    Column("STEP", "right"),
    Column("LAYER", truncate="end"),
    Column("ADDS", "right"),
    Column("OF IMAGE", "right"),
    Column("LEFT", "right"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_images(parser)
    add_pull(parser, can_be_several=True)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.report.layer_names import add_names
    from vecache.sharing.gather import gather
    from vecache.sharing.sources import read_contents

    sort_out_images(args, most=1)
    (name,) = args.image
    for option, value in (
        ("--hard-links", args.hard_links),
        ("--layout", args.layout),
        ("--parallel", args.parallel),
    ):
        if value is not None:
            note(f"{option} does nothing here: what is covered does not depend on it")
    stores = load_several(args.store)
    if stores.contents.hosts and args.present is not None:
        raise UsageError("--present names layers of one store: found several")
    contents = limit_to_present(stores.contents, args).without_additional()
    first_store = next(filter(None, stores.opened), None)
    (image,) = open_images(args, first_store, BadImages(keep_going=False))
    note_origins([image])
    wanted = read_contents(image)
    grains = {pull_sharing(args, store)[0] for store in stores.opened}
    grain: Grain = "chunk" if grains == {"chunk"} else "file"
    if len(grains) > 1:
        note("files are counted: not all of these stores have reflinks")
    cover = gather(wanted, contents, grain)
    layers = add_names(cover.to_arrow(), stores.contents.layer_names)
    show(
        Report(
            text=lambda screen: _text(name, cover, layers.to_pylist(), contents, screen),
            document=lambda: {
                "schema": "vecache.gather/1",
                "image": name,
                **stores.document(),
                **_document(cover, layers),
                "excluded": unread_documents(contents.excluded),
                "excluded_of_image": unread_documents(wanted.excluded),
            },
            table=lambda: layers,
        ),
        args,
    )
    effect = "what is LEFT is an upper bound"
    code = warn_of_unread(args, contents.excluded, len(contents.records), effect)
    effect = "they are not counted"
    return code | warn_of_unread(args, wanted.excluded, len(wanted.records), effect, of_image=True)


def _document(cover: Cover, layers: Any) -> dict[str, Any]:
    return {
        "grain": cover.grain,
        "total_bytes": cover.total_bytes,
        "covered_bytes": cover.covered_bytes,
        "uncovered_bytes": cover.uncovered_bytes,
        "n_at_least": cover.n_at_least,
        "n_excluded_layers": cover.n_excluded_layers,
        "layers": json_rows(layers).to_pylist(),
    }


def _text(
    image: str, cover: Cover, layers: list[dict[str, Any]], contents: Contents, screen: Screen
) -> str:
    from vecache.report.layer_names import name_columns, render_named, row_names

    parts = [_summary(image, cover)]
    if len(cover):
        rows = [
            (
                *((row["step"], printable(row["host"])) if cover.hosts else (row["step"],)),
                row["layer_id"][:12] if len(row["layer_id"]) == 64 else row["layer_id"],
                human_bytes(row["added_bytes"]),
                human_share(row["added_bytes"] / cover.total_bytes),
                human_bytes(row["left_bytes"]),
            )
            for row in layers
        ]
        columns = list(_COLUMNS)
        if cover.hosts:
            columns.insert(1, Column("HOST", truncate="end"))
        names = name_columns(row_names(layers))
        parts += [render_named(columns, rows, names, screen), _bound(cover)]
    notes = excluded_notes(contents)
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def _summary(image: str, cover: Cover) -> str:
    share = cover.covered_bytes / cover.total_bytes if cover.total_bytes else 0.0
    covered = f"{human_bytes(cover.covered_bytes)} of it ({human_share(share)})"
    layers = f"{len(cover):,} of {count(len(cover.layer_ids), 'local layer')}"
    verb = "holds" if len(cover) == 1 else "hold"
    lines = [
        f"{printable(image)}: {human_bytes(cover.total_bytes)} in distinct {cover.grain}s.",
        f"{layers} {verb} {covered}, {human_bytes(cover.uncovered_bytes)} is in none.",
    ]
    if cover.n_excluded_layers:
        n_excluded = count(cover.n_excluded_layers, "layer")
        lines.append(f"{n_excluded} of the image not counted: no usable table of contents.")
    return "\n".join(lines)


def _bound(cover: Cover) -> str:
    if cover.n_at_least == len(cover):
        return "No fewer layers can hold as much."
    return f"Fewer than {count(cover.n_at_least, 'layer')} cannot hold as much."
