"""Small files of a user's machine: configuration, logins, and what Podman knows of blobs."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.fuzz.documents import run_each
from vecache.errors import VecacheError
from vecache.image.name import parse_registry_name, parse_short_name
from vecache.image.registry.auth import AuthFile, find_credentials
from vecache.image.registry.registries import Registries
from vecache.store.blob_info import read_blob_info
from vecache.store.config import load_config
from vecache.store.fleet import open_fleet
from vecache.store.settings import read_parallel

if TYPE_CHECKING:
    from pathlib import Path

_SECRET = "hunter2"
_PACKED = base64.b64encode(f"me:{_SECRET}".encode()).decode()
_STORAGE_CONF = b"""# storage
[storage]
driver = "overlay"
graphroot = "$HOME/\\u0061/storage"
imagestore = '/images'
rootless_storage_path = \"\"\"/home/$USER/storage\"\"\"
[storage.options]
additionalimagestores = ["/var/lib/shared", {append = true}]
pull_options = {enable_partial_images = "true", use_hard_links = "false", convert_images = "true"}
[storage.options.overlay]
use_composefs = "true"
mountopt = "nodev,metacopy=on"
"""
_CONTAINERS_CONF = b"""[engine]
image_parallel_copies = 3
network_cmd_options.a.b = [1, 2.5, 1979-05-27T07:32:00Z]
[[secrets]]
driver = "file"
"""
_REGISTRIES_CONF = b"""unqualified-search-registries = ["quay.io", "docker.io"]
short-name-mode = "permissive"
[aliases]
"app" = "quay.io/a/app"
[[registry]]
prefix = "*.example.com"
location = "there.example.com/b"
insecure = true
blocked = false
[[registry.mirror]]
location = "mirror:5000/c"
pull-from-mirror = "digest-only"
[[registry]]
location = "quay.io"
mirror-by-digest-only = true
[[registry.mirror]]
location = "mirror:5000"
"""
_FLEET_FILE = b'{"schema": "vecache.fleet/1"}\n'


class ConfigFiles:
    """storage.conf, containers.conf, registries.conf and the file of a fleet."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.names = ("storage.conf", "containers.conf", "fleet.json")
        self.seeds = [_STORAGE_CONF, _CONTAINERS_CONF, _REGISTRIES_CONF, _FLEET_FILE]

    def read(self, data: bytes) -> None:
        paths = [self.folder / name for name in self.names]
        for path in paths:
            path.write_bytes(data)
        storage, containers, _ = map(str, paths)
        environ = {"CONTAINERS_STORAGE_CONF": storage, "CONTAINERS_CONF": containers, "HOME": "/h"}
        run_each(
            lambda: load_config(environ, 0),
            lambda: load_config(environ, 1000),
            lambda: read_parallel(environ, 1000),
            lambda: open_fleet(self.folder),
            lambda: self._resolve(paths[0]),
        )

    @staticmethod
    def _resolve(path: Path) -> None:
        """Find out where names are; each is a full one, whatever the file says."""
        registries = Registries()
        registries.add(path)
        for name in ("quay.io/a/b:1", "x.example.com/a:1", f"quay.io/a@sha256:{'ab' * 32}"):
            for endpoint in registries.endpoints(parse_registry_name(name)):
                assert parse_registry_name(str(endpoint.name)) == endpoint.name
        for found in (registries.resolve(parse_short_name(each)) for each in ("app", "other:1")):
            assert all(parse_registry_name(str(each)) == each for each in found)


class AuthFiles:
    """Auth files, new and old, and what a credential helper prints; no error shows the secret."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "auth.json"
        entry = {"auth": _PACKED}
        keys = ("quay.io/a/b", "quay.io", "https://quay.io/v1/", "https://index.docker.io/v1/")
        documents: list[Any] = [
            {"auths": dict.fromkeys(keys, entry), "credHelpers": {"ghcr.io": "pass"}},
            {"auths": {"quay.io/a": {"identitytoken": _SECRET, "auth": ""}}, "credsStore": "pass"},
            {"quay.io": {**entry, "email": "me@example.com"}},
            {"ServerURL": "quay.io", "Username": "me", "Secret": _SECRET},
        ]
        self.seeds = [json.dumps(each).encode() for each in documents]
        self.names = [
            parse_registry_name(name) for name in ("quay.io/a/b:1", "ghcr.io/a:1", "docker.io/a:1")
        ]

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        printed = subprocess.CompletedProcess([], 0, data, b"")
        errors: list[VecacheError] = []
        with mock.patch("vecache.image.registry.auth.subprocess.run", return_value=printed):
            for is_old in (False, True):
                for name in self.names:
                    try:
                        find_credentials([AuthFile(self.path, is_dockercfg=is_old)], name)
                    except VecacheError as error:
                        errors.append(error)
        if _SECRET.encode() in data:  # as a value, or there is no secret in it
            assert not any(_SECRET in str(error) for error in errors)
        if len(errors) == 2 * len(self.names):
            raise errors[0]


class BlobInfoFiles:
    """The SQLite file of blobs; whatever is in it, reading it gives pairs of digests."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "blob-info-cache-v1.sqlite"
        connection = sqlite3.connect(self.path)
        rows = [(f"sha256:{n:064x}", f"sha256:{n + 1:064x}") for n in range(20)]
        for table, key in (
            ("DigestUncompressedPairs", "anyDigest"),
            ("DigestTOCUncompressedPairs", "tocDigest"),
        ):
            connection.execute(
                f"CREATE TABLE {table}({key} TEXT PRIMARY KEY NOT NULL, "
                "uncompressedDigest TEXT NOT NULL)"
            )
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        connection.commit()
        connection.close()
        self.seeds = [self.path.read_bytes()]

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        found = read_blob_info(self.path)
        if not found.blobs and not found.tocs:
            raise VecacheError("nothing could be read")
