"""Files appear whole or not at all, in the form that their name says."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, ipc, parquet

from vecache.report import output
from vecache.report.output import Report, json_text, replacing, write_report

if TYPE_CHECKING:
    from vecache.report.terminal import Screen

TABLE = pa.table(
    {
        "path": pa.array([b"etc/hosts", b"\xff\x1b", None], pa.binary()),
        "n": pa.array([1, None, 3], pa.int64()),
        "ranges": pa.array([[[0, 9]], [], None], pa.list_(pa.list_(pa.int64()))),
    }
)


def draw(file: BinaryIO, form: str) -> None:
    file.write(form.encode())


def text(_: Screen) -> str:
    return "for people"


REPORT = Report(text, lambda: {"n": 3}, lambda: TABLE, picture=draw)


def test_parquet_and_arrow_hold_the_table(tmp_path: Path) -> None:
    write_report(tmp_path / "a.parquet", REPORT)
    write_report(tmp_path / "a.ARROW", REPORT)
    assert parquet.read_table(tmp_path / "a.parquet").equals(TABLE)
    with ipc.open_file(tmp_path / "a.ARROW") as file:
        assert file.read_all().equals(TABLE)


def test_csv_holds_bytes_as_they_are_and_lists_as_json(tmp_path: Path) -> None:
    write_report(tmp_path / "a.csv", REPORT)
    lines = (tmp_path / "a.csv").read_bytes().splitlines()
    assert lines == [
        b'"path","n","ranges"',
        b'"etc/hosts",1,"[[0, 9]]"',
        b'"\xff\x1b",,"[]"',
        b",3,",
    ]
    options = csv.ConvertOptions(column_types={"path": pa.binary()}, strings_can_be_null=True)
    back = csv.read_csv(tmp_path / "a.csv", convert_options=options)
    assert back["path"].equals(TABLE["path"])


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "'", "\uff1d"])
def test_csv_has_no_cell_that_a_spreadsheet_runs(tmp_path: Path, first: str) -> None:
    texts = [f"{first}HYPERLINK(1)\n=2", "a=1", None]
    columns = {"text": texts, "n": [-1, 2, 3], "bytes": [b"\xff", b"-\xff", None]}
    table = pa.table({**columns, "path": pa.array(texts).dictionary_encode()})
    write_report(tmp_path / "a.csv", Report(text, dict, lambda: table))
    options = csv.ConvertOptions(column_types={"bytes": pa.binary()}, strings_can_be_null=True)
    parsing = csv.ParseOptions(newlines_in_values=True)
    back = csv.read_csv(tmp_path / "a.csv", parse_options=parsing, convert_options=options)
    assert back["text"].to_pylist() == back["path"].to_pylist() == [f"'{texts[0]}", "a=1", None]
    assert back["bytes"].to_pylist() == [b"\xff", b"'-\xff", None]
    assert back["n"].to_pylist() == [-1, 2, 3], "a number is no formula"


def test_json_is_the_document_and_jsonl_the_rows(tmp_path: Path) -> None:
    write_report(tmp_path / "a.json", REPORT)
    write_report(tmp_path / "a.jsonl", REPORT)
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 3}
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows[1] == {"path": "\udcff\x1b", "n": None, "ranges": []}
    assert [row["n"] for row in rows] == [1, None, 3]


def test_jsonl_can_have_lines_of_its_own(tmp_path: Path) -> None:
    report = Report(text, dict, lambda: TABLE, lines=lambda: [{"image": "a"}, {"image": "b"}])
    write_report(tmp_path / "a.jsonl", report)
    assert (tmp_path / "a.jsonl").read_text() == '{"image": "a"}\n{"image": "b"}\n'


def test_a_picture_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    write_report(tmp_path / "a.svg", REPORT)
    assert (tmp_path / "a.svg").read_bytes() == b"svg"
    with pytest.raises(ValueError, match=r"'\.png'"):
        write_report(tmp_path / "a.png", Report(text, dict, lambda: TABLE))
    assert [path.name for path in tmp_path.glob("a*")] == ["a.svg"]


def test_json_is_ascii_and_knows_numpy_and_paths() -> None:
    document = {"a": np.int64(3), "b": np.array([1, 2]), "c": Path("x"), "d": "\x9b日"}
    line = json_text(document)
    assert line.isascii()
    assert json.loads(line) == {"a": 3, "b": [1, 2], "c": "x", "d": "\x9b日"}
    with pytest.raises(TypeError, match="object"):
        json_text(object())


def test_a_new_file_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with replacing(tmp_path / "new") as file:
            file.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    with replacing(path) as file:
        file.write(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"x"


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("there", "missing"):
        (tmp_path / name).symlink_to(Path("folder") / name)
    (tmp_path / "folder" / "there").write_bytes(b"old")
    for name in ("there", "missing"):
        with replacing(tmp_path / name) as file:
            file.write(b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "folder" / name).read_bytes() == b"new"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "out" / "result"
    path.parent.mkdir()
    path.write_bytes(b"old")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"half of the n")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["result"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "folder.json"
    with pytest.raises(FileNotFoundError) as caught, replacing(path):
        pass
    assert caught.value.filename == str(path)
    with (
        pytest.raises(OSError, match="No space left") as full,
        replacing("/dev/full") as file,
    ):
        file.write(b"x")
    assert full.value.filename == "/dev/full"


def test_devices_and_pipes_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    with replacing("/dev/null") as file:
        file.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code = (
        "from vecache.report.output import replacing\n"
        "with replacing('/dev/stdout') as file: file.write(b'x')"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"x"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("n_rows", [0, 1, 2, 5])
def test_a_table_in_a_document_is_an_array_of_its_rows(
    n_rows: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written in pieces: a million look-ups took gigabytes as one text."""
    monkeypatch.setattr(output, "_BLOCK_ROWS", 2)
    texts = pa.array(["a", None, "b\n", "a", '"'][:n_rows], pa.string()).dictionary_encode()
    columns = dict.fromkeys(("layer", "target", "path"), texts)
    numbers = pa.array(range(n_rows), pa.int64())
    states = pa.array(["found"] * n_rows, pa.string())
    table = pa.table(
        {
            "digest": states,
            "state": states,
            **columns,
            **dict.fromkeys(("index", "offset", "length"), numbers),
        }
    )
    document = {"schema": "vecache.lookup/1", "store": "s", "digests": table, "excluded": []}
    report = Report(text, lambda: document, lambda: table)
    whole = {**document, "digests": table.to_pylist()}
    assert "".join(report.json_document(indent=indent)) == json.dumps(whole, indent=indent)
