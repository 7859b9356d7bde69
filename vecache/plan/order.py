"""Find the order in which several images fetch least, as each leaves layers that others can reuse.

What an image costs depends on which images came before it, and a little on their order too: a
look-up takes the first layer that has a digest, and that match may be a bad one. So a table over
*sets* of images would not be exact. Up to `EXACT_IMAGES` images all orders are tried. Orders with a
common beginning share its plans, and an order is abandoned as soon as it has fetched more than the
best known, which is exact because no image fetches less than nothing.

Beyond that the cheapest image comes next, again and again; the given order is kept if it is no
worse. Of orders of equal cost the one nearer to the given order is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vecache.plan.options import chosen_options
from vecache.plan.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.options import PlanOptions

__all__ = ["EXACT_IMAGES", "OrderResult", "best_order"]

EXACT_IMAGES = 5
"""Most images of which all orders are tried: at most 325 plans, where 6 would need 1,956."""


@dataclass(frozen=True, slots=True)
class OrderResult:
    """An order of images.

    Attributes
    ----------
    order : tuple of int
        Indices in the given sequence, in the order of the pulls.
    fetch_bytes : int
        Bytes over the wire for data, of all pulls.
    given_fetch_bytes : int
        The same in the given order.
    method : {"exact", "greedy"}
        Whether no order fetches less, or none was found that does.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store, present=["dd95d764", "3492096a"])
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> images = [image, vecache.open_image("containers-storage:app1", store=store)]
    >>> vecache.best_order(images, vecache.LayersCache(), reflink=True)
    OrderResult(order=(0, 1), fetch_bytes=1623355, given_fetch_bytes=1623355, method='exact')
    """

    order: tuple[int, ...]
    fetch_bytes: int
    given_fetch_bytes: int
    method: Literal["exact", "greedy"]


def best_order(
    images: Sequence[Image],
    cache: LayersCache,
    options: PlanOptions | None = None,
    *,
    progress: Callable[[], object] | None = None,
    **settings: Any,
) -> OrderResult:
    """Find an order of pulls that fetches least.

    Parameters
    ----------
    images : sequence of Image
        In the given order.
    cache : LayersCache
        The layers that count as present before the first pull.
    options : PlanOptions, optional
        Machine and registry, in place of `settings`.
    progress : callable, optional
        Called after each plan of an image.
    **settings : dict
        The options of `plan_image`: by default what the store's machine does.

    Returns
    -------
    OrderResult
        Never worse than the given order.

    Raises
    ------
    ImageError, TocError, DigestError, LocationError
        As `plan_image`.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store, present=["dd95d764", "3492096a"])
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> images = [image, vecache.open_image("containers-storage:app1", store=store)]
    >>> found = vecache.best_order(images, vecache.LayersCache(), reflink=False)
    >>> found.order, found.fetch_bytes, found.given_fetch_bytes
    ((1, 0), 2158630, 2184360)
    """
    search = _Search(images, chosen_options(options, cache.store, settings), progress)
    given_bytes = search.try_given(cache)
    if len(images) <= EXACT_IMAGES:
        search.try_all((), 0, cache)
        return OrderResult(search.best, search.best_bytes, given_bytes, "exact")
    search.try_cheapest_next(cache)
    return OrderResult(search.best, search.best_bytes, given_bytes, "greedy")


class _Search:
    """The best order so far, and ways to find a better one."""

    def __init__(
        self,
        images: Sequence[Image],
        options: PlanOptions,
        progress: Callable[[], object] | None,
    ) -> None:
        self._images = images
        self._planner = Planner(options)
        self._progress = progress
        self.best: tuple[int, ...] = ()
        self.best_bytes = 0

    def try_given(self, cache: LayersCache) -> int:
        """Take the given order as the best so far, and return the bytes that it fetches."""
        self.best = tuple(range(len(self._images)))
        for index in self.best:
            fetched, cache = self._pull(index, cache)
            self.best_bytes += fetched
        return self.best_bytes

    def try_all(self, order: tuple[int, ...], n_bytes: int, cache: LayersCache) -> None:
        """Try every order with a given beginning, in lexical order; at most EXACT_IMAGES deep."""
        if len(order) == len(self._images):
            self.best, self.best_bytes = order, n_bytes
        for index in range(len(self._images)):
            if index in order:
                continue
            fetched, after = self._pull(index, cache)
            if n_bytes + fetched < self.best_bytes:
                self.try_all((*order, index), n_bytes + fetched, after)

    def try_cheapest_next(self, cache: LayersCache) -> None:
        """Pull the cheapest of the images that are left, until none is left."""
        order: tuple[int, ...] = ()
        n_bytes = 0
        while rest := [index for index in range(len(self._images)) if index not in order]:
            pulls = {index: self._pull(index, cache) for index in rest}
            cheapest = min(rest, key=lambda index: pulls[index][0])
            fetched, cache = pulls[cheapest]
            order, n_bytes = (*order, cheapest), n_bytes + fetched
        if n_bytes < self.best_bytes:
            self.best, self.best_bytes = order, n_bytes

    def _pull(self, index: int, cache: LayersCache) -> tuple[int, LayersCache]:
        plan = self._planner.plan(self._images[index], cache)
        if self._progress is not None:
            self._progress()
        return plan.fetch_bytes, plan.cache_after
