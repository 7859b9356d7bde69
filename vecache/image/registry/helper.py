"""Credentials from a helper program, `docker-credential-NAME get`.

The helper reads the server's name from standard input and answers with a JSON object. What it
prints is never shown, since it may be a secret.

Source: github.com/docker/docker-credential-helpers client/client.go Get.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field

from vecache.errors import ConfigError
from vecache.image.fields import parse_fields

__all__ = ["Credentials", "ask_helper"]

_HELPER_SECONDS = 60
_NOT_FOUND = "credentials not found in native keychain"  # upstream: errCredentialsNotFoundMessage
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who somebody is; the secrets do not show in its repr.

    Attributes
    ----------
    username, password : str
        Both empty where there is an identity token only.
    identity_token : str
        A refresh token, to be exchanged; may be empty.
    """

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)


def ask_helper(name: str, server: str, timeout: float = _HELPER_SECONDS) -> Credentials | None:
    """Run a helper.

    Parameters
    ----------
    name : str
        What stands behind `docker-credential-` in the program's name.
    server : str
        The registry, as the helper knows it.
    timeout : float, optional
        Seconds to wait for it.

    Returns
    -------
    Credentials or None
        None if the helper has none for that server.

    Raises
    ------
    ConfigError
        If the helper is missing, fails, hangs, or answers something else.
    """
    if not re.fullmatch(r"[A-Za-z0-9._+-]+", name):
        raise ConfigError(f"{name[:100]!r} is not the name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        result = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(
            f"{program}: an auth file names this credential helper, but it is not in PATH; "
            "install it or remove it from the auth file"
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{program}: no answer in {timeout:g} seconds") from None
    except OSError as error:
        raise ConfigError(f"{program}: cannot be run: {error.strerror}") from error
    if result.returncode:
        if result.stdout.decode(errors="replace").strip() == _NOT_FOUND:
            return None
        raise ConfigError(f"{program}: failed with status {result.returncode} for {server}")
    answer = parse_fields(result.stdout, f"answer of {program}", ConfigError)
    username, secret = answer.text("Username", ""), answer.text("Secret", "")
    if username == _TOKEN_USER:
        return Credentials("", "", secret)
    return Credentials(username, secret) if username else None
