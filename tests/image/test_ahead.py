"""Protects: TOCs are fetched side by side within a bound, with errors as if one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Barrier, Lock, Thread
from typing import TYPE_CHECKING

import pytest

from tests.image.samples import TOC, digest_of
from vecache.errors import ImageError
from vecache.image.ahead import MAX_FETCHES
from vecache.image.model import Image, ImageLayer
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Fetches:
    """What was fetched, and how many at once."""

    wait: Callable[[], object] = field(default=lambda: None)
    failing: frozenset[int] = frozenset()
    seen: list[int] = field(default_factory=list)
    n_running: int = 0
    most_running: int = 0
    lock: Lock = field(default_factory=Lock)

    def fetch(self, number: int) -> bytes:
        with self.lock:
            self.seen.append(number)
            self.n_running += 1
            self.most_running = max(self.n_running, self.most_running)
        try:
            self.wait()
            if number in self.failing:
                raise ImageError(f"layer {number} fails")
            return TOC
        finally:
            with self.lock:
                self.n_running -= 1


@dataclass
class Reader:
    fetches: Fetches
    number: int
    toc_format: TocFormat = TocFormat.ZSTD_CHUNKED

    @property
    def digest(self) -> str:
        return digest_of(b"toc %d" % self.number)

    def offset(self) -> int:
        return 0

    def wire_bytes(self) -> int:
        return 0

    def fetch(self) -> bytes:
        return self.fetches.fetch(self.number)

    def unpack(self, packed: bytes) -> bytes:
        return packed


def make_layer(fetches: Fetches, number: int) -> ImageLayer:
    name = b"%d" % number
    return ImageLayer(digest_of(name), 1, digest_of(b"tar" + name), Reader(fetches, number))


def make_image(fetches: Fetches, n_layers: int) -> Image:
    layers = (make_layer(fetches, number) for number in range(n_layers))
    return Image("image", "image", digest_of(b""), tuple(layers))


def test_as_many_are_fetched_at_once_as_podman_fetches_and_no_more() -> None:
    # Each fetch waits until as many run: were there ever fewer, the barrier would break.
    fetches = Fetches(Barrier(MAX_FETCHES, timeout=60).wait)
    image = make_image(fetches, 4 * MAX_FETCHES)
    image.read_ahead()
    assert [layer.toc.n_bytes for layer in image.layers] == [len(TOC)] * len(image)
    assert sorted(fetches.seen) == list(range(len(image)))
    assert fetches.most_running == MAX_FETCHES


def test_nothing_is_fetched_before_a_toc_is_asked_for() -> None:
    fetches = Fetches()
    make_image(fetches, 3).read_ahead()
    assert fetches.seen == []


def test_an_error_is_that_of_the_first_layer_and_later_ones_are_not_started() -> None:
    fetches = Fetches(failing=frozenset({1, 3}))
    image = make_image(fetches, 20)
    image.read_ahead()
    _ = image.layers[0].toc
    with pytest.raises(ImageError, match="layer 1 fails"):
        _ = image.layers[1].toc
    assert max(fetches.seen) <= MAX_FETCHES
    assert image.layers[2].toc.n_bytes == len(TOC)
    fetches.failing = frozenset()
    assert image.layers[1].toc.n_bytes == len(TOC)  # asked for again, it is fetched again


def test_tocs_may_be_asked_for_in_any_order() -> None:
    fetches = Fetches()
    image = make_image(fetches, 20)
    image.read_ahead()
    for layer in reversed(image.layers):
        assert layer.toc.n_bytes == len(TOC)
    assert sorted(fetches.seen) == list(range(20))


def test_what_is_known_repeated_or_without_a_toc_is_not_fetched() -> None:
    fetches = Fetches()
    one, two = make_layer(fetches, 1), make_layer(fetches, 2)
    plain = ImageLayer(digest_of(b"plain"), 1, digest_of(b"plain tar"))
    image = Image("i", "i", digest_of(b""), (plain, one, make_layer(fetches, 1), two, plain))
    _ = one.toc
    image.read_ahead()
    image.read_ahead([plain, two, make_layer(fetches, 2)])
    _ = two.toc
    assert fetches.seen == [1, 2]


def test_without_threads_tocs_are_fetched_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    fetches = Fetches()
    image = make_image(fetches, 10)
    image.read_ahead()
    assert [layer.toc.n_bytes for layer in image.layers] == [len(TOC)] * 10
    assert (fetches.seen, fetches.most_running) == (list(range(10)), 1)
