"""Credentials from a helper program, `docker-credential-NAME get`.

The helper reads the server's name from standard input and answers with a JSON object. What it
prints is never shown, since it may be a secret.

Source: github.com/docker/docker-credential-helpers client/client.go Get.

Who is the user to this registry? The auth files of Podman, then those of Docker.

1. The file named by the caller or by `$REGISTRY_AUTH_FILE`, and then no other; else
2. `$XDG_RUNTIME_DIR/containers/auth.json`, without that variable `/run/containers/UID/auth.json`;
3. `$XDG_CONFIG_HOME/containers/auth.json`, by default under `~/.config`;
4. `$DOCKER_CONFIG/config.json`, by default under `~/.docker`;
5. `~/.dockercfg`, whose entries stand at the top instead of under `auths`.

In each file: the helper for the registry (`credHelpers`), then `auths`, the most specific key first
(`quay.io/a/b`, `quay.io/a`, `quay.io`, then keys written as URLs), then the helper for all
(`credsStore`, which Docker writes and upstream ignores).

Source: containers/image pkg/docker/config/config.go getAuthFilePaths, findCredentialsInFile.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import ConfigError
from vecache.files import read_bounded
from vecache.image.name import DOCKER_HUB
from vecache.json_fields import Fields, parse_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vecache.image.name import RegistryName

__all__ = ["AuthFile", "Credentials", "ask_helper", "find_auth_files", "find_credentials"]

_HELPER_SECONDS = 60
_NOT_FOUND = "credentials not found in native keychain"  # upstream: errCredentialsNotFoundMessage
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who somebody is; the secrets do not show in its repr."""

    username: str  # both empty where there is an identity token only
    password: str = field(repr=False)  # both empty where there is an identity token only
    # A refresh token, to be exchanged; may be empty
    identity_token: str = field(default="", repr=False)


def ask_helper(name: str, server: str, timeout: float = _HELPER_SECONDS) -> Credentials | None:
    """Run a helper."""
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


_MAX_AUTH_BYTES = 4 << 20
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # what Docker calls its own registry here
_DOCKER_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", DOCKER_HUB)


@dataclass(frozen=True, slots=True)
class AuthFile:
    """A file to look into."""

    path: Path  # may be missing, unless it is required
    is_required: bool = False  # whether somebody named it
    is_old: bool = False  # whether the entries stand at the top


def find_auth_files(environ: Mapping[str, str], auth_file: Path | None = None) -> list[AuthFile]:
    """List the files to look into."""
    named = auth_file or environ.get("REGISTRY_AUTH_FILE")
    if named:
        return [AuthFile(Path(named), is_required=True)]
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    runtime = environ.get("XDG_RUNTIME_DIR")
    first = Path(runtime, "containers") if runtime else Path("/run/containers", str(os.getuid()))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    return [
        AuthFile(first / "auth.json"),
        AuthFile(config / "containers/auth.json"),
        AuthFile(docker / "config.json"),
        AuthFile(home / ".dockercfg", is_old=True),
    ]


def find_credentials(files: list[AuthFile], name: RegistryName) -> Credentials | None:
    """Find the credentials for an image."""
    for file in files:
        found = _look_into(file, name)
        if found is not None:
            return found
    return None


def _look_into(file: AuthFile, name: RegistryName) -> Credentials | None:
    fields = _read(file)
    if fields is None:
        return None
    auths = fields if file.is_old else fields.object("auths", {})
    if not file.is_old:
        helpers = fields.texts("credHelpers")
        if name.domain in helpers:
            return ask_helper(helpers[name.domain], name.domain)
    for key in _matching_keys(auths, name):
        found = _decode(auths.object(key, {}))
        if found is not None:
            return found
    store = "" if file.is_old else fields.text("credsStore", "")
    if not store:
        return None
    return ask_helper(store, _DOCKER_HUB_KEY if name.domain == DOCKER_HUB else name.domain)


def _read(file: AuthFile) -> Fields | None:
    try:
        data = read_bounded(file.path, _MAX_AUTH_BYTES)
    except FileNotFoundError:
        if file.is_required:
            raise ConfigError(f"{file.path}: there is no such auth file") from None
        return None
    except OSError as error:
        raise ConfigError(f"{file.path}: cannot be read: {error.strerror}") from error
    return parse_fields(data, str(file.path), ConfigError) if data.strip() else None


def _matching_keys(auths: Fields, name: RegistryName) -> Iterator[str]:
    key = name.name
    while key:
        if key in auths:
            yield key
        key = key.rpartition("/")[0]
    for each in auths:  # a URL, as Docker wrote keys once and still does for its own registry
        host = each.partition("://")[2] if "://" in each else each
        host = host.partition("/")[0]
        host = DOCKER_HUB if host in _DOCKER_HUB_NAMES else host
        is_url = "://" in each or each in _DOCKER_HUB_NAMES
        if is_url and host == name.domain and each in auths:
            yield each


def _decode(entry: Fields) -> Credentials | None:
    """Read one entry; None if it holds nothing, as where a helper keeps the secret."""
    token, text = entry.text("identitytoken", ""), entry.text("auth", "")
    try:
        packed = base64.b64decode(text, validate=True)
        user, colon, password = packed.decode().partition(":")
    except (binascii.Error, ValueError):
        raise ConfigError(f"{entry.where}: auth is not base64 of USER:PASSWORD") from None
    if not colon and not token:
        return None
    return Credentials(user, password.strip("\0"), token)
