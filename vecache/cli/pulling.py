"""What the verbs about pulling share: what is present, how the store stores, where images are."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from vecache.cli.options import UsageError, add_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.options import PlanOptions
    from vecache.store.graphroot import Store

__all__ = [
    "add_images",
    "add_pull",
    "load_present",
    "open_images",
    "pull_options",
    "settle_images",
]


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add IMAGE, and the options that say where it is; `settle_images` counts them."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="*",
        help="oci:DIR[:TAG], oci-archive:FILE[:TAG], dir:DIR, "
        "docker://HOST[:PORT]/NAME[:TAG|@DIGEST] or containers-storage:NAME",
    )
    where = parser.add_argument_group("where images are")
    where.add_argument("--platform", metavar="OS/ARCH", help="take this one from a list of images")
    where.add_argument("--authfile", metavar="FILE", help="credentials for registries")
    where.add_argument(
        "--tls-verify",
        metavar="true|false",
        type=_truth,
        default=True,
        help="check the registry's certificate; with false, plain http will do too",
    )


def add_pull(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a pull finds and how it stores."""
    add_store(parser)
    pull = parser.add_argument_group("what a pull would find; storage.conf decides by default")
    pull.add_argument(
        "--present",
        metavar="ID",
        nargs="*",
        action="extend",
        help="only these layers of the store count as present; none without an ID",
    )
    pull.add_argument(
        "--reflink",
        choices=("auto", "yes", "no"),
        default="auto",
        help="can the store's file system share blocks? auto asks it (default)",
    )
    pull.add_argument(
        "--hard-links",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="reuse files by hard link",
    )
    pull.add_argument("--layout", choices=("dir", "flat"), default=None, help="flat is composefs")


def load_present(args: argparse.Namespace) -> tuple[Store, LayersCache]:
    """Open the store and load the layers that count as present."""
    from vecache.index.layers_cache import LayersCache
    from vecache.index.load import KeptCaches
    from vecache.report.progress import Progress
    from vecache.store.graphroot import open_store

    store = open_store(args.store)
    present = None
    if args.present is not None:
        present = [record.id for record in store.find_layers(args.present)]
    kept = KeptCaches.of_user(os.environ).folder
    with Progress("Loading layers") as progress:
        cache = LayersCache.load(store, present=present, kept=kept, progress=progress.advance)
    return store, cache


def pull_options(args: argparse.Namespace, store: Store, **more: Any) -> PlanOptions:
    """Say how the pull is made: as the command line says, else as the machine is set up."""
    from vecache.plan.options import PlanOptions
    from vecache.store.reflink import can_reflink
    from vecache.toc.layout import Layout

    config = store.config
    layout = args.layout or (Layout.FLAT if config.use_composefs else Layout.DIR)
    return PlanOptions(
        reflink=can_reflink(store.root) if args.reflink == "auto" else args.reflink == "yes",
        hard_links=config.use_hard_links if args.hard_links is None else args.hard_links,
        layout=Layout(layout),
        **more,
    )


def open_images(args: argparse.Namespace, store: Store) -> list[Image]:
    """Open the images that the command line names."""
    from vecache.image.open import open_image

    return [
        open_image(
            reference,
            platform=args.platform,
            store=store,
            tls_verify=args.tls_verify,
            auth_file=args.authfile,
        )
        for reference in args.image
    ]


def settle_images(args: argparse.Namespace, *, most: int | None = None) -> None:
    """Count the images, and give back those that argparse took for ids behind `--present`."""
    ids: Sequence[str] = args.present or ()
    args.image = [*args.image, *filter(_is_image, ids)]
    if args.present is not None:
        args.present = [word for word in ids if not _is_image(word)]
    if not args.image:
        raise UsageError("name an IMAGE, such as oci:DIR:TAG; `--help` lists the ways")
    if most is not None and len(args.image) > most:
        raise UsageError(f"found {len(args.image)} images, wanted {most} at most")


def _truth(text: str) -> bool:
    """Read what follows `--tls-verify`, as Podman takes it."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted true or false")
    return words[text.lower()]


def _is_image(word: str) -> bool:
    """Tell an image from a layer: it has a transport. So has a digest, in a way."""
    return ":" in word and not word.startswith(("sha256:", "sha384:", "sha512:"))
