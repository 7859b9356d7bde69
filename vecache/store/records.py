"""Say what a graph root records of a layer and of an image.

Of the records in `layers.json` and `images.json` this reads what a plan needs. A layer flagged
`incomplete` was never finished, and is left out.

Source: containers/storage layers.go Layer; images.go Image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vecache.store.bigdata import big_data_file_name
from vecache.store.fields import Fields, parse_array

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "IMAGES",
    "LAYERS",
    "ImageRecord",
    "LayerRecord",
    "is_incomplete",
    "parse_images",
    "parse_layers",
]

_OVERLAY: Final = "overlay"
LAYERS: Final = "overlay-layers"
IMAGES: Final = "overlay-images"


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer of a store; what is left out is unknown, as for a layer that no store has.

    Attributes
    ----------
    id : str
        Its id, 64 hexadecimal digits unless somebody chose another.
    parent : str or None
        Id of the layer below.
    names : tuple of str
        Names given to the layer; rare.
    diff_digest, compressed_diff_digest, toc_digest : str or None
        Digests of the tar, of the blob and of the TOC, as far as the store knows them.
    expected_diff_digest : str or None
        What the image says the digest of the tar is, where the store could not compute it.
    diff_size : int
        Bytes of the tar; -1 where unknown.
    big_data_names : tuple of str
        Keys of its big data.
    store_root : pathlib.Path
        The graph root that lists the layer and keeps its big data.
    files_root : pathlib.Path
        The graph root that keeps its files: another one only with a separate `imagestore`.
    is_read_only : bool
        Whether nothing may be written there.
    """

    id: str
    parent: str | None = None
    names: tuple[str, ...] = ()
    diff_digest: str | None = None
    compressed_diff_digest: str | None = None
    toc_digest: str | None = None
    expected_diff_digest: str | None = None
    diff_size: int = -1
    big_data_names: tuple[str, ...] = ()
    store_root: Path = Path()
    files_root: Path = Path()
    is_read_only: bool = True

    @property
    def target(self) -> Path:
        """Folder of the layer's own files."""
        return self.files_root / _OVERLAY / self.id / "diff"

    def big_data_path(self, key: str) -> Path:
        """Return the path of a big-data item, whether it is there or not.

        Parameters
        ----------
        key : str
            The item's key.

        Returns
        -------
        pathlib.Path
            In the folder of the layer.
        """
        return self.store_root / LAYERS / self.id / big_data_file_name(key)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a store.

    Attributes
    ----------
    id : str
        Its id: the digest of its config, or what Podman made of it.
    digest : str or None
        Digest of its manifest.
    names : tuple of str
        Its full names, such as `localhost/app:latest`.
    top_layer : str or None
        Id of its topmost layer; None for an image without layers.
    big_data_names : tuple of str
        Keys of its big data.
    store_root : pathlib.Path
        The graph root that lists it and keeps its big data.
    is_read_only : bool
        Whether nothing may be written there.
    """

    id: str
    digest: str | None
    names: tuple[str, ...]
    top_layer: str | None
    big_data_names: tuple[str, ...]
    store_root: Path
    is_read_only: bool

    def big_data_path(self, key: str) -> Path:
        """Return the path of a big-data item, whether it is there or not.

        Parameters
        ----------
        key : str
            The item's key.

        Returns
        -------
        pathlib.Path
            In the folder of the image.
        """
        return self.store_root / IMAGES / self.id / big_data_file_name(key)


def parse_layers(
    text: str, path: Path, *, store_root: Path, files_root: Path, is_read_only: bool
) -> Iterator[LayerRecord]:
    """Parse a list of layers, without the incomplete ones.

    Parameters
    ----------
    text : str
        What `layers.json` or `volatile-layers.json` holds.
    path : pathlib.Path
        The file, for messages.
    store_root, files_root : pathlib.Path
        Graph roots of the layers' big data and of their files.
    is_read_only : bool
        Whether the store may only be read.

    Yields
    ------
    LayerRecord
        In the order of the file.

    Raises
    ------
    StoreError
        If the list or a record is broken.
    """
    for number, values in enumerate(parse_array(text, path)):
        record = Fields(values, f"{path}: layer {number}")
        if is_incomplete(record.values):
            continue
        flags = Fields(record.take("flags", dict, "an object") or {}, f"{record.where} flags")
        yield LayerRecord(
            id=record.safe_id(),
            parent=record.text("parent"),
            names=record.texts("names"),
            diff_digest=record.text("diff-digest"),
            compressed_diff_digest=record.text("compressed-diff-digest"),
            toc_digest=record.text("toc-digest"),
            expected_diff_digest=flags.text("expected-layer-diffid"),
            diff_size=record.whole("diff-size", default=-1),
            big_data_names=record.texts("big-data-names"),
            store_root=store_root,
            files_root=files_root,
            is_read_only=is_read_only,
        )


def parse_images(
    text: str, path: Path, *, store_root: Path, is_read_only: bool
) -> Iterator[ImageRecord]:
    """Parse a list of images.

    Parameters
    ----------
    text : str
        What `images.json` holds.
    path : pathlib.Path
        The file, for messages.
    store_root : pathlib.Path
        Graph root of the images' big data.
    is_read_only : bool
        Whether the store may only be read.

    Yields
    ------
    ImageRecord
        In the order of the file.

    Raises
    ------
    StoreError
        If the list or a record is broken.
    """
    for number, values in enumerate(parse_array(text, path)):
        record = Fields(values, f"{path}: image {number}")
        yield ImageRecord(
            id=record.safe_id(),
            digest=record.text("digest"),
            names=record.texts("names"),
            top_layer=record.text("layer"),
            big_data_names=record.texts("big-data-names"),
            store_root=store_root,
            is_read_only=is_read_only,
        )


def is_incomplete(record: dict[str, Any]) -> bool:
    """Say whether a layer's record is flagged as one that was never finished.

    Parameters
    ----------
    record : dict
        The record as it stands in the file.

    Returns
    -------
    bool
        True only for the flag `incomplete` with the value `true`.
    """
    flags = record.get("flags")
    return isinstance(flags, dict) and flags.get("incomplete") is True
