"""Read which images of a store containers use.

A graph root lists its containers in `overlay-containers/containers.json` and, throw-away ones, in
`volatile-containers.json`. Snapshots have neither.

Source: containers/storage containers.go Container, newContainerStore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vecache.store.lock import read_lock
from vecache.store.records import parse_records, read_text

if TYPE_CHECKING:
    from vecache.store.graphroot import Store

__all__ = ["images_in_use"]

_CONTAINERS: Final = "overlay-containers"


def images_in_use(store: Store) -> frozenset[str] | None:
    """Return the ids of images that a container is of; None where that is not known."""
    folder = store.root / _CONTAINERS
    if store.snapshot is not None or not folder.is_dir():
        return None
    lists = [folder / name for name in ("containers.json", "volatile-containers.json")]
    with read_lock(
        folder / "containers.lock", beneath=store.root, wait_seconds=store.lock_wait_seconds
    ):
        texts = [(read_text(path), path) for path in lists]
    return frozenset(
        record.text("image", "")
        for text, path in texts
        for record in parse_records(text, path, "container")
    )
