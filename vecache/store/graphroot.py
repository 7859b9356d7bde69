"""Open a graph root, and answer what it holds.

`open_store` checks that there is a store to read; `Store` answers from its files each time it is
asked, under the store's lock, since Podman may work on it at any moment. Layers and images of the
primary store come first, then those of the additional ones, which are never written to.

Source: containers/storage store.go load, getLayerStoreLocked, readAllLayerStores.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import StoreError, VecacheError
from vecache.files import store_error
from vecache.store import find
from vecache.store.config import effective_uid, load_config
from vecache.store.lock import LOCK_WAIT_SECONDS
from vecache.store.records import IMAGES, LAYERS, list_images, list_layers
from vecache.text import html_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.store.config import StorageConfig
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["Store", "open_store"]


@dataclass(frozen=True, slots=True, repr=False)
class Store:
    """A containers-storage graph root, and the additional ones read beside it.

    Attributes
    ----------
    root : pathlib.Path
        The graph root.
    config : StorageConfig
        What storage.conf says; its own `graph_root` may be another.
    image_store : pathlib.Path or None
        Where images' layers are kept, if not in `root`.
    additional_stores : tuple of pathlib.Path
        Graph roots that are only read.
    lock_wait_seconds : float
        How long to wait for Podman to let go of the lock.
    """

    root: Path
    config: StorageConfig
    image_store: Path | None = None
    additional_stores: tuple[Path, ...] = ()
    lock_wait_seconds: float = LOCK_WAIT_SECONDS

    def layers(self) -> tuple[LayerRecord, ...]:
        """Read the layers of all stores, in store order.

        Returns
        -------
        tuple of LayerRecord
            Without incomplete layers; of two with one id the first.

        Raises
        ------
        StoreError
            If a file is broken, or a writer holds a lock for too long.
        """
        found: dict[str, LayerRecord] = {}
        for root in self._roots():
            records = list_layers(
                root,
                self.image_store if root == self.root else None,
                is_read_only=self._is_read_only(root, LAYERS),
                wait_seconds=self.lock_wait_seconds,
            )
            for record in records:
                found.setdefault(record.id, record)
        return tuple(found.values())

    def images(self) -> tuple[ImageRecord, ...]:
        """Read the images of all stores, in store order.

        Returns
        -------
        tuple of ImageRecord
            Of two with one id the first.

        Raises
        ------
        StoreError
            If a file is broken, or a writer holds a lock for too long.
        """
        found: dict[str, ImageRecord] = {}
        for root in filter(None, (self.image_store, *self._roots())):
            records = list_images(
                root,
                is_read_only=self._is_read_only(root, IMAGES),
                wait_seconds=self.lock_wait_seconds,
            )
            for record in records:
                found.setdefault(record.id, record)
        return tuple(found.values())

    def find_image(self, name: str) -> ImageRecord:
        """Find the image that a name, an id or a digest means, as Podman would.

        Parameters
        ----------
        name : str
            Such as `localhost/app:latest`, `app`, `docker.io/library/debian` or `3e3eeec9`.

        Returns
        -------
        ImageRecord
            The image.

        Raises
        ------
        ImageNotFoundError
            If there is none; the message lists near names.
        ImageError
            If there are several.
        StoreError
            If the store cannot be read.
        """
        return find.find_image(self.images(), name)

    def find_layers(self, prefixes: Iterable[str]) -> tuple[LayerRecord, ...]:
        """Find layers by id, the beginning of one, name or digest.

        Parameters
        ----------
        prefixes : iterable of str
            What to look for.

        Returns
        -------
        tuple of LayerRecord
            One a prefix, in the same order.

        Raises
        ------
        LayerNotFoundError
            If a prefix fits no layer.
        StoreError
            If one fits several, or the store cannot be read.
        """
        if isinstance(prefixes, str):
            raise TypeError("find_layers wants several prefixes, not one text")
        layers = self.layers()
        return tuple(find.find_layer(layers, prefix) for prefix in prefixes)

    def image_layers(self, image: ImageRecord) -> tuple[LayerRecord, ...]:
        """List the layers of an image, the bottom one first.

        Parameters
        ----------
        image : ImageRecord
            The image.

        Returns
        -------
        tuple of LayerRecord
            Its layers; none for an image without any.

        Raises
        ------
        StoreError
            If one of them is not in the store (any more), or a layer is its own parent.
        """
        by_id = {layer.id: layer for layer in self.layers()}
        chain: list[LayerRecord] = []
        wanted = image.top_layer
        while wanted is not None:
            layer = by_id.pop(wanted, None)
            if layer is None:
                is_loop = any(layer.id == wanted for layer in chain)
                raise StoreError(
                    f"{image.store_root}: image {image.id[:16]}: its layer {wanted[:16]} "
                    + ("is below itself" if is_loop else "is not in the store; pull it again")
                )
            chain.append(layer)
            wanted = layer.parent
        return tuple(reversed(chain))

    def _roots(self) -> tuple[Path, ...]:
        return (self.root, *self.additional_stores)

    def _is_read_only(self, root: Path, folder: str) -> bool:
        return root in self.additional_stores or not os.access(root / folder, os.W_OK)

    def _counts(self) -> str:
        hasty = replace(self, lock_wait_seconds=min(self.lock_wait_seconds, 0.5))
        try:
            layers, images = hasty.layers(), hasty.images()
        except VecacheError as error:
            return f"cannot be read now: {error}"
        n_bytes = sum(max(layer.diff_size, 0) for layer in layers)
        return f"{len(layers):,} layers of {n_bytes:,} bytes, {len(images):,} images"

    def __repr__(self) -> str:
        more = f" and {len(self.additional_stores)} more" if self.additional_stores else ""
        return f"<Store {self.root}{more}: {self._counts()}>"

    def _repr_html_(self) -> str:
        rows = [("additional store", str(root)) for root in self.additional_stores]
        return html_table(f"{self.root}: {self._counts()}", (), rows)


def open_store(
    path: str | os.PathLike[str] | None = None, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS
) -> Store:
    """Open a graph root.

    Parameters
    ----------
    path : str or os.PathLike, optional
        The graph root; the machine's own, as storage.conf names it, where it is left out. Only
        the machine's own comes with the additional stores and the image store of storage.conf.
    lock_wait_seconds : float
        How long each later reading may wait for a writer.

    Returns
    -------
    Store
        A store without layers is one too, if Podman has made it.

    Raises
    ------
    StoreError
        If there is no graph root, or it cannot be read.
    ConfigError
        If storage.conf is broken.
    """
    config = load_config(os.environ, effective_uid(os.environ))
    root = config.graph_root if path is None else Path(os.path.abspath(path))
    _check_graph_root(root)
    if not _is_same(root, config.graph_root):
        return Store(root, config, lock_wait_seconds=lock_wait_seconds)
    for folder in (*config.additional_stores, *filter(None, [config.image_store])):
        if not folder.is_dir():
            raise StoreError(f"{folder}: {config.path} names it as a store, but it is no folder")
    return Store(
        root,
        config,
        image_store=config.image_store,
        additional_stores=config.additional_stores,
        lock_wait_seconds=lock_wait_seconds,
    )


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _check_graph_root(root: Path) -> None:
    """Refuse what is no graph root, or may not be read, and say what to do."""
    folder = root / LAYERS
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
        is_graph_root = is_folder and folder.is_dir()
        if is_graph_root:
            os.listdir(folder)
    except FileNotFoundError:
        raise StoreError(
            f"{root}: there is no such folder; has Podman pulled anything yet? "
            "--store names another graph root"
        ) from None
    except OSError as error:
        raise store_error(error, root, "the store cannot be read") from error
    if not is_folder:
        raise StoreError(f"{root}: is no folder; a graph root is one, with {LAYERS}/ in it")
    if not is_graph_root:
        other = [each.name for each in root.glob("*-layers")]
        reason = f"it has no {LAYERS}/"
        if other:
            reason += f", only {other[0]}/: of another driver than overlay, which keeps no TOCs"
        raise StoreError(f"{root}: is this a graph root? {reason}; --store names another")
