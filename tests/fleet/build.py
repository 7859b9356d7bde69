"""Random fleets: stores whose layers are drawn from a few TOCs, and a slow model of them."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.sharing import oracle
from tests.sharing.strategies import LAYERS
from vecache.store.bigdata import TOC_KEY, big_data_file_name
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.store.graphroot import Store


@dataclass(frozen=True)
class Node:
    """A store: its layers by number of their TOC, the layer below each, and its images' tops."""

    tocs: tuple[int, ...]
    parents: tuple[int | None, ...]
    images: dict[str, int]


@dataclass(frozen=True)
class RandomFleet:
    """Nodes, and the TOCs that they share."""

    pool: tuple[bytes, ...]
    nodes: tuple[Node, ...]

    def rows(self, node: Node, grain: str) -> list[list[tuple[str, int]]]:
        """(digest, size) of all counted copies in each layer of a node."""
        number = ("file", "chunk").index(grain)
        return [oracle.grains(self.pool[toc])[number] for toc in node.tocs]

    def members(self, grain: str) -> list[oracle.Held]:
        """What each node holds."""
        return [
            oracle.union([oracle.held(rows) for rows in self.rows(node, grain)])
            for node in self.nodes
        ]

    def logical_bytes(self, grain: str) -> int:
        return sum(
            size for node in self.nodes for rows in self.rows(node, grain) for _, size in rows
        )

    def repeated(self) -> Counter[tuple[int, int, int, int]]:
        """Size, copies on all nodes, distinct layers and nodes of each repeated file."""
        copies: Counter[tuple[str, int]] = Counter()
        layers: dict[str, set[bytes]] = {}
        nodes: dict[str, set[int]] = {}
        for number, node in enumerate(self.nodes):
            for toc, rows in zip(node.tocs, self.rows(node, "file"), strict=True):
                copies.update(rows)
                for digest, _ in rows:
                    layers.setdefault(digest, set()).add(self.pool[toc])
                    nodes.setdefault(digest, set()).add(number)
        return Counter(
            (size, n, len(layers[digest]), len(nodes[digest]))
            for (digest, size), n in copies.items()
            if n > 1
        )

    @contextmanager
    def stores(self) -> Iterator[list[tuple[str, Store]]]:
        """Write the stores into a folder."""
        with tempfile.TemporaryDirectory() as folder:
            yield [
                (f"node{number}", write_node(Path(folder) / str(number), node, self.pool))
                for number, node in enumerate(self.nodes)
            ]


@st.composite
def fleets(draw: st.DrawFn) -> RandomFleet:
    pool = tuple(draw(LAYERS.filter(bool)))
    nodes: list[Node] = []
    for _ in range(draw(st.integers(1, 5))):
        alike = draw(st.none() | st.integers(0, len(nodes) - 1)) if nodes else None
        if alike is not None:
            nodes.append(nodes[alike])
            continue
        tocs = draw(st.lists(st.integers(0, len(pool) - 1), max_size=5))
        parents = [draw(st.none() | st.integers(0, n - 1)) if n else None for n in range(len(tocs))]
        tops = st.integers(0, len(tocs) - 1)
        names = st.sampled_from(["app", "base", "db"])
        images = draw(st.dictionaries(names, tops, max_size=3)) if tocs else {}
        nodes.append(Node(tuple(tocs), tuple(parents), images))
    return RandomFleet(pool, tuple(nodes))


def write_node(root: Path, node: Node, pool: tuple[bytes, ...]) -> Store:
    """Write a graph root of layers with nothing but TOCs."""
    layers, images = root / "overlay-layers", root / "overlay-images"
    layers.mkdir(parents=True)
    images.mkdir()
    records: list[dict[str, Any]] = []
    for number, (toc, parent) in enumerate(zip(node.tocs, node.parents, strict=True)):
        records.append(
            {"id": f"layer{number}"} | ({} if parent is None else {"parent": f"layer{parent}"})
        )
        (layers / f"layer{number}").mkdir()
        (layers / f"layer{number}" / big_data_file_name(TOC_KEY)).write_bytes(pool[toc])
    (layers / "layers.json").write_text(json.dumps(records))
    listed = [
        {"id": f"{name}id", "names": [f"localhost/{name}:latest"], "layer": f"layer{top}"}
        for name, top in node.images.items()
    ]
    (images / "images.json").write_text(json.dumps(listed))
    for folder in (layers / "layers.lock", images / "images.lock"):
        folder.touch()
    return open_store(root)
