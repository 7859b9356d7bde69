"""Protects fleets: every verb gives for FLEET#NODE what it gives for the store of the node.

That plans of all recorded pulls are the same is held by `test_snapshot.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from tests.golden import GOLDEN_SMALL, STORES, debian_layers, layer_ids
from tests.recorded import RecordedPulls
from tests.stores import (
    copy_store,
    debian_store,
    edit_images,
    edit_layers,
    nobody,
    readable_folder,
    toc_path,
)
from vecache.cli.main import main
from vecache.store.fleet import pack_node, read_node

if TYPE_CHECKING:
    from collections.abc import Sequence


class Shell:
    """Runs verbs and reads what they print."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.fleet = str(folder / "fleet")
        self.capsys = capsys

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        assert main(list(words)) == code, words
        shown = self.capsys.readouterr()
        assert "bug in vecache" not in shown.err
        return shown.out, shown.err

    def document(self, *words: str, code: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run(*words, "--json", code=code)[0])
        return document

    def add(self, root: Path, name: str, *more: str, code: int = 0) -> tuple[str, str]:
        words = ["--store", str(root), f"--name={name}", *more]
        return self.run("fleet", "add", self.fleet, *words, code=code)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def golden(name: str) -> Path:
    return GOLDEN_SMALL / "stores" / name


@pytest.mark.parametrize("name", STORES)
def test_every_verb_gives_the_figures_of_the_store(name: str, shell: Shell, tmp_path: Path) -> None:
    root = golden(name)
    node = f"{shell.fleet}#web1.example.com"
    shell.add(root, "web1.example.com")
    digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for words in (
        ["plan", "containers-storage:app2", "--reflink", "yes", "--present", layer_ids(name)[0]],
        ["plan", f"oci:{GOLDEN_SMALL / 'oci'}:app2", "--reflink", "no", "--hard-links"],
        ["layers"],
        ["lookup", digest],
        ["overlap"],
        ["overlap", "--by", "image"],
        ["gather", f"oci:{GOLDEN_SMALL / 'oci'}:app2", "--reflink", "yes"],
        ["rm", "app1", "--reflink", "no"],
    ):
        wanted = shell.document(*words, "--store", str(root))
        found = shell.document(*words, "--store", node)
        if words[0] == "layers":
            assert found.pop("snapshot")["root"] == str(root)
            wanted.pop("snapshot")
            for layer in wanted["layers"]:
                layer["is_read_only"] = True
        assert json.loads(json.dumps(found).replace(node, str(root))) == wanted, words
    shell.run("export", "--store", node, "-o", str(tmp_path / "tags.csv"))
    shell.run("index", "--store", node)


@pytest.mark.parametrize("name", ["debian", "layered", "presence"])
def test_larger_stores_have_the_same_layers_on_a_node(
    name: str, shell: Shell, tmp_path: Path
) -> None:
    if name == "debian":
        if not debian_layers():
            pytest.skip("the real Debian layers are not here")
        root = debian_store(tmp_path)
    else:
        recorded = RecordedPulls(name, tmp_path / "recorded")
        pull = recorded.pulls[-1]
        root = recorded.store(pull["config"], pull.get("layers_before"))
    shell.add(root, "a")
    node = f"{shell.fleet}#a"
    shell.document("layers", "--store", str(root))  # builds caches that the store has not
    top = json.loads((root / "overlay-layers" / "layers.json").read_text())[-1]["id"]
    for words in (["layers"], ["overlap"], ["rm", top, "--reflink", "no"]):
        wanted = shell.document(*words, "--store", str(root))
        found = shell.document(*words, "--store", node)
        if words == ["layers"]:
            found["snapshot"] = None
            for layer in wanted["layers"]:
                layer["is_read_only"] = True
        assert json.loads(json.dumps(found).replace(node, str(root))) == wanted, words


def test_what_is_added_is_said(shell: Shell, tmp_path: Path) -> None:
    root, file = copy_store("dir", tmp_path), str(tmp_path / "node")
    shell.run("snapshot", "--store", str(root), "-o", file)
    out, _ = shell.run("fleet", "add", shell.fleet, file)
    assert out.startswith(f"{os.uname().nodename}: added; snapshot of ")
    assert "5 layers, 5 images, 110 kB that no node had" in out
    assert ": as it was;" in shell.run("fleet", "add", shell.fleet, file)[0]
    assert shell.run("fleet", "add", shell.fleet, file, "--name", "b")[0].startswith("b: added; ")
    edit_layers(root, lambda records: records.pop())
    out, err = shell.add(root, "b")
    assert ": replaced;" in out
    assert err == ""


def test_an_older_snapshot_is_named_and_no_failure(shell: Shell, tmp_path: Path) -> None:
    file = str(tmp_path / "node")
    shell.run("snapshot", "--store", str(golden("dir")), "-o", file)
    path = Path(shell.fleet, "nodes", "a.json.zst")
    shell.run("fleet", "add", shell.fleet, file, "--name", "a")
    document = json.loads(read_node(path))
    document["snapshot"]["time"] = "2999-01-01T00:00:00Z"
    path.write_bytes(pack_node(json.dumps(document).encode()))
    out, err = shell.run("fleet", "add", shell.fleet, file, "--name", "a")
    assert out.startswith("a: not changed: it has a newer snapshot; snapshot of 20")
    assert err == ""


def test_one_bad_snapshot_does_not_stop_the_others(shell: Shell, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    shell.run("snapshot", "--store", str(golden("dir")), "-o", str(good))
    bad.write_bytes(good.read_bytes()[:9000])
    out, err = shell.run("fleet", "add", shell.fleet, str(bad), str(good), "zzz", code=3)
    assert out.count("added;") == 1
    first, second = err.splitlines()
    assert first.startswith(f"vecache: error: {bad}: a damaged snapshot: ")
    assert second.startswith("vecache: error: zzz: ")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "name a SNAPSHOT that `vecache snapshot -o FILE` wrote, or --store PATH"),
        (["a", "b", "--name", "x"], "--name names one node, found 2 to add"),
        (["a", "--store", "b", "--name", "x"], "--name names one node, found 2 to add"),
    ],
)
def test_wrong_usage_is_2(words: Sequence[str], hint: str, shell: Shell) -> None:
    assert hint in shell.run("fleet", "add", shell.fleet, *words, code=2)[1]
    assert not Path(shell.fleet).exists()


def test_what_could_not_be_read_is_named_when_it_is_added_and_listed(
    shell: Shell, tmp_path: Path
) -> None:
    root, layer = copy_store("dir", tmp_path), layer_ids("dir")[-1]
    toc_path(root, layer).unlink()
    toc_path(root, layer).mkdir()
    _, err = shell.add(root, "a", code=3)
    first, second, *_ = err.splitlines()
    said = "1 of 5 local layers could not be read: figures of the node a are upper bounds"
    assert first == f"vecache: warning: {said}"
    assert second.startswith(f"vecache: warning: {layer[:12]}: zstd-chunked-manifest cannot be")
    shell.add(root, "a", "--incomplete-ok")
    assert shell.document("fleet", "list", shell.fleet)["nodes"][0]["n_unread"] == 1
    shell.run("layers", "--store", f"{shell.fleet}#a", code=3)


def test_the_list_has_ages_bytes_and_what_is_shared(shell: Shell, tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    edit_layers(root, lambda records: records.pop())
    shell.add(golden("dir"), "a")
    shell.add(root, "b")
    out, _ = shell.run("fleet", "list", shell.fleet)
    assert out.startswith(f"{shell.fleet}: 2 nodes\n\nNODE ")
    document = shell.document("fleet", "list", shell.fleet)
    records = json.loads((golden("dir") / "overlay-layers" / "layers.json").read_text())
    sizes = [record["diff-size"] for record in records]
    assert document["schema"] == "vecache.fleet-list/1"
    assert [node["layer_bytes"] for node in document["nodes"]] == [sum(sizes), sum(sizes[:4])]
    assert [node["shared_bytes"] for node in document["nodes"]] == [sum(sizes[:4])] * 2
    assert (document["layer_bytes"], document["distinct_bytes"]) == (
        sum(sizes) + sum(sizes[:4]),
        sum(sizes),
    )
    assert document["n_distinct_layers"] == 5
    files = [each.stat().st_size for each in Path(shell.fleet).rglob("*.*") if each.is_file()]
    assert abs(document["stored_bytes"] - sum(files)) < 10_000
    shell.run("fleet", "list", shell.fleet, "-o", str(tmp_path / "t.parquet"))
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table["node"].to_pylist() == ["a", "b"]
    Path(shell.fleet, "nodes", "a.json.zst").write_bytes(b"damaged")
    assert "1 node\n" in shell.run("fleet", "list", shell.fleet, code=3)[0]
    document = shell.document("fleet", "list", shell.fleet, code=3)
    assert document["errors"][0]["node"] == "a"
    assert document["nodes"][0]["shared_bytes"] == 0


def test_a_layer_that_a_node_has_twice_counts_twice_and_is_one_distinct_layer(
    shell: Shell, tmp_path: Path
) -> None:
    root = copy_store("dir", tmp_path)
    folder = root / "overlay-layers"
    first = json.loads((folder / "layers.json").read_text())[0]
    again = "e" * 64

    def repeat(records: list[dict[str, Any]]) -> None:
        records[:] = [first, {**first, "id": again}]

    edit_layers(root, repeat)
    edit_images(root, list.clear)
    shutil.copytree(folder / first["id"], folder / again)
    n_bytes = first["diff-size"]
    shell.add(root, "a")
    document = shell.document("fleet", "list", shell.fleet)
    assert document["nodes"][0]["layer_bytes"] == document["layer_bytes"] == 2 * n_bytes
    assert document["nodes"][0]["shared_bytes"] == 0
    assert (document["n_distinct_layers"], document["distinct_bytes"]) == (1, n_bytes)


def test_a_name_that_no_node_can_have_is_wrong_usage(shell: Shell, tmp_path: Path) -> None:
    for name in ("two words", "../up", "", "-"):
        _, err = shell.add(golden("dir"), name, code=2)
        assert f"--name: node {name!r}: wanted letters" in err
    assert not Path(shell.fleet).exists()


def test_an_empty_fleet_has_a_list_too(shell: Shell) -> None:
    shell.add(golden("dir"), "a")
    out, err = shell.run("fleet", "remove", shell.fleet, "a")
    assert out.startswith("a: removed, and 110 kB in ")
    assert err == ""
    assert "0 nodes" in shell.run("fleet", "list", shell.fleet)[0]
    assert "it has no nodes yet" in shell.run("fleet", "remove", shell.fleet, "a", code=1)[1]
    assert shell.document("fleet", "list", shell.fleet)["n_distinct_layers"] == 0


def test_a_fleet_or_a_node_that_is_not_there_is_named(shell: Shell, tmp_path: Path) -> None:
    shell.add(golden("dir"), "web1")
    shell.add(golden("dir"), "db")
    for verb in ("layers", "overlap"):
        err = shell.run(verb, "--store", f"{shell.fleet}#web2", code=1)[1]
        assert "node 'web2': not in the fleet" in err
        assert "similar names: web1" in err
        assert "name a node of it" in shell.run(verb, "--store", shell.fleet, code=3)[1]
        assert "no fleet.json" in shell.run(verb, "--store", f"{tmp_path}#a", code=3)[1]
        assert "there is no such" in shell.run(verb, "--store", f"{tmp_path}/x#a", code=3)[1]
    err = shell.run("fleet", "remove", shell.fleet, "db", "web2", code=1)[1]
    assert "similar names: web1" in err
    assert [n["node"] for n in shell.document("fleet", "list", shell.fleet)["nodes"]] == [
        "db",
        "web1",
    ]
    for words in (["list", str(tmp_path)], ["remove", str(tmp_path), "a"]):
        assert "not a fleet: it has no fleet.json" in shell.run("fleet", *words, code=3)[1]
    err = shell.run("snapshot", "--store", f"{shell.fleet}#db", "-o", str(tmp_path / "s"), code=3)[
        1
    ]
    assert "is a snapshot already" in err


def test_a_folder_that_cannot_be_written_is_our_own_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with readable_folder() as folder:
        shell = Shell(folder, capsys)
        root = copy_store("dir", folder)
        shell.run("snapshot", "--store", str(root), "-o", str(folder / "s"))
        (folder / "s").chmod(0o644)
        shell.run("fleet", "add", shell.fleet, str(folder / "s"), "--name", "a")
        with nobody():
            words = ["fleet", "add", shell.fleet, str(folder / "s"), "--name", "b"]
            assert "the fleet cannot be written" in shell.run(*words, code=3)[1]
            err = shell.run("fleet", "remove", shell.fleet, "a", code=3)[1]
            assert "the fleet cannot be written" in err
            assert len(shell.document("layers", "--store", f"{shell.fleet}#a")["layers"]) == 5
        assert len(shell.document("fleet", "list", shell.fleet)["nodes"]) == 1


def test_processes_that_add_and_remove_at_the_same_time(shell: Shell, tmp_path: Path) -> None:
    """Nodes that stay are whole whatever goes on beside them."""
    files = []
    for name in STORES:
        files.append(str(tmp_path / name))
        shell.run("snapshot", "--store", str(golden(name)), "-o", files[-1])
    script = (
        "import sys\n"
        "from vecache.cli.main import main\n"
        "fleet, number, *files = sys.argv[1:]\n"
        "for turn in range(4):\n"
        "    for file in files:\n"
        "        node = f'{number}-{file[-4:]}'.replace('/', '-')\n"
        "        assert main(['fleet', 'add', fleet, file, '--name', node]) == 0\n"
        "        assert main(['fleet', 'add', fleet, file, '--name', 'all']) == 0\n"
        "        assert main(['overlap', '--store', f'{fleet}#{node}', '--json']) == 0\n"
        "        assert turn == 3 or main(['fleet', 'remove', fleet, node]) == 0\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, shell.fleet, number, *files[::step]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, step in (("0", 1), ("1", -1))
    ]
    for each in running:
        _, err = each.communicate(timeout=300)
        assert each.returncode == 0, err
    listed = shell.document("fleet", "list", shell.fleet)
    assert len(listed["nodes"]) == 9
    assert listed["errors"] == []
    for node in listed["nodes"]:
        found = shell.document("layers", "--store", f"{shell.fleet}#{node['node']}")
        assert found["excluded"] == []
        assert len(found["layers"]) == 5
    names = [node["node"] for node in listed["nodes"]]
    shell.run("fleet", "remove", shell.fleet, *names)
    left = {each.name for each in Path(shell.fleet).rglob("*") if each.is_file()}
    assert left == {"fleet.json", "fleet.lock", "nodes.lock"}
