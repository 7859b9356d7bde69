"""Compute what removing layers or images on all nodes of a fleet would free.

Nothing is removed. What goes from a node, and the bytes, are what `what_if` (`sharing/removal.py`)
gives for that node alone: all files of the layers that go, and the contents that no remaining layer
of the node holds. A name that a node does not have removes nothing there.

1. Nodes with the same records and the same grain are one class: what goes is found once for each
   (`gone.py`).
2. Each layer gets two rows of bits: the classes on which it goes, and those on which it remains.
   One more class stands for the whole fleet.
3. Partitions of digests are tasks, as for an overlap (`overlap.py`), with the same bound on memory.
   A content is freed on the classes where a layer that has it goes and none that has it remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.arrays import ArrowExport, frozen
from vecache.errors import VecacheError
from vecache.fleet.class_sets import pack_bits, unite_bits, unpack_bits
from vecache.fleet.cluster import run_tasks
from vecache.fleet.contents import LayerList, each_node, open_nodes
from vecache.fleet.gone import NodeRecords, find_gone, require_found
from vecache.fleet.partitions import MAX_ROWS, cut_partitions, merge_partition
from vecache.sharing.contents import GRAINS, check_grain
from vecache.sharing.intersections import Intersections
from vecache.sharing.removal import list_names
from vecache.text import count, html_table

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from vecache.arrays import I64, U64, Bool
    from vecache.fleet.contents import FleetContents, LayerKey, Nodes
    from vecache.fleet.gone import Gone
    from vecache.fleet.partitions import Partition
    from vecache.index.load import ExcludedLayer
    from vecache.sharing.content_folder import StoredContents
    from vecache.sharing.contents import Grain

__all__ = ["FleetRemoval", "NodeRemoval", "what_if_fleet"]

_CELLS_PER_BLOCK = 1 << 21


def what_if_fleet(
    fleet: Nodes,
    remove: Iterable[str],
    grain: Grain | None = None,
    *,
    scheduler: str | None = None,
    processes: int | None = None,
    max_rows: int = MAX_ROWS,
    progress: Callable[[], object] | None = None,
) -> FleetRemoval:
    """Compute what removing layers or images on all nodes would free.

    Parameters
    ----------
    fleet : Fleet, path, or iterable of (str, Store)
        The nodes: a fleet or its folder, or any stores, each with a name of its own. They are not
        changed.
    remove : iterable of str
        Names or ids of images, ids of layers. Ids can be abbreviated.
    grain : {"file", "chunk"}, optional
        The contents that are compared; by default chunks on nodes with reflinks, files on others.
    scheduler : str, optional
        Address of a Dask scheduler, `tcp://HOST:PORT`, whose workers see the same files.
    processes : int, optional
        Number of local processes; by default all is done in this one. They start anew, so a script
        has to guard its main part by ``if __name__ == "__main__"``.
    max_rows : int
        Bounds the memory of a task, which is up to 160 bytes a row.
    progress : callable, optional
        Called after each task.

    Returns
    -------
    FleetRemoval
        What goes on each class of nodes, and the bytes, which are those of `what_if` for the node.

    Raises
    ------
    LayerNotFoundError
        If no node has an image or a layer of one of the names.
    StoreError
        If the fleet cannot be opened.
    WorkerError
        If the scheduler cannot be reached, or workers die.
    ValueError
        If `grain` has another value, or two nodes have one name.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> vecache.what_if_fleet([("web1", store), ("web2", store)], ["app2"], "file")
    <FleetRemoval: on 2 of 2 nodes, 1,966,690 bytes stored, 1,772,120 bytes freed>
    """
    names = list_names(remove)
    if grain is not None:
        check_grain(grain)
    run: dict[str, Any] = {"scheduler": scheduler, "processes": processes, "progress": progress}
    opened, listed = open_nodes(fleet), LayerList()
    classes: dict[Hashable, tuple[NodeRecords, list[str]]] = {}
    for name, store in each_node(opened):  # nodes, not rows
        layers = listed.add(name, store)
        if layers is not None and not isinstance(store, VecacheError):
            node = NodeRecords.of(store, layers, grain)
            classes.setdefault(node.class_key, (node, []))[1].append(name)
    nodes = [node for node, _ in classes.values()]
    gone = [find_gone(node, names) for node in nodes]
    require_found(gone, names)
    contents = listed.read(**run)
    job = _Job.of(contents, nodes, gone, listed.numbers)
    grains = [each for each in GRAINS if any(node.grain == each for node in nodes)]
    freed = {each: _sum_freed(job, contents, each, max_rows, run) for each in grains}
    removals = [
        _removal(node, went, members, contents, listed.numbers, int(freed[node.grain][number]))
        for number, ((node, members), went) in enumerate(zip(classes.values(), gone, strict=True))
    ]
    return FleetRemoval(contents, tuple(removals), {each: int(freed[each][-1]) for each in grains})


@dataclass(frozen=True, slots=True)
class NodeRemoval:
    """What a removal would free on each node of a class.

    Attributes
    ----------
    nodes : tuple of str
        Names of the nodes.
    grain : {"file", "chunk"}
        The contents that are compared.
    shares : bool
        Whether layers of these nodes share blocks (reflinks) or files (hard links).
    layer_ids : tuple of str
        The layers that go, in store order, except those whose contents are unknown.
    image_names : tuple of str
        The images that go.
    remaining : dict of str to str
        Ids of the layers of named images that remain, with the reason.
    stored_bytes, freed_bytes : int
        Bytes of all files of the layers that go, every copy; of contents that no remaining layer
        of the node holds.
    unknown_ids : tuple of str
        The layers that go, and have no TOC or one that cannot be read.
    unknown_bytes : int
        Their size as tar archives, as far as it is recorded.
    problems : tuple of str
        Why a name removes nothing here, though it may be of something.
    """

    nodes: tuple[str, ...]
    grain: Grain
    shares: bool
    layer_ids: tuple[str, ...]
    image_names: tuple[str, ...]
    remaining: Mapping[str, str]
    stored_bytes: int
    freed_bytes: int
    unknown_ids: tuple[str, ...]
    unknown_bytes: int
    problems: tuple[str, ...]

    @property
    def freed_now_bytes(self) -> int:
        """What the removal frees here: where nothing is shared, all files of the layers."""
        return self.freed_bytes if self.shares else self.stored_bytes


@dataclass(frozen=True, eq=False, repr=False)
class FleetRemoval(ArrowExport):
    """What a removal on all nodes would free.

    Attributes
    ----------
    contents : FleetContents
        The nodes and their layers, and what could not be read.
    removals : tuple of NodeRemoval
        One for each class of nodes with the same records, in the order of their first nodes.
    lost_bytes : dict of {"file", "chunk"} to int
        Bytes of contents that no node has any more, by the grains of `removals`.
    stored_bytes, freed_bytes, freed_now_bytes, unknown_bytes : int
        Sums over all nodes.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> removal = vecache.what_if_fleet([("web1", store), ("web2", store)], ["app2"], "file")
    >>> removal
    <FleetRemoval: on 2 of 2 nodes, 1,966,690 bytes stored, 1,772,120 bytes freed>
    >>> removal.stored_bytes, removal.freed_bytes
    (1966690, 1772120)
    """

    contents: FleetContents
    removals: tuple[NodeRemoval, ...]
    lost_bytes: Mapping[Grain, int]

    @property
    def stored_bytes(self) -> int:
        """Bytes of all files of the layers that go, on all nodes."""
        return sum(len(each.nodes) * each.stored_bytes for each in self.removals)

    @property
    def freed_bytes(self) -> int:
        """Bytes of contents that no remaining layer of the same node holds, on all nodes."""
        return sum(len(each.nodes) * each.freed_bytes for each in self.removals)

    @property
    def freed_now_bytes(self) -> int:
        """What the removal frees on all nodes, each as it shares."""
        return sum(len(each.nodes) * each.freed_now_bytes for each in self.removals)

    @property
    def unknown_bytes(self) -> int:
        """Size of the layers of unknown contents that go, on all nodes."""
        return sum(len(each.nodes) * each.unknown_bytes for each in self.removals)

    def to_arrow(self) -> Any:
        """Export one row a node.

        Returns
        -------
        pyarrow.Table
            `node`, `grain`, `n_layers`, `n_images`, `stored_bytes`, `freed_bytes`,
            `freed_now_bytes`, `unknown_bytes`; nodes of a class follow each other.
        """
        import pyarrow as pa  # noqa: PLC0415 - the tasks of a cluster need no tables

        rows = [
            (
                node,
                each.grain,
                len(each.layer_ids) + len(each.unknown_ids),
                len(each.image_names),
                each.stored_bytes,
                each.freed_bytes,
                each.freed_now_bytes,
                each.unknown_bytes,
            )
            for each in self.removals
            for node in each.nodes  # nodes, not rows of data
        ]
        columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
        return pa.table(
            {
                name: pa.array(values, pa.string() if name in ("node", "grain") else pa.int64())
                for name, values in zip(_COLUMNS, columns, strict=True)
            }
        )

    def __len__(self) -> int:
        return len(self.removals)

    def __repr__(self) -> str:
        n_nodes = sum(
            len(each.nodes) for each in self.removals if each.image_names or each.layer_ids
        )
        return (
            f"<FleetRemoval: on {n_nodes:,} of {count(len(self.contents.nodes), 'node')}, "
            f"{self.stored_bytes:,} bytes stored, {self.freed_bytes:,} bytes freed>"
        )

    def _repr_html_(self) -> str:
        rows = (
            (each.nodes[0], len(each.nodes), each.stored_bytes, each.freed_bytes)
            for each in self.removals
        )
        titles = ("first node", "nodes", "stored bytes", "freed bytes")
        return html_table(repr(self)[1:-1], titles, rows, n_rows=len(self))


_COLUMNS = (
    "node",
    "grain",
    "n_layers",
    "n_images",
    "stored_bytes",
    "freed_bytes",
    "freed_now_bytes",
    "unknown_bytes",
)


@dataclass(frozen=True, slots=True)
class _Job:
    """What all tasks need: on which classes each layer goes, and on which it remains."""

    layers: tuple[StoredContents, ...]
    gone_bits: U64  # (n_layers, n_words)
    remaining_bits: U64
    n_classes: int  # the last of them is the whole fleet

    @classmethod
    def of(
        cls,
        contents: FleetContents,
        nodes: Sequence[NodeRecords],
        gone: Sequence[Gone],
        numbers: Mapping[LayerKey, int | ExcludedLayer],
    ) -> _Job:
        whole = len(nodes)
        rows: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for class_no, (node, went) in enumerate(zip(nodes, gone, strict=True)):
            for key, record in zip(node.keys, node.records, strict=True):  # layers, not rows
                number = numbers[key]
                if not isinstance(number, int) or record.id in node.additional_ids:
                    continue
                listed = rows[record.id not in went.layer_ids]
                listed.append((number, whole))
                if went.layer_ids:  # where nothing goes nothing is freed
                    listed.append((number, class_no))
        columns = [np.array(each, np.int64).reshape(-1, 2).T for each in rows]
        bits = [
            frozen(pack_bits(layer, class_no, len(contents.layers), whole + 1))
            for layer, class_no in columns
        ]
        return cls(contents.layers, bits[0], bits[1], whole + 1)


def free_partition(job: _Job, part: Partition) -> I64:
    """Sum the bytes of contents of one partition that each class frees, (n_classes,); the task."""
    freed = np.zeros(job.n_classes, np.int64)
    merged = merge_partition(job.layers, part)
    if merged is None:
        return freed
    sets = Intersections.from_merged(merged)
    is_gone: Bool = job.gone_bits[:, -1] != 0  # the whole fleet is in the last word
    sets = sets.take(np.flatnonzero(sets.any_in(is_gone))).unite_equal()
    gone = unite_bits(job.gone_bits, sets.member, sets.start)
    remaining = unite_bits(job.remaining_bits, sets.member, sets.start)
    n_sets = max(_CELLS_PER_BLOCK // job.n_classes, 1)
    for low in range(0, len(sets), n_sets):  # bounds the memory
        rows = slice(low, low + n_sets)
        is_freed = unpack_bits(gone[rows] & ~remaining[rows], job.n_classes)
        freed += sets.n_bytes[rows] @ is_freed.astype(np.int64)
    return freed


def _sum_freed(
    job: _Job, contents: FleetContents, grain: Grain, max_rows: int, run: Mapping[str, Any]
) -> I64:
    """Sum the bytes that each class frees: (n_classes,), the last one of the whole fleet."""
    total = np.zeros(job.n_classes, np.int64)
    if not job.gone_bits.any():
        return total
    n_rows = contents.n_rows[:, GRAINS.index(grain)].sum(axis=0)
    tasks = cut_partitions(grain, n_rows, max_rows)
    for freed in run_tasks(free_partition, tasks, shared=job, **run):
        total += freed
    return total


def _removal(
    node: NodeRecords,
    gone: Gone,
    names: Sequence[str],
    contents: FleetContents,
    numbers: Mapping[LayerKey, int | ExcludedLayer],
    freed_bytes: int,
) -> NodeRemoval:
    """Describe what goes from the nodes of a class."""
    going = [
        (numbers[key], record)
        for key, record in zip(node.keys, node.records, strict=True)
        if record.id in gone.layer_ids
    ]
    known = [
        (number, record)
        for number, record in going
        if isinstance(number, int) and record.id not in node.additional_ids
    ]
    known_ids = {record.id for _, record in known}
    unknown = [record for _, record in going if record.id not in known_ids]
    return NodeRemoval(
        nodes=tuple(names),
        grain=node.grain,
        shares=node.shares,
        layer_ids=tuple(record.id for _, record in known),
        image_names=tuple(image.label for image in gone.images),
        remaining=gone.remaining,
        stored_bytes=sum(int(contents.logical_bytes[number, 0]) for number, _ in known),
        freed_bytes=freed_bytes,
        unknown_ids=tuple(record.id for record in unknown),
        unknown_bytes=sum(max(record.diff_size, 0) for record in unknown),
        problems=tuple(gone.problems.values()),
    )
