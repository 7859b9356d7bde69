"""Open a fleet: many stores in one folder, each of them a snapshot whose content is stored once.

`write_fleet.py` adds nodes, `sweep_fleet.py` removes them; this is the format.

==========================  ========================================================================
`fleet.json`                `{"schema": "vecache.fleet/1"}`
`nodes/NAME.json.zst`       one node, compressed with zstd
`objects/AB/...`            what layers and images consist of, once for all nodes (`objects.py`)
`fleet.lock`, `nodes.lock`  held shared by all that read or add, alone by one that removes objects;
                            held while a node is replaced
`.tmp-*`                    not complete yet, or left by a crash
==========================  ========================================================================

The file of a node has two lines: one JSON object, and the sha256 of this first line as a JSON
string. The object has

==========================  ========================================================================
`schema`                    `vecache.fleet-node/1`
`snapshot`                  the object that is `snapshot.json` in its snapshot (`snapshot.py`)
`roots`                     for each of the roots there, in the same order: `layers` and `images`,
                            the values of its lists, and `layer_items` and `image_items`: id to key
                            of the big data to name of the object
==========================  ========================================================================

So two layers have the same content, and the same cache, if their items are the same objects.

A folder may be on a shared disk, damaged or hostile: what is read is bounded, names are checked
before they become paths, and objects against their names. A node takes about 2 kB of memory a
layer, and opening one 25 microseconds a layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vecache.errors import NodeNotFoundError, StoreError
from vecache.files import read_bounded
from vecache.json_fields import Fields, parse_fields
from vecache.store.graphroot import Store
from vecache.store.lock import LOCK_WAIT_SECONDS, read_lock
from vecache.store.objects import is_object_name, object_path
from vecache.store.open import FLEET_FILE
from vecache.store.packed import max_unpacked_bytes, pack, unpack_bytes
from vecache.store.records import check_records, image_records, layer_records
from vecache.store.snapshot import Snapshot, SnapshotRoot, header_snapshot
from vecache.text import count, html_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FLEET_LOCK",
    "MAX_NODE_BYTES",
    "NODES",
    "NODE_SCHEMA",
    "SCHEMA",
    "Fleet",
    "FleetLock",
    "check_node_name",
    "find_node",
    "node_path",
    "open_fleet",
    "pack_node",
    "parse_node",
    "read_node",
]

SCHEMA: Final = "vecache.fleet/1"
NODE_SCHEMA: Final = "vecache.fleet-node/1"
NODES: Final = "nodes"
FLEET_LOCK: Final = "fleet.lock"
MAX_NODE_BYTES: Final = 32 << 20
"""Most that a node may have when it is unpacked: some 30,000 layers."""

_ENDING: Final = ".json.zst"
_LEVEL: Final = 3
_MAX_FLEET_FILE_BYTES: Final = 1 << 16
_NODE_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,199}")


class FleetLock:
    """Keeps the objects of a fleet from being removed while this object lives."""

    __slots__ = ("__weakref__", "_close")

    def __init__(self, fleet: Path, wait_seconds: float = LOCK_WAIT_SECONDS) -> None:
        """Take it, if the fleet has such a lock and its file system can hold one."""
        held = contextlib.ExitStack()
        held.enter_context(read_lock(fleet / FLEET_LOCK, wait_seconds=wait_seconds))
        self._close = weakref.finalize(self, held.close)


@dataclass(frozen=True, slots=True, repr=False)
class Fleet:
    """A folder of nodes, each of them the snapshot of a store.

    Attributes
    ----------
    path : pathlib.Path
        The folder.

    Examples
    --------
    >>> import subprocess, sys, tempfile
    >>> import vecache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     words = ["snapshot", "--store", str(vecache.open_sample().path), "-o", f"{folder}/web1"]
    ...     _ = subprocess.run([sys.executable, "-m", "vecache", *words], capture_output=True)
    ...     _ = vecache.add_snapshot(f"{folder}/fleet", f"{folder}/web1", "web1")
    ...     fleet = vecache.open_fleet(f"{folder}/fleet")
    ...     fleet.nodes(), len(fleet.open_node("web1").layers())
    (('web1',), 5)
    """

    path: Path
    # Paths of objects by their names, so that nodes share them.
    _paths: dict[tuple[str, str], Path] = field(default_factory=dict, compare=False)
    _lock: FleetLock | None = field(default=None, compare=False)

    def nodes(self) -> tuple[str, ...]:
        """List the nodes.

        Returns
        -------
        tuple of str
            Their names, sorted.

        Raises
        ------
        StoreError
            If the folder cannot be read.
        """
        try:
            found = os.listdir(self.path / NODES)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(f"{self.path / NODES}: {error.strerror or error}") from error
        names = (name.removesuffix(_ENDING) for name in found if name.endswith(_ENDING))
        return tuple(sorted(filter(_NODE_NAME.fullmatch, names)))

    def open_node(self, name: str) -> Store:
        """Open the store of a node, as it was when its snapshot was made.

        Parameters
        ----------
        name : str
            The node, one of `nodes()`.

        Returns
        -------
        Store
            It is only read, and has the settings of its own machine.

        Raises
        ------
        NodeNotFoundError
            If there is no such node; the message lists similar names.
        StoreError
            If what the folder has of it is damaged.
        """
        data = read_node(find_node(self, name))
        snapshot = parse_node(data, self.path, name, self._object_path)
        return Store.of_snapshot(replace(snapshot, lock=self._lock))

    def _object_path(self, key: str, name: str) -> Path | None:
        """Return where an item is; None for a name that no object can have."""
        path = self._paths.get((key, name))
        if path is None and is_object_name(key, name):
            path = self._paths[key, name] = object_path(self.path, name)
        return path

    def __repr__(self) -> str:
        return f"<Fleet {self.path}: {count(len(self.nodes()), 'node')}>"

    def _repr_html_(self) -> str:
        rows = [(name,) for name in self.nodes()]
        return html_table(f"{self.path}: {count(len(rows), 'node')}", ("node",), rows)


def open_fleet(path: str | os.PathLike[str]) -> Fleet:
    """Open a folder of nodes that `vecache fleet add` made.

    Parameters
    ----------
    path : str or os.PathLike
        The folder.

    Returns
    -------
    Fleet
        While it or one of its stores exists, nobody removes what its nodes have.

    Raises
    ------
    StoreError
        If it is no such folder, is of another version, or cannot be read.
    TypeError
        If `path` is neither text nor a path.

    Examples
    --------
    >>> import subprocess, sys, tempfile
    >>> import vecache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     words = ["snapshot", "--store", str(vecache.open_sample().path), "-o", f"{folder}/web1"]
    ...     _ = subprocess.run([sys.executable, "-m", "vecache", *words], capture_output=True)
    ...     _ = vecache.add_snapshot(f"{folder}/fleet", f"{folder}/web1", "web1")
    ...     vecache.open_fleet(f"{folder}/fleet").nodes()
    ('web1',)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"fleet: found {type(path).__name__}, wanted the path of a folder")
    folder = Path(os.path.abspath(path))
    file = folder / FLEET_FILE
    try:
        data = read_bounded(file, _MAX_FLEET_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        what = "not a fleet" if os.path.lexists(folder) else "there is no such folder"
        raise StoreError(
            f"{folder}: {what}: it has no {FLEET_FILE}; `vecache fleet add FOLDER SNAPSHOT` makes "
            "one"
        ) from None
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    found = parse_fields(data, str(file), StoreError).text("schema", "")
    if found != SCHEMA:
        raise StoreError(
            f"{file}: found schema {found!r:.60}, wanted {SCHEMA}: not a fleet, or one of another "
            "version of vecache"
        )
    return Fleet(folder, _lock=FleetLock(folder))


def check_node_name(name: str) -> str:
    """Return the name; an error for one that no node can have."""
    if not _NODE_NAME.fullmatch(name):
        raise StoreError(
            f"node {name!r:.100}: wanted letters, digits, `.`, `_` and `-`, 200 at most, the first "
            "a letter or a digit; choose another name"
        )
    return name


def find_node(fleet: Fleet, name: str) -> Path:
    """Return the file of a node, which must be there."""
    if not isinstance(name, str):
        raise TypeError(f"node: found {type(name).__name__}, wanted the name of a node")
    path = node_path(fleet.path, name)
    if not _NODE_NAME.fullmatch(name) or not os.path.lexists(path):
        raise NodeNotFoundError(_no_such_node(name, fleet))
    return path


def node_path(fleet: Path, name: str) -> Path:
    """Return the file of a node."""
    return fleet / NODES / f"{name}{_ENDING}"


def read_node(path: Path) -> bytes:
    """Read the document of a node."""

    def damaged(reason: str) -> StoreError:
        return StoreError(f"{path}: a damaged node: {reason}; add its snapshot again")

    try:
        data = unpack_bytes(read_bounded(path, MAX_NODE_BYTES), MAX_NODE_BYTES, damaged)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    document = data.partition(b"\n")[0]
    if data[len(document) :] != _checksum_line(document):
        raise damaged("its sha256 is another")
    return document


def pack_node(document: bytes) -> bytes:
    """Return the file of a node, given its document."""
    data = document + _checksum_line(document)
    packed = pack(data, _LEVEL)
    if len(data) > MAX_NODE_BYTES or len(data) >= max_unpacked_bytes(len(packed)):
        raise StoreError(f"a node of {len(data):,} bytes; wanted {MAX_NODE_BYTES:,} at most")
    return packed


def _checksum_line(document: bytes) -> bytes:
    return f'\n"sha256:{hashlib.sha256(document).hexdigest()}"\n'.encode()


def parse_node(
    data: bytes, fleet: Path, name: str, find_object: Callable[[str, str], Path | None]
) -> Snapshot:
    """Parse the document of a node; `find_object` checks the names in it."""
    path = node_path(fleet, name)
    node = parse_fields(data, str(path), StoreError)
    found = node.text("schema", "")
    if found != NODE_SCHEMA:
        raise StoreError(f"{path}: found schema {found!r:.60}, wanted {NODE_SCHEMA}")
    snapshot = header_snapshot(node.object("snapshot"), Path(f"{fleet}#{name}"), path)
    roots = node.objects("roots")
    if len(roots) != len(snapshot.roots):
        raise StoreError(
            f"{path}: roots: found {len(roots)}, the snapshot has {len(snapshot.roots)}"
        )
    pairs = zip(snapshot.roots, roots, strict=True)
    return replace(snapshot, roots=tuple(_root(*pair, find_object) for pair in pairs))


def _root(
    root: SnapshotRoot, values: Fields, find_object: Callable[[str, str], Path | None]
) -> SnapshotRoot:
    """Add the records of a graph root, each with its items."""
    layers = layer_records(
        check_records(values.values.get("layers"), values.where, "layers"),
        store_root=root.folder,
        files_root=root.path,
        is_read_only=True,
    )
    images = image_records(
        check_records(values.values.get("images"), values.where, "images"),
        store_root=root.folder,
        is_read_only=True,
    )
    layer_items, image_items = values.object("layer_items"), values.object("image_items")
    return replace(
        root,
        layers=tuple(
            root.restore_layer(each, _items(layer_items, each.id, find_object)) for each in layers
        ),
        images=tuple(
            root.restore_image(each, _items(image_items, each.id, find_object)) for each in images
        ),
    )


def _items(
    values: Fields, record_id: str, find_object: Callable[[str, str], Path | None]
) -> Mapping[str, Path]:
    """Return the paths of the items of a layer or an image."""
    items: dict[str, Path] = {}
    found = values.values.get(record_id)
    if type(found) is not dict:  # missing, or an error; the quick way is for tens of thousands
        found = values.texts(record_id)
    for key, name in found.items():
        path = find_object(key, name) if type(name) is str else None
        if path is None:
            raise StoreError(
                f"{values.where}: {record_id:.80}: found {name!r:.100} as {key!r:.100}, wanted the "
                "name of an object"
            )
        items[key] = path
    return items


def _no_such_node(name: str, fleet: Fleet) -> str:
    import difflib  # noqa: PLC0415 - 1 ms, for a message

    nodes = fleet.nodes()
    similar = difflib.get_close_matches(name, nodes, n=3)
    if similar:
        hint = f"similar names: {', '.join(similar)}"
    else:
        hint = "`vecache fleet list` lists them" if nodes else "it has no nodes yet"
    return f"node {name!r:.100}: not in the fleet {fleet.path}; {hint}"
