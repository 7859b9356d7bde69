"""The metrics of a store are in Prometheus' text format, and equal what other verbs print."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from tests.stores import copy_store
from vecache.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

STORE = str(GOLDEN_SMALL / "stores" / "dir")
SAMPLE = re.compile(r'(vecache_\w+)\{store="((?:[^"\\\n]|\\["\\n])*)"(?:,\w+="(\w+)")?\} ([\d.]+)')


def samples(text: str) -> dict[tuple[str, str], float]:
    """Read metrics: name and the last label -> value."""
    found = {}
    lines = text.splitlines()
    for line in (line for line in lines if not line.startswith("#")):
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        name, _, label, value = sample.groups("")
        found[name, label] = float(value)
    for name in dict.fromkeys(name for name, _ in found):
        assert sum(line.startswith(f"# HELP {name} ") for line in lines) == 1
        assert lines.count(f"# TYPE {name} gauge") == 1
    return found


def test_metrics_are_what_other_verbs_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overlap", "--store", STORE, "--json"]) == 0
    dedup = json.loads(capsys.readouterr().out)["dedup"]
    assert main(["layers", "--store", STORE, "--prometheus"]) == 0
    found = samples(capsys.readouterr().out)
    assert main(["layers", "--store", STORE, "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert found["vecache_layers", "mapped"] == len(layers) - 1
    assert found["vecache_layers", "built"] == found["vecache_caches_missing", ""] == 1
    assert found["vecache_layers_unread", ""] == 0
    assert found["vecache_tags", ""] == sum(layer["n_tags"] for layer in layers)
    assert found["vecache_file_bytes", ""] == sum(layer["file_bytes"] for layer in layers)
    for grain, figures in dedup.items():
        assert found["vecache_dedup_ratio", grain] == figures["ratio"]
        assert found["vecache_unique_bytes", grain] == figures["unique_bytes"]


def test_a_file_is_written_whatever_the_store_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = copy_store("dir", tmp_path).rename(tmp_path / 'a"b\\c\nd')
    path = tmp_path / "vecache.prom"
    assert main(["layers", "--store", str(store), "-o", str(path)]) == 0
    assert r'{store="' + str(tmp_path) + r'/a\"b\\c\nd"' in path.read_text()
    assert samples(path.read_text())
    assert capsys.readouterr().out == ""
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "metrics"], input=path.read_bytes(), check=True)


def test_an_empty_store_has_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "overlay-layers").mkdir()
    assert main(["layers", "--store", str(tmp_path), "--prometheus"]) == 0
    found = samples(capsys.readouterr().out)
    assert found["vecache_layers", "mapped"] == 0
    assert found["vecache_dedup_ratio", "file"] == 1


@pytest.mark.parametrize("words", [["--json"], ["--jsonl"], ["-o", "x.csv"]])
def test_metrics_are_one_form(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "--store", STORE, "--prometheus", *words]) == 2
    assert "--prometheus: wanted no other form" in capsys.readouterr().err
