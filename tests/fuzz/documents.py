"""Manifests and configs, as bytes without a source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.image import samples
from vecache.errors import VecacheError
from vecache.image.manifest import (
    ImageManifest,
    choose_image,
    parse_config,
    parse_manifest,
    parse_platform,
    require_platform,
)
from vecache.image.toc import MANIFEST_CHECKSUM, find_toc_digest, parse_position

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecache.image.manifest import Descriptor


def manifests() -> list[bytes]:
    """Return a manifest of all kinds of layers, its config, and a list."""
    layers = [samples.zstd_layer(), samples.estargz_layer(), samples.plain_layer()]
    image = samples.make_image(layers)
    platform = {"os": "linux", "architecture": "amd64", "variant": ""}
    listed = samples.make_index([(image, {"platform": platform}), (image, {})])
    config = json.loads(image.manifest)["config"]["digest"]
    return [image.manifest, listed.manifest, image.blobs[config]]


def read_manifest(data: bytes) -> None:
    """Parse a document as a manifest and all that it says of TOCs, then as a config."""
    platform = parse_platform("linux/amd64")
    run_each(
        lambda: _read_image(parse_manifest(data, "", "here")),
        lambda: parse_config(data, 3, "here"),
        lambda: require_platform(data, platform, "here"),
    )


def run_each(*steps: Callable[[], object]) -> None:
    """Run all steps, whatever is refused; an error of ours only if each of them is."""
    refused: list[Exception] = []
    for step in steps:
        try:
            step()
        except VecacheError as error:
            refused.append(error)
    if len(refused) == len(steps):
        raise refused[0]


def _read_image(found: ImageManifest | tuple[Descriptor, ...]) -> None:
    if isinstance(found, tuple):
        choose_image(found, parse_platform("linux/amd64"), "here")
        return
    for layer in found.layers:
        toc = find_toc_digest(layer)
        if toc is not None and toc[0] == MANIFEST_CHECKSUM:
            parse_position(layer)
