"""Every write of vecache, as a change of a folder that can be made again and again."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.doctor.damage import LAYER, NEWEST, whole_store
from tests.golden import GOLDEN_SMALL, golden_cache
from tests.store.fleet_kills import content
from tests.stores import cache_path, edit_images, edit_layers, toc_path
from vecache.atomic import OWN_TEMPORARY
from vecache.cli.main import main
from vecache.errors import VecacheError
from vecache.index.layers_cache import LayersCache
from vecache.sharing import export
from vecache.store import write_snapshot
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, big_data_file_name, read_big_data
from vecache.store.fleet import open_fleet
from vecache.store.open import open_store
from vecache.store.sweep_fleet import remove_nodes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vecache.store.graphroot import Store


@dataclass(frozen=True)
class Change:
    """A write: `prepare` makes the folder that it changes, `make` returns an exit code.

    `by_file` says that each of its files, not all of them at once, is as before or as after,
    `is_optional` that the exit code does not depend on it, and `may_tear` that a power cut may
    damage what it writes, which is made again then. `may_differ` says that it writes something else
    where a cache or a name cannot be read. What `ask` prints is the same before and after.
    """

    prepare: Callable[[Path], object]
    make: Callable[[Path], int]
    by_file: bool = False
    is_optional: bool = False
    may_tear: bool = False
    may_differ: bool = False
    ask: Callable[[Path], int] | None = None


@dataclass(frozen=True)
class Race:
    """Writes that are made at the same time; `by_file` is as for a `Change`.

    What they write and make again is at `made`.
    """

    prepare: Callable[[Path], object]
    makes: tuple[Callable[[Path], int], ...]
    by_file: bool = False
    made: str = "cache/vecache/*/*"


class _Noon(dt.datetime):
    """A clock that stands, so that two snapshots are equal."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return dt.datetime(2026, 11, 24, 12, tzinfo=tz)


def vecache(*words: str) -> Callable[[Path], int]:
    """A command, in which a leading `@` is the folder."""

    def make(folder: Path) -> int:
        write_snapshot.datetime = _Noon  # type: ignore[attr-defined]  # of the module
        return main([str(folder / word[1:]) if word.startswith("@") else word for word in words])

    return make


def must(make: Callable[[Path], int], folder: Path) -> None:
    if make(folder):
        raise AssertionError("a command of the preparation failed")


def small_store(folder: Path, n_layers: int = 3) -> Path:
    root = whole_store(folder)
    edit_layers(root, lambda records: records.__delitem__(slice(n_layers, None)))
    edit_images(root, lambda records: records.__delitem__(slice(1, None)))
    return root


def without_caches(folder: Path) -> None:
    root = small_store(folder)
    cache_path(root, LAYER).unlink()
    edit_layers(root, lambda records: records[0]["big-data-names"].remove("chunked-manifest-cache"))


def damaged_store(folder: Path) -> None:
    root = whole_store(folder)
    cache_path(root, LAYER).write_bytes(b"\3")
    cache_path(root, NEWEST).write_bytes(golden_cache("dir", NEWEST))  # not listed
    (root / "overlay-layers" / LAYER / ".tmp-vecache-0123456789abcdef").write_bytes(b"x")


def build_in_store(folder: Path) -> int:
    return _exit_code(_problems, folder)


def remove_node(folder: Path) -> int:
    return _exit_code(_remove, folder)


def _exit_code(work: Callable[[Path], str], folder: Path) -> int:
    """Do what only Python does as a command would."""
    try:
        problem = work(folder)
    except VecacheError as error:
        problem = str(error)
    if problem:
        os.write(2, f"vecache: {problem}\n".encode())
    return 3 if problem else 0


def _problems(folder: Path) -> str:
    cache = LayersCache.load(open_store(folder / "dir"), build="store")
    return "; ".join(str(layer.problem) for layer in cache.layers if layer.problem)


def _remove(folder: Path) -> str:
    names = {"other"} & set(open_fleet(folder / "fleet").nodes())
    return remove_nodes(folder / "fleet", names).problem


OLD = b"what was there"


def with_old(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        small_store(folder)
        (folder / "out").mkdir()
        (folder / "out" / name).write_bytes(OLD)

    return prepare


def with_snapshot(folder: Path) -> None:
    small_store(folder)
    must(vecache("snapshot", "--store", "@dir", "-o", "@one"), folder)
    shutil.rmtree(folder / "dir")


def with_fleet(folder: Path) -> None:
    with_snapshot(folder)
    must(vecache("fleet", "add", "@fleet", "@one", "--name", "other"), folder)
    root = small_store(folder, 4)
    must(vecache("snapshot", "--store", "@dir", "-o", "@two"), folder)
    shutil.rmtree(root)


def with_data_set(folder: Path) -> None:
    small_store(folder, 1)
    (folder / "out").mkdir()
    must(vecache("export", "--store", "@dir", "-o", "@out/set"), folder)
    shutil.rmtree(folder / "dir")
    small_store(folder, 2)


def tocs(folder: Path) -> None:
    root = small_store(folder)
    (folder / "out").mkdir()
    shutil.copy(toc_path(root, LAYER), folder / "toc.json")


def with_two_nodes(folder: Path) -> None:
    with_fleet(folder)
    must(ADD, folder)


def without_exchange(folder: Path) -> int:
    export._exchange = lambda target, draft: False  # as on NFS
    return EXPORT(folder)


def lookup(folder: Path) -> int:
    """Look up all digests of two TOCs, so that each row of a cache is read."""
    digests = set()
    for layer in (LAYER, NEWEST):
        for entry in json.loads(toc_path(GOLDEN_SMALL / "stores" / "dir", layer).read_bytes())[
            "entries"
        ]:
            digests |= {entry.get("digest"), entry.get("chunkDigest")} - {None, ""}
    code = vecache("lookup", *sorted(digests), "--json", "--store", "@dir")(folder)
    return code if code != 1 else 0  # those of empty files are in no cache


ADD = vecache("fleet", "add", "@fleet", "@two", "--name", "node")
EXPORT = vecache("export", "--store", "@dir", "-o", "@out/set")
FIX = vecache("doctor", "--fix", "--store", "@dir")
LAYERS = vecache("layers", "--store", "@dir")
LAYERS_OF_ONE = vecache("layers", "--store", "@one")
OVERLAP = vecache("fleet", "overlap", "--fleet", "@fleet")
REBUILD = vecache("index", "--rebuild", "--store", "@dir")
SNAPSHOT = vecache("snapshot", "--store", "@dir", "-o", "@out/s.vecache")
TABLE = vecache("layers", "--store", "@dir", "-o", "@out/t.csv")
TAGS = vecache("export", "--store", "@dir", "-o", "@out/t.csv")


def cache(
    prepare: Callable[[Path], object], make: Callable[[Path], int], ask: Callable[[Path], int]
) -> Change:
    """A write of what may be lost, since it is made again."""
    return Change(prepare, make, by_file=True, is_optional=True, may_tear=True, ask=ask)


CHANGES: dict[str, Change] = {
    'build="store"': Change(without_caches, build_in_store, True, is_optional=True, ask=lookup),
    "doctor --fix": Change(damaged_store, FIX, by_file=True),
    "kept caches": cache(without_caches, LAYERS, lookup),
    "index": Change(small_store, REBUILD, may_tear=True, ask=lookup),
    "snapshot": Change(with_old("s.vecache"), SNAPSHOT),
    "unpacked snapshot": cache(with_snapshot, LAYERS_OF_ONE, LAYERS_OF_ONE),
    "fleet add": Change(with_fleet, ADD, by_file=True),
    "fleet add a store": Change(
        small_store,
        vecache("fleet", "add", "@fleet", "--store", "@dir", "--name", "a"),
        by_file=True,
        may_differ=True,
    ),
    "fleet remove": Change(with_two_nodes, remove_node, by_file=True),
    "contents": cache(with_fleet, OVERLAP, OVERLAP),
    "export to a file": Change(
        with_old("t.parquet"),
        vecache("export", "--store", "@dir", "-o", "@out/t.parquet"),
        may_differ=True,
    ),
    "export to a folder": Change(with_data_set, EXPORT, may_differ=True),
    "export without exchange": Change(with_data_set, without_exchange, may_differ=True),
    "layers -o": Change(with_old("t.csv"), TABLE, may_differ=True),
    "build -o": Change(tocs, vecache("build", "@toc.json", "-o", "@out/cache")),
}
IN_STORE = f"dir/overlay-layers/{LAYER}/{big_data_file_name(CACHE_KEY)}"
RACES: dict[str, Race] = {
    'build="store"': Race(without_caches, (build_in_store,), by_file=True, made=IN_STORE),
    "doctor --fix": Race(damaged_store, (FIX,), by_file=True, made=IN_STORE),
    "kept caches": Race(without_caches, (LAYERS,), by_file=True),
    "index": Race(small_store, (REBUILD,)),
    "unpacked snapshot": Race(with_snapshot, (LAYERS_OF_ONE,)),
    "fleet add": Race(with_fleet, (ADD,), by_file=True),
    "fleet add of two nodes": Race(
        with_fleet, (ADD, vecache("fleet", "add", "@fleet", "@two", "--name", "more")), by_file=True
    ),
    "contents": Race(with_fleet, (OVERLAP,), by_file=True, made="**/*.contents"),
    "snapshot": Race(with_old("s.vecache"), (SNAPSHOT,)),
    "export to a folder": Race(with_data_set, (EXPORT,)),
    "-o of one file": Race(with_old("t.csv"), (TABLE, TAGS)),
}


def forget(folder: Path, pattern: str) -> None:
    """Remove what can be made again, so that there is something to write."""
    for path in folder.glob(pattern):
        if OWN_TEMPORARY in path.name:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _layers(store: Store) -> list[tuple[str, bytes | None, bytes | None]]:
    """Return what the layers of a snapshot are, however it has their caches."""
    return [
        (each.id, read_big_data(each, TOC_KEY), read_big_data(each, CACHE_KEY))
        for each in store.layers()
    ]


def state(folder: Path) -> dict[str, Any]:
    """All files, without the locks; JSON as it is parsed, and of indexes the sizes alone.

    Temporary folders too.
    """
    os.environ["XDG_CACHE_HOME"] = str(folder.with_name("unpacked"))
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.startswith("out/.set.vecache-old/"):  # set aside, and given back the next time
            there = (folder / "out" / "set").exists()
            name = name.replace(".set.vecache-old", OWN_TEMPORARY if there else "set")
        if OWN_TEMPORARY in name:
            found[name] = path.is_file()
            continue
        if not path.is_file() or path.name in ("layers.lock", "images.lock", "lock", ".lock"):
            continue
        data = path.read_bytes()
        if "/index/" in name:  # holds inode numbers
            found["index"] = {*found.get("index", ()), len(data)}
        elif name == "out/s.vecache" and data != OLD:
            found[name] = _layers(open_store(path))
        else:
            if path.suffix == ".contents":  # in the fleet, or else in the user's cache folder
                name = path.name
            found[name] = json.loads(data) if path.suffix == ".json" and data else data
    if (folder / "dir").exists():
        for layer in open_store(folder / "dir").layers():
            for key in layer.big_data_names:
                if not layer.big_data_path(key).exists():
                    raise AssertionError(f"{key} of layer {layer.id} is listed and not there")
    if (folder / "fleet" / "fleet.json").exists():
        content(folder / "fleet")  # all that its nodes name is there
    return found
