"""Read the lists of a graph root under its locks.

A graph root lists its layers in `layers.json` and, for throw-away ones, in `volatile-layers.json`;
with a separate image store the layers of images are listed there, between the two. Their files then
are in the image store, their big data is not. A list that is missing is empty.

Source: containers/storage layers.go newLayerStore, load.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from vecache.errors import StoreError
from vecache.store.files import read_bounded, store_error
from vecache.store.lock import read_lock
from vecache.store.records import IMAGES, LAYERS, parse_images, parse_layers

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["layer_lists", "layer_locks", "list_images", "list_layers", "read_text"]

_MAX_LIST_BYTES: Final = 16 << 20  # some 30,000 layers


def layer_lists(root: Path, image_store: Path | None) -> list[tuple[Path, Path]]:
    """Name the files that list a store's layers.

    Parameters
    ----------
    root : pathlib.Path
        The graph root.
    image_store : pathlib.Path or None
        Where images' layers are kept, if not there.

    Returns
    -------
    list of (pathlib.Path, pathlib.Path)
        Each file, whether it is there or not, with the graph root that keeps its layers' files.
    """
    lists = [(root / LAYERS / "layers.json", root)]
    if image_store is not None:
        lists.append((image_store / LAYERS / "layers.json", image_store))
    return [*lists, (root / LAYERS / "volatile-layers.json", root)]


def layer_locks(root: Path, image_store: Path | None) -> list[Path]:
    """Name the lock files that guard a store's lists of layers, in the order to take them.

    Parameters
    ----------
    root : pathlib.Path
        The graph root.
    image_store : pathlib.Path or None
        Where images' layers are kept, if not there.

    Returns
    -------
    list of pathlib.Path
        One or two.
    """
    return [each / LAYERS / "layers.lock" for each in (root, image_store) if each is not None]


def list_layers(
    root: Path, image_store: Path | None, *, is_read_only: bool, wait_seconds: float
) -> tuple[LayerRecord, ...]:
    """Read a store's layers under its lock.

    Parameters
    ----------
    root : pathlib.Path
        The graph root.
    image_store : pathlib.Path or None
        Where images' layers are kept, if not there.
    is_read_only : bool
        Whether the records are to say so.
    wait_seconds : float
        How long to wait for a writer.

    Returns
    -------
    tuple of LayerRecord
        In store order.

    Raises
    ------
    StoreError
        If a list cannot be read or is broken, or a writer holds the lock for too long.
    """
    with contextlib.ExitStack() as held:
        for lock in layer_locks(root, image_store):
            held.enter_context(read_lock(lock, wait_seconds=wait_seconds))
        texts = [(read_text(path), path, files) for path, files in layer_lists(root, image_store)]
    return tuple(
        record
        for text, path, files in texts
        for record in parse_layers(
            text, path, store_root=root, files_root=files, is_read_only=is_read_only
        )
    )


def list_images(root: Path, *, is_read_only: bool, wait_seconds: float) -> tuple[ImageRecord, ...]:
    """Read a store's images under their lock.

    Parameters
    ----------
    root : pathlib.Path
        The graph root.
    is_read_only : bool
        Whether the records are to say so.
    wait_seconds : float
        How long to wait for a writer.

    Returns
    -------
    tuple of ImageRecord
        In store order.

    Raises
    ------
    StoreError
        If the list cannot be read or is broken, or a writer holds the lock for too long.
    """
    path = root / IMAGES / "images.json"
    with read_lock(root / IMAGES / "images.lock", wait_seconds=wait_seconds):
        text = read_text(path)
    return tuple(parse_images(text, path, store_root=root, is_read_only=is_read_only))


def read_text(path: Path) -> str:
    """Read a file of records.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    str
        Its text; empty for a missing file, as it is for Podman.

    Raises
    ------
    StoreError
        If it cannot be read, is too large or no UTF-8.
    """
    try:
        return read_bounded(path, _MAX_LIST_BYTES).decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise store_error(error, path, "the records cannot be read") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: no UTF-8 at byte {error.start}") from error
