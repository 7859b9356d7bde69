"""The user's credentials for a registry, from the auth files of Podman and of Docker.

1. The file named by the caller or by `$REGISTRY_AUTH_FILE`, and then no other; else
2. `$XDG_RUNTIME_DIR/containers/auth.json`, without that variable `/run/containers/UID/auth.json`;
3. `$XDG_CONFIG_HOME/containers/auth.json`, by default under `~/.config`;
4. `$DOCKER_CONFIG/config.json`, by default under `~/.docker`;
5. `~/.dockercfg`, whose entries are at the top level instead of under `auths`.

The helpers of `credential-helpers` in registries.conf are asked in their order instead, where
`containers-auth.json` stands for these files.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import ConfigError
from vecache.files import read_bounded
from vecache.image.name import DOCKER_HUB
from vecache.image.registry.access import Credentials
from vecache.json_fields import Fields, parse_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vecache.image.name import RegistryName

__all__ = ["AuthFile", "find_auth_files", "find_credentials", "run_helper"]

_MAX_AUTH_BYTES = 4 << 20
_HELPER_SECONDS = 60
_NOT_FOUND = "credentials not found in native keychain"  # upstream: errCredentialsNotFoundMessage
_AUTH_FILES = "containers-auth.json"  # upstream: AuthenticationFileHelper
_TOKEN_USER = "<token>"
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # the name of Docker Hub in Docker's files
_DOCKER_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", DOCKER_HUB)


@dataclass(frozen=True, slots=True)
class AuthFile:
    """A file to search."""

    path: Path  # may be missing, unless required
    is_required: bool = False
    is_dockercfg: bool = False  # the old format, with entries at the top level


def find_auth_files(environ: Mapping[str, str], auth_file: Path | None = None) -> list[AuthFile]:
    """Return the files to search, in order; most will be missing."""
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
        AuthFile(home / ".dockercfg", is_dockercfg=True),
    ]


def find_credentials(
    files: list[AuthFile], name: RegistryName, helpers: Sequence[str] = ()
) -> Credentials | None:
    """Return the first credentials found for an image; `helpers` are those of registries.conf."""
    for helper in helpers or (_AUTH_FILES,):
        if helper == _AUTH_FILES:
            found = _search_files(files, name)
        else:
            found = run_helper(helper, name.domain)
        if found is not None:
            return found if found.source else replace(found, source=f"credential helper {helper}")
    return None


def _search_files(files: list[AuthFile], name: RegistryName) -> Credentials | None:
    for file in files:
        found = _search_file(file, name)
        if found is not None:
            return replace(found, source=str(file.path))
    return None


def _search_file(file: AuthFile, name: RegistryName) -> Credentials | None:
    fields = _read(file)
    if fields is None:
        return None
    helpers = {} if file.is_dockercfg else fields.texts("credHelpers")
    if name.domain in helpers:
        return run_helper(helpers[name.domain], name.domain)
    auths = fields if file.is_dockercfg else fields.object("auths", {})
    for key in _matching_keys(auths, name):
        found = _decode(auths.object(key, {}))
        if found is not None:
            return found
    store = "" if file.is_dockercfg else fields.text("credsStore", "")
    if not store:
        return None
    return run_helper(store, _DOCKER_HUB_KEY if name.domain == DOCKER_HUB else name.domain)


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
    for each in auths:  # a URL, as Docker wrote keys once and still does for Docker Hub
        host = each.partition("://")[2] if "://" in each else each
        host = host.partition("/")[0]
        host = DOCKER_HUB if host in _DOCKER_HUB_NAMES else host
        is_url = "://" in each or each in _DOCKER_HUB_NAMES
        if is_url and host == name.domain and each in auths:
            yield each


def _decode(entry: Fields) -> Credentials | None:
    """Decode one entry; None if it holds nothing, as where a helper has the secret."""
    token, text = entry.text("identitytoken", ""), entry.text("auth", "")
    try:
        packed = base64.b64decode(text, validate=True)
        user, colon, password = packed.decode().partition(":")
    except (binascii.Error, ValueError):
        raise ConfigError(f"{entry.where}: auth is not base64 of USER:PASSWORD") from None
    if not colon and not token:
        return None
    return Credentials(user, password.strip("\0"), token)


def run_helper(name: str, server: str, timeout: float = _HELPER_SECONDS) -> Credentials | None:
    """Return the credentials that `docker-credential-NAME get` prints; None if it has none.

    What it prints is never shown, since it may be a secret.
    Source: github.com/docker/docker-credential-helpers client/client.go Get.
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
            f"{program}: an auth file, or registries.conf, names this credential helper, but it is "
            "not in PATH; install it or remove it there"
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
