"""Every write of vecache, as a change of a folder that can be made again and again."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.doctor.damage import LAYER, NEWEST, whole_store
from tests.golden import golden_cache
from tests.store.fleet_kills import content
from tests.stores import cache_path, edit_images, edit_layers, toc_path
from vecache.cli.main import main
from vecache.errors import VecacheError
from vecache.files import OWN_TEMPORARY
from vecache.index.layers_cache import LayersCache
from vecache.store import write_snapshot
from vecache.store.graphroot import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Change:
    """A write: `prepare` makes the folder that it changes, `make` returns an exit code.

    `by_file` says that each of its files, not all of them at once, is as before or as after, and
    `is_optional` that the exit code does not depend on it.
    """

    prepare: Callable[[Path], object]
    make: Callable[[Path], int]
    by_file: bool = False
    is_optional: bool = False


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
    try:
        cache = LayersCache.load(open_store(folder / "dir"), build="store")
    except VecacheError as error:
        os.write(2, f"{error}\n".encode())
        return 3
    return 3 if any(layer.problem for layer in cache.layers) else 0


def with_old(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        small_store(folder)
        (folder / "out").mkdir()
        (folder / "out" / name).write_bytes(b"what was there")

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


CHANGES: dict[str, Change] = {
    'build="store"': Change(without_caches, build_in_store, by_file=True, is_optional=True),
    "doctor --fix": Change(damaged_store, vecache("doctor", "--fix", "--store", "@dir"), True),
    "kept caches": Change(
        without_caches, vecache("layers", "--store", "@dir"), by_file=True, is_optional=True
    ),
    "index": Change(small_store, vecache("index", "--rebuild", "--store", "@dir")),
    "snapshot": Change(
        with_old("s.vecache"), vecache("snapshot", "--store", "@dir", "-o", "@out/s.vecache")
    ),
    "unpacked snapshot": Change(
        with_snapshot, vecache("layers", "--store", "@one"), is_optional=True
    ),
    "fleet add": Change(
        with_fleet, vecache("fleet", "add", "@fleet", "@two", "--name", "node"), True
    ),
    "contents": Change(
        with_fleet, vecache("fleet", "overlap", "--fleet", "@fleet"), by_file=True, is_optional=True
    ),
    "export to a file": Change(
        with_old("t.parquet"), vecache("export", "--store", "@dir", "-o", "@out/t.parquet")
    ),
    "export to a folder": Change(
        with_data_set, vecache("export", "--store", "@dir", "-o", "@out/set")
    ),
    "layers -o": Change(
        with_old("t.csv"), vecache("layers", "--store", "@dir", "-o", "@out/t.csv")
    ),
    "build -o": Change(tocs, vecache("build", "@toc.json", "-o", "@out/cache")),
}


def state(folder: Path) -> dict[str, Any]:
    """All files, without the locks; JSON as it is parsed, and of an index the size alone.

    Temporary folders too.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if OWN_TEMPORARY in name:
            found[name] = path.is_file()
            continue
        if not path.is_file() or path.name in ("layers.lock", "images.lock", "lock", ".lock"):
            continue
        data = path.read_bytes()
        if "/index/" in name:  # holds inode numbers
            found.setdefault("index", []).append(len(data))
        else:
            if path.suffix == ".contents":  # in the fleet, or else in the user's cache folder
                name = path.name
            found[name] = json.loads(data) if path.suffix == ".json" and data else data
    if (folder / "dir").exists():
        for layer in open_store(folder / "dir").layers():
            for key in layer.big_data_names:
                if not layer.big_data_path(key).exists():
                    raise AssertionError(f"{key} of layer {layer.id} is listed and not there")
    if (folder / "fleet").exists():
        content(folder / "fleet")  # all that its nodes name is there
    return found
