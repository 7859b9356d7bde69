"""Compare the nodes of a fleet: what each pair has in common, and how often each byte is there.

1. Find the distinct layers and the classes of nodes (`contents.py`).
2. Cut all digests into partitions (`partitions.py`). Each is a task of its own: it merges its part
   of all layers, replaces the layers of each content by the classes that have them
   (`class_sets.py`), and adds up.
3. Add up the results of all tasks.

A task takes up to 160 bytes for each row of its partition, `MAX_ROWS` of them in all layers, and 80
bytes for each pair of classes: 350 MB for 500 classes, however many contents the fleet has. The
result has 32 bytes for each pair of classes, and takes twice that while it is added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vecache.arrays import frozen
from vecache.fleet.class_sets import ClassSets, pack_bits
from vecache.fleet.classes import class_label
from vecache.fleet.cluster import run_tasks
from vecache.fleet.contents import open_nodes, read_fleet_contents
from vecache.fleet.partitions import MAX_ROWS, cut_partitions, merge_partition
from vecache.fleet.repeated import LargestFiles, find_largest, name_largest
from vecache.sharing.contents import GRAINS, check_grain
from vecache.sharing.intersections import Intersections
from vecache.sharing.matrix import PairMatrices
from vecache.sharing.pairs import PairSums
from vecache.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vecache.arrays import I64, U64
    from vecache.fleet.contents import FleetContents, Nodes
    from vecache.fleet.partitions import Partition
    from vecache.fleet.repeated import FleetFiles
    from vecache.sharing.content_folder import StoredContents
    from vecache.sharing.content_table import MergedContents
    from vecache.sharing.contents import Grain

__all__ = ["FleetBytes", "FleetOverlap", "overlap_fleet"]

_N_FILES = 20


def overlap_fleet(
    fleet: Nodes,
    grain: Grain = "file",
    *,
    scheduler: str | None = None,
    processes: int | None = None,
    max_rows: int = MAX_ROWS,
    progress: Callable[[], object] | None = None,
) -> FleetOverlap:
    """Compare the nodes of a fleet with each other.

    Parameters
    ----------
    fleet : Fleet, path, or iterable of (str, Store)
        The nodes: a fleet or its folder, or any stores, each with a name of its own.
    grain : {"file", "chunk"}
        What `bytes` counts.
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
    FleetOverlap
        Nodes with the same layers are one class. A node is the union of its layers. Nodes and
        layers that cannot be read are in `contents`, with the reason.

    Raises
    ------
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
    >>> over = vecache.overlap_fleet([("web1", store), ("web2", store)], "chunk")
    >>> over.files.tolist(), over.bytes.tolist(), over.dedup[1].unique_bytes
    ([[264]], [[1993406]], 1993406)
    """
    check_grain(grain)
    run: dict[str, Any] = {"scheduler": scheduler, "processes": processes, "progress": progress}
    nodes = open_nodes(fleet)
    contents = read_fleet_contents(nodes, **run)
    job = _Job.of(contents)
    total_rows = contents.n_rows.sum(axis=0)
    tasks = [
        part
        for name, n_rows in zip(GRAINS, total_rows, strict=True)
        for part in cut_partitions(name, n_rows, max_rows)
    ]
    n_classes = len(contents.classes)
    totals = {name: GrainSums.zero(n_classes) for name in GRAINS}
    largest = []
    for part, result in zip(tasks, run_tasks(add_partition, tasks, shared=job, **run), strict=True):
        totals[part.grain].add(result.sums)
        largest.append(result.largest)
    files = name_largest(largest, contents.layers, _N_FILES)
    return FleetOverlap(contents, grain, totals, files)


@dataclass(frozen=True, slots=True)
class GrainSums:
    """Sums over contents of one grain.

    Attributes
    ----------
    n_contents, n_bytes : (n_classes, n_classes) int64
        What both classes of nodes have, each content once.
    exclusive_bytes : (n_classes,) int64
        What no other class has.
    unique_bytes : (1,) int64
        All contents, each once.
    """

    n_contents: I64
    n_bytes: I64
    exclusive_bytes: I64
    unique_bytes: I64

    @classmethod
    def zero(cls, n_classes: int) -> GrainSums:
        """Return the sums over no contents."""
        square = (n_classes, n_classes)
        return cls(*(np.zeros(shape, np.int64) for shape in (square, square, n_classes, 1)))

    def add(self, other: GrainSums) -> None:
        """Add the sums over other contents of the same classes."""
        for total, more in zip(self._columns(), other._columns(), strict=True):
            np.add(total, more, out=total)

    def _columns(self) -> tuple[I64, ...]:
        return self.n_contents, self.n_bytes, self.exclusive_bytes, self.unique_bytes


@dataclass(frozen=True, slots=True)
class FleetBytes:
    """How often each byte is there, on average."""

    grain: Grain  # holes count as files only
    logical_bytes: int  # all copies in all layers of all nodes
    layer_bytes: int  # all copies in all layers, layers that nodes share once
    unique_bytes: int  # each content once

    @property
    def ratio(self) -> float:
        """Logical by unique bytes; 1 where there is nothing."""
        return self.logical_bytes / self.unique_bytes if self.unique_bytes else 1.0


@dataclass(frozen=True, eq=False, repr=False)
class FleetOverlap(PairMatrices):
    """What each pair of classes of nodes has in common; the diagonal is the class itself.

    Attributes
    ----------
    contents : FleetContents
        The nodes, their classes and layers, and what could not be read.
    grain : {"file", "chunk"}
        What `bytes` counts: files or chunks in common.
    sums : dict of {"file", "chunk"} to GrainSums
        Matrices and sums at both grains.
    repeated : FleetFiles
        The files whose copies take most bytes.
    labels : tuple of str, n of them
        The first node of each class, and how many others there are, such as `web1 +11`.
    files, chunks : (n, n) int64
        Distinct files, or chunks, that the nodes of both classes have.
    bytes : (n, n) int64
        Bytes of the distinct files or chunks that the nodes of both classes have.
    exclusive_bytes : (n,) int64
        What nodes of no other class have.
    dedup : tuple of two FleetBytes
        Of the fleet, by files and by chunks.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> over = vecache.overlap_fleet([("web1", store), ("web2", store)])
    >>> over
    <FleetOverlap: 2 nodes in 1 class by file, 9,910,860 bytes, 4,656,899 unique>
    >>> over.labels, over.repeated.path[0], over.repeated.n_nodes.tolist()[0]
    (('web1 +1',), 'usr/lib/big.bin', 2)
    """

    contents: FleetContents
    grain: Grain
    sums: Mapping[Grain, GrainSums]
    repeated: FleetFiles
    by = "node"

    @property
    def labels(self) -> tuple[str, ...]:
        """The first node of each class, and how many others there are."""
        names = self.contents.nodes
        return tuple(class_label([names[node] for node in each]) for each in self.contents.classes)

    @property
    def files(self) -> I64:
        """(n, n) int64, distinct files that the nodes of both classes have."""
        return self.sums["file"].n_contents

    @property
    def chunks(self) -> I64:
        """(n, n) int64, distinct chunks that the nodes of both classes have."""
        return self.sums["chunk"].n_contents

    @property
    def bytes(self) -> I64:
        """(n, n) int64, bytes of the distinct files or chunks that both have."""
        return self.sums[self.grain].n_bytes

    @property
    def exclusive_bytes(self) -> I64:
        """(n,) int64, what nodes of no other class have."""
        return self.sums[self.grain].exclusive_bytes

    @property
    def dedup(self) -> tuple[FleetBytes, FleetBytes]:
        """Bytes of the fleet, by files and by chunks."""
        logical_bytes = self.contents.logical_bytes
        node_copies = self.contents.node_copies
        files, chunks = (
            FleetBytes(
                grain,
                _exact_sum(logical_bytes[:, number], node_copies),
                int(logical_bytes[:, number].sum()),
                int(self.sums[grain].unique_bytes[0]),
            )
            for number, grain in enumerate(GRAINS)
        )
        return files, chunks

    def to_arrow(self) -> Any:
        """Export every pair of classes that shares something, and each class with itself.

        Returns
        -------
        pyarrow.Table
            One row an unordered pair, with the columns of `Overlap.to_arrow`, and `n_nodes_a` and
            `n_nodes_b`, the numbers of nodes of both classes.
        """
        import pyarrow as pa  # noqa: PLC0415 - the tasks of a cluster need no tables

        table = super().to_arrow()
        for name in ("a", "b"):
            class_no = table[name].combine_chunks().indices.to_numpy()
            sizes = self.contents.class_sizes[class_no]
            table = table.append_column(f"n_nodes_{name}", pa.array(sizes))
        return table

    def _members_text(self) -> str:
        n_nodes = len(self.contents.nodes)
        return f"{n_nodes:,} node{'' if n_nodes == 1 else 's'}"

    def __repr__(self) -> str:
        files, chunks = self.dedup
        of_grain = files if self.grain == "file" else chunks
        return (
            f"<FleetOverlap: {count(len(self.contents.nodes), 'node')} in "
            f"{count(len(self), 'class', 'classes')} by {self.grain}, "
            f"{of_grain.logical_bytes:,} bytes, {of_grain.unique_bytes:,} unique>"
        )


@dataclass(frozen=True, slots=True)
class _Job:
    """What all tasks need."""

    layers: tuple[StoredContents, ...]
    most_contents: tuple[int, int]  # that a class may have, by grain
    most_bytes: tuple[int, int]
    class_bits: U64  # (n_layers, n_words): which classes have each layer
    class_sizes: I64
    node_copies: I64

    @classmethod
    def of(cls, contents: FleetContents) -> _Job:
        n_classes, layer = len(contents.classes), contents.layer_no
        most = np.zeros((2, n_classes, 2), np.int64)
        np.add.at(most[0], contents.class_no, contents.n_rows.sum(axis=2)[layer])
        np.add.at(most[1], contents.class_no, contents.n_bytes[layer])
        most_contents, most_bytes = most.max(axis=1, initial=0).tolist()
        return cls(
            layers=contents.layers,
            most_contents=tuple(most_contents),
            most_bytes=tuple(most_bytes),
            class_bits=frozen(pack_bits(layer, contents.class_no, len(contents.layers), n_classes)),
            class_sizes=frozen(contents.class_sizes),
            node_copies=frozen(contents.node_copies),
        )


class PartialOverlap(NamedTuple):
    """What one task finds."""

    sums: GrainSums
    largest: LargestFiles  # of no files where the grain is that of chunks


def add_partition(job: _Job, part: Partition) -> PartialOverlap:
    """Add up what classes have in common of the contents of one partition; the task."""
    number, n_classes = GRAINS.index(part.grain), len(job.class_sizes)
    merged = merge_partition(job.layers, part)
    if merged is None:
        return PartialOverlap(GrainSums.zero(n_classes), LargestFiles.none())
    largest = LargestFiles.none()
    if part.grain == "file":
        largest = find_largest(merged, job.node_copies, job.class_bits, job.class_sizes, _N_FILES)
    sets = ClassSets.from_layers(_layer_sets(merged), job.class_bits, n_classes)
    sums = PairSums(n_classes, job.most_contents[number], job.most_bytes[number])
    sets.add_to(sums)
    unique_bytes = np.array([sets.n_bytes.sum()], np.int64)
    return PartialOverlap(
        GrainSums(*sums.matrices(), sets.exclusive_bytes(), unique_bytes), largest
    )


def _layer_sets(merged: MergedContents) -> Intersections:
    return Intersections.from_merged(merged).unite_equal()


def _exact_sum(n_bytes: I64, n_copies: I64) -> int:
    """Sum the bytes of all copies; exact beyond int64."""
    return sum(a * b for a, b in zip(n_bytes.tolist(), n_copies.tolist(), strict=True))
