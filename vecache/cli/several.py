"""Load the stores of a verb that takes `--store` several times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vecache.cli.options import load_contents
from vecache.report.terminal import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from vecache.sharing.contents import Contents
    from vecache.store.graphroot import Store

__all__ = ["Stores", "load_several"]


class Stores(NamedTuple):
    """What `--store` named."""

    contents: Contents
    """Of one store without a host; of several each layer has its host."""
    opened: tuple[Store | None, ...]
    """None for what is not a store, such as a data set."""
    paths: Mapping[str, str]
    """By host; of one store by the empty text."""

    def document(self) -> dict[str, Any]:
        """Return what names the stores in a JSON document."""
        return {"store": self.paths[""]} if "" in self.paths else {"stores": self.paths}


def load_several(paths: Sequence[str] | None) -> Stores:
    """Read the contents of the stores that `--store` names."""
    from vecache.sharing.hosts import name_hosts
    from vecache.sharing.sources import find_store, read_contents

    if not paths or len(paths) == 1:
        path = paths[0] if paths else None
        contents, store = load_contents(path)
        return Stores(contents, (store,), {"": str(path if store is None else store.path)})
    opened = tuple(find_store(Path(path)) for path in paths)
    sources = [store or path for store, path in zip(opened, paths, strict=True)]
    names = name_hosts(sources)
    with Progress("Reading layers") as progress:
        contents = read_contents(
            dict(zip(names, sources, strict=True)), progress=progress.advance_to
        )
    return Stores(contents, opened, dict(zip(names, paths, strict=True)))
