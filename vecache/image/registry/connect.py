"""Put together what talks to one registry, from the user's environment. Nothing is sent yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.image.registry.authfile import find_auth_files, find_credentials
from vecache.image.registry.client import RegistryImage, RegistrySession
from vecache.image.registry.login import Login
from vecache.image.registry.pools import Pools, certificate_folders
from vecache.image.registry.retry import RetryPolicy
from vecache.image.registry.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vecache.image.registry.helper import Credentials
    from vecache.image.registry_name import RegistryName

__all__ = ["connect"]


def connect(
    image: RegistryName,
    environ: Mapping[str, str],
    *,
    auth_file: Path | None = None,
    retry: RetryPolicy | None = None,
    tls_verify: bool = True,
) -> RegistryImage:
    """Make the client for one image.

    Parameters
    ----------
    image : RegistryName
        The image.
    environ : mapping of str to str
        Names the home, the auth files and the proxy.
    auth_file : Path, optional
        The only auth file to look into.
    retry : RetryPolicy, optional
        How patient to be.
    tls_verify : bool, optional
        False to trust any certificate, and plain http.

    Returns
    -------
    RegistryImage
        An `ImageSource`.
    """
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    wire = Wire(Pools(tls_verify, certificate_folders(home), environ))

    def find() -> Credentials | None:
        return find_credentials(find_auth_files(environ, auth_file), image)

    login = Login(
        wire, find, f"repository:{image.repository}:pull", is_plain_allowed=not tls_verify
    )
    return RegistryImage(RegistrySession(image.host, wire, login, retry or RetryPolicy()), image)
