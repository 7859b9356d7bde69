"""A short run of each target without atheris: the same inputs every time."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import NAMES
from tests.fuzz import __main__ as fuzz
from tests.fuzz import bar as bars
from tests.fuzz import mutate as mutate_module
from tests.fuzz.bar import Bar, BarError
from tests.fuzz.mutate import enlarge, mutate, mutate_json
from tests.fuzz.targets import Target, make_target
from vecache.errors import TocError

if TYPE_CHECKING:
    from pathlib import Path

N_INPUTS = {
    "cache": 300,
    "toc": 40,
    "build": 40,
    "archive": 60,
    "snapshot": 20,
    "node": 60,
    "index": 25,
    "image": 60,
    "snapshot-tree": 30,
    "fleet-tree": 30,
    "http": 60,
}
N_LARGE = 2
_PLANTED = """
import importlib.util
import sys
from tests.fuzz import __main__ as fuzz, targets

def plant(name, folder):
    def read(data):
        if b"null" in data:
            raise ValueError("planted")
        if data[:1] == b"X":
            if data[1:2] == b"Y":
                raise ValueError("planted")

    if importlib.util.find_spec("atheris") is not None:
        read = importlib.import_module("atheris").instrument_func(read)
    return targets.Target([b"abcdefgh"], read, name=name)

targets.make_target = plant
sys.exit(fuzz.main())
"""


@pytest.mark.parametrize("name", NAMES)
def test_any_input_is_answered_or_refused_within_the_bar(name: str, tmp_path: Path) -> None:
    bar = Bar(make_target(name, tmp_path / "files"))
    bar.run_seeds()
    assert bar.n_refused == 0 or name in ("tags", "login", "http"), "a seed is not sound"
    numbers = random.Random(name)
    for _ in range(N_INPUTS.get(name, 200)):
        bar.run(mutate(numbers, bar.target.seeds, bar.target.json_share))
    for _ in range(N_LARGE):
        bar.run(enlarge(numbers, mutate(numbers, bar.target.seeds, bar.target.json_share)))
    assert bar.n_refused


@pytest.mark.parametrize("how", ["plain", "atheris"])
def test_a_planted_fault_is_found_written_down_and_gives_exit_code_1(
    how: str, tmp_path: Path
) -> None:
    if how == "atheris":
        pytest.importorskip("atheris")
    flags = ["--target", "cache", "--seconds", "60", "--crashers", str(tmp_path)]
    flags += ["--plain"] * (how == "plain")
    done = subprocess.run(
        [sys.executable, "-c", _PLANTED, *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    (crasher,) = tmp_path.glob("cache-*")
    data = crasher.read_bytes()
    assert b"null" in data or data.startswith(b"XY")
    assert f"{crasher}: ValueError: planted" in done.stderr
    assert f"inputs ({how})" in done.stdout


def test_the_last_line_sums_up_all_targets(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(fuzz, "NAMES", ("tags", "login"))
    flags = ["tests.fuzz", "--plain", "--seconds", "0.1", "--crashers", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", flags)
    assert fuzz.main() == 0
    *reports, total = capfd.readouterr().out.splitlines()
    inputs = [int(each.split()[1].replace(",", "")) for each in reports]
    assert len(inputs) == 2
    assert total.startswith(f"total: {sum(inputs):,} inputs in ")
    assert total.endswith(" s, 0 crashers")


def test_changes_of_json_leave_nothing_behind() -> None:
    numbers, before = random.Random(0), repr(mutate_module._VALUES)
    for _ in range(1_000):
        mutate_json(numbers, b'{"a": [{}, {"b": [[]]}], "c": {"d": 1}}')
    assert repr(mutate_module._VALUES) == before


def test_the_bar_lets_our_own_errors_pass_and_no_others() -> None:
    def refuse(data: bytes) -> None:
        raise TocError(data.decode())

    bar = Bar(Target([b"seed"], refuse))
    bar.run(b"text")
    assert (bar.n_inputs, bar.n_refused) == (1, 1)
    with pytest.raises(UnicodeDecodeError):
        bar.run(b"\xff")


def test_what_takes_too_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_end(_: bytes) -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:  # as careless code would
                continue

    monkeypatch.setattr(bars, "MAX_SECONDS", 0.05)
    with pytest.raises(BarError, match="cut off"):
        Bar(Target([b""], never_end)).run(b"")


def test_what_takes_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "MAX_MEMORY_BYTES", 1 << 20)
    with pytest.raises(BarError, match="bytes of memory"):
        Bar(Target([b""], lambda _: b"x" * (64 << 20))).run(b"")
