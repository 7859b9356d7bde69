"""`doctor` says in one line that a store is sound, and with 3 what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyarrow import parquet

from tests.doctor.damage import CACHE_DAMAGE, DAMAGE, LAYER, whole_store
from tests.doctor.trees import unpack_layers
from tests.stores import cache_path, nobody, readable_folder
from vecache.cli.main import main
from vecache.report.terminal import human_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def doctor(
    store: Path | str, capsys: pytest.CaptureFixture[str], *options: str, code: int
) -> dict[str, Any]:
    """Run the verb and give its document."""
    assert main(["doctor", "--store", str(store), "--json", *options]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema"] == "vecache.doctor/1"
    return document


def test_a_sound_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = whole_store(tmp_path)
    assert main(["doctor", "--store", str(root)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == (
        f"{root}: sound (5 layers, 4 cache files, 5 TOCs, 5 images); 2 hints (--hints)\n"
    )
    assert main(["doctor", "--store", str(root), "--hints"]) == 0
    shown = capsys.readouterr()
    assert "Hint 14  a layer with a TOC has a cache file\n  4008ba2865b7  no cache" in shown.out


def test_what_is_wrong_is_shown_by_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = whole_store(tmp_path)
    CACHE_DAMAGE["filter"][1](root)
    DAMAGE["stranger"][1](root)
    document = doctor(root, capsys, code=3)
    assert (document["n_wrong"], document["n_hints"]) == (2, 2)
    (first, *_) = document["findings"]
    assert (first["rule"], first["severity"], first["layer"]) == (7, "wrong", LAYER)
    assert set(first) == {
        *("rule", "name", "severity", "layer", "image_id", "path"),
        *("found", "wanted", "advice", "remedy"),
    }
    assert main(["doctor", "--store", str(root)]) == 3
    shown = capsys.readouterr().out
    assert f"{root}: 2 things wrong (5 layers" in shown
    assert (
        "Rule 7  the bloom filter admits each tag: Podman finds no other\n"
        f"  {LAYER[:12]}  tags at byte" in shown
    )
    assert r"\x1bstranger" in shown
    assert "\x1b" not in shown


def test_many_findings_of_one_rule_are_not_all_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = whole_store(tmp_path)
    for number in range(20):
        (root / "overlay-layers" / f"{number:064}").mkdir()
    assert len(doctor(root, capsys, code=3)["findings"]) == 22
    assert main(["doctor", "--store", str(root)]) == 3
    assert "\n  and 12 more; --json lists all\n" in capsys.readouterr().out


def test_tables_have_a_row_a_finding(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    CACHE_DAMAGE["order"][1](root)
    path = tmp_path / "out.parquet"
    assert main(["doctor", "--store", str(root), "-o", str(path)]) == 3
    rows = parquet.read_table(path).to_pylist()
    assert [row["rule"] for row in rows] == [5, 13, 14]


def test_a_snapshot_is_checked_without_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = whole_store(tmp_path)
    CACHE_DAMAGE["filter"][1](root)
    DAMAGE["parent"][1](root)
    DAMAGE["files of no layer"][1](root)
    path = tmp_path / "node.snapshot"
    assert main(["snapshot", "--store", str(root), "-o", str(path)]) == 0
    capsys.readouterr()
    document = doctor(path, capsys, code=3)
    wrong = [each["rule"] for each in document["findings"] if each["severity"] == "wrong"]
    assert wrong == [7, 27]
    assert document["n_caches"] == 4


def test_a_node_of_a_fleet_is_checked_and_never_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, fleet = whole_store(tmp_path), tmp_path / "fleet"
    CACHE_DAMAGE["filter"][1](root)
    assert main(["fleet", "add", str(fleet), "--store", str(root), "--name", "web1"]) == 0
    capsys.readouterr()
    document = doctor(f"{fleet}#web1", capsys, code=3)
    assert [each["rule"] for each in document["findings"]] == [7, 13, 14]
    assert main(["doctor", "--store", f"{fleet}#web1", "--fix"]) == 3
    assert "nothing was written" in capsys.readouterr().err


def test_the_machines_own_store_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = whole_store(tmp_path)
    (tmp_path / "home" / "storage.conf").write_text(f"[storage]\ngraphroot='{root}'\n")
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.startswith(f"{root}: sound")


def test_no_store_and_a_store_of_another_user_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--store", str(tmp_path / "nowhere")]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    with readable_folder() as folder:
        root = whole_store(folder)
        (root / "overlay-layers").chmod(0o700)
        with nobody():
            assert main(["doctor", "--store", str(root)]) == 3
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert "run as the owner of the store" in shown.err


def test_a_dry_run_says_what_the_fix_then_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = whole_store(tmp_path)
    good = cache_path(root, LAYER).read_bytes()
    CACHE_DAMAGE["order"][1](root)
    bad = cache_path(root, LAYER).read_bytes()
    leftover = root / "overlay-layers" / ".tmp-vecache-1"
    leftover.touch()
    planned = doctor(root, capsys, "--fix", "--dry-run", code=3)
    assert [(each["remedy"], each["is_done"]) for each in planned["actions"]] == [
        ("build", False),
        ("remove", False),
    ]
    assert main(["doctor", "--store", str(root), "--fix", "--dry-run"]) == 3
    shown = capsys.readouterr().out
    assert shown.startswith(
        f"to do   build   cache file of layer {LAYER[:12]}\n"
        f"to do   remove  {leftover}\n\n{root}: 2 things wrong"
    )
    assert cache_path(root, LAYER).read_bytes() == bad
    assert leftover.exists()
    assert main(["doctor", "--store", str(root), "--fix"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"done    build   cache file of layer {LAYER[:12]}\ndone    remove")
    assert f"{root}: sound" in shown
    assert cache_path(root, LAYER).read_bytes() == good
    assert not leftover.exists()
    assert doctor(root, capsys, "--fix", code=0)["actions"] == []


def test_what_cannot_be_mended_is_still_wrong_after_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = whole_store(tmp_path)
    CACHE_DAMAGE["order"][1](root)
    DAMAGE["no files"][1](root)
    document = doctor(root, capsys, "--fix", code=3)
    assert [each["is_done"] for each in document["actions"]] == [True]
    assert document["n_wrong"] == 1


def test_a_snapshot_is_never_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.snapshot"
    assert main(["snapshot", "--store", str(whole_store(tmp_path)), "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["doctor", "--store", str(path), "--fix", "--dry-run"]) == 3
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert "run `vecache doctor --fix` on " in shown.err
    assert main(["doctor", "--dry-run"]) == 2
    assert "does nothing without --fix" in capsys.readouterr().err


def test_deep_compares_the_files_of_layers_with_their_tocs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = whole_store(tmp_path)
    unpack_layers(root, "dir")
    assert doctor(root, capsys, code=0)["n_files"] is None
    document = doctor(root, capsys, "--deep", code=0)
    assert document["n_files"] > 300
    path = next(each for each in (root / "overlay" / LAYER / "diff").rglob("*.txt"))
    odd = path.with_name("odd-\udcff")
    path.rename(odd)
    CACHE_DAMAGE["order"][1](root)
    document = doctor(root, capsys, "--deep", "--fix", code=3)
    assert [each["is_done"] for each in document["actions"]] == [True]
    (finding,) = [each for each in document["findings"] if each["severity"] == "wrong"]
    assert (finding["rule"], finding["path"]) == (40, str(path))
    assert main(["doctor", "--store", str(root), "--deep"]) == 3
    shown = capsys.readouterr().out
    assert f"{document['n_files']} files of {human_bytes(document['file_bytes'])})" in shown
    assert "To do: pull the image again, after `podman rmi`" in shown


def test_a_snapshot_has_no_files_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.snapshot"
    assert main(["snapshot", "--store", str(whole_store(tmp_path)), "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["doctor", "--store", str(path), "--deep"]) == 3
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert "run `vecache doctor --deep` on " in shown.err


def test_names_that_are_not_utf_8_fit_in_a_table(tmp_path: Path) -> None:
    root = whole_store(tmp_path)
    (root / "overlay-layers" / LAYER / "odd-\udcff").touch()
    for ending in (".parquet", ".csv", ".json", ".jsonl"):
        path = tmp_path / f"out{ending}"
        assert main(["doctor", "--store", str(root), "-o", str(path)]) == 3
        assert path.stat().st_size
