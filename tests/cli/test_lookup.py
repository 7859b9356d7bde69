"""A batch is answered whole: what is absent or wrong shows in its row and in the exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden import GOLDEN_SMALL, golden_toc, layer_ids
from tests.stores import copy_store
from vecache.cli import lookup as lookup_verb
from vecache.cli.main import main
from vecache.index.layers_cache import LayersCache

if TYPE_CHECKING:
    from pathlib import Path

STORE = GOLDEN_SMALL / "stores" / "dir"
LAYER = layer_ids("dir")[0]
ENTRY = next(e for e in json.loads(golden_toc("dir", LAYER))["entries"] if e.get("size", 0) > 0)
ABSENT = "sha256:" + "0" * 64


def lookup(capsys: pytest.CaptureFixture[str], *digests: str, code: int) -> list[dict[str, Any]]:
    """Run the verb and give its rows."""
    assert main(["lookup", *digests, "--store", str(STORE), "--json"]) == code
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["digests"]
    return rows


def test_a_digest_is_found_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert lookup(capsys, ENTRY["digest"], code=0) == [
        {
            "digest": ENTRY["digest"],
            "state": "found",
            "index": 0,
            "layer": LAYER,
            "target": str(STORE / "overlay" / LAYER / "diff"),
            "path": ENTRY["name"],
            "offset": 0,
            "length": ENTRY["size"],
        }
    ]


def test_an_absent_digest_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    found, absent = lookup(capsys, ENTRY["digest"], ABSENT, code=1)
    assert found["state"] == "found"
    assert absent == {
        "digest": ABSENT,
        "state": "absent",
        **dict.fromkeys(("index", "layer", "target", "path", "offset", "length")),
    }


def test_an_id_of_a_layer_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    record = LayersCache.load(STORE).records[0]
    assert main(["lookup", f"{record.toc_digest}", ABSENT, "--store", str(STORE)]) == 1
    err = capsys.readouterr().err
    assert err.count("note:") == 1
    assert f"note: {record.toc_digest} is the layer {LAYER[:12]}; `vecache lookup`" in err
    assert main(["lookup", LAYER[:12], ENTRY["digest"], "--store", str(STORE)]) == 3
    assert f"note: {LAYER[:12]} is the layer {LAYER[:12]}; " in capsys.readouterr().err
    assert main(["lookup", ENTRY["digest"], "--store", str(STORE)]) == 0
    assert capsys.readouterr().err == ""


def test_a_wrong_digest_is_3_and_the_others_are_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = "\x1b[2J\udcff"  # as argv carries a byte that is no UTF-8
    assert main(["lookup", odd, ABSENT, ENTRY["digest"], "--store", str(STORE)]) == 3
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.split()[1] for line in lines] == ["STATE", "invalid", "absent", "found"]
    assert lines[1].startswith(r"\x1b[2J\xff")
    assert "is not a digest" in shown.err
    assert "\x1b" not in shown.out + shown.err


def test_dash_reads_one_digest_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = f"{ENTRY['digest']}\r\n\n  {ABSENT}\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    rows = lookup(capsys, ABSENT, "-", code=1)
    assert [row["digest"] for row in rows] == [ABSENT, ENTRY["digest"], ABSENT]


@pytest.mark.parametrize("data", [b"a\n" * 5, b"a\r" * 5, b"a" * 101])
def test_more_than_fits_into_memory_is_refused_and_not_cut(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lookup_verb, "_MAX_STDIN_BYTES", 100)
    monkeypatch.setattr(lookup_verb, "_MAX_STDIN_LINES", 4)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["lookup", "-", "--store", str(STORE)]) == 3
    assert "found more than 100 bytes or 4 lines" in capsys.readouterr().err


def test_a_line_that_no_digest_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(1 << 20))))
    assert main(["lookup", "-", "--store", str(STORE)]) == 3
    shown = capsys.readouterr().err
    assert "a line of more than 4,096 bytes" in shown
    assert len(shown) < 200


def test_options_may_stand_between_digests(capsys: pytest.CaptureFixture[str]) -> None:
    digest = ENTRY["digest"]
    assert main(["lookup", digest, "--store", str(STORE), "--jsonl", digest]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_no_digest_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lookup", "--store", str(tmp_path)]) == 2
    assert "no digest given" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert lookup(capsys, "-", code=0) == []


def test_a_lookup_in_a_cached_store_imports_little(tmp_path: Path) -> None:
    """Half of the time of a short run was imports: pandas by pyarrow, parsers, writers."""
    root = copy_store("dir", tmp_path)
    LayersCache.load(root, build="store")  # or the last layer would be built
    code = (
        "import sys\n"
        "from vecache.cli.main import main\n"
        "assert main() == 0\n"
        "modules = {'pandas', 'numpy.ma', 'dateutil', 'pyarrow.compute',\n"
        "           'vecache.toc.parse', 'vecache.cache.writer',\n"
        "           'vecache.store.unpack', 'vecache.store.write', 'vecache.store.settings'}\n"
        "print(sorted(modules & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "lookup", ENTRY["digest"], "--store", root],
        capture_output=True,
        check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert b"found" in done.stdout
    assert done.stderr == b"[]\n"
