"""What may have been meant by a path that no layer has? Paths of layers that are like it."""

from __future__ import annotations

import difflib
import posixpath
from typing import TYPE_CHECKING

from vecache.errors import PathNotFoundError

if TYPE_CHECKING:
    from vecache.arrays import BinaryColumn
    from vecache.plan.image_plan import ImagePlan

__all__ = ["path_error", "path_text"]

_MAX_SHOWN = 3
_MAX_COMPARED = 2_000


def path_error(plan: ImagePlan, wanted: bytes) -> PathNotFoundError:
    """Make the error for a path that no layer has."""
    near = _find_near(plan, wanted)
    n_unknown = sum(layer.layer.toc_format is None for layer in plan.layers)
    message = f"{plan.image.reference}: no layer has {path_text(wanted) or '/'!r}"
    if n_unknown:
        message += f"; {n_unknown} without a TOC may, and only their blobs tell"
    if near:
        message += f"; did you mean {' or '.join(map(repr, near))}?"
    return PathNotFoundError(message)


def path_text(name: bytes) -> str:
    r"""Read a path as text for people."""
    return name.decode(errors="backslashreplace")


def _find_near(plan: ImagePlan, wanted: bytes) -> list[str]:
    """Paths of the same last name in any folder first, then those that look alike."""
    folder, base = posixpath.split(wanted)
    pool: dict[str, None] = {}  # in the order found, each once
    for layer in plan.layers:  # an image's few layers
        if layer.replay is not None:
            names = _near_names(layer.layer.toc.entries.name, folder, base)
            pool |= dict.fromkeys(path_text(name.rstrip(b"/")) for name in names)
    same = [path for path in pool if posixpath.basename(path) == path_text(base)]
    close = difflib.get_close_matches(path_text(wanted), pool, _MAX_SHOWN)
    return list(dict.fromkeys([*same, *close]))[:_MAX_SHOWN]


def _near_names(names: BinaryColumn, folder: bytes, base: bytes) -> list[bytes]:
    """Names that end in `base`, and names in `folder`; not too many to compare one by one."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a wrong path needs

    ends = pc.or_(pc.ends_with(names, b"/" + base), pc.ends_with(names, b"/" + base + b"/"))
    starts = pc.starts_with(names, folder + b"/" if folder else b"")
    return [
        name
        for is_near in (ends, starts)
        for name in names.filter(is_near).slice(0, _MAX_COMPARED).to_pylist()
    ]
