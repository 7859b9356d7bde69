"""`--fix` gives back Podman's own bytes, and touches nothing that is not ours."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import xxhash

from tests.doctor.damage import (
    CACHE_DAMAGE,
    DAMAGE,
    HINTS,
    LAYER,
    LEFTOVERS,
    NEWEST,
    whole_store,
)
from tests.golden import STORES, golden_cache, layer_ids
from tests.stores import cache_path, edit_layers, nobody, readable_folder, toc_path
from vecache.doctor import mend as mend_module
from vecache.doctor.check import diagnose
from vecache.doctor.mend import Action, mend, plan_actions, require_writable
from vecache.doctor.rules import Remedy, Rule
from vecache.errors import StoreError, StoreLockedError
from vecache.index.layers_cache import LayersCache
from vecache.store.lock import read_lock, write_lock
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a store, records as they are parsed, without the lock that writers sign."""
    files = {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    files.pop("overlay-layers/layers.lock")
    records = files.pop("overlay-layers/layers.json")
    return {**files, "layers.json": json.dumps(json.loads(records)).encode()}


def fix(root: Path) -> list[Action]:
    store = open_store(root)
    folder = root.parent / "user"
    return mend(store, plan_actions(diagnose(store, folder).findings))


@pytest.mark.parametrize("name", CACHE_DAMAGE)
def test_what_was_damaged_is_as_before(name: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    before = files_of(root)
    rule, damage = CACHE_DAMAGE[name]
    damage(root)
    assert files_of(root) != before
    (action,) = fix(root)
    assert (action.rule, action.layer, action.is_done) == (rule, LAYER, True)
    assert files_of(root) == before
    assert cache_path(root, LAYER).read_bytes() == golden_cache("dir", LAYER)
    assert diagnose(open_store(root), tmp_path).wrong == []
    assert fix(root) == []


@pytest.mark.parametrize("store", STORES)
def test_all_caches_of_each_layout_come_back(store: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path, store)
    before = files_of(root)
    for layer in layer_ids(store)[:-1]:
        cache_path(root, layer).write_bytes(b"\3")
    cache_path(root, NEWEST).unlink(missing_ok=True)
    assert [action.is_done for action in fix(root)] == [True] * 4
    assert files_of(root) == before


def test_a_cache_that_a_crash_left_unlisted_is_listed(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    cache_path(root, NEWEST).write_bytes(golden_cache("dir", NEWEST))
    (action,) = fix(root)
    assert (action.remedy, action.layer) == (Remedy.LIST, NEWEST)
    records = json.loads((root / "overlay-layers" / "layers.json").read_text())
    assert records[-1]["big-data-names"][-1] == "chunked-manifest-cache"
    assert cache_path(root, NEWEST).read_bytes() == golden_cache("dir", NEWEST)
    assert len((root / "overlay-layers" / "layers.lock").read_bytes()) == 64


def test_a_cache_that_is_wrong_in_two_ways_is_built_once(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    before = files_of(root)
    for name in ("unlisted", "full filter"):
        CACHE_DAMAGE[name][1](root)
    for order in (1, -1):
        findings = diagnose(open_store(root), tmp_path).wrong[::order]
        assert [each.remedy for each in plan_actions(findings)] == [Remedy.BUILD]
    assert len(fix(root)) == 1
    assert files_of(root) == before


NOT_OURS = {**DAMAGE, **HINTS}


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_is_podmans_is_left_alone(name: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    NOT_OURS[name][1](root)
    if name.startswith("list of"):
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert fix(root) == []
        assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return
    before_fix = files_of(root)
    assert fix(root) == []
    assert files_of(root) == before_fix


def test_our_temporary_files_are_removed_and_no_others(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    before = files_of(root)
    for name in LEFTOVERS.values():
        (root / name).write_bytes(b"half a cache")
    strange = root / "overlay-layers" / ".tmp-vecache-folder"
    strange.mkdir()
    assert sorted(action.path for action in fix(root) if action.is_done) == sorted(
        str(root / name) for name in LEFTOVERS.values()
    )
    assert files_of(root) == before
    assert strange.is_dir()
    DAMAGE["temporary file of Podman"][1](root)
    assert fix(root) == []


def test_no_symbolic_link_leads_out_of_the_store(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    outside = tmp_path / "outside"
    (root / "overlay-layers" / LAYER).rename(outside)
    (outside / ".tmp-vecache-1").write_bytes(b"")
    (root / "overlay-layers" / LAYER).symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.iterdir()}
    path = str(root / "overlay-layers" / LAYER / ".tmp-vecache-1")
    store = open_store(root)
    actions = [
        Action(Remedy.REMOVE, Rule.LEFTOVER, LAYER, path),
        Action(Remedy.BUILD, Rule.CACHE_ORDER, LAYER, str(cache_path(root, LAYER))),
        Action(Remedy.REMOVE, Rule.LEFTOVER, None, str(root / "overlay-layers/layers.json")),
    ]
    assert [action.is_done for action in mend(store, actions)] == [False] * 3
    assert {path: path.read_bytes() for path in outside.iterdir()} == before


def test_what_cannot_be_done_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = whole_store(tmp_path)
    layers = layer_ids("dir")[:2]
    for layer in layers:
        cache_path(root, layer).write_bytes(b"\3")
    store = open_store(root)
    actions = plan_actions(diagnose(store, tmp_path).findings)
    toc_path(root, layers[0]).write_bytes(b"{")
    first, second = mend(store, actions)
    assert not first.is_done
    assert "TOC" in (first.error or "")
    assert second.is_done
    edit_layers(root, lambda records: records.pop(0))
    (gone,) = mend(store, actions[:1])
    assert "no longer in the store" in (gone.error or "")
    monkeypatch.setattr(mend_module, "write_big_data", write_to_full_disk)
    (full,) = mend(store, actions[1:])
    assert full.error == "no space"


def test_a_locked_store_is_waited_for_once(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    for layer in layer_ids("dir")[:3]:
        cache_path(root, layer).write_bytes(b"\3")
    store = open_store(root, lock_wait_seconds=0.05)
    actions = plan_actions(diagnose(store, tmp_path).findings)
    with read_lock(root / "overlay-layers" / "layers.lock"):
        done = mend(store, actions)
    assert len({action.error for action in done}) == 1
    assert "still holds the lock" in (done[0].error or "")
    with (
        write_lock(root / "overlay-layers" / "layers.lock"),
        pytest.raises(StoreLockedError),
    ):
        diagnose(store, tmp_path)
    assert all(action.is_done for action in mend(store, actions))


def write_to_full_disk(*_: object) -> None:
    raise StoreError("no space")


def test_damage_in_the_users_folder_is_removed(tmp_path: Path) -> None:
    root, folder = whole_store(tmp_path), tmp_path / "user"
    LayersCache.load(root, build_cache=folder)
    (path,) = (folder / "built").iterdir()
    path.write_bytes(b"damaged")
    (action,) = fix(root)
    assert (action.path, action.is_done) == (str(path), True)
    assert not path.exists()
    path.mkdir()
    (action,) = fix(root)
    assert "cannot be removed" in (action.error or "")


def test_a_cache_that_another_version_built_is_removed(tmp_path: Path) -> None:
    root, folder = whole_store(tmp_path), tmp_path / "user"
    LayersCache.load(root, build_cache=folder)
    (path,) = (folder / "built").iterdir()
    assert fix(root) == []
    other = golden_cache("dir", LAYER)
    path.write_bytes(xxhash.xxh3_128_digest(other) + other)
    assert fix(root)[0].path == str(path)
    assert not path.exists()


def test_only_a_store_of_this_machine_that_can_be_written_is_mended(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    store = open_store(root)
    require_writable(store)
    config = replace(store.config, additional_stores=(root,))
    with pytest.raises(StoreError, match="additional store"):
        require_writable(replace(store, config=config))
    if os.geteuid() == 0:
        with readable_folder() as folder:
            other = whole_store(folder)
            with nobody(), pytest.raises(StoreError, match="run as the owner"):
                require_writable(open_store(other))
