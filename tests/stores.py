"""Graph roots for tests to work on: copies of the golden ones, never the golden ones themselves."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, debian_cache, debian_layers, debian_toc
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, big_data_file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


def cache_path(root: Path, layer: str) -> Path:
    """Where a layer's cache file is, or would be."""
    return root / "overlay-layers" / layer / big_data_file_name(CACHE_KEY)


def toc_path(root: Path, layer: str) -> Path:
    """Where a layer's TOC is."""
    return root / "overlay-layers" / layer / big_data_file_name(TOC_KEY)
