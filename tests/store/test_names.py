"""Layers are named by their images and by what made them; what is damaged names nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import layer_ids
from tests.stores import copy_store, edit_images
from vecache.index.layers_cache import LayersCache
from vecache.store.names import LayerNames, name_layers, parse_history
from vecache.store.open import open_store
from vecache.store.records import MAX_LAYERS, ImageRecord, LayerRecord
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Callable

RUN, COPY = {"created_by": "RUN make"}, {"created_by": "COPY a /"}
EMPTY = {"created_by": "CMD a", "empty_layer": True}


def config(*history: Any) -> bytes:
    return json.dumps({"history": history}).encode()


def image(name: str, top: str) -> ImageRecord:
    return ImageRecord(name * 8, None, (name,), top, (), Path("/s"), is_read_only=False)


def edit_config(root: Path, name: str, edit: Callable[[Path], object]) -> None:
    """Change the config of an image of a copied store, given its path."""
    (record,) = [each for each in open_store(root).images() if f"/{name}:" in each.names[0]]
    edit(record.big_data_path(f"sha256:{record.id}"))


@pytest.mark.parametrize(
    ("history", "wanted"),
    [
        (config(RUN, EMPTY, COPY), ("RUN make", "COPY a /")),
        (config(EMPTY, RUN, {"created": "2020"}), ("RUN make", "")),
        (config(RUN, EMPTY), ("", "")),  # fewer than layers
        (config(RUN, COPY, RUN), ("", "")),
        (config(), ("", "")),
        (config(RUN, 7), ("", "")),
        (config(RUN, {"created_by": ["a"]}), ("", "")),
        (b'{"history": {}}', ("", "")),
        (b'{"history": null}', ("", "")),
        (b"[" * 10_000, ("", "")),
        (b"\xff", ("", "")),
        (b"", ("", "")),
    ],
)
def test_entries_of_layers_are_what_made_them(history: bytes, wanted: tuple[str, str]) -> None:
    assert parse_history(history, 2) == wanted


def test_a_text_of_megabytes_is_cut() -> None:
    (made,) = parse_history(config({"created_by": "x" * (1 << 20)}), 1)
    assert len(made) == 1 << 14


def test_a_layer_has_all_images_above_it_the_smallest_first() -> None:
    layers = [LayerRecord("a"), LayerRecord("b", "a"), LayerRecord("c", "b"), LayerRecord("d")]
    images = [image("big", "c"), image("small", "a"), image("middle", "b"), image("gone", "x")]
    made = {"big": ("", "2", "3"), "small": ("",), "middle": ("1", "other")}
    names = name_layers(layers, images, lambda each, n: made[each.label][:n])
    assert {key: each.image_names for key, each in names.items()} == {
        "a": ("small", "middle", "big"),
        "b": ("middle", "big"),
        "c": ("big",),
        "d": (),
    }
    assert [each.created_by for each in names.values()] == ["1", "2", "3", ""]


def test_configs_are_read_only_where_a_layer_has_no_name_yet() -> None:
    layers = [LayerRecord("a"), LayerRecord("b", "a")]
    read: list[str] = []

    def made(each: ImageRecord, n_layers: int) -> list[str]:
        read.append(each.label)
        return ["x"] * n_layers

    name_layers(layers, [image("1", "b"), image("2", "a"), image("3", "b")], made)
    assert read == ["1"]


def test_a_loop_and_a_chain_without_end_are_bounded() -> None:
    loop = name_layers([LayerRecord("a", "b"), LayerRecord("b", "a")], [image("i", "a")])
    assert [each.image_names for each in loop.values()] == [("i",), ("i",)]
    tall = [LayerRecord(f"{n}", f"{n - 1}" if n else None) for n in range(2 * MAX_LAYERS)]
    names = name_layers(tall, [image("i", tall[-1].id)])
    assert sum(bool(each.image_names) for each in names.values()) == MAX_LAYERS


def test_a_store_names_its_layers(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    edit_config(root, "app1", lambda path: path.write_bytes(config(RUN, EMPTY, COPY)))
    edit_config(root, "base", lambda path: path.write_bytes(b"{"))
    edit_config(root, "dirs", lambda path: path.unlink())
    edit_config(root, "app2", lambda path: path.write_bytes(config(RUN)))
    base, app1, other, dirs, app2 = layer_ids("dir")
    names = LayersCache.load(root, present=[base, app1, dirs]).layer_names
    assert names[base].image_names[0] == "localhost:5001/small/base:latest"
    assert len(names[base].image_names) == 2
    assert (names[base].created_by, names[app1].created_by) == ("RUN make", "COPY a /")
    assert (names[other].created_by, names[dirs].created_by) == ("/bin/sh", "")
    assert names[app2].created_by == ""
    edit_images(root, lambda records: records.clear())
    assert not any(each.image_names for each in LayersCache.load(root).layer_names.values())


def test_a_config_of_another_key_is_found(tmp_path: Path) -> None:
    """Podman's id of an image is not always the digest of its config."""
    root = copy_store("dir", tmp_path)

    def rename(records: list[dict[str, Any]]) -> None:
        for record in records:
            old = root / "overlay-images" / record["id"]
            record["id"] = record["id"][::-1]
            old.rename(old.parent / record["id"])

    edit_images(root, rename)
    assert {each.created_by for each in LayersCache.load(root).layer_names.values()} == {"/bin/sh"}


def test_a_title_is_short_and_has_the_id() -> None:
    layer_id, digest = "0f" * 32, "sha256:" + "0f" * 32
    made = LayerNames(("host/a/app:latest",), "RUN apt-get update && apt-get install")
    assert made.title(layer_id) == made.title(digest) == "0f0f0f0f0f0f RUN apt-get up…"
    assert LayerNames(("host/a/app:latest",), "/bin/sh").title(layer_id) == "0f0f0f0f0f0f app"
    assert LayerNames().title(layer_id) == "0f0f0f0f0f0f"
    assert LayerNames((), "COPY \x1b[2J").title("own-id") == r"own-id COPY \x1b[2J"
    titles = [made.title(layer_id), made.title("1" * 64)]
    assert short_labels(titles) == titles
    assert short_labels(titles, 20) == ["0f0f0f0f0f0f RUN ap…", "111111111111 RUN ap…"]
    assert short_labels(titles, 14) == ["0f0f0f0f0f0f", "111111111111"]
