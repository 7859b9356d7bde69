"""Plans of images on the nodes of a made-up fleet; run as tests in CI, at small sizes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bench.fleet import FleetSizes, image_tags, node_name, write_fleet, write_images
from vecache import open_image, open_store, plan_image
from vecache.index.layers_cache import LayersCache

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from vecache.image.model import Image

SHARE = float(os.environ.get("VECACHE_BENCH_SHARE", "0.0005"))
_FIGURES = ("missing_bytes", "fetch_bytes", "requests")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FleetSizes]:
    folder = tmp_path_factory.mktemp("fleet")
    sizes = FleetSizes.of(SHARE)
    make(folder, sizes)
    return folder, sizes


def bench_plan_node(benchmark: BenchmarkFixture, made_up: tuple[Path, FleetSizes]) -> None:
    folder, sizes = made_up
    images = [open_image(f"oci:{folder / 'images'}:{tag}") for tag in image_tags(sizes)]
    plans = benchmark.pedantic(  # type: ignore[no-untyped-call]
        plan_node, (folder, sizes.n_nodes - 1, images), rounds=1
    )
    total = 5_000 * (sizes.n_files // sizes.n_image_layers) * sizes.n_image_layers
    assert all(0.4 * total < n_bytes < total for n_bytes in plans["missing_bytes"])
    assert len(LayersCache.load(open_store(f"{folder / 'fleet'}#{node_name(0)}")).layers) == (
        sizes.n_node_layers
    )


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
