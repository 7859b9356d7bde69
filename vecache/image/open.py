"""Open an image by its name, wherever it is."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vecache.errors import ImageNameError, RegistryError
from vecache.image.local import DirFolder, FolderFiles, OciLayout, TarFiles
from vecache.image.manifest import parse_platform
from vecache.image.name import (
    PathName,
    RegistryName,
    ShortName,
    StoreName,
    Transport,
    parse_image_name,
)
from vecache.image.registry.access import Access
from vecache.image.source import first_of, load_image
from vecache.image.stored import StoreImage
from vecache.store.graphroot import Store
from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.image.model import Image
    from vecache.image.name import ImageName
    from vecache.image.registry.client import RegistryImage
    from vecache.image.registry.http import RetryPolicy
    from vecache.image.source import ImageSource

__all__ = ["find_endpoints", "find_sources", "open_image", "open_with"]


def open_image(
    reference: str,
    *,
    platform: str | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    tls_verify: bool | None = None,
    auth_file: str | os.PathLike[str] | None = None,
    credentials: tuple[str, str] | None = None,
    cert_dir: str | os.PathLike[str] | None = None,
    retry: RetryPolicy | None = None,
) -> Image:
    """Open an image: read its manifest and config, and find its layers' TOCs.

    Parameters
    ----------
    reference : str
        `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `dir:DIR`,
        `[docker://]HOST[:PORT]/NAME[:TAG|@DIGEST]` or `containers-storage:NAME`. For a name
        without a host registries.conf says which registries are asked.
    platform : str, optional
        `OS/ARCHITECTURE[/VARIANT]` that the image must be for; by default this machine's is chosen
        from a list of images, and an image that is in no list may be for any.
    store : Store or path, optional
        The store of `containers-storage:NAME`, if the name has none; the machine's own by default.
    tls_verify : bool, optional
        False to accept any certificate, and a registry without TLS; True to accept neither; by
        default as registries.conf says, which is True for what it does not name.
    auth_file : path, optional
        File with credentials; Podman's and Docker's files by default.
    credentials : (str, str), optional
        User and password for the registry, in place of such a file.
    cert_dir : path, optional
        Folder of certificates: authorities (`*.crt`), and the client's own for the registry
        (`*.cert`, `*.key`); by default that of the registry in `certs.d`.
    retry : RetryPolicy, optional
        How often and how long to try to reach a registry.

    Returns
    -------
    Image
        Its TOCs are read when they are asked for.

    Raises
    ------
    ImageNameError
        If the reference is malformed, or registries.conf names no registry for it.
    ImageNotFoundError
        If there is no such image, or none for the platform.
    ImageError
        If it cannot be read, or is malformed.
    DigestError
        If bytes have another digest than the manifest says.
    StoreError
        If the store cannot be read.
    ConfigError
        If registries.conf, an auth file or a certificate cannot be read.
    TypeError
        If an argument has another type.
    ValueError
        If `platform` is malformed.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> vecache.open_image("containers-storage:app2", store=store)
    <Image containers-storage:app2: 3 layers, 3 with a TOC, 1,089,623 bytes>
    """
    access = Access.of(
        tls_verify=tls_verify,
        auth_file=auth_file,
        credentials=credentials,
        cert_dir=cert_dir,
        retry=retry,
    )
    return open_with(access, reference, platform=platform, store=store)


def open_with(
    access: Access,
    reference: str,
    *,
    platform: str | None = None,
    store: Store | str | os.PathLike[str] | None = None,
) -> Image:
    """Open an image as `open_image` does."""
    _check_type(reference)
    name = parse_image_name(os.fspath(reference))
    wanted = None if platform is None else parse_platform(platform)
    sources = find_sources(name, store, access)
    return first_of(partial(load_image, each, reference, wanted) for each in sources)


def find_sources(
    name: ImageName, store: Store | str | os.PathLike[str] | None, access: Access
) -> list[ImageSource]:
    """Return where an image may be, in the order to try them; no registry is asked yet."""
    match name:
        case RegistryName() | ShortName():
            return list(find_endpoints(name, access))
        case StoreName():
            if name.graph_root is not None:
                store = name.graph_root
            opened = store if isinstance(store, Store) else open_store(store)
            return [StoreImage(opened, opened.find_image(name.name), name.digest)]
        case PathName(Transport.DIR):
            return [DirFolder(name.path)]
        case PathName(Transport.OCI):
            return [OciLayout(FolderFiles(name.path), name.tag)]
        case PathName():
            return [OciLayout(TarFiles(name.path), name.tag)]


def find_endpoints(name: RegistryName | ShortName, access: Access) -> list[RegistryImage]:
    """Return the image at each endpoint that registries.conf gives for its name."""
    # TLS and HTTP are slow to import, and only a registry needs them.
    from vecache.image.registry.client import connect  # noqa: PLC0415
    from vecache.image.registry.registries import load_registries  # noqa: PLC0415

    registries = load_registries(os.environ)
    names = registries.resolve(name) if isinstance(name, ShortName) else [name]
    if access.credentials is not None and len(names) > 1:
        choice = ", ".join(map(str, names))
        raise ImageNameError(f"{str(name)!r}: a login is for one registry; name one of {choice}")
    found: list[RegistryImage] = []
    for number, each in enumerate(names, 1):
        try:
            endpoints = registries.endpoints(each)
        except RegistryError:  # blocked
            if number == len(names) and not found:
                raise
            continue
        found += [
            connect(endpoint, each, os.environ, access, registries.helpers)
            for endpoint in endpoints
        ]
    return [replace(each, is_last=each is found[-1]) for each in found]


def _check_type(reference: object) -> None:
    # A path is let through: parsing it gives the error that says how to name the image there.
    if not isinstance(reference, (str, os.PathLike)):
        found = type(reference).__name__
        raise TypeError(f"reference: found {found}, wanted text such as 'oci:DIR:TAG'")
