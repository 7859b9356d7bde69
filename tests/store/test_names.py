"""Layers are named by their images and by what made them; what is damaged names nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import layer_ids
from tests.stores import copy_store, edit_images
from vecache.index.layers_cache import LayersCache
from vecache.store.graphroot import open_store
from vecache.store.names import name_layers, parse_history, short_command
from vecache.store.records import MAX_LAYERS, ImageRecord, LayerRecord

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


@pytest.mark.parametrize(
    ("created_by", "wanted"),
    [
        ("/bin/sh -c #(nop) ADD file:" + "a1" * 32 + " in / ", "ADD file in /"),
        ("/bin/sh -c #(nop) COPY multi:" + "a1" * 32 + " in /app/ ", "COPY multi in /app/"),
        (
            "/bin/sh -c apt-get update \t&&  apt-get -y upgrade",
            "RUN apt-get update && apt-get -y upgrade",
        ),
        ("RUN /bin/sh -c npm ci # buildkit", "RUN npm ci"),
        ("RUN |2 A=1 B=c d /bin/sh -c make B=1 # buildkit", "RUN make B=1"),
        ("|1 A=1 /bin/bash -o -c make", "|1 A=1 /bin/bash -o -c make"),
        (
            "RUN /bin/bash -ec set -eux; set -o pipefail; dnf -y install gcc",
            "RUN dnf -y install gcc",
        ),
        ("COPY --chown=1 /src /dst # buildkit", "COPY --chown=1 /src /dst"),
        (
            "# debian.sh --arch 'amd64' out/ 'bookworm'",
            "# debian.sh --arch 'amd64' out/ 'bookworm'",
        ),
        ("bazel build ...", "bazel build ..."),
        ("/bin/sh", ""),
        ("/bin/sh -c #(nop) ", ""),
        ("", ""),
    ],
)
def test_commands_are_shortened_to_instructions(created_by: str, wanted: str) -> None:
    assert short_command(created_by) == wanted


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
    assert (names[app2].created_by, names[other].command) == ("", "")
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
