"""Contents for a test: layers from given TOCs, with given parents and images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.sharing.contents import Contents
from vecache.sharing.members import ContentImage, ContentLayer
from vecache.sharing.sources import read_contents
from vecache.store.records import ImageRecord, layer_chain
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from collections.abc import Sequence


def contents_of(
    tocs: Sequence[bytes],
    *,
    parents: Sequence[int | None] = (),
    tops: Sequence[int] = (),
) -> Contents:
    """A store of these layers; `parents` and `tops`, of the images, are indices of layers."""
    named = {f"layer{number}": Toc.parse(toc) for number, toc in enumerate(tocs)}
    read = read_contents(named)
    below = dict.fromkeys(named)
    chosen: dict[str, str | None] = {
        f"layer{number}": None if parent is None else f"layer{parent}"
        for number, parent in enumerate(parents)
    }
    known: dict[str, str | None] = {**below, **chosen}
    layers = tuple(
        ContentLayer(replace(layer.record, parent=known[layer.id]), layer.files, layer.chunks)
        for layer in read.layers
    )
    images = tuple(
        ContentImage(_image(number, f"layer{top}"), layer_chain(f"layer{top}", known))
        for number, top in enumerate(tops)
    )
    return Contents(layers, read.excluded, images, read.source)


def _image(number: int, top_layer: str) -> ImageRecord:
    return ImageRecord(
        id=f"{number:064x}",
        digest=None,
        names=(f"localhost/image{number}:latest",),
        top_layer=top_layer,
        big_data_names=(),
        store_root=Path(),
        is_read_only=True,
    )
