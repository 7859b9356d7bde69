"""Where the golden data is, and one check that nobody has changed it.

Everything under `tests/data/` was written by Podman, Buildah, Skopeo and the upstream Go package;
see `tests/data/PROVENANCE.md`. Tests read it and never write it. The real Debian layers are too
large for the tree: what needs them carries `needs_debian` and is skipped where they are missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"
GOLDEN_SMALL = DATA / "small"
GOLDEN_DEBIAN = Path(__file__).parents[2] / "shared" / "golden" / "debian"

needs_debian = pytest.mark.skipif(
    not (GOLDEN_DEBIAN / "pulls.jsonl").is_file(),
    reason="the real Debian layers (shared/golden/debian beside the checkout) are not here",
)

STORES = ("dir", "flat", "estargz", "converted")


def big_data(store: str, layer: str, key: str) -> Path:
    """Path of a layer's big-data item in a small golden store."""
    name = "=" + base64.b64encode(key.encode()).decode()
    return GOLDEN_SMALL / "stores" / store / "overlay-layers" / layer / name


def layer_ids(store: str) -> list[str]:
    """Ids of a small golden store's layers, in store order."""
    records = json.loads(
        (GOLDEN_SMALL / "stores" / store / "overlay-layers" / "layers.json").read_text()
    )
    return [record["id"] for record in records]


def golden_cache(store: str, layer: str) -> bytes:
    """The golden cache of a layer: Podman's own, or what the Go package wrote for the last."""
    path = big_data(store, layer, "chunked-manifest-cache")
    if not path.exists():
        path = GOLDEN_SMALL / "expected" / f"{store}-{layer[:12]}.cache"
    return path.read_bytes()


def golden_toc(store: str, layer: str) -> bytes:
    """The TOC that a small golden store keeps for a layer."""
    return big_data(store, layer, "zstd-chunked-manifest").read_bytes()


def small_layers() -> list[tuple[str, str]]:
    """Every (store, layer id) of the small golden stores: the rows of parity tests."""
    return [(store, layer) for store in STORES for layer in layer_ids(store)]


def debian_layers() -> list[str]:
    """Ids of the five real layers in store order; none where the data is missing."""
    path = GOLDEN_DEBIAN / "layers.json"
    return [record["id"] for record in json.loads(path.read_text())] if path.exists() else []


def debian_cache(layer: str) -> bytes:
    """The golden cache of a real Debian layer."""
    return (GOLDEN_DEBIAN / "layers" / f"{layer}.cache").read_bytes()


def debian_toc(layer: str) -> bytes:
    """The TOC of a real Debian layer."""
    import pyarrow as pa  # noqa: PLC0415 - only these tests need it

    packed = (GOLDEN_DEBIAN / "layers" / f"{layer}.toc.json.zst").read_bytes()
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        return bytes(stream.read())


def pulls(folder: Path) -> list[dict[str, Any]]:
    """The recorded pulls of a golden folder."""
    path = folder / "pulls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tree_digest(folder: Path) -> str:
    """sha256 over the sorted `sha256  path` lines of all files: the value in PROVENANCE.md."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in folder.rglob("*")
        if path.is_file()
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
