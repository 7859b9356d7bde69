"""How registries are reached, as the caller says: logins, certificates, retries."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from typing import Self

    from vecache.image.registry.http import RetryPolicy

__all__ = ["Access", "Credentials"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login; its secrets are not in its repr."""

    username: str  # empty, as the password, where there is only an identity token
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)  # a refresh token, may be empty
    source: str = field(default="", compare=False)  # where it is from, for messages

    def basic_header(self) -> str:
        """Return the value of a `Basic` Authorization header."""
        packed = base64.b64encode(f"{self.username}:{self.password}".encode())
        return f"Basic {packed.decode()}"

    def __str__(self) -> str:
        user = f"of user {self.username!r}" if self.username else "by token"
        return f"the login {user} from {self.source}"


@dataclass(frozen=True, slots=True)
class Access:
    """What `open_image` takes for registries."""

    tls_verify: bool | None = None  # None: as registries.conf says
    auth_file: Path | None = None  # instead of Podman's and Docker's
    credentials: Credentials | None = None  # for the registry of the image's name, no mirror
    cert_dir: Path | None = None  # for the registry and its mirrors, instead of certs.d
    retry: RetryPolicy | None = None  # None: the default one

    @classmethod
    def of(
        cls,
        *,
        tls_verify: bool | None = None,
        auth_file: str | os.PathLike[str] | None = None,
        credentials: tuple[str, str] | None = None,
        cert_dir: str | os.PathLike[str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Self:
        """Check the types of what a caller gives."""
        if tls_verify is not None and not isinstance(tls_verify, bool):  # "false" would be true
            raise TypeError(f"tls_verify: found {tls_verify!r}, wanted True or False")
        login = None
        if credentials is not None:
            if list(map(type, credentials)) != [str, str]:
                raise TypeError("credentials: wanted two texts, user and password")
            login = Credentials(*credentials, source="credentials (--creds)")
        auth_path, cert_path = (
            None if each is None else Path(each) for each in (auth_file, cert_dir)
        )
        return cls(tls_verify, auth_path, login, cert_path, retry)
