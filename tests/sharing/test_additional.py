"""What an additional store has is stored, but no pull reuses it and no removal frees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.stores import copy_part, toc_path
from vecache.cli.main import main
from vecache.errors import StoreError
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.sharing.exclusive import shares
from vecache.sharing.gather import gather
from vecache.sharing.matrix import overlap
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.sharing.contents import Contents

BASE, APP1, OTHER, *_ = layer_ids("dir")
APP1_IMAGE = f"oci:{GOLDEN_SMALL / 'oci'}:app1"


class Case(NamedTuple):
    """A store whose image app1 has its base in an additional store."""

    alone: Contents  # without the additional store
    sources: list[Any]  # the store in each of its forms


@pytest.fixture
def case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Case:
    own = copy_part(tmp_path / "own", [APP1], ["app1"])
    extra = copy_part(tmp_path / "extra", [BASE, OTHER], ["base", "other"])
    alone = read_contents(own)
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f"[storage]\ndriver = 'overlay'\ngraphroot = '{own}'\n"
        f"[storage.options]\nadditionalimagestores = ['{extra}']\n"
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    assert main(["snapshot", "-o", str(tmp_path / "node")]) == 0
    written = [tmp_path / name for name in ("set", "set.parquet")]
    for path in written:
        assert main(["export", "-o", str(path)]) == 0
    capsys.readouterr()
    cache = LayersCache.load(open_store())
    return Case(alone, [open_store(), cache, tmp_path / "node", *written])


def test_they_cover_no_image(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    image = open_image(APP1_IMAGE)
    wanted = gather(image, case.alone)
    for source in case.sources:
        found = gather(image, source)
        assert found.layer_ids == (APP1,)
        assert found.uncovered_bytes == wanted.uncovered_bytes > 0
    assert main(["gather", APP1_IMAGE, "--reflink", "no"]) == 0
    text = capsys.readouterr().out
    assert "1 of 1 local layer " in text
    for layer in (BASE, OTHER):
        assert f"{layer[:12]}  not counted: in an additional store" in text
    assert main(["gather", APP1_IMAGE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["excluded"] == []  # they were read


def test_an_overlap_counts_them_and_says_where_they_are(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in case.sources:
        assert overlap(source).labels == shares(source).labels == (APP1, BASE, OTHER)
        assert overlap(source, "image").labels[0].endswith("/app1:latest")
        named = read_contents(source).additional_ids
        assert {each for each in named if len(each) == 64} >= {BASE, OTHER}
        assert APP1 not in named
        assert len(named) == 4  # two images too
    assert main(["overlap", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["additional_layers"] == [BASE, OTHER]
    assert main(["overlap"]) == 0
    note = f"{BASE[:12]}  counted, but in an additional store: a pull never reuses its files"
    assert note in capsys.readouterr().out


def test_a_removal_leaves_them_and_finds_nothing_in_them(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = what_if(case.alone, [APP1])
    assert wanted.freed_bytes > what_if(GOLDEN_SMALL / "stores" / "dir", [APP1]).freed_bytes
    for source in case.sources:
        found = what_if(source, ["app1"])
        assert found.layer_ids == (APP1,)
        assert dict(found.remaining) == {BASE: "an additional store has it, which is only read"}
        assert found.freed_bytes == wanted.freed_bytes
        assert found.pull_bytes.tolist() == [wanted.freed_bytes]
        assert len(found.contents.images) == 3
        for name in ("base", OTHER):
            with pytest.raises(StoreError, match="in an additional store, which is only read"):
                what_if(source, [name])
    assert main(["rm", "base"]) == 3
    assert "in an additional store" in capsys.readouterr().err


@pytest.mark.usefixtures("case")
def test_an_unread_layer_there_changes_no_figure_of_a_removal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toc_path(tmp_path / "extra" / "dir", OTHER).write_bytes(b"{")
    for words in (["rm", "app1", "--json"], ["gather", APP1_IMAGE, "--json"]):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["excluded"] == []
    assert main(["overlap"]) == 3
    assert "1 of 3 local layers could not be read" in capsys.readouterr().err


def test_an_image_there_does_not_need_a_layer_that_is_here_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copy_part(tmp_path / "own", [BASE, APP1], ["app1"])
    extra = copy_part(tmp_path / "extra", [BASE], ["base"])
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f"[storage]\ndriver = 'overlay'\ngraphroot = '{own}'\n"
        f"[storage.options]\nadditionalimagestores = ['{extra}']\n"
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    found = what_if(open_store(), ["app1"])
    assert found.layer_ids == (BASE, APP1)
    assert [image.label[-11:] for image in found.images] == ["app1:latest"]
    assert not found.remaining
