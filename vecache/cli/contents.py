"""What the verbs about sharing share: where contents come from, and what a pull can reuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from vecache.sharing.contents import Contents, Grain
    from vecache.store.graphroot import Store

__all__ = ["STORE_HELP", "limit_to_present", "load_contents", "pull_sharing"]

STORE_HELP = (
    "graph root, folder that `vecache export` wrote, or folder of TOCs (*.json); without it, this "
    "machine's own store, as storage.conf says"
)


def load_contents(path: str | None) -> tuple[Contents, Store | None]:
    """Read what layers hold, and say on a terminal how far it is."""
    from vecache.report.progress import Progress
    from vecache.sharing.sources import find_store, read_contents
    from vecache.store.graphroot import open_store

    store = open_store() if path is None else find_store(Path(path))
    with Progress("Reading layers") as progress:
        contents = read_contents(path if store is None else store, progress=progress.advance_to)
    return contents, store


def limit_to_present(contents: Contents, args: argparse.Namespace) -> Contents:
    """Leave out the layers that do not count as present."""
    from vecache.store.find import find_layer

    if args.present is None:
        return contents
    return contents.limited_to({find_layer(contents.records, name).id for name in args.present})


def pull_sharing(args: argparse.Namespace, store: Store | None) -> tuple[Grain, bool]:
    """Say what layers of the store can have in common, as the machine is set up."""
    from vecache.cli.pulling import pull_options
    from vecache.sharing.contents import Grain

    if store is None:
        reflink, hard_links = args.reflink == "yes", bool(args.hard_links)
    else:
        options = pull_options(args, store)
        reflink, hard_links = options.reflink, options.hard_links
    return (Grain.CHUNK if reflink else Grain.FILE), reflink or hard_links
