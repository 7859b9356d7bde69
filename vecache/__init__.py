"""The layers cache of containers/storage as a numpy batch index.

Most work begins with these; `open_store()` opens this machine's own store, and `open_image` takes
names as Skopeo does:

>>> import vecache
>>> store = vecache.open_sample()
>>> cache = vecache.LayersCache.load(store, present=["dd95d764c505", "3492096ae743"])
>>> cache.lookup(["sha256:" + "0" * 64])
<LookupResult: 1 query, 0 found, 0 bytes>
>>> image = vecache.open_image("containers-storage:app2", store=store)
>>> vecache.plan_image(image, cache, reflink=False).missing_bytes
1683870
>>> vecache.overlap(cache)
<Overlap: 2 layers by file, 1 pair shares, 2,604,295 bytes>

The names in `__all__` are the public interface: functions, what they take, and the types that they
return. Everything else can be imported, but may change. A name is imported from its module when it
is first used, so `import vecache` is fast and `vecache --help` does not import numpy.
"""

TYPE_CHECKING = False  # as in `typing`, whose import takes longer than all else here

__all__ = [
    "CacheFile",
    "Contents",
    "Cover",
    "Fleet",
    "FleetOverlap",
    "FleetPlan",
    "FleetRemoval",
    "History",
    "Image",
    "ImagePlan",
    "LayerPlan",
    "LayersCache",
    "LookupResult",
    "Matches",
    "OrderResult",
    "Overlap",
    "Removal",
    "RemovalOrder",
    "Shares",
    "Store",
    "Toc",
    "VecacheError",
    "__version__",
    "add_snapshot",
    "best_order",
    "build_cache",
    "explain",
    "export_dataset",
    "gather",
    "history",
    "open_dataset",
    "open_fleet",
    "open_image",
    "open_sample",
    "open_series",
    "open_store",
    "overlap",
    "overlap_fleet",
    "plan_fleet",
    "plan_image",
    "plan_images",
    "read_contents",
    "shares",
    "what_if",
    "what_if_fleet",
    "what_to_remove",
]

if TYPE_CHECKING:
    from vecache.cache.reader import CacheFile
    from vecache.cache.writer import build_cache
    from vecache.errors import VecacheError
    from vecache.fleet.fleet_plan import FleetPlan
    from vecache.fleet.overlap import FleetOverlap, overlap_fleet
    from vecache.fleet.plan import plan_fleet
    from vecache.fleet.removal import FleetRemoval, what_if_fleet
    from vecache.image.model import Image
    from vecache.image.open import open_image
    from vecache.image.series import open_series
    from vecache.index.layers_cache import LayersCache
    from vecache.index.result import LookupResult, Matches
    from vecache.plan.history import History
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.order import OrderResult, best_order
    from vecache.plan.pull import plan_image, plan_images
    from vecache.plan.series import history
    from vecache.report.explain import explain
    from vecache.sharing.contents import Contents
    from vecache.sharing.dataset import open_dataset
    from vecache.sharing.exclusive import Shares, shares
    from vecache.sharing.export import export_dataset
    from vecache.sharing.free import RemovalOrder, what_to_remove
    from vecache.sharing.gather import Cover, gather
    from vecache.sharing.matrix import Overlap, overlap
    from vecache.sharing.removal import Removal, what_if
    from vecache.sharing.sources import read_contents
    from vecache.store.fleet import Fleet, open_fleet
    from vecache.store.graphroot import Store
    from vecache.store.open import open_store
    from vecache.store.sample import open_sample
    from vecache.store.write_fleet import add_snapshot
    from vecache.toc.parse import Toc

    __version__: str

else:  # a type checker must not see this: it would let any name pass
    _MODULES = {
        "CacheFile": "vecache.cache.reader",
        "Contents": "vecache.sharing.contents",
        "Cover": "vecache.sharing.gather",
        "Fleet": "vecache.store.fleet",
        "FleetOverlap": "vecache.fleet.overlap",
        "FleetPlan": "vecache.fleet.fleet_plan",
        "FleetRemoval": "vecache.fleet.removal",
        "History": "vecache.plan.history",
        "Image": "vecache.image.model",
        "ImagePlan": "vecache.plan.image_plan",
        "LayerPlan": "vecache.plan.layer_plan",
        "LayersCache": "vecache.index.layers_cache",
        "LookupResult": "vecache.index.result",
        "Matches": "vecache.index.result",
        "OrderResult": "vecache.plan.order",
        "Overlap": "vecache.sharing.matrix",
        "Removal": "vecache.sharing.removal",
        "RemovalOrder": "vecache.sharing.free",
        "Shares": "vecache.sharing.exclusive",
        "Store": "vecache.store.graphroot",
        "Toc": "vecache.toc.parse",
        "VecacheError": "vecache.errors",
        "add_snapshot": "vecache.store.write_fleet",
        "best_order": "vecache.plan.order",
        "build_cache": "vecache.cache.writer",
        "explain": "vecache.report.explain",
        "export_dataset": "vecache.sharing.export",
        "gather": "vecache.sharing.gather",
        "history": "vecache.plan.series",
        "open_dataset": "vecache.sharing.dataset",
        "open_fleet": "vecache.store.fleet",
        "open_image": "vecache.image.open",
        "open_sample": "vecache.store.sample",
        "open_series": "vecache.image.series",
        "open_store": "vecache.store.open",
        "overlap": "vecache.sharing.matrix",
        "overlap_fleet": "vecache.fleet.overlap",
        "plan_fleet": "vecache.fleet.plan",
        "plan_image": "vecache.plan.pull",
        "plan_images": "vecache.plan.pull",
        "read_contents": "vecache.sharing.sources",
        "shares": "vecache.sharing.exclusive",
        "what_if": "vecache.sharing.removal",
        "what_if_fleet": "vecache.fleet.removal",
        "what_to_remove": "vecache.sharing.free",
    }

    def __getattr__(name):
        from importlib import import_module, metadata

        if name == "__version__":
            return metadata.version("vecache")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)

    def __dir__():
        return list(__all__)
