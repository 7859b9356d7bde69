"""A synthetic fleet for benchmarks, written straight in the format of `vecache/store/fleet.py`.

Each content is in about 20 layers (`FleetSizes.n_repeats`); nodes have layers at random, in an
order of their own, so that no two are equal unless there are fewer classes than nodes. Some of the
contents of images are those of layers; a node has most of these. Layers are made in processes: 50
ms of a core each.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.data import contents, toc_bytes
from tests.layouts import SparseLayer, write_layout
from vecache.cache.writer import build_cache
from vecache.digest import format_digests
from vecache.fleet.cluster import run_tasks
from vecache.store.bigdata import CACHE_KEY, TOC_KEY
from vecache.store.fleet import NODE_SCHEMA, node_path, pack_node
from vecache.store.objects import built_name, object_name, object_path
from vecache.store.packed import pack
from vecache.store.settings import PullSettings
from vecache.store.snapshot import SCHEMA
from vecache.store.write_fleet import make_fleet
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vecache.arrays import I64

__all__ = ["FleetSizes", "image_tags", "node_name", "write_fleet", "write_images"]

KNOWN = 0.5
"""How many of an image's contents some layer of the fleet has."""

_LEVEL = 1


@dataclass(frozen=True)
class FleetSizes:
    """Sizes of a made-up fleet and of the images that its nodes pull."""

    n_nodes: int = 500
    n_classes: int = 500
    n_node_layers: int = 150
    n_layers: int = 2_000
    n_tags: int = 20_000  # of a layer
    n_repeats: int = 20  # layers that have each content, on average
    n_images: int = 20
    n_files: int = 50_000  # of an image, of one chunk each
    n_image_layers: int = 8

    @classmethod
    def of(cls, share: float) -> FleetSizes:
        """Return sizes with this share of the tags."""
        root = share**0.5
        return cls(
            n_nodes=max(int(500 * root), 3),
            n_classes=max(int(500 * root), 3),
            n_node_layers=max(int(150 * root), 2),
            n_layers=max(int(2_000 * root), 4),
            n_tags=max(int(20_000 * root), 6),
            n_images=max(int(20 * root), 2),
            n_files=max(int(50_000 * root), 16),
        )

    @property
    def n_rows(self) -> int:
        """Files of a layer: three tags each, for the digest, the fingerprint and the chunk."""
        return self.n_tags // 3

    @property
    def n_contents(self) -> int:
        """Distinct files of all layers."""
        return max(self.n_layers * self.n_rows // self.n_repeats, 2 * self.n_rows)


class _Layers(NamedTuple):
    """What is the same for all layers."""

    folder: Path
    sizes: FleetSizes
    with_tocs: bool
    seed: int


def write_fleet(
    folder: Path,
    sizes: FleetSizes,
    *,
    with_tocs: bool = True,
    processes: int | None = None,
    seed: int = 9,
) -> None:
    """Write a fleet of so many nodes; plans need no TOCs, what nodes have in common does."""
    make_fleet(folder)
    for first in range(256):
        (folder / "objects" / f"{first:02x}").mkdir()
    layers = _Layers(folder, sizes, with_tocs, seed)
    numbers = range(sizes.n_layers)
    items = list(run_tasks(write_layer, numbers, shared=layers, processes=processes))
    chosen = _choose_layers(sizes, np.random.default_rng([seed, sizes.n_layers]))
    ids = format_digests(contents(2**41 + np.arange(sizes.n_layers)).raw).to_pylist()
    for node in range(sizes.n_nodes):
        layer_no = chosen[node % len(chosen)].tolist()
        document = _node(node, {ids[number]: items[number] for number in layer_no})
        path = node_path(folder, node_name(node))
        path.write_bytes(pack_node(json.dumps(document).encode()))


def _choose_layers(sizes: FleetSizes, rng: np.random.Generator) -> I64:
    """(n_classes, n_node_layers) int64: the layers of each class of nodes, all of them in turn."""
    n_each = sizes.n_layers // sizes.n_node_layers  # classes that one shuffle is enough for
    rows = [
        rng.permutation(sizes.n_layers)[: n_each * sizes.n_node_layers]
        for _ in range(-(-sizes.n_classes // n_each))
    ]
    return np.concatenate(rows).reshape(-1, sizes.n_node_layers)[: sizes.n_classes]


def write_layer(layers: _Layers, number: int) -> dict[str, str]:
    """Write the objects of a layer, and return their names by their keys; the task."""
    folder, sizes, with_tocs, seed = layers
    rng = np.random.default_rng([seed, number])
    numbers = rng.choice(sizes.n_contents, sizes.n_rows, replace=False)
    toc = toc_bytes(numbers, sizes.n_rows)
    cache = build_cache(toc, Layout.DIR)
    if not with_tocs:
        name = object_name(CACHE_KEY, cache)
        object_path(folder, name).write_bytes(cache)
        return {CACHE_KEY: name}
    toc_name = object_name(TOC_KEY, toc)
    name = built_name(toc_name, Layout.DIR)
    object_path(folder, toc_name).write_bytes(pack(toc, _LEVEL))
    object_path(folder, name).write_bytes(cache)
    return {TOC_KEY: toc_name, CACHE_KEY: name}


def write_images(folder: Path, sizes: FleetSizes, *, seed: int = 9) -> None:
    """Write an OCI layout of all images, each a tag."""
    write_layout(
        folder,
        {
            tag: list(_image_layers(sizes, image, np.random.default_rng([seed, 2**32, image])))
            for image, tag in enumerate(image_tags(sizes))
        },
    )


def image_tags(sizes: FleetSizes) -> list[str]:
    """Return the tags of all images."""
    return [f"image-{image:02}" for image in range(sizes.n_images)]


def node_name(node: int) -> str:
    """Return the name of a node."""
    return f"node-{node:04}"


def _image_layers(sizes: FleetSizes, image: int, rng: np.random.Generator) -> Iterator[SparseLayer]:
    n_files = sizes.n_files // sizes.n_image_layers
    for layer in range(sizes.n_image_layers):
        known: I64 = rng.integers(0, sizes.n_contents, n_files)
        new = 2**32 * (1 + image * sizes.n_image_layers + layer) + np.arange(n_files)
        numbers = np.where(rng.random(n_files) < KNOWN, known, new)
        yield SparseLayer(toc_bytes(numbers, n_files), toc_offset=2_000 * (n_files + 1))


def _node(node: int, items: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return the document of a node that has these layers, one on top of the other."""
    ids = [digest.partition(":")[2] for digest in items]
    layers = [
        {
            "id": layer_id,
            **({"parent": below} if below else {}),
            "diff-digest": digest,
            "toc-digest": f"sha256:{layer_id[::-1]}",
            "big-data-names": list(items[digest]),
        }
        for layer_id, below, digest in zip(ids, [None, *ids], items, strict=False)
    ]
    settings = PullSettings(
        reflink=True,
        hard_links=False,
        layout=Layout.DIR,
        parallel=1,
        partial=True,
        estargz=True,
        convert=False,
    )
    root: dict[str, Any] = {
        "path": "/var/lib/containers/storage",
        "image_store": None,
        "image_store_layers": [],
        "built": [],
        "unreadable": {},
    }
    snapshot = {
        "schema": SCHEMA,
        "host": node_name(node),
        "time": "2026-01-31T12:00:00Z",
        "versions": {},
        "driver": "overlay",
        "storage_conf": "",
        "is_own": True,
        "settings": asdict(settings),
        "blob_info": {"blobs": {}, "tocs": {}},
        "roots": [root],
        "removed": [],
    }
    stored = {
        "layers": layers,
        "images": [],
        "layer_items": dict(zip(ids, items.values(), strict=True)),
        "image_items": {},
    }
    return {"schema": NODE_SCHEMA, "snapshot": snapshot, "roots": [stored]}
