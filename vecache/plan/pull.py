"""Plan the pull of images: what of it local layers have, and what comes over the wire.

The functions that users call; `planner.py` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from vecache.plan.options import GAP_BYTES, MAX_RANGES, PlanOptions, chosen_options, pull_options
from vecache.plan.planner import Planner, check_arguments, check_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.image.model import Image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.image_plan import ImagePlan

__all__ = ["plan_image", "plan_images"]


def plan_image(
    image: Image,
    cache: LayersCache,
    *,
    reflink: bool | Literal["auto"] | None = None,
    hard_links: bool | None = None,
    layout: Literal["dir", "flat"] | None = None,
    parallel: int | None = None,
    partial: bool | None = None,
    max_ranges: int = MAX_RANGES,
    gap_bytes: int = GAP_BYTES,
    whole_blobs: bool = False,
    accepted_ranges: int | None = None,
) -> ImagePlan:
    """Plan the pull of an image.

    Parameters
    ----------
    image : Image
        From `open_image`.
    cache : LayersCache
        The layers that count as present.
    reflink : bool or "auto", optional
        Whether the store's file system can reflink; "auto" tests it.
    hard_links : bool, optional
        Whether files are reused by hard link.
    layout : {"dir", "flat"}, optional
        How pulled layers are stored; flat is composefs.
    parallel : int, optional
        Layers that are copied at a time.
    partial : bool, optional
        Whether layers are pulled in part at all. None for this, and for the four above, is what
        the store's machine does (`Store.pull_settings`); where the layers came from no store, it
        is False, False, "dir", 6 and True.
    max_ranges : int
        Most ranges that one request asks for, at least 1.
    gap_bytes : int
        Gaps between ranges of at most this size are fetched too.
    whole_blobs : bool
        Whether the registry ignores which range is asked for, and sends the blob from its start.
    accepted_ranges : int, optional
        Most ranges that the registry accepts in one request before it answers 400; any number by
        default.

    Returns
    -------
    ImagePlan
        What Podman will reuse, fetch and ask for.

    Raises
    ------
    ImageError, TocError, DigestError
        If a layer's TOC cannot be read or breaks a rule.
    LocationError
        If a cache file is corrupt where the pull would look: Podman's pull fails.
    TypeError
        If `image` is not an Image, `cache` not a LayersCache, or an option not a bool.
    ValueError
        If an option is out of range.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store, present=["dd95d764", "3492096a"])
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> for reflink in (False, True):
    ...     plan = vecache.plan_image(image, cache, reflink=reflink)
    ...     print(plan.total_bytes, plan.missing_bytes, plan.fetch_bytes, plan.requests)
    2324135 1683870 914264 5
    2324135 730665 412335 5
    """
    check_arguments(image, cache)
    options = pull_options(
        cache.store,
        reflink=reflink,
        hard_links=hard_links,
        layout=layout,
        parallel=parallel,
        partial=partial,
        max_ranges=max_ranges,
        gap_bytes=gap_bytes,
        whole_blobs=whole_blobs,
        accepted_ranges=accepted_ranges,
    )
    return Planner(options).plan(image, cache)


def plan_images(
    images: Iterable[Image],
    cache: LayersCache,
    options: PlanOptions | None = None,
    *,
    progress: Callable[[], object] | None = None,
    **settings: Any,
) -> tuple[ImagePlan, ...]:
    """Plan the pulls of several images, one after another.

    Parameters
    ----------
    images : iterable of Image
        In the order of the pulls.
    cache : LayersCache
        The layers that count as present before the first.
    options : PlanOptions, optional
        Machine and registry, in place of `settings`.
    progress : callable, optional
        Called after each layer.
    **settings : dict
        The options of `plan_image`: by default what the store's machine does.

    Returns
    -------
    tuple of ImagePlan
        Each planned against the layers that the ones before it left.

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
    >>> other = vecache.open_image("containers-storage:other", store=store)
    >>> plans = vecache.plan_images([other, image], cache, reflink=False)
    >>> [plan.fetch_bytes for plan in plans]
    [435422, 478842]
    """
    planner = Planner(chosen_options(options, getattr(cache, "store", None), settings))
    plans = []
    check_images(images)
    for image in images:
        plans.append(planner.plan(image, cache, progress))
        cache = plans[-1].cache_after
    return tuple(plans)
