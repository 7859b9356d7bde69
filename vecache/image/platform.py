"""Choose the image of a list that is for this machine.

A list holds one image a platform, and perhaps two for the same one: compressed with gzip and with
zstd, the second marked by an annotation. Wanted platforms are ranked, the exact one first; entries
without a platform come last; of equal ones zstd wins, and then the first in the list.

Source: containers/image internal/manifest/oci_index.go chooseInstance, isPreferredOver;
internal/pkg/platform/platform_matcher.go WantedPlatforms.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.errors import ImageError, ImageNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.image.manifest import Descriptor

__all__ = ["Platform", "choose_image", "machine_platform", "parse_platform"]

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
    """Read `OS/ARCHITECTURE[/VARIANT]`.

    Parameters
    ----------
    text : str
        Such as `linux/arm64/v8`.

    Returns
    -------
    Platform
        Its parts.

    Raises
    ------
    ImageError
        If there are not two or three parts, or one is empty.
    """
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
    """Choose from a list.

    Parameters
    ----------
    choices : sequence of Descriptor
        The list's entries, in its order.
    platform : Platform
        What is wanted.
    where : str
        The list, for the message.

    Returns
    -------
    Descriptor
        The best.

    Raises
    ------
    ImageNotFoundError
        If none runs on that platform; the message says which there are.
    """
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
