"""Group the nodes of a fleet that every plan is the same for, and open each distinct layer once.

1. Nodes are of one class where their layers are equal, in the same order, and their settings, and
   what Podman knows of blobs. Only a hash of each node is held while they are grouped.
2. Two layers are the same one where their big data is: in a fleet folder, which stores it once,
   where the paths of their items are equal; in any other store, where it is the same layer.
3. The layers of a class are loaded as `LayersCache.load` does. The cache of a layer that several
   classes have is opened once, and stays mapped: as many distinct layers can be loaded at a time as
   a process can have maps, 65,530.

About 1 KB a layer of a class.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from vecache.errors import VecacheError
from vecache.files import allow_open_files
from vecache.index.layers_cache import LayersCache
from vecache.index.load import BuildCache, CachedLayer, ExcludedLayer, LayerSource
from vecache.plan.options import pull_options

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from vecache.arrays import I64
    from vecache.cache.reader import CacheFile
    from vecache.plan.options import PlanOptions
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = [
    "ClassLayers",
    "LoadedClasses",
    "NodeClass",
    "Nodes",
    "PullChoices",
    "class_label",
    "group_nodes",
    "load_classes",
]


class Nodes(Protocol):
    """Nodes by name, and the store of each; a `Fleet` is that."""

    def nodes(self) -> Sequence[str]:
        """Return the names of the nodes."""

    def open_node(self, name: str) -> Store:
        """Open the store of a node."""


@dataclass(frozen=True, slots=True)
class PullChoices:
    """How all nodes pull; what is None, each node's own settings decide."""

    reflink: bool | Literal["auto"] | None = None
    hard_links: bool | None = None
    layout: str | None = None
    parallel: int | None = None

    def options(self, store: Store) -> PlanOptions:
        """Return the options of a pull into a store."""
        return pull_options(
            store,
            reflink=self.reflink,
            hard_links=self.hard_links,
            layout=self.layout,
            parallel=self.parallel,
        )


@dataclass(frozen=True, slots=True)
class NodeClass:
    """Nodes that every plan is the same for.

    Attributes
    ----------
    nodes : tuple of int
        Indices of the nodes, ascending.
    options : PlanOptions or None
        How they pull; None for a node that could not be opened.
    error : VecacheError or None
        Why not.
    """

    nodes: tuple[int, ...]
    options: PlanOptions | None
    error: VecacheError | None = None


def group_nodes(
    fleet: Nodes,
    names: Sequence[str],
    choices: PullChoices,
    progress: Callable[[], object] | None = None,
) -> tuple[NodeClass, ...]:
    """Group nodes into classes.

    Parameters
    ----------
    fleet : Nodes
        Where the nodes are.
    names : sequence of str
        Names of the nodes.
    choices : PullChoices
        How they pull.
    progress : callable, optional
        Called after each node.

    Returns
    -------
    tuple of NodeClass
        In the order of their first nodes. A node that cannot be opened is a class of its own.
    """
    nodes: dict[Hashable, list[int]] = {}
    options: dict[Hashable, PlanOptions | None] = {}
    errors: dict[Hashable, VecacheError] = {}
    for number, name in enumerate(names):
        key: Hashable = number
        try:
            store = fleet.open_node(name)
            chosen = choices.options(store)
            key = _class_key(store, chosen)
            options[key] = chosen
        except VecacheError as error:
            errors[key] = error
        nodes.setdefault(key, []).append(number)
        if progress is not None:
            progress()
    return tuple(
        NodeClass(tuple(numbers), options.get(key), errors.get(key))
        for key, numbers in nodes.items()
    )


def _class_key(store: Store, options: PlanOptions) -> bytes:
    """Hash all that plans of a node depend on."""
    layers = [
        (
            _layer_key(record),
            record.id,
            record.parent,
            record.diff_digest,
            record.compressed_diff_digest,
            record.toc_digest,
            record.store_root == store.root,
        )
        for record in store.layers()
    ]
    known = store.blob_info()
    parts = (
        layers,
        options,
        sorted(known.blobs.items()),
        sorted(known.tocs.items()),
    )
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).digest()


def _layer_key(record: LayerRecord) -> Hashable:
    """Return what a layer's big data is known by."""
    if record.items is None:
        return str(record.store_root), record.id
    items = sorted((key, str(path)) for key, path in record.items.items())
    return tuple(items), record.unreadable


@dataclass(frozen=True, slots=True, eq=False)
class ClassLayers:
    """The layers of the nodes of one class.

    Attributes
    ----------
    cache : LayersCache
        As `LayersCache.load` gives it for the first node, but without an index.
    numbers : (n_layers,) int64
        Which of the distinct caches each layer of `cache.layers` has.
    options : PlanOptions
        How the nodes pull.
    ids : frozenset of str
        Ids of all layers.
    """

    cache: LayersCache
    numbers: I64
    options: PlanOptions
    ids: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedClasses:
    """Some classes of a fleet, and the distinct caches of their layers."""

    classes: tuple[ClassLayers, ...]
    files: tuple[CacheFile, ...]


def load_classes(
    fleet: Nodes,
    names: Sequence[str],
    choices: PullChoices,
    build_cache: Path | None = None,
    progress: Callable[[], object] | None = None,
) -> LoadedClasses:
    """Load the layers of classes.

    Parameters
    ----------
    fleet : Nodes
        Where the nodes are.
    names : sequence of str
        A node of each class.
    choices : PullChoices
        How they pull.
    build_cache : path, optional
        As in `LayersCache.load`.
    progress : callable, optional
        Called after each class.

    Returns
    -------
    LoadedClasses
        In the order of `names`.

    Raises
    ------
    StoreError
        If a node's records cannot be read.
    """
    files: list[CacheFile] = []
    opened: dict[Hashable, tuple[int, CachedLayer]] = {}
    classes = []
    for name in names:
        store = fleet.open_node(name)
        folder = BuildCache(build_cache) if build_cache is not None else None
        source = LayerSource(store, "memory", None, folder)
        classes.append(_load_class(source, choices, files, opened))
        if progress is not None:
            progress()
    if build_cache is not None:
        BuildCache(build_cache).sweep()
    return LoadedClasses(tuple(classes), tuple(files))


def _load_class(
    source: LayerSource,
    choices: PullChoices,
    files: list[CacheFile],
    opened: dict[Hashable, tuple[int, CachedLayer]],
) -> ClassLayers:
    """Load the layers of one class; those that others have too are not opened again."""
    store = source.store
    records = store.layers()
    allow_open_files(len(files) + len(records))
    layers, excluded, numbers = [], [], []
    for record in records:
        is_additional = record.store_root != store.root
        key = _layer_key(record)
        if key in opened and not is_additional:
            number, layer = opened[key]
            layers.append(replace(layer, record=record))
            numbers.append(number)
            continue
        found = source.open_layer(record)
        if isinstance(found, ExcludedLayer):
            excluded.append(found)
            continue
        opened[key] = len(files), found
        numbers.append(len(files))
        layers.append(found)
        files.append(found.cache)
    cache = LayersCache(records, layers, excluded, store=store, blob_info=store.blob_info())
    return ClassLayers(
        cache,
        np.array(numbers, np.int64),
        choices.options(store),
        frozenset(record.id for record in records),
    )


def class_label(names: Sequence[str]) -> str:
    """Name a class of nodes by the first of them, and how many others there are.

    Examples
    --------
    >>> class_label(["web1"]), class_label(["web1", "web2", "db"])
    ('web1', 'web1 +2')
    """
    return names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "")
