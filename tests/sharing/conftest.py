"""Golden stores, to compare with the oracle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.golden import GOLDEN_SMALL, STORES, golden_toc, layer_ids
from tests.sharing import oracle
from vecache.sharing.sources import read_contents

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.contents import Contents


class Golden(NamedTuple):
    """A small golden store, as the package reads it and as the oracle does."""

    contents: Contents
    tocs: list[bytes]
    images: dict[str, list[int]]

    def members(self, by: str, grain: str) -> list[oracle.Held]:
        """What each layer or image holds, by the oracle."""
        number = ("file", "chunk").index(grain)
        layers = [oracle.held(oracle.grains(toc)[number]) for toc in self.tocs]
        if by == "layer":
            return layers
        return [oracle.union([layers[no] for no in chain]) for chain in self.images.values()]


@pytest.fixture(params=STORES)
def golden(request: pytest.FixtureRequest) -> Golden:
    name = request.param
    root = GOLDEN_SMALL / "stores" / name
    return Golden(
        read_contents(root), [golden_toc(name, layer) for layer in layer_ids(name)], _images(root)
    )


def _images(root: Path) -> dict[str, list[int]]:
    """Image name -> indices of its layers."""
    layers = json.loads((root / "overlay-layers" / "layers.json").read_text())
    index = {layer["id"]: number for number, layer in enumerate(layers)}
    images = {}
    for image in json.loads((root / "overlay-images" / "images.json").read_text()):
        chain, top = [], image["layer"]
        while top:
            chain.append(index[top])
            top = layers[index[top]].get("parent")
        images[image["names"][0]] = chain
    return images
