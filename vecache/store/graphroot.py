"""Read the layers and images of a graph root.

A `Store` reads its files again at each call, under the store's lock, since Podman may change them
at any moment. Layers and images of the primary store come first, then those of the additional ones,
which are never written.

Source: containers/storage store.go load, getLayerStoreLocked, readAllLayerStores.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from vecache.errors import StoreError, VecacheError
from vecache.store import find
from vecache.store.blob_info import BlobInfo, blob_info_path, read_blob_info
from vecache.store.config import effective_uid
from vecache.store.lock import LOCK_WAIT_SECONDS
from vecache.store.records import IMAGES, LAYERS, list_images, list_layers
from vecache.text import count, html_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from vecache.store.config import StorageConfig
    from vecache.store.records import ImageRecord, LayerRecord
    from vecache.store.settings import PullSettings
    from vecache.store.snapshot import Snapshot

__all__ = ["Store"]


@dataclass(frozen=True, slots=True, repr=False)
class Store:
    """A containers-storage graph root and the additional ones that are read with it.

    Attributes
    ----------
    root : pathlib.Path
        The graph root.
    config : StorageConfig
        The settings of storage.conf, whose `graph_root` may be another one.
    image_store : pathlib.Path or None
        Where images' layers are, if not in `root`.
    additional_stores : tuple of pathlib.Path
        Graph roots that are only read.
    lock_wait_seconds : float
        How long to wait for Podman to release the lock.
    snapshot : Snapshot or None
        What the store was unpacked from, or is in a fleet, for a store of another machine. Such a
        store is only read.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> len(store.layers()), len(store.images())
    (5, 5)
    >>> store.find_image("app2").names
    ('localhost:5001/small/app2:latest',)
    >>> [layer.id[:12] for layer in store.find_layers(["dd95", "3492"])]
    ['dd95d764c505', '3492096ae743']
    """

    root: Path
    config: StorageConfig
    image_store: Path | None = None
    additional_stores: tuple[Path, ...] = ()
    lock_wait_seconds: float = LOCK_WAIT_SECONDS
    snapshot: Snapshot | None = None

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> Store:
        """Return the store of another machine; no file of this one's configuration is read.

        Parameters
        ----------
        snapshot : Snapshot
            What its snapshot says.
        lock_wait_seconds : float
            How long each later read may wait for a writer.

        Returns
        -------
        Store
            It is only read.
        """
        root, *additional = (each.folder for each in snapshot.roots)
        return cls(
            root,
            snapshot.config,
            additional_stores=tuple(additional),
            lock_wait_seconds=lock_wait_seconds,
            snapshot=snapshot,
        )

    @property
    def path(self) -> Path:
        """What was opened: the graph root, the file of the snapshot, or FOLDER#NODE."""
        return self.root if self.snapshot is None else self.snapshot.path

    @property
    def title(self) -> str:
        """The path, and whose snapshot it is."""
        if self.snapshot is None:
            return str(self.path)
        return f"{self.path} (snapshot of {self.snapshot.host})"

    @property
    def is_own(self) -> bool:
        """Whether this is the machine's own store, the one that storage.conf names.

        For a snapshot: whether it was, on its machine.
        """
        if self.snapshot is not None:
            return self.snapshot.is_own
        return os.path.realpath(self.root) == os.path.realpath(self.config.graph_root)

    def pull_settings(self, *, reflink: bool | None = None) -> PullSettings:
        """Return how Podman pulls into this store.

        Parameters
        ----------
        reflink : bool, optional
            Whether its file system can share blocks; by default that is tested.

        Returns
        -------
        PullSettings
            For a store that is not the machine's own (`is_own`) partial pulls are assumed.

        Raises
        ------
        ConfigError
            If containers.conf is broken.
        StoreError
            If the file system cannot be tested.
        """
        if self.snapshot is not None:
            settings = self.snapshot.settings
            return settings if reflink is None else replace(settings, reflink=reflink)
        from vecache.store.settings import load_settings  # noqa: PLC0415 - only plans need it

        return load_settings(
            self.config,
            os.environ,
            effective_uid(os.environ),
            files_root=self.image_store or self.root,
            is_own=self.is_own,
            reflink=reflink,
        )

    def blob_info(self) -> BlobInfo:
        """Read the uncompressed digests that Podman knows of blobs and TOCs.

        Returns
        -------
        BlobInfo
            Empty for a store that is not the machine's own, and where the file cannot be read.
        """
        if self.snapshot is not None:
            return self.snapshot.blob_info
        if not self.is_own:
            return BlobInfo()
        return read_blob_info(blob_info_path(os.environ, effective_uid(os.environ)))

    def layers(self) -> tuple[LayerRecord, ...]:
        """Read the layers of all stores, in store order.

        Returns
        -------
        tuple of LayerRecord
            Without incomplete layers; if several have the same id, the first one.

        Raises
        ------
        StoreError
            If a list is broken, or a writer holds its lock for too long.
        """
        found: dict[str, LayerRecord] = {}
        for record in chain.from_iterable(self._list_layers()):
            found.setdefault(record.id, record)
        return tuple(found.values())

    def _list_layers(self) -> Iterator[tuple[LayerRecord, ...]]:
        wait = self.lock_wait_seconds
        if self.snapshot is not None:
            for snapshot_root in self.snapshot.roots:
                yield snapshot_root.list_layers(wait_seconds=wait)
            return
        for root in (self.root, *self.additional_stores):
            yield list_layers(
                root,
                self.image_store if root == self.root else None,
                is_read_only=self._is_read_only(root, LAYERS),
                wait_seconds=wait,
            )

    def images(self) -> tuple[ImageRecord, ...]:
        """Read the images of all stores, in store order.

        Returns
        -------
        tuple of ImageRecord
            If several have the same id, the first one.

        Raises
        ------
        StoreError
            If a list is broken, or a writer holds its lock for too long.
        """
        found: dict[str, ImageRecord] = {}
        for record in chain.from_iterable(self._list_images()):
            found.setdefault(record.id, record)
        return tuple(found.values())

    def _list_images(self) -> Iterator[tuple[ImageRecord, ...]]:
        wait = self.lock_wait_seconds
        if self.snapshot is not None:
            for snapshot_root in self.snapshot.roots:
                yield snapshot_root.list_images(wait_seconds=wait)
            return
        for root in filter(None, (self.image_store, self.root, *self.additional_stores)):
            yield list_images(
                root, is_read_only=self._is_read_only(root, IMAGES), wait_seconds=wait
            )

    def find_image(self, name: str) -> ImageRecord:
        """Find the image that a name, an id or a digest refers to, as Podman would.

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
            If there is none; the message lists similar names.
        ImageError
            If several images match.
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
            One for each prefix, in the same order.

        Raises
        ------
        LayerNotFoundError
            If a prefix matches no layer.
        StoreError
            If one matches several, or the store cannot be read.
        """
        if isinstance(prefixes, str):
            raise TypeError("find_layers wants an iterable of prefixes, found one str")
        layers, images = self.layers(), self.images()
        return tuple(find.find_layer(layers, prefix, images) for prefix in prefixes)

    def image_layers(self, image: ImageRecord) -> tuple[LayerRecord, ...]:
        """Return the layers of an image, the bottom one first.

        Parameters
        ----------
        image : ImageRecord
            The image.

        Returns
        -------
        tuple of LayerRecord
            Empty for an image without layers.

        Raises
        ------
        StoreError
            If one of them is not in the store (any more), or is below itself.
        """
        by_id = {layer.id: layer for layer in self.layers()}
        layers: list[LayerRecord] = []
        wanted = image.top_layer
        while wanted is not None:
            layer = by_id.pop(wanted, None)
            if layer is None:
                is_loop = any(layer.id == wanted for layer in layers)
                raise StoreError(
                    f"{image.store_root}: image {image.id[:16]}: its layer {wanted[:16]} "
                    + ("is below itself" if is_loop else "is not in the store; pull it again")
                )
            layers.append(layer)
            wanted = layer.parent
        return tuple(reversed(layers))

    def _is_read_only(self, root: Path, folder: str) -> bool:
        if root in self.additional_stores:
            return True
        return not os.access(root / folder, os.W_OK)

    def _counts(self) -> str:
        impatient = replace(self, lock_wait_seconds=min(self.lock_wait_seconds, 0.5))
        try:
            layers, images = impatient.layers(), impatient.images()
        except VecacheError as error:
            return f"cannot be read now: {error}"
        n_bytes = sum(max(layer.diff_size, 0) for layer in layers)
        return f"{count(len(layers), 'layer')} of {n_bytes:,} bytes, {count(len(images), 'image')}"

    def __repr__(self) -> str:
        more = f" and {len(self.additional_stores)} more" if self.additional_stores else ""
        return f"<Store {self.title}{more}: {self._counts()}>"

    def _repr_html_(self) -> str:
        rows = [("additional store", str(root)) for root in self.additional_stores]
        return html_table(f"{self.title}: {self._counts()}", (), rows)
