"""Show the fewest local layers that hold most of an image, greedily.

First the layer that holds most bytes of the image, then the one that holds most of what is left,
and so on. ADDS is what a layer holds that those above it do not, LEFT what is missing after it.
Bytes are uncompressed, each content of the image once; `vecache plan` says what a pull fetches.

Without reflinks a pull reuses whole files only, and so files are counted; with them, chunks. With
--hard-links a file must have the same owner, mode and attributes too, which is not looked at here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.options import (
    add_images,
    add_output,
    add_pull,
    limit_to_present,
    load_contents,
    pull_sharing,
    show,
    sort_out_images,
)
from vecache.report.excluded import excluded_notes
from vecache.report.output import Report
from vecache.report.terminal import (
    Column,
    count,
    human_bytes,
    human_share,
    render_facts,
    render_table,
)
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vecache.report.terminal import Screen
    from vecache.sharing.contents import Contents
    from vecache.sharing.gather import Cover

_COLUMNS = (
    Column("STEP", "right"),
    Column("LAYER", keep="start"),
    Column("ADDS", "right"),
    Column("OF IMAGE", "right"),
    Column("LEFT", "right"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb understands."""
    add_images(parser)
    add_pull(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Do it, print it, and return the exit code."""
    from vecache.image.open import open_image
    from vecache.sharing.gather import gather

    sort_out_images(args, most=1)
    (name,) = args.image
    contents, store = load_contents(args.store)
    contents = limit_to_present(contents, args)
    image = open_image(
        name,
        platform=args.platform,
        store=store,
        tls_verify=args.tls_verify,
        auth_file=args.authfile,
    )
    grain, _ = pull_sharing(args, store)
    found = gather(image, contents, grain)
    show(
        Report(
            text=lambda screen: _text(name, found, contents, screen),
            document=lambda: _document(
                name, str(args.store if store is None else store.root), found
            ),
            table=found.to_arrow,
        ),
        args,
    )
    return 0


def _document(image: str, store: str, found: Cover) -> dict[str, Any]:
    return {
        "image": image,
        "store": store,
        "grain": found.grain,
        "total_bytes": found.total_bytes,
        "covered_bytes": found.covered_bytes,
        "uncovered_bytes": found.uncovered_bytes,
        "n_at_least": found.n_at_least,
        "n_unknown_layers": found.n_unknown_layers,
        "layers": found.to_arrow().to_pylist(),
    }


def _text(image: str, found: Cover, contents: Contents, screen: Screen) -> str:
    parts = [_summary(image, found)]
    if len(found):
        rows = zip(
            range(1, len(found) + 1),
            (found.layer_ids[number] for number in found.layer.tolist()),
            found.added_bytes.tolist(),
            found.left_bytes.tolist(),
            strict=True,
        )
        shown = (
            (
                step,
                layer_id[:12] if len(layer_id) == 64 else layer_id,
                human_bytes(added),
                human_share(added / found.total_bytes),
                human_bytes(left),
            )
            for step, layer_id, added, left in rows
        )
        parts += [render_table(_COLUMNS, shown, screen), _bound(found)]
    notes = excluded_notes(contents)
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def _summary(image: str, found: Cover) -> str:
    share = found.covered_bytes / found.total_bytes if found.total_bytes else 0.0
    covered = f"{human_bytes(found.covered_bytes)} of it ({human_share(share)})"
    layers = f"{len(found):,} of {count(len(found.layer_ids), 'local layer')}"
    verb = "holds" if len(found) == 1 else "hold"
    lines = [
        f"{printable(image)}: {human_bytes(found.total_bytes)} in distinct {found.grain}s.",
        f"{layers} {verb} {covered}, {human_bytes(found.uncovered_bytes)} is in none.",
    ]
    if found.n_unknown_layers:
        n_unknown = count(found.n_unknown_layers, "layer")
        lines.append(f"{n_unknown} of the image without a good table of contents not counted.")
    return "\n".join(lines)


def _bound(found: Cover) -> str:
    if found.n_at_least == len(found):
        return "No fewer layers can hold as much."
    return f"Fewer than {count(found.n_at_least, 'layer')} cannot hold as much."
