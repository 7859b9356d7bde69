"""Load an image from any source: a folder, an archive, a store or a registry.

1. Read the root document, and check it against its digest where one is known.
2. While it is a list, choose the image for the platform, read that and check it.
3. Read the config, check it, and take the diff-ids from it. If a platform was asked for and no list
   was there to choose from, the config must name it.
4. Find the TOC of each layer, without reading it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from vecache.digest import check_digest
from vecache.errors import DigestError, ImageError
from vecache.image.manifest import (
    MAX_DOCUMENT_BYTES,
    Descriptor,
    ImageManifest,
    choose_image,
    machine_platform,
    parse_config,
    parse_manifest,
    require_platform,
)
from vecache.image.model import Image, ImageLayer
from vecache.store.names import parse_history
from vecache.store.records import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.image.manifest import Platform
    from vecache.image.toc import TocReader

__all__ = ["MAX_IMAGE_BYTES", "Document", "ImageSource", "first_of", "load_image"]

MAX_IMAGE_BYTES = 1 << 62
"""Larger than any disk; the bytes of a few images can still be added in 64 bits."""

T = TypeVar("T")

_MAX_LISTS = 3  # lists of lists are allowed, but a loop of them must end


@dataclass(frozen=True, slots=True)
class Document:
    """The manifest or list that an image's name stands for."""

    data: bytes  # at most MAX_DOCUMENT_BYTES
    media_type: str  # as its carrier says; may be empty
    where: str  # what it is and where, for messages
    digest: str | None = None  # what the bytes must hash to; None if that is not known
    read_from: str = ""  # the image's full name in the registry or mirror that has sent it


class ImageSource(Protocol):
    """One image in a folder, archive, store or registry."""

    @property
    def name(self) -> str:
        """The image's name there."""

    def read_root(self) -> Document:
        """Read the manifest or list that the name stands for."""

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config that a manifest names."""

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find the TOC of a layer, without reading it; None if it has none."""


def load_image(source: ImageSource, reference: str, platform: Platform | None) -> Image:
    """Read an image's manifest and config.

    `reference` is its name as the caller gave it, `platform` the one to require; None chooses this
    machine's from a list, and takes any image that is in no list.
    """
    wanted = platform or machine_platform()
    document = source.read_root()
    read_from, is_chosen = document.read_from, False
    for _ in range(_MAX_LISTS + 1):
        if document.digest is not None:
            check_digest(document.data, document.digest, document.where)
        manifest = parse_manifest(document.data, document.media_type, document.where)
        if isinstance(manifest, ImageManifest):
            break
        chosen = _require_small(choose_image(manifest, wanted, document.where))
        is_chosen |= chosen.platform is not None
        document = Document(
            source.read_manifest(chosen),
            chosen.media_type,
            f"manifest {chosen.digest} of {reference}",
            chosen.digest,
        )
    else:
        raise ImageError(f"{document.where}: a list in a list, more than {_MAX_LISTS} deep")
    digest = document.digest or f"sha256:{hashlib.sha256(document.data).hexdigest()}"
    layers = _load_layers(source, manifest, reference, None if is_chosen else platform)
    return Image(reference, source.name, digest, layers, is_chosen, read_from)


def first_of(attempts: Iterable[Callable[[], T]]) -> T:
    """Return the result of the first attempt at an image that succeeds, else raise all errors."""
    failures: list[ImageError | DigestError] = []
    for attempt in attempts:
        try:
            return attempt()
        except (ImageError, DigestError) as error:
            failures.append(error)
    last = failures.pop()
    if not failures:
        raise last
    before = "; ".join(map(str, failures))
    raise type(last)(f"{last}; before that: {before}") from last


def _load_layers(
    source: ImageSource, manifest: ImageManifest, reference: str, platform: Platform | None
) -> tuple[ImageLayer, ...]:
    """Read the config of an image, and find the TOCs; `platform` is what the config must name."""
    _require_possible(manifest, reference)
    where = f"config {manifest.config.digest} of {reference}"
    config = source.read_config(_require_small(manifest.config))
    check_digest(config, manifest.config.digest, where)
    diff_ids = parse_config(config, len(manifest.layers), where)
    if platform is not None:
        require_platform(config, platform, where)
    created_by = parse_history(config, len(manifest.layers))
    return tuple(
        ImageLayer(layer.digest, layer.n_bytes, diff_id, source.find_toc(layer_no, layer), made)
        for layer_no, (layer, diff_id, made) in enumerate(
            zip(manifest.layers, diff_ids, created_by, strict=True)
        )
    )


def _require_possible(manifest: ImageManifest, reference: str) -> None:
    n_layers, n_bytes = len(manifest.layers), sum(layer.n_bytes for layer in manifest.layers)
    if n_layers > MAX_LAYERS:
        raise ImageError(
            f"{reference}: {n_layers:,} layers, but the overlay driver can mount "
            f"{MAX_LAYERS} at most; no Podman could run it"
        )
    if n_bytes > MAX_IMAGE_BYTES:
        raise ImageError(
            f"{reference}: layers of {n_bytes:,} bytes together, more than any disk can hold"
        )


def _require_small(descriptor: Descriptor) -> Descriptor:
    if descriptor.n_bytes > MAX_DOCUMENT_BYTES:
        raise ImageError(
            f"{descriptor.where}: {descriptor.n_bytes:,} bytes, but a manifest or config "
            f"has at most {MAX_DOCUMENT_BYTES:,}"
        )
    return descriptor
