"""Open the small store in the package, which examples, tests and `vecache demo` use."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.store.graphroot import Store

__all__ = ["open_sample"]


def open_sample() -> Store:
    """Open the sample in the package: a small store that Podman wrote.

    Returns
    -------
    Store
        Five layers of generated files and five images, of `app2` and others; only read.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> [image.names[0] for image in store.images()][:2]
    ['localhost:5001/small/base:latest', 'localhost:5001/small/app1:latest']
    >>> vecache.LayersCache.load(store)
    <LayersCache: 5 layers, 1,154 tags, 78,457 bytes, 0 excluded>
    """
    return open_store(str(files("vecache") / "sample" / "store"))
