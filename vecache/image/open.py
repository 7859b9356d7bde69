"""Open an image by its name, wherever it is.

The reference says which kind of place it is; from there on every place is an `ImageSource`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.image.archive import TarFiles
from vecache.image.folder import DirFolder
from vecache.image.layout import FolderFiles, OciLayout
from vecache.image.local import StoreImage, parse_store_name
from vecache.image.platform import machine_platform, parse_platform
from vecache.image.reference import Reference, Transport, parse_reference, split_tag
from vecache.image.registry_name import parse_registry_name
from vecache.image.source import load_image
from vecache.store.graphroot import Store, open_store

if TYPE_CHECKING:
    from vecache.image.model import Image
    from vecache.image.registry.retry import RetryPolicy
    from vecache.image.source import ImageSource

__all__ = ["open_image"]


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
    from vecache.image.registry.connect import connect  # noqa: PLC0415

    image = parse_registry_name(reference.rest)
    return connect(image, os.environ, auth_file=auth_file, retry=retry, tls_verify=tls_verify)
