"""Add nodes to a fleet and replace them; `fleet.py` has the format.

A node is added in these steps, so that a reader finds it as it was before or as it is after, and so
does one who comes after a crash:

1. Read the snapshot from the front, and write each item as an object, unless that is there.
2. Build the cache files that the snapshot leaves out, unless they are there.
3. Check the node as a reader does, and replace its file by renaming.

A snapshot that is older than the node's changes nothing. Many processes may add at the same time:
objects are written under a name of their own and renamed, and never change. A shared lock keeps
`sweep_fleet.py` from removing them meanwhile; on a file system without locks nothing is added. One
item of the snapshot is in memory at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from vecache.atomic import OWN_TEMPORARY, remove_leftovers, replace_file, staged_file, sync_folder
from vecache.cache.writer import build_cache
from vecache.errors import StoreError, VecacheError
from vecache.files import is_system_error, store_error
from vecache.json_fields import load_json, parse_fields
from vecache.store.archive import open_archive
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, layer_layout, read_big_data
from vecache.store.fleet import (
    FLEET_LOCK,
    MAX_NODE_BYTES,
    NODE_SCHEMA,
    NODES,
    SCHEMA,
    check_node_name,
    node_path,
    open_fleet,
    pack_node,
    parse_node,
    read_node,
)
from vecache.store.lock import LOCK_WAIT_SECONDS, read_lock, write_lock
from vecache.store.objects import (
    OBJECTS,
    built_name,
    is_object_name,
    object_name,
    object_path,
)
from vecache.store.open import FLEET_FILE
from vecache.store.packed import max_unpacked_bytes, pack
from vecache.store.records import LAYERS, LayerRecord
from vecache.store.snapshot import HEADER, Snapshot, parse_header
from vecache.store.sweep_fleet import object_names, writing_fleet
from vecache.store.write_snapshot import write_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecache.store.archive import Archive
    from vecache.store.graphroot import Store

__all__ = ["AddedNode", "add_snapshot", "add_store", "make_fleet"]

_NODES_LOCK: Final = "nodes.lock"
_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class AddedNode:
    """What became of a snapshot that was added."""

    name: str
    # "older": the node has a newer snapshot, and was left as it is
    change: Literal["added", "replaced", "unchanged", "older"]
    snapshot: Snapshot
    n_new_bytes: int = 0  # of objects that no node had
    # whether the snapshot before had objects that this one has not
    leaves_objects: bool = False


def make_fleet(path: str | os.PathLike[str]) -> Path:
    """Make an empty fleet, unless there is one, and return its folder."""
    folder = Path(os.path.abspath(path))
    with writing_fleet(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(folder / FLEET_FILE):
            others = [each for each in os.listdir(folder) if not each.startswith(OWN_TEMPORARY)]
            if others and not os.path.lexists(folder / FLEET_FILE):
                raise StoreError(
                    f"{folder}: neither a fleet nor an empty folder: it has {min(others)!r:.80} "
                    f"and no {FLEET_FILE}"
                )
            with replace_file(folder / FLEET_FILE) as file:
                file.write(json.dumps({"schema": SCHEMA}).encode() + b"\n")
            sync_folder(folder)
    open_fleet(folder)  # of this version
    _check_writable(folder)
    with writing_fleet(folder):
        for name in (NODES, OBJECTS):
            (folder / name).mkdir(exist_ok=True)
        for name in (FLEET_LOCK, _NODES_LOCK):  # the first who writes here makes them
            with contextlib.suppress(FileExistsError):
                os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return folder


def _check_writable(folder: Path) -> None:
    """Raise before much is read for nothing."""
    if not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise StoreError(f"{folder}: the fleet cannot be written: read-only, or no permission")


def add_store(
    fleet: Path,
    store: Store,
    name: str | None = None,
    *,
    progress: Callable[[], object] | None = None,
) -> AddedNode:
    """Add a store as it is now, by a snapshot of it; `progress` is called after each layer."""
    if store.snapshot is not None and store.path.is_file():
        return add_snapshot(fleet, store.path, name, progress=progress)
    name = check_node_name(platform.node() if name is None else name)
    try:
        with staged_file(tempfile.gettempdir(), mode=0o600) as file:
            write_snapshot(store, file, progress=progress)
            file.close()
            return add_snapshot(fleet, file.name, name)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise store_error(error, tempfile.gettempdir(), "no snapshot can be written") from error


def add_snapshot(
    fleet: str | os.PathLike[str],
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    progress: Callable[[], object] | None = None,
) -> AddedNode:
    """Add a snapshot to a fleet, as a node.

    Parameters
    ----------
    fleet : str or os.PathLike
        The folder; it is made if it is not there.
    path : str or os.PathLike
        A file that `vecache snapshot` wrote.
    name : str, optional
        Name of the node; by default that of the snapshot's host.
    progress : callable, optional
        Called after each layer.

    Returns
    -------
    AddedNode
        What became of it. A newer snapshot of a node replaces the older one; an older one changes
        nothing.

    Raises
    ------
    StoreError
        If the snapshot cannot be read, no node can have the name, or the folder cannot be written.

    Examples
    --------
    >>> import subprocess, sys, tempfile
    >>> import vecache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     words = ["snapshot", "--store", str(vecache.open_sample().path), "-o", f"{folder}/web1"]
    ...     _ = subprocess.run([sys.executable, "-m", "vecache", *words], capture_output=True)
    ...     node = vecache.add_snapshot(f"{folder}/fleet", f"{folder}/web1", "web1")
    ...     again = vecache.add_snapshot(f"{folder}/fleet", f"{folder}/web1", "web1")
    >>> node.name, node.change, again.change
    ('web1', 'added', 'unchanged')
    """
    path = Path(path)
    with open_archive(path) as (_, archive):
        header = archive.read_header()
        snapshot = parse_header(header, path, path)
        name = check_node_name(snapshot.host if name is None else name)
        folder = make_fleet(fleet)
        with read_lock(folder / FLEET_LOCK, wait_seconds=LOCK_WAIT_SECONDS):
            _remove_leftovers(folder)
            _, is_older = _before(folder, name, snapshot)
            if is_older:
                return AddedNode(name, "older", snapshot)
            objects = _Objects(folder)
            roots = _add_members(archive, snapshot, objects, progress)
            _build_caches(snapshot, roots, objects)
            node = {
                "schema": NODE_SCHEMA,
                "snapshot": parse_fields(header, f"{path}: {HEADER}", StoreError).values,
                "roots": roots,
            }
            objects.sync()
            return _replace_node(folder, name, _json(node, path), objects)


def _remove_leftovers(fleet: Path) -> None:
    """Remove what was not complete when a process was killed."""
    with writing_fleet(fleet), os.scandir(fleet / OBJECTS) as entries:
        folders = [fleet / OBJECTS / each.name for each in entries if each.is_dir()]
    for folder in (fleet, fleet / NODES, *folders):
        if not folder.is_symlink():
            remove_leftovers(folder)


class _Objects:
    """Writes objects, each once."""

    def __init__(self, fleet: Path) -> None:
        self.fleet = fleet
        self.n_new_bytes = 0
        self._folders: set[Path] = set()

    def find(self, key: str, name: str) -> Path | None:
        """Return where an item is."""
        return object_path(self.fleet, name) if is_object_name(key, name) else None

    def has(self, name: str) -> bool:
        """Return whether an object is there."""
        try:
            status = os.lstat(object_path(self.fleet, name))
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size > 0

    def add(self, key: str, data: bytes) -> str:
        """Write an item as an object, unless it is there; return its name."""
        name = object_name(key, data)
        if not self.has(name):
            packed = data if key == CACHE_KEY else pack(data, _LEVEL)
            if packed is not data and len(data) >= max_unpacked_bytes(len(packed)):
                raise StoreError(f"{key}: {len(data):,} bytes of nearly nothing: no TOC is so")
            self.write(name, packed)
        return name

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""
        path = object_path(self.fleet, name)
        with writing_fleet(path):
            if path.parent not in self._folders:
                path.parent.mkdir(exist_ok=True)
                if path.parent.is_symlink():
                    raise StoreError(f"{path.parent}: found a symbolic link, wanted a folder")
                self._folders.add(path.parent)
            with replace_file(path) as file:
                file.write(data)
        self.n_new_bytes += len(data)

    def sync(self) -> None:
        """Make the names of all that was written last, and those of their folders."""
        for folder in (*self._folders, self.fleet / OBJECTS, self.fleet):
            with writing_fleet(folder):
                sync_folder(folder)


def _before(folder: Path, name: str, snapshot: Snapshot) -> tuple[bytes | None, bool]:
    """Return the node's document, if it is a sound one, and whether a snapshot is older."""
    path = node_path(folder, name)
    if not os.path.lexists(path):
        return None, False
    try:
        data = read_node(path)
        old = parse_node(data, folder, name, _Objects(folder).find)
    except StoreError:  # what is damaged is replaced
        return None, False
    return data, snapshot.time < old.time


def _add_members(
    archive: Archive,
    snapshot: Snapshot,
    objects: _Objects,
    progress: Callable[[], object] | None,
) -> list[dict[str, Any]]:
    """Write the items in an archive as objects; return what the node says of each root."""
    roots: list[dict[str, Any]] = [
        {"layers": None, "images": None, "layer_items": {}, "image_items": {}}
        for _ in snapshot.roots
    ]
    n_listed = 0
    for member in archive.members(len(roots)):
        root, what = roots[member.root], "layer" if member.folder == LAYERS else "image"
        data = b"".join(archive.blocks(member))
        if member.list_name:
            n_listed += len(data)
            if n_listed > MAX_NODE_BYTES or root[f"{what}s"] is not None:
                raise archive.damaged(f"{member.name} is there twice, or too large for a node")
            found = load_json(data or b"[]", f"{archive.path}: {member.name}", StoreError)
            root[f"{what}s"] = [] if found is None else found
            continue
        items = root[f"{what}_items"].setdefault(member.id, {})
        if member.key in items:
            raise archive.damaged(f"two members are {member.name}")
        items[member.key] = objects.add(member.key, data)
        if member.key == TOC_KEY and progress is not None:
            progress()
    return [
        {**root, "layers": root["layers"] or [], "images": root["images"] or []} for root in roots
    ]


def _build_caches(snapshot: Snapshot, roots: list[dict[str, Any]], objects: _Objects) -> None:
    """Write the cache files that layers had on their machine, and that their TOCs give."""
    for root, values in zip(snapshot.roots, roots, strict=True):
        for layer_id in sorted(root.built):
            items: dict[str, str] = values["layer_items"].get(layer_id, {})
            if TOC_KEY not in items or CACHE_KEY in items:
                continue
            paths = {key: object_path(objects.fleet, name) for key, name in items.items()}
            layer = LayerRecord(layer_id, items=paths)
            try:
                layout = layer_layout(layer)
                name = built_name(items[TOC_KEY], layout)
                is_there = objects.has(name)
                packed = b"" if is_there else build_cache(_read_toc(layer), layout)
            except VecacheError as error:
                if is_system_error(error):
                    raise  # it is no fault of the layer
                continue  # loading the layer finds the same, and says so
            if not is_there:  # a write that fails is no fault of the layer
                objects.write(name, packed)
            items[CACHE_KEY] = name


def _read_toc(layer: LayerRecord) -> bytes:
    return read_big_data(layer, TOC_KEY) or b""


def _json(node: dict[str, Any], path: Path) -> bytes:
    try:
        return json.dumps(node).encode()
    except RecursionError:
        raise StoreError(f"{path}: nested too deeply") from None


def _replace_node(folder: Path, name: str, data: bytes, objects: _Objects) -> AddedNode:
    """Write the file of a node, unless it has a newer snapshot by now."""
    path = node_path(folder, name)
    snapshot = parse_node(data, folder, name, objects.find)
    packed = pack_node(data)
    with write_lock(folder / _NODES_LOCK):
        before, is_older = _before(folder, name, snapshot)
        if is_older:
            return AddedNode(name, "older", snapshot, objects.n_new_bytes, leaves_objects=True)
        if before == data:
            return AddedNode(name, "unchanged", snapshot, objects.n_new_bytes)
        is_new = not os.path.lexists(path)
        with writing_fleet(path):
            with replace_file(path) as file:
                file.write(packed)
            sync_folder(path.parent)
    leaves = before is None or not object_names(before, path) <= object_names(data, path)
    return AddedNode(
        name,
        "added" if is_new else "replaced",
        snapshot,
        objects.n_new_bytes,
        leaves_objects=leaves and not is_new,
    )
