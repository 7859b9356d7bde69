"""Choose the image of a list that is for this machine.

A list holds one image a platform, and perhaps two for the same one: compressed with gzip and with
zstd, the second marked by an annotation. Wanted platforms are ranked, the exact one first; entries
without a platform come last; of equal ones zstd wins, and then the first in the list.

Source: containers/image internal/manifest/oci_index.go chooseInstance, isPreferredOver;
internal/pkg/platform/platform_matcher.go WantedPlatforms.

Manifests: what an image is made of, or which images a list offers.

Four kinds are read, told apart by their media type: an OCI image and an OCI index, a Docker image
and a Docker list (schema 2). A manifest that has no media type is what its fields say. Docker's
format has no annotations on layers, and upstream ignores any that stand there, so an image in it is
always pulled whole.

Source: containers/image manifest/docker_schema2.go BlobInfoFromSchema2Descriptor, manifest/oci.go.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vecache.digest import require_digest
from vecache.errors import ImageError, ImageNotFoundError
from vecache.json_fields import Fields, parse_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ACCEPTED_TYPES",
    "DOCKER_IMAGE",
    "DOCKER_LIST",
    "MAX_DOCUMENT_BYTES",
    "OCI_IMAGE",
    "OCI_INDEX",
    "Descriptor",
    "ImageManifest",
    "ManifestList",
    "Platform",
    "choose_image",
    "machine_platform",
    "parse_config",
    "parse_manifest",
    "parse_platform",
]

_ZSTD_MARK = "io.github.containers.compression.zstd"  # OCI1InstanceAnnotationCompressionZSTD

_VARIANTS = {"arm": ("v8", "v7", "v6", "v5"), "arm64": ("v8",)}  # upstream: compatibility
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, processor, and perhaps the processor's variant."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def accepted(self) -> list[Platform]:
        """List the platforms whose images run here, the best first."""
        order = _VARIANTS.get(self.architecture, ())
        if not self.variant:
            variants = ["", *order]
        elif self.variant in order:
            variants = [*order[order.index(self.variant) :], ""]
        else:
            variants = [self.variant, ""]
        return [Platform(self.os, self.architecture, variant) for variant in variants]


def parse_platform(text: str) -> Platform:
    """Read `OS/ARCHITECTURE[/VARIANT]`."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ImageError(
            f"platform {text[:100]!r}: wanted OS/ARCHITECTURE[/VARIANT], such as linux/arm64"
        )
    return Platform(*parts)


def machine_platform() -> Platform:
    """Name the platform of this machine as image lists name it."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def choose_image(choices: Sequence[Descriptor], platform: Platform, where: str) -> Descriptor:
    """Choose from a list."""
    wanted = platform.accepted()
    ranked = [
        (
            wanted.index(choice.platform) if choice.platform else len(wanted),
            choice.annotations.get(_ZSTD_MARK) != "true",
            position,
        )
        for position, choice in enumerate(choices)
        if choice.platform is None or choice.platform in wanted
    ]
    if not ranked:
        there = ", ".join(sorted({repr(str(choice.platform)) for choice in choices})[:20])
        raise ImageNotFoundError(
            f"{where}: no image for the platform {platform}; wanted one of {there or 'no platform'}"
        )
    return choices[min(ranked)[2]]


MAX_DOCUMENT_BYTES = 4 << 20
"""Upstream: iolimits.MaxManifestBodySize, and MaxConfigBodySize too."""

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED_TYPES = (OCI_INDEX, OCI_IMAGE, DOCKER_LIST, DOCKER_IMAGE)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob that a manifest names."""

    digest: str  # A valid digest
    n_bytes: int  # its size, as the manifest says
    media_type: str  # may be empty
    annotations: dict[str, str] = field(default_factory=dict)  # empty for Docker's formats
    platform: Platform | None = None  # in a list only
    where: str = ""  # the document and field, for messages


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One image: its config, and its layers from the bottom up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ManifestList:
    """Images to choose from, in the order of the list."""

    choices: tuple[Descriptor, ...]


def parse_manifest(data: bytes, media_type: str, where: str) -> ImageManifest | ManifestList:
    """Read a manifest of any kind."""
    fields = parse_fields(data, where)
    kind = fields.text("mediaType", "") or media_type
    if fields.integer("schemaVersion", 2) != 2:
        raise ImageError(
            f"{where}: schemaVersion is {fields.integer('schemaVersion')}, wanted 2; such old "
            "images have no table of contents, convert it: skopeo copy --format oci"
        )
    if kind not in ACCEPTED_TYPES:
        kind = _guess_kind(fields, kind)
    is_docker = kind in (DOCKER_IMAGE, DOCKER_LIST)
    if kind in (OCI_INDEX, DOCKER_LIST):
        choices = fields.objects("manifests")
        return ManifestList(tuple(_parse_descriptor(each, is_docker=is_docker) for each in choices))
    return ImageManifest(
        _parse_descriptor(fields.object("config"), is_docker=is_docker),
        tuple(_parse_descriptor(each, is_docker=is_docker) for each in fields.objects("layers")),
    )


def parse_config(data: bytes, n_layers: int, where: str) -> tuple[str, ...]:
    """Read the diff-ids from an image's config."""
    rootfs = parse_fields(data, where).object("rootfs")
    diff_ids = rootfs.text_array("diff_ids") if "diff_ids" in rootfs else []
    if len(diff_ids) != n_layers:
        raise ImageError(
            f"{rootfs.where}: {len(diff_ids)} diff_ids, but the manifest has {n_layers} layers"
        )
    return tuple(
        require_digest(diff_id, f"{rootfs.where}: diff_ids[{i}]")
        for i, diff_id in enumerate(diff_ids)
    )


def _guess_kind(fields: Fields, kind: str) -> str:
    if "manifests" in fields:
        return OCI_INDEX
    if "config" in fields and "layers" in fields:
        return OCI_IMAGE
    raise ImageError(
        f"{fields.where}: not an image (media type {kind[:100] or 'none'!r}); "
        "wanted an OCI or Docker manifest, or a list of them"
    )


def _parse_descriptor(fields: Fields, *, is_docker: bool) -> Descriptor:
    platform = None
    if "platform" in fields:
        inner = fields.object("platform")
        platform = Platform(
            inner.text("os", ""), inner.text("architecture", ""), inner.text("variant", "")
        )
    return Descriptor(
        digest=require_digest(fields.text("digest"), f"{fields.where}: digest"),
        n_bytes=fields.size("size"),
        media_type=fields.text("mediaType", ""),
        annotations={} if is_docker else fields.texts("annotations"),
        platform=platform,
        where=fields.where,
    )
