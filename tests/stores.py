"""Graph roots for tests to work on: copies of the golden ones, never the golden ones themselves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, debian_cache, debian_layers, debian_toc
from vecache.image.manifest import OCI_IMAGE, OCI_INDEX
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, big_data_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def copy_store(name: str, folder: Path) -> Path:
    """Copy a small golden store to where a test may change it."""
    root = folder / name
    shutil.copytree(GOLDEN_SMALL / "stores" / name, root)
    return root


def debian_store(folder: Path) -> Path:
    """Make a graph root of the five real Debian layers."""
    root = folder / "debian"
    layers = root / "overlay-layers"
    layers.mkdir(parents=True)
    (root / "overlay-images").mkdir()
    (root / "overlay-images" / "images.json").write_text("[]")
    shutil.copy(GOLDEN_DEBIAN / "layers.json", layers / "layers.json")
    (layers / "layers.lock").touch()
    for layer in debian_layers():
        (layers / layer).mkdir()
        (layers / layer / big_data_file_name(CACHE_KEY)).write_bytes(debian_cache(layer))
        (layers / layer / big_data_file_name(TOC_KEY)).write_bytes(debian_toc(layer))
    return root


def edit_layers(root: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change `layers.json` of a copied store."""
    path = root / "overlay-layers" / "layers.json"
    records = json.loads(path.read_text())
    edit(records)
    path.write_text(json.dumps(records))


def edit_images(root: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change `images.json` of a copied store."""
    path = root / "overlay-images" / "images.json"
    records = json.loads(path.read_text())
    edit(records)
    path.write_text(json.dumps(records))


def copy_part(folder: Path, layers: list[str], images: list[str]) -> Path:
    """Copy the golden store `dir`, and leave only these layers and images in its lists."""
    root = copy_store("dir", folder)

    def keep(rows: list[dict[str, Any]]) -> None:
        rows[:] = [
            r for r in rows if r["id"] in layers or r.get("names", ["/"])[0][21:-7] in images
        ]

    edit_layers(root, keep)
    edit_images(root, keep)
    return root


def set_manifest(root: Path, name: str, *, of_list: bool = False, manifest: bytes = b"") -> str:
    """Add a manifest to an image, as Podman does; return its digest.

    Either a list that offers the image's manifest, as the first item of a pull through a list; or
    another manifest, which is then the latest one.
    """
    digest = ""

    def edit(records: list[dict[str, Any]]) -> None:
        nonlocal digest
        record = next(each for each in records if each["names"][0].endswith(f"/{name}:latest"))
        folder = root / "overlay-images" / record["id"]
        latest = (folder / "manifest").read_bytes()
        data = manifest or _list_of(latest)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        key = f"manifest-{digest}"
        items = {key: data} if of_list else {key: data, "manifest": data}
        for item, content in items.items():
            (folder / big_data_file_name(item)).write_bytes(content)
            record["big-data-sizes"][item] = len(content)
            record["big-data-digests"][item] = digest
        record["big-data-names"].insert(1 if of_list else 3, key)
        if of_list:
            record["digest"] = digest  # that of the first manifest item, and it stays so

    edit_images(root, edit)
    return digest


def _list_of(manifest: bytes) -> bytes:
    """A list that offers one image for this processor, and another for one that is rare."""
    offered = [
        {
            "mediaType": OCI_IMAGE,
            "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "size": len(data),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for data, architecture in ((b"another", "s390x"), (manifest, "amd64"), (manifest, "arm64"))
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": offered}).encode()


def cache_path(root: Path, layer: str) -> Path:
    """Where a layer's cache file is, or would be."""
    return root / "overlay-layers" / layer / big_data_file_name(CACHE_KEY)


def toc_path(root: Path, layer: str) -> Path:
    """Where a layer's TOC is."""
    return root / "overlay-layers" / layer / big_data_file_name(TOC_KEY)


@contextmanager
def nobody() -> Iterator[None]:
    """Take away the rights of root, who may read every file, also a test's own storage.conf."""
    user = os.geteuid()
    with pytest.MonkeyPatch.context() as patch:
        if user == 0:
            patch.setenv("CONTAINERS_STORAGE_CONF", os.devnull)
            os.seteuid(65534)  # until the end, as root is the real user still
        try:
            yield
        finally:
            os.seteuid(user)


@contextmanager
def readable_folder() -> Iterator[Path]:
    """Make a folder that every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
