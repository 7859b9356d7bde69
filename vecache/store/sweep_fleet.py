"""Remove nodes from a fleet, and the objects that no node has; `fleet.py` has the format.

Objects are removed when nobody reads the fleet or adds to it: both hold a shared lock. A file that
was derived from an object goes with it, and so does what a crash has left behind. Where one node is
damaged nothing is removed: what it has is not known. No link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vecache.atomic import OWN_TEMPORARY, sync_folder
from vecache.errors import StoreError
from vecache.json_fields import parse_fields
from vecache.store.fleet import (
    FLEET_LOCK,
    NODES,
    Fleet,
    find_node,
    node_path,
    open_fleet,
    read_node,
)
from vecache.store.lock import write_lock
from vecache.store.objects import OBJECTS, required_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Sweep", "object_names", "remove_nodes", "sweep", "writing_fleet"]

_WAIT_SECONDS: Final = 1.0
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was removed of the objects that no node has."""

    n_files: int = 0
    n_bytes: int = 0
    problem: str = ""  # why nothing was removed


def remove_nodes(path: Path, names: Iterable[str]) -> Sweep:
    """Remove nodes from a fleet, and the objects that no other node has."""
    fleet = open_fleet(path)
    paths = [find_node(fleet, name) for name in names]
    folder = fleet.path
    with writing_fleet(folder):
        for file in paths:
            file.unlink(missing_ok=True)  # another process may be doing the same
        sync_folder(folder / NODES)
    del fleet  # and its lock
    return sweep(folder)


def sweep(folder: Path) -> Sweep:
    """Remove the objects that no node has, and what was never completed."""
    try:
        with write_lock(folder / FLEET_LOCK, wait_seconds=_WAIT_SECONDS):
            names = _referenced(folder)
            names |= {name[:64] for name in names}
            sizes = [*_sweep_folder(folder, names), *_sweep_folder(folder / NODES, names)]
            for each in _listed(folder / OBJECTS):
                if re.fullmatch("[0-9a-f]{2}", each):
                    sizes += _sweep_folder(folder / OBJECTS / each, names)
    except StoreError as error:
        return Sweep(problem=str(error))
    return Sweep(len(sizes), sum(sizes))


def _referenced(folder: Path) -> set[str]:
    """Return the names of all objects of all nodes."""
    paths = [node_path(folder, name) for name in Fleet(folder).nodes()]
    return {name for path in paths for name in object_names(read_node(path), path)}


def object_names(data: bytes, path: Path) -> set[str]:
    """Return the names of all objects of a node, from its document."""
    return {
        name
        for root in parse_fields(data, str(path), StoreError).objects("roots")
        for items in (root.object("layer_items"), root.object("image_items"))
        for record_id in items
        for name in items.texts(record_id).values()
    }


def _listed(folder: Path) -> list[str]:
    """Return the names in a folder, which is no link to another."""
    with writing_fleet(folder):
        descriptor = os.open(folder, _FOLDER_FLAGS)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)


def _sweep_folder(folder: Path, names: set[str]) -> Iterator[int]:
    """Remove the files of objects that are not named; yield the size of each."""
    with writing_fleet(folder):
        descriptor = os.open(folder, _FOLDER_FLAGS)
        try:
            for name in os.listdir(descriptor):
                needed = required_name(name)
                if name.startswith(OWN_TEMPORARY) or (needed is not None and needed not in names):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    os.unlink(name, dir_fd=descriptor)
                    yield status.st_size
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing_fleet(path: Path) -> Iterator[None]:
    """Turn an error of the system into one that says what cannot be written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        where = error.filename or path
        hint = ", and what is already there was not changed" if error.errno == errno.ENOSPC else ""
        raise StoreError(
            f"{os.fsdecode(where)}: the fleet cannot be written: {error.strerror or error}{hint}"
        ) from error
