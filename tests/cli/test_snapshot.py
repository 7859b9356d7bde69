"""Protects snapshots: on any machine they give the figures of the machine that they are made on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, STORES, layer_ids, needs_debian, pulls
from tests.layouts import debian_layers_by_image, write_layout
from tests.recorded import RecordedPulls
from tests.stores import copy_store, debian_store, edit_layers, toc_path
from vecache.cli.main import main
from vecache.sharing.dataset import open_dataset
from vecache.store import settings
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence


class Machines:
    """A node that is configured to pull as recorded, and another machine that is not."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def configure(
        self,
        root: Path,
        *,
        pull_options: str,
        layout: str = "dir",
        parallel: int = 1,
        additional: Sequence[Path] = (),
    ) -> None:
        conf = self.folder / "containers.conf"
        conf.write_text(f"[engine]\nimage_parallel_copies = {parallel}\n")
        self.monkeypatch.setenv("CONTAINERS_CONF", str(conf))
        Path(os.environ["CONTAINERS_STORAGE_CONF"]).write_text(
            f'[storage]\ngraphroot = "{root}"\n[storage.options]\n'
            f"pull_options = {{{pull_options}}}\n"
            f"additionalimagestores = {json.dumps([str(each) for each in additional])}\n"
            f'[storage.options.overlay]\nuse_composefs = "{str(layout == "flat").lower()}"\n'
        )

    def check_same_plan(self, words: Sequence[str], *, reflink: bool) -> dict[str, Any]:
        """Plan on the node; then with its snapshot on a machine where everything differs.

        Alone, and with its snapshot in a fleet.
        """
        self.monkeypatch.setattr(settings, "can_reflink", lambda _: reflink)
        wanted = self.plan(*words)
        file, fleet = self.folder / "node.snapshot", self.folder / "fleet"
        assert main(["snapshot", "-o", str(file)]) == 0
        assert main(["fleet", "add", str(fleet), str(file), "--name", "node"]) == 0
        self.capsys.readouterr()

        def no_test(path: Path) -> bool:
            raise AssertionError(f"{path}: this machine's file system was tested")

        self.monkeypatch.setattr(settings, "can_reflink", no_test)
        options = wanted["options"]
        self.configure(
            self.folder / "nowhere",
            pull_options=f'use_hard_links = "{str(not options["hard_links"]).lower()}"',
            layout="dir" if options["layout"] == "flat" else "flat",
            parallel=options.get("parallel", 0) + 1,
        )
        wanted.pop("store")
        for store in (str(file), f"{fleet}#node"):
            found = self.plan(*words, "--store", store)
            assert found.pop("store") == store
            assert found == wanted
        return found

    def plan(self, *words: str) -> dict[str, Any]:
        assert main(["plan", "--json", *words]) == 0
        document: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return document


@pytest.fixture
def machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Machines:
    return Machines(tmp_path, monkeypatch, capsys)


def options_of(pull: dict[str, Any]) -> str:
    links = str(pull.get("use_hard_links", pull.get("hard_links", False))).lower()
    return (
        f'enable_partial_images = "true", use_hard_links = "{links}", '
        'insecure_allow_unpredictable_image_contents = "true"'
    )


@pytest.mark.parametrize("pull", pulls(GOLDEN_SMALL), ids=lambda p: f"{p['config']}-{p['image']}")
def test_a_snapshot_and_a_fleet_plan_small_pulls_as_their_store(
    pull: dict[str, Any], machines: Machines
) -> None:
    machines.configure(
        GOLDEN_SMALL / "stores" / pull["store"],
        pull_options=options_of(pull),
        layout=pull["format"],
    )
    layout = GOLDEN_SMALL / ("oci-estargz" if pull["toc"] == "estargz" else "oci")
    words = [f"oci:{layout}:{pull['image']}", "--present", *pull["layers_before"]]
    document = machines.check_same_plan(words, reflink=pull["reflink"])
    (layer,) = (each for each in document["layers"] if each["blob"] == pull["blob"])
    assert (layer["missing_bytes"], layer["total_bytes"]) == (pull["missing"], pull["total"])
    assert [f"{first}-{last}" for first, last in layer["ranges"]] == pull["ranges"]


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("debian")
    images = {image: [layer] for image, layer in debian_layers_by_image().items()}
    return write_layout(folder / "oci", images), debian_store(folder)


@needs_debian
@pytest.mark.parametrize("pull", pulls(GOLDEN_DEBIAN), ids=lambda p: f"{p['config']}-{p['image']}")
def test_a_snapshot_plans_debian_pulls_as_its_store(
    pull: dict[str, Any], debian: tuple[Path, Path], machines: Machines
) -> None:
    layout, root = debian
    machines.configure(root, pull_options=options_of(pull), layout=pull["format"])
    words = [f"oci:{layout}:{pull['image']}", "--present", *pull["layers_before"]]
    document = machines.check_same_plan(words, reflink=pull["reflink"])
    assert document["missing_bytes"] == pull["missing"]


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> RecordedPulls:
    return RecordedPulls("layered", tmp_path_factory.mktemp("layered"))


@pytest.mark.parametrize("number", range(13))
def test_a_snapshot_plans_images_of_several_layers_as_its_store(
    number: int, layered: RecordedPulls, machines: Machines
) -> None:
    assert len(layered.pulls) == 13
    pull = layered.pulls[number]
    machines.configure(
        layered.store(pull["config"], pull["layers_before"], is_flat=pull["layout"] == "flat"),
        pull_options=options_of(pull),
        layout=pull["layout"],
        parallel=pull["parallel"],
    )
    machines.check_same_plan([layered.reference(pull["image"])], reflink=pull["reflink"])


@pytest.fixture(scope="module")
def presence(tmp_path_factory: pytest.TempPathFactory) -> RecordedPulls:
    return RecordedPulls("presence", tmp_path_factory.mktemp("presence"))


@pytest.mark.parametrize("number", range(43))
def test_a_snapshot_knows_which_layers_are_present_as_its_store(
    number: int, presence: RecordedPulls, machines: Machines
) -> None:
    assert len(presence.pulls) == 43
    pull = presence.pulls[number]
    machines.configure(
        presence.store(pull["config"], pull["before"]),
        pull_options=pull["pull_options"] or "",
        layout=pull["layout"],
        parallel=pull["parallel"],
        additional=[presence.store(name, None) for name in pull["additional"]],
    )
    machines.check_same_plan([presence.reference(pull["image"])], reflink=pull["reflink"])


@pytest.mark.parametrize("name", STORES)
def test_stored_images_are_found_by_name_in_a_snapshot(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = GOLDEN_SMALL / "stores" / name, tmp_path / "node"
    assert main(["snapshot", "--store", str(root), "-o", str(file)]) == 0
    capsys.readouterr()
    words = ["--json", "--reflink", "yes", "--present", layer_ids(name)[0]]
    documents = []
    for store in (root, file):
        assert main(["plan", "containers-storage:app2", "--store", str(store), *words]) == 0
        documents.append(json.loads(capsys.readouterr().out))
        assert documents[-1].pop("store") == str(store)
    assert documents[0] == documents[1]
    assert any(layer["ranges"] for layer in documents[0]["layers"]) is (name != "converted")


def test_every_verb_that_reads_a_store_takes_a_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = GOLDEN_SMALL / "stores" / "dir", tmp_path / "node"
    assert main(["snapshot", "--store", str(root), "-o", str(file)]) == 0
    assert f"5 layers and 5 images of {root}" in capsys.readouterr().out
    digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for words in (
        ["lookup", digest],
        ["overlap"],
        ["gather", f"oci:{GOLDEN_SMALL / 'oci'}:app2", "--reflink", "yes"],
        ["rm", "app1", "--reflink", "no"],
    ):
        documents = []
        for store in (root, file):
            assert main([*words, "--store", str(store), "--json"]) == 0, words
            text = capsys.readouterr().out.replace(str(file), str(root))
            documents.append(json.loads(text))
        assert documents[0] == documents[1], words
    assert main(["export", "--store", str(file), "-o", str(tmp_path / "tags.csv")]) == 0


def test_a_look_up_names_the_folder_on_the_snapshots_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = GOLDEN_SMALL / "stores" / "dir", tmp_path / "node"
    main(["snapshot", "--store", str(root), "-o", str(file)])
    capsys.readouterr()
    digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert main(["lookup", digest, "--store", str(file), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["digests"]
    assert found["target"] == str(root / "overlay" / layer_ids("dir")[0] / "diff")


def test_layers_says_whose_snapshot_it_is_and_how_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = GOLDEN_SMALL / "stores" / "dir", tmp_path / "node"
    main(["snapshot", "--store", str(root), "-o", str(file)])
    capsys.readouterr()
    assert main(["layers", "--store", str(file)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    host = os.uname().nodename
    assert first.startswith(f"{file} (snapshot of {root} on {host}, ")
    assert " old): 5 layers, 5 with a cache" in first
    assert main(["layers", "--store", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["store"] == str(file)
    assert (document["snapshot"]["host"], document["snapshot"]["root"]) == (host, str(root))
    assert document["snapshot"]["settings"]["parallel"] == 6
    assert [layer["cache"] for layer in document["layers"]] == ["mapped"] * 4 + ["cached"]
    assert main(["layers", "--store", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snapshot"] is None


def test_a_note_about_storage_conf_names_the_snapshots_machine(
    machines: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file, host = GOLDEN_SMALL / "stores" / "dir", str(tmp_path / "node"), os.uname().nodename
    words = ["plan", f"oci:{GOLDEN_SMALL / 'oci'}:app2", "--present", "--store", file]
    conf = os.environ["CONTAINERS_STORAGE_CONF"]
    machines.configure(root, pull_options="")
    assert main(["snapshot", "-o", file]) == 0
    assert main(words) == 0
    note = f"{conf} on {host} does not set enable_partial_images: Podman fetches whole blobs"
    assert note in capsys.readouterr().err
    assert main(["snapshot", "--store", str(copy_store("dir", tmp_path)), "-o", file]) == 0
    assert main(words) == 0
    assert f"{conf} on {host} was that of another store" in capsys.readouterr().err


def test_two_that_write_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    words = ["snapshot", "--store", str(GOLDEN_SMALL / "stores" / "dir"), "-o", str(tmp_path / "n")]
    commands = [[sys.executable, "-m", "vecache", *words] for _ in range(2)]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [each.wait() for each in running] == [0, 0]
    assert len(open_store(tmp_path / "n").layers()) == 5
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "n"]


def test_an_exported_folder_is_no_store_and_the_error_names_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "tags")
    assert main(["export", "--store", str(GOLDEN_SMALL / "stores" / "dir"), "-o", folder]) == 0
    assert main(["plan", f"oci:{GOLDEN_SMALL / 'oci'}:app1", "--store", folder]) == 3
    assert "`vecache snapshot -o FILE` writes all that plans need" in capsys.readouterr().err


def test_a_layer_that_cannot_be_read_is_named_then_and_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, file = copy_store("dir", tmp_path), tmp_path / "node"
    layer = layer_ids("dir")[-1]  # it has no cache
    toc_path(root, layer).unlink()
    toc_path(root, layer).mkdir()
    assert main(["snapshot", "--store", str(root), "-o", str(file)]) == 3
    output = capsys.readouterr()
    first, second, *_ = output.err.splitlines()
    said = "1 of 5 local layers could not be read: figures with the snapshot are upper bounds"
    assert first == f"vecache: warning: {said}"
    line = f"{layer[:12]}: zstd-chunked-manifest cannot be read: Is a directory"
    assert second == f"vecache: warning: {line}"
    main(["layers", "--store", str(file), "--json"])
    reason = json.loads(capsys.readouterr().out)["layers"][-1]["reason"]
    assert reason.startswith("when the snapshot was made: ")
    assert "cannot be read: Is a directory" in reason


@pytest.mark.parametrize("output", ["set", "set.parquet"])
def test_an_export_names_the_root_on_the_snapshots_machine(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_store("dir", tmp_path)
    assert main(["snapshot", "--store", str(root), "-o", str(tmp_path / "node")]) == 0
    words = ["export", "--store", str(tmp_path / "node"), "-o", str(tmp_path / output)]
    assert main(words) == 0
    contents = open_dataset(tmp_path / output)
    assert {record.store_root for record in contents.records} == {root}
    assert {image.record.store_root for image in contents.images} == {root}
    capsys.readouterr()


def test_a_layer_of_two_stores_is_unread_only_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, layer = copy_store("dir", tmp_path), layer_ids("dir")[0]
    extra = copy_store("dir", tmp_path / "extra")
    toc_path(extra, layer).unlink()
    toc_path(extra, layer).mkdir()
    conf = tmp_path / "storage.conf"
    conf.write_text(
        f"[storage]\ndriver = 'overlay'\ngraphroot = '{own}'\n"
        f"[storage.options]\nadditionalimagestores = ['{extra}']\n"
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    assert main(["snapshot", "-o", str(tmp_path / "node")]) == 3
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert "1 of 10 local layers could not be read" in first
    assert second.startswith(f"vecache: warning: {layer[:12]}: ")
    assert main(["overlap", "--store", str(tmp_path / "node")]) == 0
    capsys.readouterr()


def test_a_failure_leaves_the_old_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, file = copy_store("dir", tmp_path), tmp_path / "node"
    file.write_text("old")
    edit_layers(root, lambda records: records[0].update({"id": 7}))
    assert main(["snapshot", "--store", str(root), "-o", str(file)]) == 3
    assert "found an integer, wanted a string" in capsys.readouterr().err
    assert file.read_text() == "old"
    assert not list(tmp_path.glob(".tmp*"))


def test_a_snapshot_is_not_made_of_a_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "node")
    main(["snapshot", "--store", str(GOLDEN_SMALL / "stores" / "dir"), "-o", file])
    assert main(["snapshot", "--store", file, "-o", str(tmp_path / "other")]) == 3
    assert "is a snapshot already; copy the file" in capsys.readouterr().err
