"""The file must be Podman's to the byte, and must never land on a terminal or half on the disk."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from tests.golden import golden_cache, golden_toc, small_layers
from vecache.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

TOC = b'{"version":1,"entries":[]}'


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_build_writes_what_podman_wrote(store: str, layer: str, tmp_path: Path) -> None:
    toc, out = tmp_path / "toc.json", tmp_path / "out.cache"
    toc.write_bytes(golden_toc(store, layer))
    layout = "flat" if store == "flat" else "dir"
    assert main(["build", str(toc), "--layout", layout, "-o", str(out)]) == 0
    assert out.read_bytes() == golden_cache(store, layer)


def test_build_goes_from_pipe_to_pipe(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TOC)))
    assert main(["build", "-"]) == 0
    assert len(capsysbinary.readouterr().out) == 68


def test_build_refuses_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toc.json").write_bytes(TOC)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["build", str(tmp_path / "toc.json")]) == 2
    assert "-o FILE" in capsys.readouterr().err


def test_build_names_the_toc_that_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toc, out = tmp_path / "toc.json", tmp_path / "out.cache"
    toc.write_bytes(TOC + b"x")
    out.write_bytes(b"old")
    assert main(["build", str(toc), "-o", str(out)]) == 3
    assert str(toc) in capsys.readouterr().err
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize("text", ["{}", '{"schemaVersion": 2, "manifests": []}'])
def test_other_json_is_not_a_toc(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.json").write_text(text)
    words = ["build", str(tmp_path / "index.json"), "-o", str(tmp_path / "cache")]
    assert main(words) == 3
    assert "index.json: not a TOC: it has neither a version nor entries" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert main(["inspect", str(tmp_path / "index.json")]) == 3
    assert "it is not a TOC" in capsys.readouterr().out
    assert main(["overlap", "--store", str(tmp_path)]) == 3
    assert "not a TOC" in capsys.readouterr().err


def test_a_toc_over_the_limit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # what reads it to its end needs a terabyte
    assert main(["build", str(path), "-o", str(tmp_path / "out")]) == 3
    assert "wanted at most 157,286,400" in capsys.readouterr().err


def test_closed_standard_input_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["build", "-", "-o", "/dev/null"]) == 2
    assert "closed" in capsys.readouterr().err
