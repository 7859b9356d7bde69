"""How an image is named: a transport and, behind the colon, where to look.

As Skopeo names images:

- `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`; `@N` in the place of the tag is the Nth image;
- `dir:DIR`;
- `docker://HOST[:PORT]/NAME[:TAG|@DIGEST]`;
- `containers-storage:[DRIVER@GRAPHROOT]NAME`, the part in square brackets being optional.

This module only takes the text apart. What the rest means is up to the module of each transport.

Open an image by its name, wherever it is.

The reference says which kind of place it is; from there on every place is an `ImageSource`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import ImageError
from vecache.image.local import DirFolder, FolderFiles, OciLayout, TarFiles
from vecache.image.manifest import machine_platform, parse_platform
from vecache.image.name import parse_registry_name
from vecache.image.source import load_image
from vecache.image.stored import StoreImage, parse_store_name
from vecache.store.graphroot import Store, open_store

if TYPE_CHECKING:
    from vecache.image.model import Image
    from vecache.image.registry.http import RetryPolicy
    from vecache.image.source import ImageSource

__all__ = ["Reference", "Transport", "open_image", "parse_reference", "split_tag"]


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
    """An image's name, taken apart."""

    text: str  # as it was given
    transport: Transport  # what stands before the first colon
    rest: str  # what stands behind it, never empty; for `docker` without the two slashes


def parse_reference(text: str) -> Reference:
    """Take an image's name apart.

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
    """
    colons = [i for i, character in enumerate(rest) if character == ":"]
    for at in [*colons, len(rest)]:
        if os.path.exists(rest[:at]):
            return rest[:at], rest[at + 1 :]
    path, _, tag = rest.partition(":")
    return path, tag


def open_image(
    reference: str,
    *,
    platform: str | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    tls_verify: bool = True,
    auth_file: str | os.PathLike[str] | None = None,
    retry: RetryPolicy | None = None,
) -> Image:
    """Open an image: read its manifest and config, and find its layers' TOCs.

    Parameters
    ----------
    reference : str
        `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `dir:DIR`,
        `docker://HOST[:PORT]/NAME[:TAG|@DIGEST]` or `containers-storage:NAME`.
    platform : str, optional
        `OS/ARCHITECTURE[/VARIANT]` to choose from a list of images; this machine's if left out.
    store : Store or path, optional
        Where `containers-storage:` looks if the name does not say; the machine's own if left out.
    tls_verify : bool, optional
        False to trust any certificate, and plain http.
    auth_file : path, optional
        Where credentials are; Podman's and Docker's files if left out.
    retry : RetryPolicy, optional
        How patient to be with a registry.

    Returns
    -------
    Image
        Its TOCs are read when asked for.

    Raises
    ------
    ImageNotFoundError
        If there is no such image.
    ImageError
        If it cannot be read or understood.
    DigestError
        If bytes are not what their digest promised.
    StoreError
        If the store cannot be read.
    ConfigError
        If an auth file or certificate cannot be read.
    """
    parsed = parse_reference(reference)
    wanted = machine_platform() if platform is None else parse_platform(platform)
    source: ImageSource
    if parsed.transport is Transport.DOCKER:
        auth_path = None if auth_file is None else Path(auth_file)
        source = _open_registry(parsed, auth_path, retry, tls_verify=tls_verify)
    elif parsed.transport is Transport.STORAGE:
        source = _open_stored(parsed, store)
    elif parsed.transport is Transport.DIR:
        source = DirFolder(Path(parsed.rest))
    else:
        path, tag = split_tag(parsed.rest)
        is_folder = parsed.transport is Transport.OCI
        source = OciLayout(FolderFiles(Path(path)) if is_folder else TarFiles(Path(path)), tag)
    return load_image(source, parsed, wanted)


def _open_stored(reference: Reference, store: Store | str | os.PathLike[str] | None) -> ImageSource:
    name = parse_store_name(reference.rest)
    if name.graph_root is not None:
        store = name.graph_root
    opened = store if isinstance(store, Store) else open_store(store)
    return StoreImage(opened, opened.find_image(name.name))


def _open_registry(
    reference: Reference, auth_file: Path | None, retry: RetryPolicy | None, *, tls_verify: bool
) -> ImageSource:
    # TLS and HTTP are slow to import, and only a registry needs them.
    from vecache.image.registry.client import connect  # noqa: PLC0415

    image = parse_registry_name(reference.rest)
    return connect(image, os.environ, auth_file=auth_file, retry=retry, tls_verify=tls_verify)
