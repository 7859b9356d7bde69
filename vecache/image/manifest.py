"""Read manifests and configs: what an image is made of, or which images a list offers.

Four kinds of manifest are read: an OCI image and an OCI index, a Docker image and a Docker list
(schema 2). The media type says which one it is, or the fields where there is no media type.

A list has one image per platform, or two: compressed with gzip and with zstd, the second marked by
an annotation. `choose_image` ranks the wanted platforms, the exact one first; entries without a
platform come last. Among equals zstd wins, then the first in the list.

Source: containers/image manifest/oci.go, manifest/docker_schema2.go BlobInfoFromSchema2Descriptor;
internal/manifest/oci_index.go chooseInstance, isPreferredOver; internal/pkg/platform/
platform_matcher.go WantedPlatforms.
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
    "Platform",
    "choose_image",
    "machine_platform",
    "parse_config",
    "parse_manifest",
    "parse_platform",
    "require_platform",
]

MAX_DOCUMENT_BYTES = 4 << 20
"""Upstream: iolimits.MaxManifestBodySize, and MaxConfigBodySize too."""

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED_TYPES = (OCI_INDEX, OCI_IMAGE, DOCKER_LIST, DOCKER_IMAGE)

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
_MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, processor, and the processor's variant."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def accepted(self) -> list[Platform]:
        """List the platforms whose images run on this one, the best first."""
        order = _VARIANTS.get(self.architecture, ())
        if not self.variant:
            variants = ["", *order]
        elif self.variant in order:
            variants = [*order[order.index(self.variant) :], ""]
        else:
            variants = [self.variant, ""]
        return [Platform(self.os, self.architecture, variant) for variant in variants]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob that a manifest names."""

    digest: str  # valid, so safe as part of a path or URL
    n_bytes: int
    media_type: str  # may be empty
    annotations: dict[str, str] = field(default_factory=dict)  # empty in Docker's formats
    platform: Platform | None = None  # in a list only
    where: str = ""  # the document and field, for messages


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One image: its config, and its layers from the bottom up."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse_manifest(
    data: bytes, media_type: str, where: str
) -> ImageManifest | tuple[Descriptor, ...]:
    """Parse a manifest; a list gives the images that it offers, in its order."""
    fields = parse_fields(data, where, ImageError)
    kind = fields.text("mediaType", "") or media_type
    if fields.integer("schemaVersion", 2) != 2:
        raise ImageError(
            f"{where}: schemaVersion is {fields.integer('schemaVersion')}, wanted 2; such old "
            "images have no table of contents, convert it: `skopeo copy --format oci`"
        )
    if kind not in ACCEPTED_TYPES:
        kind = _guess_kind(fields, kind)
    is_docker = kind in (DOCKER_IMAGE, DOCKER_LIST)
    if kind in (OCI_INDEX, DOCKER_LIST):
        choices = fields.objects("manifests")
        return tuple(_parse_descriptor(each, is_docker=is_docker) for each in choices)
    return ImageManifest(
        _parse_descriptor(fields.object("config"), is_docker=is_docker),
        tuple(_parse_descriptor(each, is_docker=is_docker) for each in fields.objects("layers")),
    )


def choose_image(choices: Sequence[Descriptor], platform: Platform, where: str) -> Descriptor:
    """Choose the best image of a list for a platform."""
    wanted = platform.accepted()
    ranked = [
        (
            wanted.index(choice.platform) if choice.platform else len(wanted),
            choice.annotations.get(_ZSTD_MARK) != "true",
            index,
        )
        for index, choice in enumerate(choices)
        if choice.platform is None or choice.platform in wanted
    ]
    if not ranked:
        offered = sorted({repr(str(choice.platform)) for choice in choices})[:_MAX_SHOWN]
        raise ImageNotFoundError(
            f"{where}: no image for the platform {platform}; "
            f"wanted one of {', '.join(offered) or 'no platform'}"
        )
    return choices[min(ranked)[2]]


def parse_config(data: bytes, n_layers: int, where: str) -> tuple[str, ...]:
    """Parse the diff-ids of an image's config, one for each layer."""
    rootfs = parse_fields(data, where, ImageError).object("rootfs")
    diff_ids = rootfs.text_array("diff_ids") if "diff_ids" in rootfs else []
    if len(diff_ids) != n_layers:
        raise ImageError(
            f"{rootfs.where}: {len(diff_ids)} diff_ids, but the manifest has {n_layers} layers"
        )
    return tuple(
        require_digest(diff_id, f"{rootfs.where}: diff_ids[{i}]")
        for i, diff_id in enumerate(diff_ids)
    )


def require_platform(config: bytes, platform: Platform, where: str) -> None:
    """Raise unless a config says that its image runs on a platform."""
    found = _parse_platform(parse_fields(config, where, ImageError))
    any_variant = Platform(found.os, found.architecture)
    if found in platform.accepted() or any_variant == platform:
        return
    says = f"for {found} only" if found.architecture else "for no platform that it names"
    raise ImageNotFoundError(
        f"{where}: the image is {says}, wanted {platform}; it is read if no platform is given"
    )


def parse_platform(text: str) -> Platform:
    """Parse `OS/ARCHITECTURE[/VARIANT]`."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(
            f"platform {text[:100]!r}: wanted OS/ARCHITECTURE[/VARIANT], such as linux/arm64"
        )
    return Platform(*parts)


def machine_platform() -> Platform:
    """Return the platform of this machine."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def _guess_kind(fields: Fields, kind: str) -> str:
    if "manifests" in fields:
        return OCI_INDEX
    if "config" in fields and "layers" in fields:
        return OCI_IMAGE
    raise ImageError(
        f"{fields.where}: not an image (media type {kind[:100] or 'none'!r}); "
        "wanted an OCI or Docker manifest, or a list of them"
    )


def _parse_platform(fields: Fields) -> Platform:
    return Platform(
        fields.text("os", ""), fields.text("architecture", ""), fields.text("variant", "")
    )


def _parse_descriptor(fields: Fields, *, is_docker: bool) -> Descriptor:
    platform = None
    if "platform" in fields:
        platform = _parse_platform(fields.object("platform"))
    return Descriptor(
        digest=require_digest(fields.text("digest"), f"{fields.where}: digest"),
        n_bytes=fields.size("size"),
        media_type=fields.text("mediaType", ""),
        # Docker's formats define no annotations on a layer and upstream ignores any, so an image
        # in them has no TOCs and is always pulled whole.
        annotations={} if is_docker else fields.texts("annotations"),
        platform=platform,
        where=fields.where,
    )
