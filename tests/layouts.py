"""OCI layouts around TOCs: all that a plan reads of an image, with sparse files for blobs.

Debian's real blobs are too large to keep; their TOCs, put where the recorded pulls found them, do.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.golden import GOLDEN_DEBIAN, debian_toc, pulls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_ZSTD = "io.github.containers.zstd-chunked."
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_FOOTER_BYTES = 100


@dataclass(frozen=True)
class SparseLayer:
    """A zstd:chunked layer of which only the TOC is real.

    `toc` is the JSON, or None for a layer without one; `blob` and `diff_id` are made up from it
    where they are not given.
    """

    toc: bytes | None
    toc_offset: int = 1_000
    blob: str = ""
    diff_id: str = ""

    @cached_property
    def frame(self) -> bytes:
        return b"" if self.toc is None else pa.compress(self.toc, codec="zstd", asbytes=True)

    @property
    def blob_digest(self) -> str:
        return self.blob or _digest(b"blob %d " % self.toc_offset + self.frame)

    @property
    def layer_diff_id(self) -> str:
        return self.diff_id or _digest(b"diff of " + self.blob_digest.encode())

    @property
    def n_bytes(self) -> int:
        return self.toc_offset + len(self.frame) + _FOOTER_BYTES

    def descriptor(self) -> dict[str, Any]:
        described = {
            "mediaType": _LAYER_TYPE,
            "digest": self.blob_digest,
            "size": self.n_bytes,
        }
        if self.toc is None:
            return described
        position = f"{self.toc_offset}:{len(self.frame)}:{len(self.toc)}:1"
        return described | {
            "annotations": {
                f"{_ZSTD}manifest-checksum": _digest(self.frame),
                f"{_ZSTD}manifest-position": position,
            }
        }


def write_layout(folder: Path, images: Mapping[str, Sequence[SparseLayer]]) -> Path:
    """Write an OCI layout with one image a tag."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifests = {}
    for tag, layers in images.items():
        for layer in layers:
            with (blobs / layer.blob_digest.partition(":")[2]).open("wb") as file:
                file.truncate(layer.n_bytes)
                file.seek(layer.toc_offset)
                file.write(layer.frame)
        manifests[tag] = write_manifest(
            blobs,
            [layer.layer_diff_id for layer in layers],
            [layer.descriptor() for layer in layers],
        )
    write_index(folder, manifests)
    return folder


def write_manifest(
    blobs: Path, diff_ids: Sequence[str], layers: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write a config and a manifest, and return the manifest's descriptor."""
    config = _write(blobs, {"rootfs": {"type": "layers", "diff_ids": diff_ids}}, _CONFIG_TYPE)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    }
    return _write(blobs, manifest, _MANIFEST_TYPE)


def write_index(folder: Path, manifests: Mapping[str, dict[str, Any]]) -> None:
    """Write the two files that make a folder an OCI layout, with a manifest for each tag."""
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    named = [
        {**manifest, "annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, manifest in manifests.items()
    ]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))


def debian_layers_by_image() -> dict[str, SparseLayer]:
    """The recorded Debian pulls' layers, by the name of the image; needs the golden data."""
    layers = {}
    for pull in pulls(GOLDEN_DEBIAN):
        if pull["image"] not in layers:
            toc_offset = int(pull["toc_range"].partition("-")[0])
            toc = debian_toc(pull["layer"])
            layers[pull["image"]] = SparseLayer(toc, toc_offset, pull["blob"])
    return layers


def _write(blobs: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = _digest(data)
    (blobs / digest.partition(":")[2]).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
