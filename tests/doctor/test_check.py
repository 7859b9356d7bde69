"""Each rule, broken alone on a copy of a golden store, is found, and nothing else is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.doctor.damage import CACHE_DAMAGE, DAMAGE, HINTS, LAYER, LEFTOVERS, NOBODY, whole_store
from tests.golden import GOLDEN_SMALL, STORES, needs_debian
from tests.store.conftest import MakeStore  # noqa: TC001 - pytest reads the annotation
from tests.stores import copy_store, debian_store, edit_layers, nobody, readable_folder
from vecache.doctor import rules
from vecache.doctor.check import Diagnosis, diagnose
from vecache.doctor.rules import Finding, Remedy, Rule
from vecache.index.layers_cache import LayersCache
from vecache.store.bigdata import LAYER_DATA_KEY, big_data_file_name
from vecache.store.graphroot import Store
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALL = {**CACHE_DAMAGE, **DAMAGE}


def check(root: Path, folder: Path | None = None) -> Diagnosis:
    return diagnose(open_store(root), folder or root.parent / "user")


def test_the_table_in_the_docstring_is_what_the_code_has() -> None:
    lines = (rules.__doc__ or "").split("====\n")[2].splitlines()
    table = [(line[:4], line[6:11].strip(), line[13:]) for line in lines if line[:1].isdigit()]
    assert table == [
        (f"{rule:<4}", "hint" if rule.is_hint else "wrong", rule.wanted) for rule in Rule
    ]
    for rule in Rule:
        assert Finding(rule, "").advice
        assert all(Finding(rule, "", remedy=remedy).advice for remedy in Remedy)


@pytest.mark.parametrize("name", STORES)
def test_podmans_own_stores_have_nothing_wrong(name: str, tmp_path: Path) -> None:
    result = diagnose(open_store(GOLDEN_SMALL / "stores" / name), tmp_path)
    assert result.wrong == []
    # The newest layer has no cache yet; a layer without files has an empty one, except in
    # eStargz, where it has a landmark; the golden stores are without the files of layers.
    empty = [Rule.CACHE_EMPTY] * (name != "estargz")
    assert [each.rule for each in result.hints] == [*empty, Rule.CACHE_MISSING, Rule.FOLDERS]
    assert (result.n_layers, result.n_tocs, result.n_caches, result.n_images) == (5, 5, 4, 5)


@needs_debian
def test_a_store_of_real_layers_has_nothing_wrong(tmp_path: Path) -> None:
    root = debian_store(tmp_path)
    for path in (root / "overlay-layers").glob("*/"):
        (path / big_data_file_name(LAYER_DATA_KEY)).write_bytes(b'{"format":0}')
    result = check(root)
    assert (result.wrong, result.n_caches) == ([], 5)


@pytest.mark.parametrize("name", ALL)
def test_each_rule_broken_alone_is_found(name: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    assert check(root).wrong == []
    rule, damage = ALL[name]
    damage(root)
    result = check(root)
    found = {finding.rule for finding in result.wrong}
    # A TOC that is gone takes the cache that it would give with it, and no more.
    assert found == {rule}
    assert len(result.wrong) == 1
    (finding,) = result.wrong
    assert finding.found
    assert finding.advice
    assert (finding.remedy is not None) == (name in CACHE_DAMAGE)


@pytest.mark.parametrize("name", HINTS)
def test_what_podman_sets_right_is_a_hint(name: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    before = {each.rule for each in check(root).hints}
    rule, damage = HINTS[name]
    damage(root)
    result = check(root)
    assert result.wrong == []
    assert {each.rule for each in result.hints} - before == {rule}


@pytest.mark.parametrize("name", LEFTOVERS.values(), ids=LEFTOVERS)
def test_our_temporary_files_are_found(name: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    (root / name).write_bytes(b"")
    (finding,) = check(root).wrong
    assert (finding.rule, finding.remedy) == (Rule.LEFTOVER, Remedy.REMOVE)
    assert finding.path == str(root / name)


def test_nothing_is_written_without_being_asked(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    for name, (_, damage) in ALL.items():
        if not name.startswith(("list of", "no diff")):
            damage(root)
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    assert len(check(root).wrong) > 10
    after = {path: path.stat() for path in tmp_path.rglob("*")}
    assert before.keys() == after.keys()
    assert all(before[path].st_mtime_ns == after[path].st_mtime_ns for path in before)


def damage_file(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [damage_file, cut_file, make_folder])
@pytest.mark.parametrize(("kind", "rule"), [("built", Rule.KEPT_CACHE), ("index", Rule.INDEX)])
def test_damage_in_the_users_folder_is_found_and_left(
    kind: str, rule: Rule, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    root, folder = whole_store(tmp_path), tmp_path / "user"
    cache = LayersCache.load(root, build_cache=folder)
    LayersCache.load(root, build_cache=folder)
    from vecache.index.disk_folder import IndexFolder  # noqa: PLC0415 - imports much

    IndexFolder(folder / "index", root).refresh(cache.layers, always=True)
    assert check(root, folder).wrong == []
    (path,) = (folder / kind).iterdir()
    damage(path)
    (finding,) = check(root, folder).wrong
    assert (finding.rule, finding.path, finding.remedy) == (rule, str(path), Remedy.REMOVE)
    assert path.exists()


def test_a_layer_that_is_removed_meanwhile_is_not_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = whole_store(tmp_path)
    (root / "overlay-layers" / LAYER).rename(tmp_path / "gone")
    assert check(root).wrong
    layers = Store.layers
    n_calls = 0

    def remove_later(store: Store) -> object:
        nonlocal n_calls
        n_calls += 1
        found = layers(store)
        return found if n_calls < 4 else tuple(each for each in found if each.id != LAYER)

    monkeypatch.setattr(Store, "layers", remove_later)
    assert {finding.layer for finding in check(root).wrong} & {LAYER} == set()


def test_a_user_without_rights_is_told_whose_store_it_is() -> None:
    with readable_folder() as folder:
        root = whole_store(folder)
        (root / "overlay-layers" / LAYER).chmod(0)
        with nobody():
            result = check(root)
        (root / "overlay-layers" / LAYER).chmod(0o700)
    assert {finding.rule for finding in result.wrong} >= {Rule.ITEM_MISSING, Rule.LAYOUT}
    assert all("run as the owner" in finding.found for finding in result.wrong)


def test_a_separate_image_store_is_checked_with_its_graph_root(
    make_store: MakeStore, tmp_path: Path
) -> None:
    ids = {name: name * 64 for name in "abc"}
    root = make_store([{"id": ids["a"]}], [])
    images = make_store([{"id": ids["b"]}], [{"id": "1", "layer": ids["b"]}], name="images")
    for store, layer in ((root, "a"), (images, "b"), (images, "c")):
        (store / "overlay" / ids[layer] / "diff").mkdir(parents=True)
    (root / "overlay-layers" / ids["b"]).mkdir()
    (tmp_path / "home" / "storage.conf").write_text(
        f"[storage]\ngraphroot='{root}'\nimagestore='{images}'\n"
    )
    result = diagnose(open_store(), tmp_path / "user")
    assert [(each.rule, each.path) for each in result.wrong] == [
        (Rule.FOLDER_ORPHANED, str(images / "overlay" / ids["c"]))
    ]
    assert (result.n_layers, result.n_images) == (2, 1)


def test_layers_of_additional_stores_count_as_listed(make_store: MakeStore, tmp_path: Path) -> None:
    more = copy_store("dir", tmp_path)
    edit_layers(more, lambda records: records[1].update({"big-data-names": ["gone"]}))
    top = json.loads((more / "overlay-layers" / "layers.json").read_text())[0]["id"]
    root = make_store([{"id": NOBODY, "parent": top}], [{"id": "1", "layer": top}])
    (tmp_path / "home" / "storage.conf").write_text(
        f"[storage]\ngraphroot='{root}'\n[storage.options]\nadditionalimagestores=['{more}']\n"
    )
    result = diagnose(open_store(), tmp_path / "user")
    assert result.wrong == []
    assert (result.n_layers, result.n_images) == (1, 1)
