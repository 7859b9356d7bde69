"""Name the layers of a store as people know them: by the images that have each, and what made it.

1. An image has the topmost layer that its record names, and all layers below that.
2. The entries of `history` in an image's config, those marked `empty_layer` left out, are its
   layers from the bottom up. A history of another length, or a damaged one, names nothing.
3. A layer of several images was made by what the first of them says that says anything.

Configs are read once an image, and only if a layer of it has no name yet: about 0.1 ms each.

A store seldom records which blob a layer was pulled from; the manifests of its images say that.

Source: opencontainers/image-spec config.md; buildah and moby for how `created_by` is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vecache.errors import StoreError, VecacheError
from vecache.json_fields import parse_fields
from vecache.store.bigdata import read_big_data
from vecache.store.records import layer_chain, with_host
from vecache.text import MAX_LABEL_CHARACTERS, printable, short_command, short_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vecache.store.records import ImageRecord, LayerRecord

__all__ = [
    "LayerNames",
    "find_blobs",
    "layer_chains",
    "name_layers",
    "parse_history",
    "read_history",
]

_MAX_DOCUMENT_BYTES: Final = 4 << 20  # upstream: iolimits.MaxConfigBodySize
_MAX_CHARACTERS: Final = 1 << 14  # of one `created_by`; the rest is cut
_CONFIG_KEY = re.compile("[a-z0-9]+:[0-9a-f]{32,}")
_MANIFEST_KEY = re.compile(f"manifest(-{_CONFIG_KEY.pattern})?")


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What a layer is known by, besides its id."""

    image_names: tuple[str, ...] = ()  # of the images that have it, the smallest image first
    created_by: str = ""  # as the image's config says; empty where that is not known

    def title(self, layer_id: str) -> str:
        """Return the beginning of the id, and what made the layer, or an image that has it."""
        made = printable(short_command(self.created_by))
        if not made and self.image_names:
            made = short_labels([self.image_names[0].rpartition("/")[2]])[0]
        (short,) = short_labels([layer_id])
        text = f"{short} {made}".rstrip()
        return text if len(text) <= MAX_LABEL_CHARACTERS else f"{text[: MAX_LABEL_CHARACTERS - 1]}…"


def name_layers(
    layers: Iterable[LayerRecord],
    images: Iterable[ImageRecord],
    read: Callable[[ImageRecord, int], Sequence[str]] | None = None,
) -> dict[str, LayerNames]:
    """Return the names of each layer by its key: its id, with the host where there are several.

    `read` returns what made each of so many layers of an image; by default its config is read.
    """
    layers = tuple(layers)
    having: dict[str, list[tuple[int, str]]] = {layer.key: [] for layer in layers}
    created_by: dict[str, str] = {}
    for image, chain in layer_chains(layers, images):
        for key in chain:
            having[key].append((len(chain), image.label))
        if not created_by.keys() >= set(chain):
            made = (read or read_history)(image, len(chain))
            for key, text in zip(chain, made, strict=True):
                if text:
                    created_by.setdefault(key, text)
    return {
        key: LayerNames(
            tuple(label for _, label in sorted(found, key=lambda each: each[0])),
            created_by.get(key, ""),
        )
        for key, found in having.items()
    }


def layer_chains(
    layers: Iterable[LayerRecord], images: Iterable[ImageRecord]
) -> Iterator[tuple[ImageRecord, tuple[str, ...]]]:
    """Yield each image with the keys of its layers, from the bottom up."""
    parents = {layer.key: layer.parent and with_host(layer.host, layer.parent) for layer in layers}
    for image in images:
        top = image.top_layer and with_host(image.host, image.top_layer)
        yield image, layer_chain(top, parents)


def find_blobs(
    layers: Sequence[LayerRecord], images: Iterable[ImageRecord]
) -> Iterator[tuple[str, LayerRecord]]:
    """Yield the digest of each blob that a manifest of an image names, with the layer it became."""
    by_key = {layer.key: layer for layer in layers}
    for image, chain in layer_chains(layers, images):
        for key in filter(_MANIFEST_KEY.fullmatch, image.big_data_names):
            blobs = _parse_blobs(_read(image, key) or b"")
            if len(blobs) == len(chain):
                yield from zip(blobs, map(by_key.__getitem__, chain), strict=True)


def read_history(image: ImageRecord, n_layers: int) -> tuple[str, ...]:
    """Return what made each layer of an image, from the bottom up; empty where it is not known."""
    if len(image.created_by) == n_layers:
        return image.created_by
    for key in filter(_CONFIG_KEY.fullmatch, image.big_data_names):  # one as a rule
        data = _read(image, key)
        if data is not None and any(made := parse_history(data, n_layers)):
            return made
    return ("",) * n_layers


def _read(image: ImageRecord, key: str) -> bytes | None:
    """Read a manifest or config; None where that fails, as a missing name harms nobody."""
    if image.items is not None and key not in image.items:  # of a fleet, or a data set
        return None
    try:
        return read_big_data(image, key, _MAX_DOCUMENT_BYTES)
    except VecacheError:
        return None


def _parse_blobs(manifest: bytes) -> list[str]:
    """Return the digests of an image's blobs, from the bottom up; none of a list of images."""
    try:
        fields = parse_fields(manifest, "manifest", StoreError)
        return [each.text("digest") for each in fields.objects("layers")]
    except StoreError:
        return []


def parse_history(config: bytes, n_layers: int) -> tuple[str, ...]:
    """Return what made each layer of an image, from the bottom up; empty where it is not known."""
    try:
        fields = parse_fields(config, "config", StoreError)
        entries = fields.objects("history") if "history" in fields else []
        made = [
            entry.text("created_by", "")[:_MAX_CHARACTERS]
            for entry in entries
            if entry.values.get("empty_layer") is not True
        ]
    except StoreError:
        made = []
    return tuple(made) if len(made) == n_layers else ("",) * n_layers
