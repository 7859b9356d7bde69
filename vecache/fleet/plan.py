"""Plan images on all nodes of a fleet: which node pays what for which image.

1. Group the nodes into classes (`classes.py`).
2. Cut the work into tasks: some images on some classes. A task loads its classes and gives the
   figures of its cells (`cells.py`), with no more than the fleet's path and names of images: so it
   runs here, in another process or on another machine.
3. Put the figures together.

A task takes the memory of its images and matches, and of the records of its classes, 2 kB a layer.
The result has 96 bytes for each image and class, whatever number of nodes is in it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from itertools import pairwise, product
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from vecache.arrays import frozen
from vecache.errors import ImageError
from vecache.fleet.cells import FIGURES, plan_cells
from vecache.fleet.classes import PullChoices, group_nodes, load_classes
from vecache.fleet.cluster import run_tasks
from vecache.fleet.fleet_plan import CellReason, FleetPlan, UnreadLayer
from vecache.image.model import Image
from vecache.image.open import open_image, open_with
from vecache.image.registry.access import Access
from vecache.index.load import BuildCache
from vecache.plan.planner import check_images
from vecache.store.fleet import Fleet, open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vecache.errors import VecacheError
    from vecache.fleet.cells import ImageCells
    from vecache.fleet.classes import LoadedClasses, NodeClass, Nodes
    from vecache.store.graphroot import Store

__all__ = ["OpenOptions", "Run", "plan_fleet", "plan_on_nodes", "plan_task"]

_CLASSES_PER_TASK: Final = 512  # their records take 150 MB where each has 150 layers
_IMAGES_PER_TASK: Final = 4


def plan_fleet(
    images: Iterable[Image | str],
    fleet: Nodes | Mapping[str, Store] | str | os.PathLike[str],
    *,
    reflink: bool | Literal["auto"] | None = None,
    hard_links: bool | None = None,
    layout: Literal["dir", "flat"] | None = None,
    parallel: int | None = None,
    scheduler: str | None = None,
    processes: int | None = None,
    progress: Callable[[], object] | None = None,
) -> FleetPlan:
    """Plan the pull of each image on each node of a fleet.

    Parameters
    ----------
    images : iterable of Image or str
        From `open_image`, or what it takes. Each is planned by itself, as if no other had been
        pulled.
    fleet : Fleet, mapping of str to Store, or path
        The nodes: from `open_fleet`, or its folder; or stores by name.
    reflink : bool or "auto", optional
        Whether the nodes' file systems can reflink; "auto" is what each snapshot says, and tests
        the file system of a store of this machine.
    hard_links : bool, optional
        Whether files are reused by hard link.
    layout : {"dir", "flat"}, optional
        How pulled layers are stored; flat is composefs.
    parallel : int, optional
        Layers that are copied at a time. None for this, and for the three above, is what each
        node does (`Store.pull_settings`).
    scheduler : str, optional
        Address of a Dask scheduler, `tcp://HOST:PORT`, whose workers see the same files.
    processes : int, optional
        Number of local processes; by default all is done in this one. Other processes open each
        image again by its reference, which must give the same manifest there.
    progress : callable, optional
        Called after each task: some images on some classes of nodes.

    Returns
    -------
    FleetPlan
        What `plan_image` gives for the store of each node.

    Raises
    ------
    StoreError
        If the fleet cannot be read. A node that cannot, and an image that cannot be planned on a
        node, are in `errors`.
    ImageError, TocError, DigestError
        If an image cannot be opened, or a layer's TOC cannot be read or breaks a rule.
    WorkerError
        If the scheduler cannot be reached, or workers die.
    TypeError, ValueError
        If an option is out of range, or stores are to be read by other processes.

    Examples
    --------
    >>> import os, tempfile
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.mkdir(f"{folder}/overlay-layers")  # a store without layers
    ...     nodes = {"web1": store, "new": vecache.open_store(folder)}
    ...     plan = vecache.plan_fleet([image], nodes, reflink=False)
    >>> plan
    <FleetPlan: 2 nodes in 2 classes, 1 image, 1,088,971 bytes to fetch in all>
    """
    choices = PullChoices(reflink, hard_links, layout, parallel)
    check_images(images)
    opened = deque(each if isinstance(each, Image) else open_image(each) for each in images)
    plan, failures = plan_on_nodes(
        opened, fleet, choices, Run(scheduler, processes, progress), OpenOptions()
    )
    for error in failures.values():
        raise error
    return plan


class Run(NamedTuple):
    """Where the work is done; see `run_tasks`."""

    scheduler: str | None = None
    processes: int | None = None
    progress: Callable[[], object] | None = None  # called after each image on a block of classes

    @property
    def is_here(self) -> bool:
        """Whether it is done in this process."""
        return self.scheduler is None and self.processes in (None, 1)


class OpenOptions(NamedTuple):
    """How other processes open the images."""

    platform: str | None = None
    access: Access = Access()


class Job(NamedTuple):
    """What all tasks need."""

    fleet: Path
    choices: PullChoices
    open_options: OpenOptions
    build_cache: Path


class Task(NamedTuple):
    """Some images, with the digests of their manifests, on some classes, each by a node."""

    images: tuple[tuple[str, str], ...]
    nodes: tuple[str, ...]


class ClassSummary(NamedTuple):
    """How many layers the nodes of a class have; and which could not be read, and why."""

    n_layers: int
    unread: tuple[tuple[str, str], ...]


def plan_on_nodes(
    images: deque[Image],
    fleet: Nodes | Mapping[str, Store] | str | os.PathLike[str],
    choices: PullChoices,
    run: Run,
    open_options: OpenOptions,
) -> tuple[FleetPlan, dict[int, VecacheError]]:
    """Plan images on all nodes; return the plan, and why an image could be planned on no node.

    Takes the images out, so that what was read of one is released after its plans.
    """
    opened = _as_nodes(fleet)
    names = tuple(opened.nodes())
    classes = group_nodes(opened, names, choices)
    planned = [number for number, each in enumerate(classes) if each.options is not None]
    table = _Table(names, classes, tuple(image.reference for image in images))
    work = _Work(opened, choices, open_options, BuildCache.of_user(os.environ).folder)
    first_nodes = [names[classes[number].nodes[0]] for number in planned]
    cells = work.cells_here if run.is_here else work.cells_of_tasks
    for rows, image_no, found, summaries in cells(first_nodes, images, run):
        table.add(planned[rows], image_no, found, summaries)
    return table.plan(), table.failures


def cut_work(n_classes: int, n_images: int, n_workers: int) -> tuple[list[slice], list[slice]]:
    """Cut classes and images into blocks of even size; each pair of blocks is a task.

    There are tasks for all workers, where that is possible: of fewer images first, because each
    task reads all layers of its classes.

    Examples
    --------
    >>> [len(blocks) for blocks in cut_work(n_classes=500, n_images=20, n_workers=2)]
    [1, 5]
    >>> [len(blocks) for blocks in cut_work(n_classes=500, n_images=3, n_workers=8)]
    [3, 3]
    """
    n_class_blocks = max(-(-n_classes // _CLASSES_PER_TASK), 1)
    n_image_blocks = max(-(-n_images // _IMAGES_PER_TASK), 1)
    if n_class_blocks * n_image_blocks < n_workers:
        n_image_blocks = max(min(n_images, -(-n_workers // n_class_blocks)), 1)
        n_class_blocks = max(min(n_classes, -(-n_workers // n_image_blocks)), n_class_blocks)
    return _even_slices(n_classes, n_class_blocks), _even_slices(n_images, n_image_blocks)


def _even_slices(n_rows: int, n_blocks: int) -> list[slice]:
    edges = [n_rows * number // n_blocks for number in range(n_blocks + 1)]
    return [slice(*pair) for pair in pairwise(edges)]


class _Table:
    """The figures of all cells, as they come."""

    def __init__(
        self, nodes: tuple[str, ...], classes: Sequence[NodeClass], images: tuple[str, ...]
    ) -> None:
        self._nodes, self._classes, self._images = nodes, classes, images
        self._figures = np.full((len(classes), len(images), len(FIGURES)), -1, np.int64)
        self._summaries: dict[int, ClassSummary] = {}
        self._is_planned = np.zeros(len(images), np.bool_)
        self._failures: dict[int, VecacheError] = {}
        self._errors = [
            CellReason(number, -1, str(each.error))
            for number, each in enumerate(classes)
            if each.error is not None
        ]

    def add(
        self,
        block: Sequence[int],
        image_no: int,
        cells: ImageCells,
        summaries: Sequence[ClassSummary],
    ) -> None:
        """Add the cells of one image on a block of classes."""
        self._summaries.update(zip(block, summaries, strict=True))
        if cells.failure is not None:
            self._failures[image_no] = cells.failure
            reason = str(cells.failure)
            self._errors += [CellReason(number, image_no, reason) for number in block]
            return
        self._is_planned[image_no] = True
        self._figures[block, image_no] = cells.figures
        self._errors += [
            CellReason(block[each.class_no], image_no, each.reason) for each in cells.errors
        ]

    @property
    def failures(self) -> dict[int, VecacheError]:
        """Why an image could be planned on no node."""
        return {
            number: error
            for number, error in sorted(self._failures.items())
            if not self._is_planned[number]
        }

    def plan(self) -> FleetPlan:
        """Return all of it."""
        failures = self.failures
        errors = [each for each in self._errors if each.image_no not in failures]
        errors += [CellReason(-1, number, str(error)) for number, error in failures.items()]
        nothing = ClassSummary(0, ())
        found = [self._summaries.get(number, nothing) for number in range(len(self._classes))]
        return FleetPlan(
            nodes=self._nodes,
            classes=tuple(each.nodes for each in self._classes),
            images=self._images,
            options=tuple(each.options for each in self._classes),
            figures=frozen(self._figures),
            errors=tuple(sorted(errors)),
            unread=tuple(
                UnreadLayer(number, *each)
                for number, summary in enumerate(found)
                for each in summary.unread
            ),
            n_layers=tuple(summary.n_layers for summary in found),
        )


_Cells: TypeAlias = "tuple[slice, int, ImageCells, list[ClassSummary]]"
"""A block of classes, the index of an image, its cells there, and what the classes have."""


class _Work(NamedTuple):
    """Plans images on classes of nodes, here or elsewhere."""

    nodes: Nodes
    choices: PullChoices
    open_options: OpenOptions
    build_cache: Path

    def cells_here(self, nodes: Sequence[str], images: deque[Image], run: Run) -> Iterator[_Cells]:
        """Take the images; yield the cells of each on each block of classes."""
        blocks, _ = cut_work(len(nodes), len(images), 1)
        for rows in blocks:
            loaded = load_classes(self.nodes, nodes[rows], self.choices, self.build_cache)
            summaries = _summarize(loaded)
            left = images if rows is blocks[-1] else deque(images)
            taken = (left.popleft() for _ in range(len(left)))
            for image_no, cells in enumerate(plan_cells(taken, loaded, run.progress)):
                yield rows, image_no, cells, summaries

    def cells_of_tasks(
        self, nodes: Sequence[str], images: Sequence[Image], run: Run
    ) -> Iterator[_Cells]:
        """Yield the cells of each image on each block of classes, from other processes."""
        if not isinstance(self.nodes, Fleet):
            raise TypeError("fleet: found stores, wanted a fleet folder: other processes open it")
        job = Job(self.nodes.path, self.choices, self.open_options, self.build_cache)
        named = tuple((image.reference, image.digest) for image in images)
        parts: list[tuple[slice, slice]] = []

        def tasks(n_workers: int) -> Iterator[Task]:
            class_blocks, image_blocks = cut_work(len(nodes), len(named), n_workers)
            parts.extend(product(class_blocks, image_blocks))
            return (Task(named[part], tuple(nodes[rows])) for rows, part in parts)

        results = run_tasks(
            plan_task, tasks, shared=job, scheduler=run.scheduler, processes=run.processes
        )
        for number, (found, summaries) in enumerate(results):
            rows, part = parts[number]
            for image_no, cells in enumerate(found, part.start):
                yield rows, image_no, cells, summaries
                if run.progress is not None:
                    run.progress()


def plan_task(job: Job, task: Task) -> tuple[list[ImageCells], list[ClassSummary]]:
    """Plan some images on some classes: the task, which other processes run."""
    loaded = load_classes(open_fleet(job.fleet), task.nodes, job.choices, job.build_cache)
    images = (_open_again(*named, job.open_options) for named in task.images)
    return list(plan_cells(images, loaded)), _summarize(loaded)


def _open_again(reference: str, digest: str, options: OpenOptions) -> Image:
    """Open an image in another process; an error where its name stands for another one there."""
    image = open_with(options.access, reference, platform=options.platform)
    if image.digest != digest:
        raise ImageError(
            f"{reference}: found the manifest {image.digest} where a task runs, wanted {digest}: "
            "the image was changed meanwhile, or it is another one on that machine or with other "
            "options; name it by a digest or a shared folder, or plan in this process"
        )
    return image


def _summarize(loaded: LoadedClasses) -> list[ClassSummary]:
    return [
        ClassSummary(
            len(each.cache.records),
            tuple((layer.id, layer.reason) for layer in each.cache.excluded if layer.is_unread),
        )
        for each in loaded.classes
    ]


def _as_nodes(fleet: Nodes | Mapping[str, Store] | str | os.PathLike[str]) -> Nodes:
    if isinstance(fleet, (str, os.PathLike)):
        return open_fleet(fleet)
    return _Stores(fleet) if isinstance(fleet, Mapping) else fleet


class _Stores:
    """Stores by name."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores

    def nodes(self) -> Sequence[str]:
        return list(self._stores)

    def open_node(self, name: str) -> Store:
        return self._stores[name]
