"""Plan images on all nodes of a fleet: which node pays what for which image.

1. Group the nodes into classes (`classes.py`).
2. Cut the work into tasks: some images on some classes. A task loads its classes and gives the
   figures of its cells (`cells.py`), with no more than the fleet's path and names of images: so it
   runs here, in another process or on another machine.
3. Put the figures together.

A cell is 96 bytes for each class, whatever number of nodes is in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from vecache.fleet.cells import FIGURES, plan_cells
from vecache.fleet.classes import PullChoices, group_nodes, load_classes
from vecache.fleet.cluster import run_tasks
from vecache.fleet.fleet_plan import CellReason, FleetPlan, UnreadLayer
from vecache.image.model import Image
from vecache.image.open import open_image
from vecache.index.load import BuildCache
from vecache.store.fleet import Fleet, open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from vecache.errors import VecacheError
    from vecache.fleet.cells import ImageCells
    from vecache.fleet.classes import LoadedClasses, Nodes
    from vecache.store.graphroot import Store

__all__ = ["OpenOptions", "Run", "plan_fleet", "plan_on_nodes", "plan_task"]

_CLASSES_PER_TASK: Final = 1024
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
        Whether the nodes' file systems can reflink; "auto" tests those of this machine.
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
        Number of local processes; by default all is done in this one.
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
    """
    choices = PullChoices(reflink, hard_links, layout, parallel)
    opened = [each if isinstance(each, Image) else open_image(each) for each in images]
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
    """How other processes open the images; see `open_image`."""

    platform: str | None = None
    tls_verify: bool = True
    auth_file: str | None = None


class Job(NamedTuple):
    """What all tasks need."""

    fleet: Path
    choices: PullChoices
    open_options: OpenOptions
    build_cache: Path


class Task(NamedTuple):
    """Some images on some classes, each by its first node."""

    images: tuple[str, ...]
    nodes: tuple[str, ...]


class ClassSummary(NamedTuple):
    """How many layers the nodes of a class have; and which could not be read, and why."""

    n_layers: int
    unread: tuple[tuple[str, str], ...]


def plan_on_nodes(
    images: Sequence[Image],
    fleet: Nodes | Mapping[str, Store] | str | os.PathLike[str],
    choices: PullChoices,
    run: Run,
    open_options: OpenOptions,
) -> tuple[FleetPlan, dict[int, VecacheError]]:
    """Plan images on all nodes; return the plan, and why an image could be planned on no node."""
    opened = _as_nodes(fleet)
    names = tuple(opened.nodes())
    classes = group_nodes(opened, names, choices)
    planned = [number for number, each in enumerate(classes) if each.options is not None]
    figures = np.full((len(classes), len(images), len(FIGURES)), -1, np.int64)
    errors = [
        CellReason(number, -1, str(each.error)) for number, each in enumerate(classes) if each.error
    ]
    summaries: dict[int, ClassSummary] = {}
    failures: dict[int, list[VecacheError]] = {}
    blocks = [
        planned[low : low + _CLASSES_PER_TASK] for low in range(0, len(planned), _CLASSES_PER_TASK)
    ]
    work = _Work(opened, choices, open_options, BuildCache.of_user(os.environ).folder)
    for block in blocks:
        nodes = tuple(names[classes[number].nodes[0]] for number in block)
        for image_no, cells, summary in work.cells(images, nodes, run):
            summaries.update(zip(block, summary, strict=True))
            figures[block, image_no] = cells.figures
            errors += [
                CellReason(block[each.class_no], image_no, each.reason) for each in cells.errors
            ]
            if cells.failure is not None:
                failures.setdefault(image_no, []).append(cells.failure)
                errors += [CellReason(number, image_no, str(cells.failure)) for number in block]
    is_failed = {number for number, found in failures.items() if len(found) == len(blocks)}
    nothing = ClassSummary(0, ())
    plan = FleetPlan(
        nodes=names,
        classes=tuple(each.nodes for each in classes),
        images=tuple(image.reference for image in images),
        options=tuple(each.options for each in classes),
        figures=figures,
        errors=tuple(sorted(errors)),
        unread=tuple(
            UnreadLayer(number, *each)
            for number, summary in sorted(summaries.items())
            for each in summary.unread
        ),
        n_layers=tuple(summaries.get(number, nothing).n_layers for number in range(len(classes))),
    )
    return plan, {number: failures[number][0] for number in sorted(is_failed)}


class _Work(NamedTuple):
    """Plans images on some classes of nodes, here or elsewhere."""

    nodes: Nodes
    choices: PullChoices
    open_options: OpenOptions
    build_cache: Path

    def cells(
        self, images: Sequence[Image], nodes: tuple[str, ...], run: Run
    ) -> Iterator[tuple[int, ImageCells, list[ClassSummary]]]:
        """Yield the index of each image, its cells, and what the classes have."""
        if run.is_here:
            loaded = load_classes(self.nodes, nodes, self.choices, self.build_cache)
            summary = _summarize(loaded)
            for number, cells in enumerate(plan_cells(images, loaded, run.progress)):
                yield number, cells, summary
            return
        if not isinstance(self.nodes, Fleet):
            raise TypeError("fleet: found stores, wanted a fleet folder: other processes open it")
        job = Job(self.nodes.path, self.choices, self.open_options, self.build_cache)
        starts = range(0, len(images), _IMAGES_PER_TASK)
        tasks = (
            Task(tuple(each.reference for each in images[low : low + _IMAGES_PER_TASK]), nodes)
            for low in starts
        )
        results = run_tasks(
            plan_task, tasks, shared=job, scheduler=run.scheduler, processes=run.processes
        )
        for low, (found, summary) in zip(starts, results, strict=True):
            for number, cells in enumerate(found, low):
                yield number, cells, summary
                if run.progress is not None:
                    run.progress()


def plan_task(job: Job, task: Task) -> tuple[list[ImageCells], list[ClassSummary]]:
    """Plan some images on some classes: the task, which other processes run."""
    loaded = load_classes(open_fleet(job.fleet), task.nodes, job.choices, job.build_cache)
    opening = job.open_options._asdict()
    images = (open_image(reference, **opening) for reference in task.images)
    return list(plan_cells(images, loaded)), _summarize(loaded)


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
