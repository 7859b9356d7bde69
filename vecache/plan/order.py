"""In which order do several images fetch least? Each leaves layers that the next can reuse.

What an image costs depends on which images came before it, and a little on their order too: the
first layer that has a digest settles a look-up, and may settle it badly. So a table over *sets* of
images would not be exact. Up to `EXACT_IMAGES` images all orders are tried, those with a common
beginning sharing its plans; an order is given up as soon as what it has fetched exceeds the best
known, which is exact because no image fetches less than nothing.

Beyond that the cheapest image comes next, again and again; the given order is kept if it is no
worse. Equal costs are settled for the order that is nearer to the given one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vecache.plan.pull import Preparer, plan_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.options import PlanOptions

__all__ = ["EXACT_IMAGES", "OrderResult", "best_order"]

EXACT_IMAGES = 5
"""Up to so many images all orders are tried: 325 plans at most, where 6 would need 1,956."""


@dataclass(frozen=True, slots=True)
class OrderResult:
    """An order of images."""

    order: tuple[int, ...]  # places in the given sequence, in the order of the pulls
    fetch_bytes: int  # bytes over the wire for data, of all pulls
    given_fetch_bytes: int  # the same in the given order
    method: Literal["exact", "greedy"]  # whether no order fetches less, or none was found


def best_order(
    images: Sequence[Image],
    cache: LayersCache,
    options: PlanOptions,
    progress: Callable[[], object] | None = None,
) -> OrderResult:
    """Find an order of pulls that fetches least."""
    search = _Search(images, options, progress)
    given = tuple(range(len(images)))
    given_bytes = search.cost_of(given, cache)
    search.settle(given, given_bytes)
    is_few = len(images) <= EXACT_IMAGES
    if is_few:
        search.try_all((), 0, cache)
    else:
        search.try_cheapest_next(cache)
    method: Literal["exact", "greedy"] = "exact" if is_few else "greedy"
    return OrderResult(search.best, search.best_bytes, given_bytes, method)


class _Search:
    """The best order so far, and ways to find a better one."""

    def __init__(
        self,
        images: Sequence[Image],
        options: PlanOptions,
        progress: Callable[[], object] | None,
    ) -> None:
        self._images = images
        self._options = options
        self._preparer = Preparer(options.layout)
        self._progress = progress
        self.best: tuple[int, ...] = ()
        self.best_bytes = 0

    def settle(self, order: tuple[int, ...], n_bytes: int) -> None:
        """Take an order for the best."""
        self.best, self.best_bytes = order, n_bytes

    def cost_of(self, order: tuple[int, ...], cache: LayersCache) -> int:
        """Bytes that an order fetches."""
        n_bytes = 0
        for number in order:
            fetched, cache = self._pull(number, cache)
            n_bytes += fetched
        return n_bytes

    def try_all(self, begun: tuple[int, ...], n_bytes: int, cache: LayersCache) -> None:
        """Try every order with a given beginning, in lexical order; at most EXACT_IMAGES deep."""
        if len(begun) == len(self._images):
            self.settle(begun, n_bytes)
        for number in range(len(self._images)):
            if number in begun:
                continue
            fetched, after = self._pull(number, cache)
            if n_bytes + fetched < self.best_bytes:
                self.try_all((*begun, number), n_bytes + fetched, after)

    def try_cheapest_next(self, cache: LayersCache) -> None:
        """Pull the cheapest of those that are left, until none is."""
        order: tuple[int, ...] = ()
        n_bytes = 0
        while rest := [n for n in range(len(self._images)) if n not in order]:
            pulls = {number: self._pull(number, cache) for number in rest}
            number = min(rest, key=lambda n: pulls[n][0])
            fetched, cache = pulls[number]
            order, n_bytes = (*order, number), n_bytes + fetched
        if n_bytes < self.best_bytes:
            self.settle(order, n_bytes)

    def _pull(self, number: int, cache: LayersCache) -> tuple[int, LayersCache]:
        plan = plan_with(self._images[number], cache, self._options, self._preparer)
        if self._progress is not None:
            self._progress()
        return plan.fetch_bytes, plan.cache_after
