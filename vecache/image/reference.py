"""How an image is named: a transport and, behind the colon, where to look.

As Skopeo names images:

- `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`; `@N` in the place of the tag is the Nth image;
- `dir:DIR`;
- `docker://HOST[:PORT]/NAME[:TAG|@DIGEST]`;
- `containers-storage:[DRIVER@GRAPHROOT]NAME`, the part in square brackets being optional.

This module only takes the text apart. What the rest means is up to the module of each transport.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from vecache.errors import ImageError

__all__ = ["Reference", "Transport", "parse_reference", "split_tag"]


class Transport(StrEnum):
    """The ways to reach an image."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DIR = "dir"
    DOCKER = "docker"
    STORAGE = "containers-storage"


_FORMS = (
    "oci:DIR[:TAG], oci-archive:FILE[:TAG], dir:DIR, docker://HOST[:PORT]/NAME[:TAG|@DIGEST], "
    "containers-storage:NAME"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, taken apart.

    Attributes
    ----------
    text : str
        As it was given.
    transport : Transport
        What stands before the first colon.
    rest : str
        What stands behind it, never empty; for `docker` without the two slashes.
    """

    text: str
    transport: Transport
    rest: str


def parse_reference(text: str) -> Reference:
    """Take an image's name apart.

    Parameters
    ----------
    text : str
        `TRANSPORT:...`.

    Returns
    -------
    Reference
        Its parts.

    Raises
    ------
    ImageError
        If the transport is none of those known, or nothing stands behind it.

    Examples
    --------
    >>> parse_reference("docker://quay.io/podman/stable").rest
    'quay.io/podman/stable'
    >>> parse_reference("oci:images:app").transport
    <Transport.OCI: 'oci'>
    """
    shown = repr(text[:200])
    name, colon, rest = text.partition(":")
    try:
        transport = Transport(name)
    except ValueError:
        problem = f"unknown transport {name[:50]!r}"
        if not colon or "/" in name or "." in name or rest[:1].isdigit():
            problem = "no transport; for an image in a registry, put docker:// before the name"
        raise ImageError(f"{shown}: {problem}; wanted one of {_FORMS}") from None
    if transport is Transport.DOCKER:
        if not rest.startswith("//"):
            raise ImageError(f"{shown}: docker needs two slashes, as in docker://{rest[:200]}")
        rest = rest[2:]
    if not rest or "\0" in rest:
        raise ImageError(f"{shown}: nothing that could be a name behind {name}:")
    return Reference(text, transport, rest)


def split_tag(rest: str) -> tuple[str, str]:
    """Split `PATH[:TAG]` at the first colon that leaves a path which exists.

    Skopeo splits at the first colon, always, so no path may hold one. What Skopeo understands means
    the same here; what it would refuse is given the chance to be a path with colons in it.

    Parameters
    ----------
    rest : str
        A path and perhaps a tag.

    Returns
    -------
    path : str
        The path; what stands before the first colon if nothing exists.
    tag : str
        The tag; empty if there is none.
    """
    colons = [i for i, character in enumerate(rest) if character == ":"]
    for at in [*colons, len(rest)]:
        if os.path.exists(rest[:at]):
            return rest[:at], rest[at + 1 :]
    path, _, tag = rest.partition(":")
    return path, tag
