"""A store shows what Podman would see in it, and an error says what is not a store."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL, STORES
from tests.stores import nobody
from vecache.errors import LayerNotFoundError, StoreError
from vecache.store.open import open_store

if TYPE_CHECKING:
    from tests.store.conftest import MakeStore

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def configure(text: str) -> None:
    Path(os.environ["CONTAINERS_STORAGE_CONF"]).write_text(text)


def test_what_is_not_a_graph_root_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no such folder; wanted a graph root"):
        open_store(tmp_path / "none")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StoreError, match="not a folder; wanted a graph root"):
        open_store(pipe)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match="neither a graph root nor a snapshot"):
        open_store(file)
    with pytest.raises(StoreError, match="Not a directory"):
        open_store(file / "below")
    with pytest.raises(StoreError, match="not a graph root: it has no overlay-layers/"):
        open_store(tmp_path)
    (tmp_path / "layers.parquet").touch()
    with pytest.raises(StoreError, match=r"`vecache export`.*`vecache snapshot -o FILE`"):
        open_store(tmp_path)
    (tmp_path / "layers.parquet").unlink()
    (tmp_path / "vfs-layers").mkdir()
    with pytest.raises(StoreError, match="only vfs-layers/: of another driver"):
        open_store(tmp_path)


def test_a_store_without_read_permission_is_refused_with_advice(golden_copy: Path) -> None:
    folder = golden_copy / "overlay-layers"
    folder.chmod(0)
    with nobody(), pytest.raises(StoreError, match=r"Permission denied.*podman unshare"):
        open_store(golden_copy)
    folder.chmod(0o700)


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    (tmp_path / "overlay-layers").mkdir()
    store = open_store(tmp_path)
    assert store.layers() == ()
    assert store.images() == ()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "overlay-layers"]


def test_the_default_is_the_store_of_storage_conf(make_store: MakeStore) -> None:
    root = make_store([{"id": A}])
    configure(f"[storage]\ngraphroot = '{root}'\n")
    assert [layer.id for layer in open_store().layers()] == [A]
    assert open_store().root == root


def test_volatile_layers_come_after_and_repeated_ids_are_dropped(make_store: MakeStore) -> None:
    root = make_store([{"id": A}, {"id": B, "diff-size": 1}])
    (root / "overlay-layers" / "volatile-layers.json").write_text(
        f'[{{"id":"{B}","diff-size":2}},{{"id":"{C}"}}]'
    )
    layers = open_store(root).layers()
    assert [layer.id for layer in layers] == [A, B, C]
    assert layers[1].diff_size == 1


def test_only_the_store_of_storage_conf_has_additional_stores(make_store: MakeStore) -> None:
    root = make_store([{"id": A}], [{"id": A, "names": ["x:1"]}])
    more = make_store(
        [{"id": A, "diff-size": 9}, {"id": B}], [{"id": B, "names": ["y:1"]}], name="more"
    )
    other = make_store([{"id": C}], name="other")
    configure(
        f"[storage]\ngraphroot = '{root}'\n[storage.options]\nadditionalimagestores=['{more}']\n"
    )
    for store in (open_store(), open_store(root)):
        layers = store.layers()
        assert [(x.id, x.is_read_only, x.store_root) for x in layers] == [
            (A, False, root),
            (B, True, more),
        ]
        assert layers[1].target == more / "overlay" / B / "diff"
        assert [(x.id, x.is_read_only) for x in store.images()] == [(A, False), (B, True)]
        assert store.find_image("y:1").store_root == more
    assert [layer.id for layer in open_store(other).layers()] == [C]
    shutil.rmtree(more)
    with pytest.raises(StoreError, match="names it as a store"):
        open_store()


def test_an_image_store_holds_the_files_of_layers_but_not_their_big_data(
    make_store: MakeStore,
) -> None:
    root = make_store([{"id": A}], [{"id": A}])
    images = make_store([{"id": B}], [{"id": B}], name="images")
    (root / "overlay-layers" / "volatile-layers.json").write_text(f'[{{"id":"{C}"}}]')
    configure(f"[storage]\ngraphroot = '{root}'\nimagestore = '{images}'\n")
    store = open_store()
    layers = store.layers()
    assert [layer.id for layer in layers] == [A, B, C]
    assert layers[1].target == images / "overlay" / B / "diff"
    assert layers[1].big_data_path("x") == root / "overlay-layers" / B / "x"
    assert layers[2].target == root / "overlay" / C / "diff"
    assert [image.id for image in store.images()] == [B, A]
    assert store.images()[0].big_data_path("x") == images / "overlay-images" / B / "x"


@pytest.mark.parametrize("name", STORES)
def test_golden_images_have_their_layers_bottom_first(name: str) -> None:
    store = open_store(GOLDEN_SMALL / "stores" / name)
    depth = {"base": 1, "app1": 2, "other": 1, "dirs": 2, "app2": 3}
    for image in store.images():
        layers = store.image_layers(image)
        short = image.names[0].split("/")[-1].split(":")[0]
        assert len(layers) == depth[short]
        assert layers[0].parent is None
        assert layers[-1].id == image.top_layer
        for below, above in itertools.pairwise(layers):
            assert above.parent == below.id


def test_a_chain_of_layers_with_a_loop_or_a_hole_is_an_error(make_store: MakeStore) -> None:
    root = make_store(
        [{"id": A, "parent": B}, {"id": B, "parent": A}, {"id": C, "parent": "d" * 64}],
        [{"id": "1", "layer": A}, {"id": "2", "layer": C}, {"id": "3"}],
    )
    store = open_store(root)
    loop, missing, none = store.images()
    with pytest.raises(StoreError, match="is below itself"):
        store.image_layers(loop)
    with pytest.raises(StoreError, match="dddddddddddddddd is not in the store"):
        store.image_layers(missing)
    assert store.image_layers(none) == ()


def test_layers_are_found_by_id_prefix_and_digest(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    first, second, *_ = store.layers()
    assert store.find_layers([second.id[:7], first.id]) == (second, first)
    assert first.diff_digest is not None
    assert first.toc_digest is not None
    assert store.find_layers([first.diff_digest, first.toc_digest]) == (first, first)
    assert store.find_layers([]) == ()
    for bad in ("ffff", "", "sha256:"):
        with pytest.raises(LayerNotFoundError, match="none of the store's 5 layers"):
            store.find_layers([bad])
    with pytest.raises(TypeError, match="found one str"):
        store.find_layers(first.id)


def test_the_beginning_of_an_id_must_match_one_layer(make_store: MakeStore) -> None:
    store = open_store(make_store([{"id": "ab1"}, {"id": "ab2", "names": ["top"]}]))
    with pytest.raises(StoreError, match=r"matches 2 layers \(ab1, ab2\)"):
        store.find_layers(["ab"])
    assert store.find_layers(["top"])[0].id == "ab2"


def test_each_call_reads_the_store_again(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    assert len(store.layers()) == 5
    (golden_copy / "overlay-layers" / "layers.json").write_text("[]")
    assert store.layers() == ()


def test_reading_changes_nothing_in_the_store(golden_copy: Path) -> None:
    (golden_copy / "overlay-layers" / "layers.lock").unlink()

    def snapshot() -> set[tuple[Path, int, int]]:
        stats = ((path, path.stat()) for path in golden_copy.rglob("*"))
        return {(path, stat.st_mtime_ns, stat.st_size) for path, stat in stats}

    before = snapshot()
    store = open_store(golden_copy)
    store.layers()
    store.images()
    repr(store)
    assert snapshot() == before


def test_repr_and_html_count_layers_and_images(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    n_bytes = sum(layer.diff_size for layer in store.layers())
    counts = f"5 layers of {n_bytes:,} bytes, 5 images"
    assert repr(store) == f"<Store {golden_copy}: {counts}>"
    assert counts in store._repr_html_()
    (golden_copy / "overlay-layers" / "layers.json").write_text("<b>")
    assert "cannot be read now" in repr(store)
    odd = dataclasses.replace(store, additional_stores=(Path("/<i>"),))
    assert "&lt;i&gt;" in odd._repr_html_()
    assert "<i>" not in odd._repr_html_()
