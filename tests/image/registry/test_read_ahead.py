"""Protects: the TOCs of an image come from a registry side by side, with one clear error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from threading import Barrier, Event, Lock
from typing import TYPE_CHECKING

import pytest

from tests.image.registry.server import Registry, Reply, Request
from tests.image.samples import TOC, digest_of, estargz_layer, make_image, zstd_layer
from vecache.errors import ImageNotFoundError
from vecache.image.ahead import MAX_FETCHES
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.sharing.sources import read_contents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.image.registry.clock import FakeTime
    from vecache.image.model import Image

N_LAYERS = 2 * MAX_FETCHES
ZSTD = [zstd_layer(TOC + b" " * i, data=b"d" * (100 + i)) for i in range(N_LAYERS)]
ESTARGZ = [estargz_layer(TOC + b" " * i) for i in range(N_LAYERS)]


class ConcurrentRequests:
    """A rule that counts the TOC requests which are being answered at the same time."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.most = 0
        self._wait = wait
        self._n_now = 0
        self._lock = Lock()

    def __call__(self, request: Request) -> Reply | None:
        if request.range is None:
            return None
        with self._lock:
            self._n_now += 1
            self.most = max(self.most, self._n_now)
        self._wait()
        with self._lock:
            self._n_now -= 1
        return None


def plan(image: Image) -> None:
    plan_image(image, LayersCache())


def open_from(registry: Registry, time: FakeTime) -> Image:
    return open_image(registry.reference, tls_verify=False, retry=time.policy())


@pytest.mark.parametrize("layers", [ZSTD, ESTARGZ], ids=["zstd", "estargz"])
@pytest.mark.parametrize("use", [plan, read_contents])
def test_tocs_are_fetched_side_by_side(
    registry: Registry, time: FakeTime, layers: list[object], use: Callable[[Image], object]
) -> None:
    registry.sample = make_image(layers)  # type: ignore[arg-type]  # a list of one kind
    # Requests are held until as many are there as may be: with fewer, the barrier would break.
    concurrent = ConcurrentRequests(Barrier(MAX_FETCHES, timeout=60).wait)
    registry.rules = [concurrent]
    image = open_from(registry, time)
    use(image)
    assert [layer.toc.n_bytes for layer in image.layers] == [len(TOC) + i for i in range(N_LAYERS)]
    assert concurrent.most == MAX_FETCHES
    assert time.waits == []


def test_the_error_is_that_of_the_first_layer_though_a_later_one_fails_earlier(
    registry: Registry, time: FakeTime
) -> None:
    registry.sample = make_image(ZSTD)
    first, later = (digest_of(ZSTD[i].blob) for i in (3, 5))
    later_failed = Event()

    def rule(request: Request) -> Reply | None:
        if request.path.endswith(later):
            later_failed.set()
            return Reply(404)
        if request.path.endswith(first):
            assert later_failed.wait(60)
            return Reply(404)
        return None

    registry.rules = [rule]
    image = open_from(registry, time)
    with pytest.raises(ImageNotFoundError, match=first):
        plan(image)
    assert later_failed.is_set()


@pytest.mark.parametrize("n_answered", [0, 1])
def test_an_interrupted_plan_ends_at_once(
    registry: Registry, tmp_path: Path, n_answered: int
) -> None:
    """The server never answers, and the client would wait a minute for each answer."""
    answered = {digest_of(layer.blob) for layer in ZSTD[:n_answered]}
    registry.sample = make_image(ZSTD)
    everyone_waits, never = Barrier(MAX_FETCHES + 1), Event()

    def hold(request: Request) -> Reply | None:
        if request.range is not None and request.path.rpartition("/")[2] not in answered:
            everyone_waits.wait(60)
            never.wait(60)
        return None

    registry.rules = [hold]
    (tmp_path / "overlay-layers").mkdir()
    command = [sys.executable, "-m", "vecache", "plan", registry.reference]
    command += ["--tls-verify=false", "--store", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        everyone_waits.wait(60)
        os.kill(process.pid, signal.SIGINT)
        output = process.communicate(timeout=30)
    finally:
        never.set()
        process.kill()
    assert (process.returncode, output) == (130, (b"", b""))
