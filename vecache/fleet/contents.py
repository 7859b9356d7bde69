"""Find the distinct layers of many stores, which nodes have which, and the files of their contents.

A node is to a fleet what an image is to a store: the union of its layers. Two layers of different
nodes are the same one if their TOCs are equal. Nodes with the same layers are one class, and are
compared once; the order of layers does not matter for what nodes have in common.

The file of a layer's contents is derived in tasks, once, and written beside the TOC in the fleet
folder, or into `contents/` of the user's cache folder where that cannot be written. Layers that
cannot be read are excluded, with the reason and the nodes that have them, as are layers without a
TOC. So are nodes that cannot be opened.

Nodes are opened one after another; 5 kB are held for each distinct layer, and 100 bytes for each
layer of a node.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from vecache.arrays import frozen
from vecache.atomic import sweep_folder
from vecache.errors import VecacheError
from vecache.files import cache_folder
from vecache.fleet.cluster import run_tasks
from vecache.index.load import ExcludedLayer
from vecache.sharing.content_folder import StoredContents, use_contents
from vecache.sharing.contents import MAX_BYTES
from vecache.sharing.sources import read_stored, too_many_bytes
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, read_big_data
from vecache.store.fleet import Fleet, open_fleet
from vecache.toc.parse import MAX_TOC_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from vecache.arrays import I64
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

    LayerKey: TypeAlias = tuple[str, str]
    Nodes: TypeAlias = Fleet | str | os.PathLike[str] | Iterable[tuple[str, Store]]

__all__ = [
    "ExcludedNodeLayer",
    "FleetContents",
    "LayerList",
    "each_node",
    "open_nodes",
    "read_fleet_contents",
]

_FOLDER: Final = "contents"
_ENDING: Final = ".contents"
_MAX_CACHED_BYTES: Final = 4 << 30
_MAX_FLEET_BYTES: Final = 1 << 62
_LAYERS_PER_TASK: Final = 16


class ExcludedNodeLayer(NamedTuple):
    """A layer that is not counted, and the nodes that have it."""

    layer: ExcludedLayer
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FleetContents:
    """The distinct layers of all nodes.

    Attributes
    ----------
    nodes : tuple of str
        Names.
    classes : tuple of tuple of int
        The nodes of each class, numbered in the order of their first nodes.
    layers : tuple of n_layers StoredContents
        Each layer once; those that are excluded are not among them.
    n_rows : (n_layers, 2, 256) int64
        Of files, then of chunks: contents of each layer whose key begins with each byte.
    n_bytes, logical_bytes : (n_layers, 2) int64
        Of files, then of chunks: bytes, each content once; bytes of all copies.
    class_no, layer_no, n_times : (n,) int64
        Which class has which layer, and how many times: two records may be of one layer.
    excluded : tuple of ExcludedNodeLayer
        What is not counted.
    n_node_layers : int
        Layers of all nodes, excluded ones too.
    unread_nodes : tuple of (str, str)
        Names of the nodes that could not be opened, with the reason; they are not in `nodes`.
    """

    nodes: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    layers: tuple[StoredContents, ...]
    n_rows: I64
    n_bytes: I64
    logical_bytes: I64
    class_no: I64
    layer_no: I64
    n_times: I64
    excluded: tuple[ExcludedNodeLayer, ...]
    n_node_layers: int
    unread_nodes: tuple[tuple[str, str], ...]

    @property
    def class_sizes(self) -> I64:
        """(n_classes,) int64, nodes of each class."""
        return np.array([len(nodes) for nodes in self.classes], np.int64)

    @property
    def node_copies(self) -> I64:
        """(n_layers,) int64, how many times all nodes together have each layer."""
        n_copies = np.zeros(len(self.layers), np.int64)
        np.add.at(n_copies, self.layer_no, self.n_times * self.class_sizes[self.class_no])
        return n_copies


def open_nodes(fleet: Nodes) -> Fleet | Iterable[tuple[str, Store]]:
    """Return a fleet, opened where it is a path; while it lives, nothing of it is removed."""
    return open_fleet(fleet) if isinstance(fleet, str | os.PathLike) else fleet


def each_node(
    fleet: Fleet | Iterable[tuple[str, Store]],
) -> Iterator[tuple[str, Store | VecacheError]]:
    """Open the nodes of a fleet one after another; an error stands for one that has one."""
    if not isinstance(fleet, Fleet):
        yield from fleet
        return
    for name in fleet.nodes():
        try:
            yield name, fleet.open_node(name)
        except VecacheError as error:
            yield name, error


def read_fleet_contents(fleet: Fleet | Iterable[tuple[str, Store]], **run: Any) -> FleetContents:
    """Find the distinct layers of all nodes, and derive the files of contents that are missing.

    Parameters
    ----------
    fleet : Fleet, or iterable of (str, Store)
        The nodes, each with a name of its own.
    **run
        As for `run_tasks`.

    Returns
    -------
    FleetContents
        Without contents; the files have them.

    Raises
    ------
    StoreError
        If the nodes of the fleet cannot be listed.
    ValueError
        If two nodes have one name.
    """
    listed = LayerList()
    for name, store in each_node(fleet):  # nodes, not rows
        listed.add(name, store)
    return listed.read(**run)


class LayerList:
    """Collects the layers of nodes, each distinct one once."""

    def __init__(self) -> None:
        self.numbers: dict[LayerKey, int | ExcludedLayer] = {}  # of layers, once they are read
        self._records: dict[LayerKey, LayerRecord] = {}
        self._node_keys: dict[str, list[LayerKey]] = {}
        self._unread_nodes: list[tuple[str, str]] = []

    def add(
        self, name: str, store: Store | VecacheError
    ) -> Sequence[tuple[LayerKey, LayerRecord]] | None:
        """Add a node, and return its layers; None where it could not be opened."""
        if name in self._node_keys:
            raise ValueError(f"nodes: found {name!r:.100} twice, wanted names of their own")
        try:
            if isinstance(store, VecacheError):
                raise store
            layers = [(_layer_key(record), record) for record in store.layers()]
        except VecacheError as error:
            self._unread_nodes.append((name, str(error)))
            return None
        for key, record in layers:
            self._records.setdefault(key, record)
        self._node_keys[name] = [key for key, _ in layers]
        return layers

    def read(self, **run: Any) -> FleetContents:
        """Derive the files of contents that are missing, and find the classes of nodes."""
        cached = cache_folder(os.environ) / _FOLDER
        read = _prepare_all(list(self._records.values()), cached, run)
        found = dict(zip(self._records, read, strict=True))
        sweep_folder(cached, _MAX_CACHED_BYTES)
        _exclude_absurd(found, [key for keys in self._node_keys.values() for key in keys])
        prepared = {each.layer.name: each for each in found.values() if isinstance(each, _Prepared)}
        layer_no = {name: number for number, name in enumerate(prepared)}
        self.numbers = {
            key: layer_no[each.layer.name] if isinstance(each, _Prepared) else each
            for key, each in found.items()
        }
        node_layers = [[self.numbers[key] for key in keys] for keys in self._node_keys.values()]
        classes, columns = _find_classes(node_layers)
        return FleetContents(
            nodes=tuple(self._node_keys),
            classes=classes,
            layers=tuple(each.layer for each in prepared.values()),
            n_rows=_stack([each.n_rows for each in prepared.values()], 2, 256),
            n_bytes=_stack([each.n_bytes for each in prepared.values()], 2),
            logical_bytes=_stack([each.logical_bytes for each in prepared.values()], 2),
            class_no=columns[0],
            layer_no=columns[1],
            n_times=columns[2],
            excluded=_list_excluded(node_layers),
            n_node_layers=sum(map(len, node_layers)),
            unread_nodes=tuple(self._unread_nodes),
        )


class _Prepared(NamedTuple):
    """A layer whose file of contents is there, and what its header says."""

    layer: StoredContents
    n_rows: I64
    n_bytes: I64
    logical_bytes: I64


def _layer_key(record: LayerRecord) -> LayerKey:
    """Return what is equal only for records of the same layer, so that it is opened once."""
    if record.items is not None and TOC_KEY not in record.items:  # it has no folder of its own
        return f"{record.id} {record.items.get(CACHE_KEY)}", record.unreadable
    return str(record.big_data_path(TOC_KEY)), record.unreadable


def _prepare_all(
    records: Sequence[LayerRecord], cached: Path, run: Mapping[str, Any]
) -> list[_Prepared | ExcludedLayer]:
    blocks = (
        records[low : low + _LAYERS_PER_TASK] for low in range(0, len(records), _LAYERS_PER_TASK)
    )
    results = run_tasks(prepare_layers, blocks, shared=str(cached), **run)
    return [each for block in results for each in block]


def prepare_layers(cached: str, records: Sequence[LayerRecord]) -> list[_Prepared | ExcludedLayer]:
    """Derive the files of contents that are missing, and read the headers of all; the task."""
    return [_prepare_layer(record, cached) for record in records]


def _prepare_layer(record: LayerRecord, cached: str) -> _Prepared | ExcludedLayer:
    try:
        layer = _find_contents(record, cached)
        if layer is None:
            return ExcludedLayer(record, "no TOC")
        prepared = use_contents(
            layer, lambda file: _Prepared(layer, file.n_rows, file.n_bytes, file.logical_bytes)
        )
    except VecacheError as error:
        return ExcludedLayer(record, str(error), is_unread=True)
    with contextlib.suppress(OSError):  # what is used is not what is swept first
        os.utime(layer.paths[-1])
    return prepared


def _find_contents(record: LayerRecord, cached: str) -> StoredContents | None:
    """Return where the file of a layer's contents is, or will be; None where it has no TOC."""
    if record.items is not None and TOC_KEY in record.items:
        path = record.items[TOC_KEY]  # an object, which is named by the sha256 of the TOC
        name = path.name.partition(".")[0]
        paths: tuple[str, ...] = (str(path.with_name(name + _ENDING)), f"{cached}/{name}{_ENDING}")
    else:
        toc = read_big_data(record, TOC_KEY, MAX_TOC_BYTES)
        if toc is None:
            read_stored(record)  # raises if there ought to be one
            return None
        name = hashlib.sha256(toc).hexdigest()
        paths = (f"{cached}/{name}{_ENDING}",)
    return StoredContents(record, name, paths)


def _exclude_absurd(
    found: dict[LayerKey, _Prepared | ExcludedLayer], keys: Sequence[LayerKey]
) -> None:
    """Exclude layers that claim more bytes than sums can hold exactly."""
    n_times = Counter(each.layer.name for key in keys if isinstance(each := found[key], _Prepared))
    most, most_on_nodes = MAX_BYTES, _MAX_FLEET_BYTES
    reasons: dict[str, str] = {}
    for key, each in found.items():
        if not isinstance(each, _Prepared):
            continue
        name = each.layer.name
        if name not in reasons:
            claimed = int(each.logical_bytes.max())
            room = min(most, most_on_nodes // n_times[name])
            reasons[name] = too_many_bytes(claimed, room) if claimed > room else ""
            if not reasons[name]:
                most -= claimed
                most_on_nodes -= claimed * n_times[name]
        if reasons[name]:
            found[key] = ExcludedLayer(each.layer.record, reasons[name], is_unread=True)


def _find_classes(
    node_layers: Sequence[Sequence[int | ExcludedLayer]],
) -> tuple[tuple[tuple[int, ...], ...], list[I64]]:
    """Return the nodes of each class, and the columns class, layer and times."""
    members: dict[tuple[tuple[int, ...], frozenset[tuple[str, str]]], list[int]] = {}
    for node, layers in enumerate(node_layers):
        counted = tuple(sorted(each for each in layers if isinstance(each, int)))
        unread = frozenset(
            (each.id, each.reason)
            for each in layers
            if isinstance(each, ExcludedLayer) and each.is_unread
        )
        members.setdefault((counted, unread), []).append(node)
    columns = [np.zeros((3, 0), np.int64)]
    for number, (counted, _) in enumerate(members):
        layer, n_times = np.unique(np.array(counted, np.int64), return_counts=True)
        columns.append(np.stack([np.full(len(layer), number), layer, n_times]))
    return tuple(map(tuple, members.values())), list(np.concatenate(columns, axis=1))


def _list_excluded(
    node_layers: Sequence[Sequence[int | ExcludedLayer]],
) -> tuple[ExcludedNodeLayer, ...]:
    """List what is excluded, layers of one id and reason once."""
    listed: dict[tuple[str, str], tuple[ExcludedLayer, dict[int, None]]] = {}
    for node, layers in enumerate(node_layers):
        for each in layers:
            if isinstance(each, ExcludedLayer):
                listed.setdefault((each.id, each.reason), (each, {}))[1][node] = None
    return tuple(ExcludedNodeLayer(layer, tuple(nodes)) for layer, nodes in listed.values())


def _stack(rows: Sequence[I64], *shape: int) -> I64:
    """Stack arrays of one shape; there may be none."""
    return frozen(np.array(rows, np.int64).reshape(-1, *shape))
