"""The layers cache of containers/storage as a numpy batch index.

What stands in `__all__` is promised; everything else can be imported, but may change. Each name is
fetched from its room when it is first asked for, so `import vecache` costs next to nothing and
`vecache --help` never waits for numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "CacheFile",
    "LayersCache",
    "Toc",
    "VecacheError",
    "__version__",
    "build_cache",
    "explain",
    "gather",
    "open_dataset",
    "open_image",
    "open_store",
    "overlap",
    "plan_image",
    "read_contents",
    "shares",
    "what_if",
]

if TYPE_CHECKING:
    from vecache.cache.reader import CacheFile
    from vecache.cache.writer import build_cache
    from vecache.errors import VecacheError
    from vecache.image.open import open_image
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.pull import plan_image
    from vecache.report.explain import explain
    from vecache.sharing.dataset import open_dataset
    from vecache.sharing.exclusive import shares
    from vecache.sharing.gather import gather
    from vecache.sharing.matrix import overlap
    from vecache.sharing.removal import what_if
    from vecache.sharing.sources import read_contents
    from vecache.store.graphroot import open_store
    from vecache.toc.parse import Toc

    __version__: str

else:  # a type checker must not see this: it would let any name pass
    _HOMES = {
        "CacheFile": "vecache.cache.reader",
        "LayersCache": "vecache.index.layers_cache",
        "Toc": "vecache.toc.parse",
        "VecacheError": "vecache.errors",
        "build_cache": "vecache.cache.writer",
        "explain": "vecache.report.explain",
        "gather": "vecache.sharing.gather",
        "open_dataset": "vecache.sharing.dataset",
        "open_image": "vecache.image.open",
        "open_store": "vecache.store.graphroot",
        "overlap": "vecache.sharing.matrix",
        "plan_image": "vecache.plan.pull",
        "read_contents": "vecache.sharing.sources",
        "shares": "vecache.sharing.exclusive",
        "what_if": "vecache.sharing.removal",
    }

    def __getattr__(name):
        from importlib import import_module, metadata

        if name == "__version__":
            return metadata.version("vecache")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)

    def __dir__():
        return list(__all__)
