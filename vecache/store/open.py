"""Open a store: a graph root, a snapshot of one, or a node of a fleet.

Source: containers/storage store.go load; storage.conf names the graph root and others beside it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Final

from vecache.errors import StoreError
from vecache.files import store_error
from vecache.store.config import effective_uid, load_config
from vecache.store.graphroot import Store
from vecache.store.lock import LOCK_WAIT_SECONDS
from vecache.store.records import LAYERS

__all__ = ["FLEET_FILE", "open_store", "split_node"]

FLEET_FILE: Final = "fleet.json"
"""The file that makes a folder a fleet."""


def open_store(
    path: str | os.PathLike[str] | None = None, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS
) -> Store:
    """Open a graph root, a snapshot of one, or a node of a fleet.

    Parameters
    ----------
    path : str or os.PathLike, optional
        A graph root; or a file that `vecache snapshot` wrote, or `FOLDER#NODE` for a node that
        `vecache fleet add` added, both with the settings of their own machine; by default the graph
        root of storage.conf, which also comes with the additional stores and the image store of
        that file.
    lock_wait_seconds : float
        How long each later read may wait for a writer.

    Returns
    -------
    Store
        It may have no layers.

    Raises
    ------
    StoreError
        If there is no graph root and no snapshot, or it cannot be read.
    NodeNotFoundError
        If the fleet has no such node; the message lists similar names.
    ConfigError
        If storage.conf is broken.
    TypeError
        If `path` is neither text nor a path.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_store(vecache.open_sample().path)
    >>> len(store.layers()), len(store.images())
    (5, 5)
    """
    _check_path(path)
    if path is not None and os.path.isfile(path):
        from vecache.store.unpack import open_snapshot  # noqa: PLC0415 - 8 ms that no store needs

        snapshot = open_snapshot(Path(os.path.abspath(path)), os.environ)
        return Store.of_snapshot(snapshot, lock_wait_seconds)
    if path is not None and (node := split_node(path)) is not None:
        from vecache.store.fleet import open_fleet  # noqa: PLC0415 - as above

        folder, name = node
        return replace(open_fleet(folder).open_node(name), lock_wait_seconds=lock_wait_seconds)
    config = load_config(os.environ, effective_uid(os.environ))
    root = config.graph_root if path is None else Path(os.path.abspath(path))
    _check_graph_root(root)
    store = Store(root, config, lock_wait_seconds=lock_wait_seconds)
    if not store.is_own:
        return store
    for folder in (*config.additional_stores, *filter(None, [config.image_store])):
        if not folder.is_dir():
            raise StoreError(f"{folder}: {config.path} names it as a store, but it is not a folder")
    return replace(
        store, image_store=config.image_store, additional_stores=config.additional_stores
    )


def _check_path(path: object) -> None:
    if not isinstance(path, (str, os.PathLike, type(None))):
        raise TypeError(
            f"store: found {type(path).__name__}, wanted the path of a graph root or a snapshot"
        )


def split_node(path: str | os.PathLike[str]) -> tuple[Path, str] | None:
    """Split FOLDER#NODE; None for what is there, and where there is no such folder."""
    folder, mark, name = os.fspath(path).rpartition("#")
    if not mark or os.path.lexists(path) or not os.path.isdir(folder or os.curdir):
        return None
    return Path(os.path.abspath(folder)), name


def _check_graph_root(root: Path) -> None:
    """Raise unless a folder is a graph root that can be read; the message says what to do."""
    folder = root / LAYERS
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
        is_graph_root = is_folder and folder.is_dir()
        if is_graph_root:
            os.listdir(folder)
    except FileNotFoundError:
        raise StoreError(
            f"{root}: there is no such folder; wanted a graph root, which Podman makes with its "
            "first pull"
        ) from None
    except OSError as error:
        raise store_error(error, root, "the store cannot be read") from error
    if not is_folder:
        raise StoreError(
            f"{root}: not a folder; wanted a graph root, a folder with {LAYERS}/ in it, or a file "
            "of `vecache snapshot`"
        )
    if not is_graph_root:
        other = [each.name for each in root.glob("*-layers")]
        reason = f"it has no {LAYERS}/"
        if (root / FLEET_FILE).exists():
            reason = f"it is a fleet: name a node of it, {root}#NODE, or use `vecache fleet`"
        elif list(root.glob("*.parquet")):
            reason += (
                "; it looks like a folder of `vecache export`, which has no TOCs to plan with: "
                "`vecache snapshot -o FILE` writes all that plans need"
            )
        elif (root / "oci-layout").exists():
            reason += f"; it is an OCI layout, images of which are named oci:{root}:TAG"
        elif (root / "storage" / LAYERS).is_dir():
            reason += f"; {root}/storage has it"
        elif other:
            reason += f", only {other[0]}/: of another driver than overlay, which stores no TOCs"
        raise StoreError(f"{root}: not a graph root: {reason}")
