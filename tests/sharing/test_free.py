"""What each step frees is what the removal of these images frees, and no other image frees more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sharing.build import contents_of
from tests.sharing.strategies import TOCS
from tests.stores import copy_store
from vecache.cli.main import main
from vecache.errors import ImageNotFoundError, StoreError
from vecache.index.load import ExcludedLayer
from vecache.sharing.contents import Contents
from vecache.sharing.free import what_to_remove
from vecache.sharing.removal import what_if
from vecache.store.containers import images_in_use
from vecache.store.open import open_store
from vecache.store.records import LayerRecord
from vecache.store.sample import open_sample

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.contents import Grain

ALL = 1 << 62


@st.composite
def stores(draw: st.DrawFn) -> Contents:
    """Some layers, some of them above others or without a TOC; some images."""
    tocs = draw(st.lists(TOCS, min_size=1, max_size=6))
    parents = [
        draw(st.none() | st.integers(0, number - 1)) if number else None
        for number in range(len(tocs))
    ]
    tops = draw(st.lists(st.integers(0, len(tocs) - 1), max_size=5))
    contents = contents_of(tocs, parents=parents, tops=tops)
    n_known = draw(st.integers(0, len(contents.layers)))
    excluded = tuple(
        ExcludedLayer(replace(layer.record, diff_size=draw(st.integers(-1, 99))), "no TOC")
        for layer in contents.layers[n_known:]
    )
    return replace(contents, layers=contents.layers[:n_known], excluded=excluded)


def freed(contents: Contents, images: list[str], grain: Grain | None) -> int:
    removal = what_if(contents, images, grain or "file")
    n_bytes = removal.stored_bytes if grain is None else removal.freed_bytes
    return n_bytes + removal.unknown_bytes


@given(stores(), st.sampled_from(["file", "chunk", None]), st.booleans())
def test_each_step_frees_what_its_removal_does(
    contents: Contents, grain: Grain | None, keeps: bool
) -> None:
    ids = [image.id for image in contents.images]
    kept = ids[:1] if keeps else []
    order = what_to_remove(contents, ALL, grain, keep=kept)
    chosen: list[str] = []
    for row in order.to_arrow().to_pylist():
        others = [each for each in ids if each not in (*chosen, *kept)]
        best = max(freed(contents, [*chosen, each], grain) for each in others)
        chosen.append(row["image_id"])
        assert row["freed_bytes"] == freed(contents, chosen, grain) == best
        assert row["alone_bytes"] == freed(contents, chosen[-1:], grain)
    assert order.total_bytes == freed(contents, [each for each in ids if each not in kept], grain)
    assert not order.is_enough


def test_a_layer_above_itself_stays_with_all_below_it() -> None:
    """As in a damaged store; and a deep chain takes no longer than a flat store."""
    contents = contents_of([b'{"version":1,"entries":[]}'] * 3, parents=[1, 0, 1], tops=[2])
    excluded = tuple(
        ExcludedLayer(replace(layer.record, diff_size=10), "no TOC") for layer in contents.layers
    )
    contents = replace(contents, layers=(), excluded=excluded)
    assert what_to_remove(contents, ALL).total_bytes == freed(
        contents, [contents.images[0].id], None
    )
    records = [LayerRecord(f"{n:064x}", f"{n - 1:064x}" if n else None) for n in range(60_000)]
    deep = Contents((), tuple(ExcludedLayer(record, "no TOC") for record in records))
    assert len(what_to_remove(deep, ALL)) == 0


def test_it_ends_as_soon_as_that_is_enough() -> None:
    whole = what_to_remove(open_sample(), ALL)
    for step, n_bytes in enumerate(whole.freed_bytes.tolist(), 1):
        if whole.added_bytes[step - 1]:
            order = what_to_remove(open_sample(), n_bytes)
            assert len(order) == step
            assert order.is_enough
    assert len(what_to_remove(open_sample(), 0)) == 0
    assert "<td>localhost:5001/small/app1:latest</td>" in whole._repr_html_()


def test_an_image_to_keep_must_be_there() -> None:
    with pytest.raises(ImageNotFoundError):
        what_to_remove(open_sample(), 1, keep=["nothing"])
    with pytest.raises(ValueError, match="several stores"):
        what_to_remove([open_sample(), open_sample()], 1)


def use(root: Path, name: str, *, file: str = "containers.json") -> str:
    """Let a container use an image; return the image's id."""
    folder = root / "overlay-containers"
    folder.mkdir(exist_ok=True)
    image = open_store(root).find_image(name).id
    (folder / file).write_text(json.dumps([{"id": "c1", "image": image, "layer": "rw"}]))
    return image


def test_containers_of_both_lists_use_images(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    assert images_in_use(open_store(root)) is None
    used = {use(root, "base"), use(root, "app2", file="volatile-containers.json")}
    assert images_in_use(open_store(root)) == frozenset(used)
    (root / "overlay-containers" / "containers.json").write_text("[5]")
    with pytest.raises(StoreError, match=r"containers\.json"):
        images_in_use(open_store(root))


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    return capsys.readouterr().out


def test_the_command_leaves_out_what_containers_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    words = ["rm", "--free", "2MB", "--store", str(root), "--reflink", "no"]
    text = run(capsys, *words)
    assert text.startswith("Nothing is removed. 2 of 5 images would go, to free 2.63 MB")
    assert "In use                        not known" in text
    assert "   1  localhost:5001/small/app1:latest  1.19 MB  1.19 MB  1.19 MB  2.37 MB" in text
    use(root, "app1")
    document: Any = json.loads(run(capsys, *words, "--json"))
    assert document["in_use"] == ["localhost:5001/small/app1:latest"]
    names = [step["image"] for step in document["steps"]]
    assert names[0] == "localhost:5001/small/app2:latest"
    assert document["in_use"][0] not in names
    assert document["freed_now_bytes"] == document["steps"][-1]["freed_bytes"] >= 2_000_000
    words[2] = "1GB"
    text = run(capsys, *words, code=1)
    assert "1.00 GB are out of reach: 3 of 5 images could go, and free 2.32 MB." in text
    assert "1 image of containers, left out: localhost:5001/small/app1:latest" in text


def test_names_and_free_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["rm"], ["rm", "app1", "--free", "1MB"]):
        assert main(words) == 2
        assert "or let --free SIZE choose" in capsys.readouterr().err
