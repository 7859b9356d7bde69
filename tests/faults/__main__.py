"""Stop every write at every step: `python -m tests.faults --rounds 1000`.

A round copies the folder of a change, makes the change with one fault, and checks that

1. the process was killed, succeeded, or failed with an error of vecache and an exit code of ours;
2. all files are as before or as after, as after if it succeeded, and Podman's lists parse;
3. a failure left no temporary file, and after a kill the next run removes what it left.

After a power cut a cache may be torn; then the figures that are read are the same. In each fourth
round two or four processes write at the same time, and some of them are killed.

Prints the rounds, the faults that happened, and the losses, each with what was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from tests.faults.changes import CHANGES, RACES
from tests.faults.trial import RaceTrial, Trial
from vecache.store import blob_info

_IMPORTED: Final = (
    *("pyarrow.csv", "pyarrow.ipc", "pyarrow.parquet", "vecache.cli.build", "vecache.cli.doctor"),
    *("vecache.doctor.check", "vecache.doctor.mend", "vecache.fleet.contents"),
    *("vecache.sharing.export", "vecache.report.output", "vecache.cli.fleet.overlap"),
    *("vecache.cli.export", "vecache.cli.fleet.add", "vecache.cli.layers", "vecache.cli.snapshot"),
    *("vecache.fleet.overlap", "vecache.report.fleet_overlap", "vecache.store.unpack"),
)


class _Rounds:
    """Takes changes in turn, of each the faults in turn, and of these the steps in random order."""

    def __init__(self, folder: Path, seed: int, only: str) -> None:
        self._folder, self._draw = folder, random.Random(seed)
        self._changes = itertools.cycle([name for name in CHANGES if only in name])
        self._races = itertools.cycle([name for name in RACES if only in name])
        self._trials: dict[str, Trial] = {}
        self._race_trials: dict[str, RaceTrial] = {}
        self._steps: dict[tuple[str, str], list[int]] = {}
        self.faults: Counter[str] = Counter()
        self.n_several = 0

    def stop(self) -> tuple[str, str]:
        """Make a change with one fault; return a description, and what was lost, or nothing."""
        name = next(self._changes)
        if name not in self._trials:
            self._trials[name] = Trial(self._folder / name, CHANGES[name])
        trial = self._trials[name]
        fault = next(trial.faults)
        steps = self._steps.setdefault((name, fault), [])
        if not steps:
            steps += range(trial.n_steps[fault])
            self._draw.shuffle(steps)
        number = steps.pop()
        step, lost = trial.round(fault, number)
        self.faults[fault] += 1
        return f"{name}: {fault} at step {number} {step}", lost

    def several(self) -> tuple[str, str]:
        """Let two or four processes write; return the same."""
        name = next(self._races)
        if name not in self._race_trials:
            self._race_trials[name] = RaceTrial(self._folder / f"several: {name}", RACES[name])
        n_writers = self._draw.choice((2, 4))
        n_killed, lost = self._race_trials[name].round(n_writers, self._draw)
        self.n_several += 1
        self.faults["kill of one of several"] += n_killed
        return f"{name}: {n_writers} writers, {n_killed} killed", lost


def main(n_rounds: int, seed: int, only: str) -> int:
    """Run the rounds; return how many lost something."""
    n_losses = 0
    with tempfile.TemporaryDirectory() as folder:
        _own_environment(Path(folder))
        rounds = _Rounds(Path(folder), seed, only)
        for number in range(1, n_rounds + 1):
            what, lost = rounds.several() if number % 4 == 0 else rounds.stop()
            if lost:
                n_losses += 1
                sys.stdout.write(f"{what}: {lost}\n")
                sys.stdout.flush()
    faults = ", ".join(f"{fault} {n}" for fault, n in sorted(rounds.faults.items()))
    sys.stdout.write(
        f"rounds {n_rounds}, {rounds.n_several} of them with several writers, "
        f"faults {rounds.faults.total()} ({faults}), losses {n_losses}\n"
    )
    return n_losses


def _own_environment(folder: Path) -> None:
    """Keep away from the files of the user, as tests/conftest.py does; import what takes long."""
    for name in _IMPORTED:
        importlib.import_module(name)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("pandas")  # as pyarrow does where it is installed
    os.environ.update(
        HOME=str(folder), CONTAINERS_CONF="/dev/null", CONTAINERS_STORAGE_CONF="/dev/null"
    )
    setattr(blob_info, "_MACHINE_FOLDER", str(folder / "machine-cache"))  # noqa: B010 - it is final


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the name of a change")
    args = parser.parse_args()
    sys.exit(1 if main(args.rounds, args.seed, args.only) else 0)
