"""A fleet of 500 nodes and 40 M tags: 20 images on every node, against one node after another.

Run as tests in CI, at a two-thousandth of the tags. Three steps at full size, each after the one
before; the fleets are made when they are not there yet, which takes minutes.

`python -m bench.bench_fleet FOLDER`
    makes 2,000 layers of 20,000 tags (4 GB) and 20 images, and runs `vecache fleet plan`, and
    `vecache plan --store FLEET#NODE` for a sample of nodes: all figures asserted to be the same.
    Then `vecache fleet overlap`.
`python -m bench.bench_fleet FOLDER --stream`
    makes 10,000 layers, 200 M tags (14 GB), on 5 nodes, and lets two workers of a Dask cluster read
    them from disk, each for 4 images.
`--paper`
    with `--stream`, adds what 10^11 tags of a registry would take at the rate just measured.

`--share 0.05` makes a fleet of a twentieth of the tags.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from bench.fleet import FleetSizes, image_tags, node_name, write_fleet, write_images
from tests.fleet.dask import DaskCluster
from vecache import open_image, open_store, plan_fleet, plan_image
from vecache.fleet.plan import _CLASSES_PER_TASK as CLASSES_PER_TASK
from vecache.fleet.plan import _IMAGES_PER_TASK as IMAGES_PER_TASK
from vecache.index.layers_cache import LayersCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_benchmark.fixture import BenchmarkFixture

    from vecache.image.model import Image

SHARE = float(os.environ.get("VECACHE_BENCH_SHARE", "0.0005"))
PAPER_TAGS = 10**11
_FIGURES = ("missing_bytes", "fetch_bytes", "requests")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FleetSizes]:
    folder = tmp_path_factory.mktemp("fleet")
    sizes = FleetSizes.of(SHARE)
    make(folder, sizes)
    return folder, sizes


def bench_plan_fleet(benchmark: BenchmarkFixture, made_up: tuple[Path, FleetSizes]) -> None:
    folder, sizes = made_up
    images = [f"oci:{folder / 'images'}:{tag}" for tag in image_tags(sizes)]
    plan = benchmark.pedantic(  # type: ignore[no-untyped-call]
        plan_fleet, (images, folder / "fleet"), rounds=1
    )
    assert len(plan.nodes) == sizes.n_nodes
    opened = [open_image(image) for image in images]
    for node in (0, sizes.n_nodes - 1):
        wanted = plan_node(folder, node, opened)
        found = {name: getattr(plan, name)[node].tolist() for name in _FIGURES}
        assert found == wanted
        assert all(0 < n_bytes < 5_000 * sizes.n_files for n_bytes in wanted["missing_bytes"])


def test_measurements(made_up: tuple[Path, FleetSizes], capsys: pytest.CaptureFixture[str]) -> None:
    folder, sizes = made_up
    measure_plans(folder, sizes, [1])
    measure_stream(folder, sizes, with_paper=True)
    assert "times as long" in capsys.readouterr().out


def plan_node(folder: Path, node: int, images: Iterable[Image]) -> dict[str, list[int]]:
    """Plan images on one node as on any store; return the figures of each image."""
    cache = LayersCache.load(open_store(f"{folder / 'fleet'}#{node_name(node)}"))
    plans = [plan_image(image, cache) for image in images]
    return {name: [int(getattr(plan, name)) for plan in plans] for name in _FIGURES}


def make(
    folder: Path, sizes: FleetSizes, *, with_tocs: bool = True, processes: int | None = None
) -> None:
    """Write a fleet and its images, unless they are there."""
    if not (folder / "images").exists():
        write_fleet(folder / "fleet", sizes, with_tocs=with_tocs, processes=processes)
        write_images(folder / "images", sizes)


@dataclass(frozen=True)
class Command:
    """A run of `vecache` in a process of its own."""

    document: Any  # of --json
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @classmethod
    def run(cls, *arguments: str) -> Command:
        start = time.perf_counter()
        argv = [sys.executable, "-m", "vecache", *arguments, "--json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {' '.join(argv)}")
        seconds = time.perf_counter() - start
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return cls(json.loads(output), seconds, cpu_seconds, usage.ru_maxrss << 10)

    def __str__(self) -> str:
        return (
            f"{self.seconds:,.2f} s, {self.cpu_seconds:,.2f} s of processor time, "
            f"{self.peak_bytes / 1e6:,.0f} MB"
        )


def measure_plans(folder: Path, sizes: FleetSizes, sample: Sequence[int]) -> None:
    """Plan all images on all nodes, then on some nodes one by one, and compare."""
    images = [f"oci:{folder / 'images'}:{tag}" for tag in image_tags(sizes)]
    fleet = folder / "fleet"
    whole = Command.run("fleet", "plan", *images, "--fleet", str(fleet))
    n_plans = sizes.n_nodes * len(images)
    say(f"fleet plan, {sizes.n_nodes:,} nodes x {len(images)} images: {whole}")
    say(f"  {1e3 * whole.seconds / n_plans:.2f} ms a plan")
    wanted = {name: [whole.document[name][node] for node in sample] for name in _FIGURES}
    start, peak = time.perf_counter(), 0
    for number, node in enumerate(sample):
        for image_no, image in enumerate(images):
            one = Command.run("plan", image, "--store", f"{fleet}#{node_name(node)}")
            peak = max(peak, one.peak_bytes)
            for name in _FIGURES:
                assert one.document[name] == wanted[name][number][image_no], (node, image, name)
    _say_loop("plan --store, one command a plan", start, sizes, sample, whole)
    say(f"  the same figures; {peak / 1e6:,.0f} MB at most")
    start = time.perf_counter()
    opened = [open_image(image) for image in images]
    for number, node in enumerate(sample):
        found = plan_node(folder, node, opened)
        assert found == {name: rows[number] for name, rows in wanted.items()}, node
    _say_loop("plan_image, all in one process", start, sizes, sample, whole)


def _say_loop(
    what: str, start: float, sizes: FleetSizes, sample: Sequence[int], whole: Command
) -> None:
    seconds = time.perf_counter() - start
    in_all = seconds / len(sample) * sizes.n_nodes
    say(
        f"{what}, {len(sample)} of {sizes.n_nodes:,} nodes: {seconds:,.1f} s, so about "
        f"{in_all:,.0f} s for all: {in_all / whole.seconds:,.0f} times as long"
    )


def measure_stream(folder: Path, sizes: FleetSizes, *, with_paper: bool) -> None:
    """Let two workers read the caches of all layers from disk, and plan."""
    fleet = folder / "fleet"
    caches = list((fleet / "objects").rglob("*.cache"))
    n_bytes = sum(path.stat().st_size for path in caches)
    n_tags = len(caches) * sizes.n_rows * 3
    images = [f"oci:{folder / 'images'}:{tag}" for tag in image_tags(sizes)]
    with TemporaryDirectory() as scratch, DaskCluster(Path(scratch), n_workers=2) as cluster:
        drop_from_memory(caches)
        at = ["--fleet", str(fleet), "--scheduler", cluster.address]
        run = Command.run("fleet", "plan", *images, *at)
        peaks = [_peak_bytes(worker.pid) / 1e6 for worker in cluster.workers]
    n_passes = -(-len(images) // IMAGES_PER_TASK)  # each reads all tags
    rate = n_passes * n_tags / run.seconds / 2
    say(
        f"{n_tags:,} tags of {len(caches):,} layers, {n_bytes / 1e9:.1f} GB, read from disk "
        f"{n_passes} times by two workers, for {IMAGES_PER_TASK} images at a time: "
        f"{run.seconds:,.1f} s, {rate / 1e6:.1f} M tags a second and worker; workers had "
        f"{', '.join(f'{peak:,.0f}' for peak in peaks)} MB at most"
    )
    if with_paper:
        say_paper(rate, n_bytes / n_tags)


def drop_from_memory(paths: Iterable[Path]) -> None:
    """Write files to disk, and forget what the kernel keeps of them in memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def say_paper(rate: float, tag_bytes: float) -> None:
    """Print what 10^11 tags would take at a measured rate."""
    full = FleetSizes()
    task_tags = CLASSES_PER_TASK * full.n_node_layers * full.n_tags
    n_tasks = -(-PAPER_TAGS // task_tags) * -(-full.n_images // IMAGES_PER_TASK)
    task_hours = task_tags / rate / 3600
    say(f"10^11 tags, {tag_bytes:.0f} bytes each: {PAPER_TAGS * tag_bytes / 1e12:.1f} TB of caches")
    say(
        f"  a task is {IMAGES_PER_TASK} images on {CLASSES_PER_TASK:,} nodes of "
        f"{full.n_node_layers} layers of {full.n_tags:,} tags: {task_tags / 1e9:.1f} G tags, "
        f"{task_tags * tag_bytes / 1e9:,.0f} GB, {60 * task_hours:.0f} minutes if no two nodes "
        f"share a layer, at {rate * tag_bytes / 1e6:,.0f} MB/s"
    )
    say(f"  {full.n_images} images: {n_tasks:,} tasks")
    for n_workers in (1, 10, 40, n_tasks):
        hours = -(-n_tasks // n_workers) * task_hours
        say(f"  {n_workers:>5,} workers: {hours:,.1f} hours")


def stream_sizes(sizes: FleetSizes) -> FleetSizes:
    """Return the sizes of five times the layers on few nodes: reading them takes most time."""
    n_each = sizes.n_layers
    return replace(
        sizes, n_nodes=5, n_classes=5, n_node_layers=n_each, n_layers=5 * n_each, n_images=8
    )


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="share of the tags")
    parser.add_argument("--classes", type=int, help="different nodes; by default all are")
    parser.add_argument("--sample", type=int, default=5, help="nodes that are planned one by one")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--paper", action="store_true")
    args = parser.parse_args()
    sizes = FleetSizes.of(args.share)
    if args.classes:
        sizes = replace(sizes, n_classes=args.classes)
    if args.stream:
        sizes = stream_sizes(sizes)
    folder = args.folder / ("stream" if args.stream else "plan")
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    make(folder, sizes, with_tocs=not args.stream, processes=2)
    say(f"{sizes}: made in {time.perf_counter() - start:,.0f} s")
    if args.stream:
        measure_stream(folder, sizes, with_paper=args.paper)
        return
    step = max(sizes.n_nodes // args.sample, 1)
    measure_plans(folder, sizes, range(0, sizes.n_nodes, step)[: args.sample])
    say(f"fleet overlap: {Command.run('fleet', 'overlap', '--fleet', str(folder / 'fleet'))}")


if __name__ == "__main__":
    main()
