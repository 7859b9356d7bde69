"""Stop every write at every step: `python -m tests.faults --rounds 1000`.

A round copies the folder of a change, makes the change with one fault, and checks that

1. the process was killed, succeeded, or failed with an error of vecache and an exit code of ours;
2. all files are as before or as after, as after if it succeeded, and Podman's lists parse;
3. a failure left no temporary file, and after a kill the next run removes what it left.

Prints the rounds, the faults that happened, and the losses, each with what was lost.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.faults.changes import CHANGES, Change, state
from tests.faults.inject import FAULTS, Outcome, run
from vecache.files import OWN_TEMPORARY
from vecache.store import blob_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IMPORTED: Final = (
    *("pyarrow.csv", "pyarrow.ipc", "pyarrow.parquet", "vecache.cli.build", "vecache.cli.doctor"),
    *("vecache.doctor.check", "vecache.doctor.mend", "vecache.fleet.contents"),
    *("vecache.sharing.export", "vecache.report.output", "vecache.cli.fleet.overlap"),
)


class Trial:
    """The folder of a change: as before, as after, and the one that is tried."""

    def __init__(self, folder: Path, change: Change) -> None:
        self.change, self.before, self.folder = change, folder / "before", folder / "run"
        self.before.mkdir(parents=True)
        _in_child(lambda: change.prepare(self.before))
        self.old = self._state(self.before)
        self._copy()
        counts = _in_child(functools.partial(self._make, must=True)).n_steps
        self.new = self._state(self.folder)
        self.n_steps = {
            fault: sum(counts[step] for step in steps) for fault, (_, steps) in FAULTS.items()
        }

    def round(self, fault: str, number: int) -> tuple[str, str]:
        """Try one fault; return at which step it was, and what was lost, or nothing."""
        self._copy()
        outcome = run(self._make, fault, number)
        try:
            self._check(outcome, fault)
        except AssertionError as error:
            return outcome.step, str(error)
        return outcome.step, ""

    def _check(self, outcome: Outcome, fault: str) -> None:
        if not outcome.is_killed:
            _require(not outcome.error, f"{outcome.error} {outcome.stderr}")
            _require(outcome.value in (0, 3), f"exit code {outcome.value}")
        for text in ("Traceback", "this is a bug"):
            _require(text not in outcome.stderr, outcome.stderr)
        found = self._state(self.folder)
        left = _temporary(found)
        unlike = self._unlike(_without(found, left))
        _require(not unlike, f"neither as before nor as after: {unlike}")
        is_done = not outcome.is_killed and outcome.value == 0 and not self.change.is_optional
        _require(not is_done or _without(found, left) == self.new, "success, and not as after")
        # What cannot be removed stays; that is no fault of the one who tried.
        may_stay = outcome.is_killed or outcome.step in ("unlink", "rmdir", "rename", "close")
        _require(not left or may_stay, f"left {left}")
        _in_child(functools.partial(self._make, must=True))
        found = self._state(self.folder)
        left = _temporary(found)
        _require(not left, f"the next run left {left}")
        _require(found == self.new, f"after {fault}: not as after")

    def _unlike(self, found: dict[str, Any]) -> list[str]:
        """Return the names of the files that are as in neither state, or else mix the two."""
        states = (self.old, self.new)
        if not self.change.by_file and found in states:
            return []
        names = sorted({**found, **self.old, **self.new})
        if not self.change.by_file:
            return [name for name in names if found.get(name) != self.old.get(name)]
        return [name for name in names if found.get(name) not in [s.get(name) for s in states]]

    def _make(self, *, must: bool = False) -> int:
        os.environ["XDG_CACHE_HOME"] = str(self.folder / "cache")
        code = self.change.make(self.folder)
        if must and code:
            raise AssertionError(f"without a fault: exit code {code}")
        return code

    def _copy(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.before, self.folder)

    def _state(self, folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = _in_child(functools.partial(state, folder)).value
        return found


def _in_child(function: Callable[[], object]) -> Outcome:
    outcome = run(function)
    _require(not outcome.error, f"{outcome.error} {outcome.stderr}")
    return outcome


def _require(is_so: bool, what: str) -> None:
    if not is_so:
        raise AssertionError(what)


def _temporary(found: dict[str, Any]) -> list[str]:
    return [name for name in found if OWN_TEMPORARY in name]


def _without(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: data for name, data in found.items() if name not in names}


def _plan(trials: dict[str, Trial], n_rounds: int, seed: int) -> Iterator[tuple[str, str, int]]:
    """Take changes in turn, and of each all faults at all steps in random order."""
    draw = random.Random(seed)
    orders: dict[str, list[tuple[str, int]]] = {name: [] for name in trials}
    for number in range(n_rounds):
        name = list(trials)[number % len(trials)]
        if not orders[name]:
            steps = trials[name].n_steps.items()
            orders[name] = [(fault, step) for fault, n in steps for step in range(n)]
            draw.shuffle(orders[name])
        yield (name, *orders[name].pop())


def main(n_rounds: int, seed: int, only: str | None) -> int:
    """Run the rounds; return how many lost something."""
    losses: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        _own_environment(Path(folder))
        trials = {
            name: Trial(Path(folder) / str(number), change)
            for number, (name, change) in enumerate(CHANGES.items())
            if only is None or only in name
        }
        for name, fault, number in _plan(trials, n_rounds, seed):
            step, lost = trials[name].round(fault, number)
            faults[fault] += 1
            if lost:
                losses[name] += 1
                sys.stdout.write(f"{name}: {fault} at step {number} {step}: {lost}\n")
        n_all = sum(sum(trial.n_steps.values()) for trial in trials.values())
    each = ", ".join(f"{fault} {n}" for fault, n in sorted(faults.items()))
    sys.stdout.write(
        f"rounds {n_rounds}, faults {faults.total()} of {n_all} ({each}), losses {losses.total()}\n"
    )
    return losses.total()


def _own_environment(folder: Path) -> None:
    """Keep away from the files of the user, as tests/conftest.py does; import what takes long."""
    for name in _IMPORTED:
        importlib.import_module(name)
    os.environ.update(
        HOME=str(folder), CONTAINERS_CONF="/dev/null", CONTAINERS_STORAGE_CONF="/dev/null"
    )
    setattr(blob_info, "_MACHINE_FOLDER", str(folder / "machine-cache"))  # noqa: B010 - it is final


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a part of the name of a change")
    args = parser.parse_args()
    sys.exit(1 if main(args.rounds, args.seed, args.only) else 0)
