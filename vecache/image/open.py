"""Open an image by its name, wherever it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.image.local import DirFolder, FolderFiles, OciLayout, TarFiles
from vecache.image.manifest import parse_platform
from vecache.image.name import PathName, RegistryName, StoreName, Transport, parse_image_name
from vecache.image.source import load_image
from vecache.image.stored import StoreImage
from vecache.store.graphroot import Store, open_store

if TYPE_CHECKING:
    from vecache.image.model import Image
    from vecache.image.registry.http import RetryPolicy
    from vecache.image.source import ImageSource

__all__ = ["find_source", "open_image"]


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
        `[docker://]HOST[:PORT]/NAME[:TAG|@DIGEST]` or `containers-storage:NAME`.
    platform : str, optional
        `OS/ARCHITECTURE[/VARIANT]` that the image must be for; by default this machine's is chosen
        from a list of images, and an image that is in no list may be for any.
    store : Store or path, optional
        The store of `containers-storage:NAME`, if the name has none; the machine's own by default.
    tls_verify : bool, optional
        False to accept any certificate, and a registry without TLS.
    auth_file : path, optional
        File with credentials; Podman's and Docker's files by default.
    retry : RetryPolicy, optional
        How often and how long to try to reach a registry.

    Returns
    -------
    Image
        Its TOCs are read when they are asked for.

    Raises
    ------
    ImageNameError
        If the reference is malformed.
    ImageNotFoundError
        If there is no such image, or none for the platform.
    ImageError
        If it cannot be read, or is malformed.
    DigestError
        If bytes have another digest than the manifest says.
    StoreError
        If the store cannot be read.
    ConfigError
        If an auth file or certificate cannot be read.
    TypeError
        If an argument has another type.
    ValueError
        If `platform` is malformed.
    """
    _check_types(reference, tls_verify)
    name = parse_image_name(os.fspath(reference))
    wanted = None if platform is None else parse_platform(platform)
    source = find_source(name, store, tls_verify=tls_verify, auth_file=auth_file, retry=retry)
    return load_image(source, reference, wanted)


def find_source(
    name: PathName | RegistryName | StoreName,
    store: Store | str | os.PathLike[str] | None,
    *,
    tls_verify: bool = True,
    auth_file: str | os.PathLike[str] | None = None,
    retry: RetryPolicy | None = None,
) -> ImageSource:
    """Return the source of a name; a registry is not asked yet."""
    match name:
        case RegistryName():
            # TLS and HTTP are slow to import, and only a registry needs them.
            from vecache.image.registry.client import connect  # noqa: PLC0415

            auth_path = None if auth_file is None else Path(auth_file)
            return connect(
                name, os.environ, auth_file=auth_path, retry=retry, tls_verify=tls_verify
            )
        case StoreName():
            if name.graph_root is not None:
                store = name.graph_root
            opened = store if isinstance(store, Store) else open_store(store)
            return StoreImage(opened, opened.find_image(name.name), name.digest)
        case PathName(Transport.DIR):
            return DirFolder(name.path)
        case PathName(Transport.OCI):
            return OciLayout(FolderFiles(name.path), name.tag)
        case PathName():
            return OciLayout(TarFiles(name.path), name.tag)


def _check_types(reference: object, tls_verify: object) -> None:
    # A path is let through: parsing it gives the error that says how to name the image there.
    if not isinstance(reference, (str, os.PathLike)):
        found = type(reference).__name__
        raise TypeError(f"reference: found {found}, wanted text such as 'oci:DIR:TAG'")
    if not isinstance(tls_verify, bool):  # "false" would be true
        raise TypeError(f"tls_verify: found {tls_verify!r}, wanted True or False")
