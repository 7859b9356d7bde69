"""A short run of each target without atheris: the same inputs every time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import NAMES
from tests.fuzz import bar as bars
from tests.fuzz import mutate as mutate_module
from tests.fuzz.bar import Bar, BarError
from tests.fuzz.mutate import mutate, mutate_json
from tests.fuzz.targets import Target, make_targets
from vecache.errors import TocError

if TYPE_CHECKING:
    from pathlib import Path

N_INPUTS = {"cache": 300, "toc": 40, "archive": 60, "snapshot": 20, "node": 60, "index": 25}


@pytest.mark.parametrize("name", NAMES)
def test_any_input_is_answered_or_refused_within_the_bar(name: str, tmp_path: Path) -> None:
    targets = make_targets(tmp_path)
    assert tuple(targets) == NAMES
    bar = Bar(targets[name])
    bar.run_seeds()
    assert bar.n_refused == 0 or name in ("tags", "login"), "a seed is not sound"
    numbers = random.Random(name)
    for _ in range(N_INPUTS.get(name, 200)):
        bar.run(mutate(numbers, bar.target.seeds))
    assert bar.n_refused


def test_changes_of_json_leave_nothing_behind() -> None:
    numbers, before = random.Random(0), repr(mutate_module._VALUES)
    for _ in range(1_000):
        mutate_json(numbers, b'{"a": [{}, {"b": [[]]}], "c": {"d": 1}}')
    assert repr(mutate_module._VALUES) == before


def test_the_bar_lets_our_own_errors_pass_and_no_others() -> None:
    def refuse(data: bytes) -> None:
        raise TocError(data.decode())

    bar = Bar(Target("any", [b"seed"], refuse))
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
        Bar(Target("any", [b""], never_end)).run(b"")


def test_what_takes_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "MAX_MEMORY_BYTES", 1 << 20)
    with pytest.raises(BarError, match="bytes of memory"):
        Bar(Target("any", [b""], lambda _: b"x" * (64 << 20))).run(b"")
