"""No figure hides a layer that could not be read: each verb says so, and returns 3."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.stores import (
    cache_path,
    copy_store,
    edit_layers,
    nobody,
    readable_folder,
    toc_path,
)
from vecache.cli.main import main
from vecache.image.open import open_image
from vecache.store.lock import write_lock
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP2 = f"oci:{GOLDEN_SMALL / 'oci'}:app2"
BASE, *OTHERS = layer_ids("dir")
DIGEST = "sha256:" + "0" * 64

# What each verb needs, besides --store, and what an unread layer does to its figures.
VERBS = {
    "plan": ([APP2, "--reflink", "no"], "upper bounds"),
    "gather": ([APP2, "--reflink", "no"], "what is LEFT is an upper bound"),
    "layers": ([], "the figures of plans are upper bounds"),
    "lookup": ([DIGEST], "a digest may be in one of them"),
    "overlap": ([], "exclusive bytes are upper bounds"),
    "rm": (["app2", "--reflink", "no"], "upper bounds"),
    "export": ([], "upper bounds"),
}


def command(verb: str, root: Path, *more: str) -> list[str]:
    output = ["-o", str(root.parent / "tags.parquet")] if verb == "export" else []
    return [verb, *VERBS[verb][0], "--store", str(root), *output, *more]


def warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("vecache: warning: ")]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A store with one layer whose cache and TOC are both damaged."""
    root = copy_store("dir", tmp_path)
    cache_path(root, BASE).write_bytes(b"damaged")
    toc_path(root, BASE).write_bytes(b"{")
    return root


@pytest.mark.parametrize("verb", VERBS)
def test_a_damaged_layer_is_said_and_is_3_unless_that_is_accepted(
    verb: str, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(verb, damaged)) == 3
    shown = capsys.readouterr()
    first, second, *advice = warnings(shown.err)
    assert first.startswith("vecache: warning: 1 of 5 local layers could not be read: ")
    assert VERBS[verb][1] in first
    assert BASE[:12] in second
    assert str(damaged) not in second  # where it is says the layer's id
    assert advice == [
        "vecache: warning: what is damaged can be pulled again, after `podman rmi` of its images"
    ]
    assert shown.out
    code = main(command(verb, damaged, "--incomplete-ok"))
    assert code == (1 if verb == "lookup" else 0)  # the digest is in no layer
    assert capsys.readouterr().err == shown.err


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "export"])
def test_documents_list_unread_layers(
    verb: str, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(verb, damaged, "--json")) == 3
    (excluded,) = json.loads(capsys.readouterr().out)["excluded"]
    assert list(excluded)[:2] == ["layer", "reason"]
    assert excluded["layer"] == BASE
    assert "not JSON" in excluded["reason"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_layer_that_never_had_a_toc_is_no_fault(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    edit_layers(root, lambda records: records.append({"id": "f" * 64}))
    toc_path(root, OTHERS[-1]).unlink()  # and the newest layer has no cache yet
    assert main(command(verb, root)) == (1 if verb == "lookup" else 0)
    shown = capsys.readouterr()
    assert "warning" not in shown.err
    if verb in ("gather", "layers", "overlap", "export"):
        assert "ffffffffffff  " in shown.out


def test_a_cache_that_no_toc_can_replace_is_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    cache_path(root, BASE).write_bytes(b"\x04" + bytes(100))
    toc_path(root, BASE).unlink()
    for verb, why in (("plan", "no TOC to build it anew from"), ("overlap", "there is no such")):
        assert main(command(verb, root, "--json")) == 3
        (excluded,) = json.loads(capsys.readouterr().out)["excluded"]
        assert why in excluded["reason"]


@pytest.mark.parametrize(
    "data", [b"{", b'{"format": 7}', None], ids=["broken", "unknown", "not a file"]
)
def test_a_layout_that_cannot_be_read_leaves_no_layer_out_silently(
    data: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    cache_path(root, BASE).unlink()  # it must be built, and the layout is not known
    (path,) = toc_path(root, BASE).parent.glob("=*LWxheWVyLWRhdGE=")
    path.unlink()
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    assert main(command("plan", root)) == 3
    assert "zstd-chunked-layer-data" in capsys.readouterr().err
    # TOCs do not depend on it. The pulls that `rm` plans do.
    assert main(command("overlap", root)) == 0
    capsys.readouterr()
    assert main(command("rm", root, "--json")) == 3
    (excluded,) = json.loads(capsys.readouterr().out)["excluded"]
    assert excluded["layer"] == BASE


def test_an_image_of_which_a_layer_is_unread_has_no_bounds(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["overlap", "--by", "image", "--store", str(damaged)]) == 3
    assert "images are counted without them" in warnings(capsys.readouterr().err)[0]


def test_reasons_name_the_files_on_the_machine_of_a_snapshot(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", "--store", str(damaged), "-o", str(tmp_path / "node")]) == 0
    capsys.readouterr()
    for verb in ("plan", "layers", "overlap", "gather", "rm"):
        assert main(command(verb, tmp_path / "node", "--json")) == 3
        (excluded,) = json.loads(capsys.readouterr().out)["excluded"]
        assert str(damaged / "overlay-layers" / BASE) in excluded["reason"], verb
        assert str(tmp_path / "home") not in excluded["reason"], verb


def test_figures_of_a_removal_are_no_bounds_where_what_goes_is_unread(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rm", BASE, "--store", str(damaged), "--reflink", "no"]) == 3
    shown = capsys.readouterr()
    (first, *_) = warnings(shown.err)
    assert first.endswith("what they hold is in no figure, neither freed nor to pull again")
    assert "1 layer of unknown content" in shown.out
    assert "after those above it, both without layers of unknown content:" in shown.out


def test_a_data_set_remembers_which_layers_could_not_be_read(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("set", "set.parquet"):
        path = tmp_path / name
        assert main(["export", "--store", str(damaged), "-o", str(path)]) == 3
        capsys.readouterr()
        assert main(["overlap", "--store", str(path)]) == 3
        assert "1 of 5 local layers could not be read" in capsys.readouterr().err


def test_a_flat_layer_without_its_toc_leaves_the_best_possible_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, layer = copy_store("flat", tmp_path), layer_ids("flat")[0]
    toc_path(root, layer).write_bytes(b"broken")  # the cache is sound, so figures of the pull are
    words = ["plan", APP2, "--store", str(root), "--present", layer, "--layout", "flat"]
    assert main([*words, "--json"]) == 3
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["excluded"] == []
    assert [each["layer"] for each in document["best"]["unread"]] == [layer]
    first, *_ = warnings(shown.err)
    assert "1 of 1 local layer could not be read: only the chunks in their caches count" in first
    assert main([*words, "-o", str(tmp_path / "plan.jsonl")]) == 3
    capsys.readouterr()
    assert main(words) == 3
    assert "BEST may be less" in capsys.readouterr().err
    # What does not show it does not depend on it.
    for more in (["--incomplete-ok"], ["--curve"], ["-o", str(tmp_path / "plan.csv")]):
        assert main([*words, *more]) == 0, more


def test_an_image_layer_that_cannot_be_read_is_3_where_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = shutil.copytree(GOLDEN_SMALL / "oci", tmp_path / "oci")
    image = open_image(f"oci:{images}:app2")
    for layer in image.layers[:1]:
        (images / "blobs" / "sha256" / layer.blob[7:]).write_bytes(b"damaged")
    words = ["gather", f"oci:{images}:app2", "--store", str(GOLDEN_SMALL / "stores" / "dir")]
    assert main([*words, "--json"]) == 3
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    (excluded,) = document["excluded_of_image"]
    assert (excluded["layer"], document["excluded"]) == (image.layers[0].diff_id, [])
    assert document["n_excluded_layers"] == 1
    first, second = warnings(shown.err)
    assert "could not be read: they are not counted" in first
    assert image.layers[0].diff_id[7:19] in second
    assert main([*words, "--incomplete-ok"]) == 0


def test_the_least_is_said_beside_figures_that_are_upper_bounds(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("plan", damaged, "--present", BASE)) == 3
    (line,) = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith("At least:")
    )
    assert line == (
        "At least:     0 B missing and 0 B of data, if layers whose content is not known hold the "
        "rest."
    )
    sound = GOLDEN_SMALL / "stores" / "dir"
    assert main(command("plan", sound, "--present", BASE)) == 0
    assert "At least:" not in capsys.readouterr().out


@pytest.fixture
def readable_copy() -> Iterator[Path]:
    """A store, and beside it images, that every user can reach and read."""
    with readable_folder() as folder:
        root = copy_store("dir", folder)
        images = shutil.copytree(GOLDEN_SMALL / "oci", folder / "oci")
        for path in (root, *root.rglob("*"), images, *images.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield root


@pytest.mark.parametrize("verb", VERBS)
def test_missing_permissions_are_folded_and_say_what_to_do(
    verb: str, readable_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = readable_copy
    words = [word.replace(str(GOLDEN_SMALL), str(root.parent)) for word in command(verb, root)]
    main(words)  # imports what nobody may not read
    capsys.readouterr()
    for layer in layer_ids("dir"):
        for path in (cache_path(root, layer), toc_path(root, layer)):
            path.touch()  # the newest layer has no cache
            path.chmod(0)
    with nobody():
        code = main(words)
    lines = warnings(capsys.readouterr().err)
    assert code == 3
    assert "5 of 5 local layers could not be read" in lines[0]
    assert "Permission denied" in lines[1]
    assert lines[-1].endswith("(sudo, or podman unshare for a user's store)")
    assert len(lines) == 3


def test_a_lock_that_is_never_free_is_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_store("dir", tmp_path)
    assert open_store.__kwdefaults__ is not None
    monkeypatch.setitem(open_store.__kwdefaults__, "lock_wait_seconds", 0.05)
    with write_lock(root / "overlay-layers" / "layers.lock"):
        for verb in VERBS:
            assert main(command(verb, root, "--incomplete-ok")) == 3
            shown = capsys.readouterr()
            assert "still holds the lock of the store" in shown.err
            assert shown.out == ""
