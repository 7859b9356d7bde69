"""Make a change with one fault, or by several writers, and check what is there after it."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Final

from tests.faults.changes import Change, Race, forget, state
from tests.faults.inject import CUT, FAULTS, UNREAD, Outcome, Process
from vecache.atomic import OWN_TEMPORARY

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

_State = dict[str, Any]

_STEPS_OF_REMOVING: Final = ("unlink", "rmdir", "rename", "close", "open to read")


class _Folder:
    """The folder of a change as before, and the copy in which it is tried."""

    def __init__(self, folder: Path, prepare: Callable[[Path], object]) -> None:
        self.before, self.folder = folder / "before", folder / "run"
        (self.before / "tmp").mkdir(parents=True)
        in_child(lambda: prepare(self.before))
        self.old = self.state(self.before)
        self.copy()

    def copy(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.folder.with_name("aside"), ignore_errors=True)
        shutil.copytree(self.before, self.folder)

    def make(self, make: Callable[[Path], int], *, must: bool = False) -> int:
        os.environ["XDG_CACHE_HOME"] = str(self.folder / "cache")
        tempfile.tempdir = str(self.folder / "tmp")
        code = make(self.folder)
        if must and code:
            raise AssertionError(f"without a fault: exit code {code}")
        return code

    def must(self, make: Callable[[Path], int]) -> Outcome:
        return in_child(functools.partial(self.make, make, must=True))

    def state(self, folder: Path | None = None) -> _State:
        found: _State = in_child(functools.partial(state, folder or self.folder)).value
        return found


class Trial:
    """A change, as before and as after."""

    def __init__(self, folder: Path, change: Change) -> None:
        self.change, self._files = change, _Folder(folder, change.prepare)
        counts = self._files.must(change.make).n_steps
        self._new = self._files.state()
        self._answer = self._ask()
        self.n_steps = {
            fault: sum(counts[step] for step in steps) for fault, (_, steps) in FAULTS.items()
        }
        self.faults = itertools.cycle([fault for fault, n in self.n_steps.items() if n])

    def round(self, fault: str, number: int) -> tuple[str, str]:
        """Try one fault; return at which step it was, and what was lost, or nothing."""
        self._files.copy()
        make = functools.partial(self._files.make, self.change.make)
        outcome = Process(make, fault, number, folder=self._files.folder).wait()
        try:
            self._check(outcome, fault)
        except AssertionError as error:
            return outcome.step, str(error)
        return outcome.step, ""

    def _check(self, outcome: Outcome, fault: str) -> None:
        check_outcome(outcome)
        # What is torn is made again, and what cannot be read is left out, with a word.
        is_partial = fault == UNREAD and (outcome.value == 3 or self.change.may_differ)
        if not is_partial and not (fault in (CUT, UNREAD) and self.change.may_tear):
            self._check_state(outcome)
        if outcome.is_killed:
            require(self._ask() == self._answer, "another answer")
        self._files.must(self.change.make)
        found = self._files.state()
        require(not temporary(found), f"the next run left {temporary(found)}")
        wrong = unlike(*self._lasting(found, self._new, is_torn=fault in (CUT, UNREAD)))
        require(not wrong, f"after {fault}: not as after: {wrong}")
        require(self._ask() == self._answer, "another answer in the end")

    def _check_state(self, outcome: Outcome) -> None:
        found = self._files.state()
        left = [name for name in temporary(found) if name not in self._files.old]
        states = self._lasting(without(found), self._files.old, self._new)
        wrong = unlike(*states, by_file=self.change.by_file)
        require(not wrong, f"neither as before nor as after: {wrong}")
        is_done = not outcome.is_killed and outcome.value == 0 and not self.change.is_optional
        require(not is_done or states[0] == states[2], "success, and not as after")
        # What cannot be removed stays; that is no fault of the one who tried.
        may_stay = outcome.is_killed or outcome.step in _STEPS_OF_REMOVING
        require(not left or may_stay, f"left {left}")

    def _lasting(self, *states: _State, is_torn: bool = False) -> list[_State]:
        """Return states without the user's cache folder, unless that is what is changed."""
        if self.change.may_tear and not is_torn:
            return list(states)
        return [{n: data for n, data in each.items() if n[:6] != "cache/"} for each in states]

    def _ask(self) -> str:
        ask = self.change.ask
        return "" if ask is None else self._files.must(ask).stdout


class RaceTrial:
    """Changes that are made at the same time; each may be made by more than one process."""

    def __init__(self, folder: Path, race: Race) -> None:
        self.race, self._files = race, _Folder(folder, race.prepare)
        self._states = [self._files.old]
        counts = []
        for make in race.makes:
            self._files.copy()
            counts.append(self._files.must(make).n_steps)
            self._states.append(self._files.state())
        self._n_steps = min(sum(each[step] for step in FAULTS["kill"][1]) for each in counts)
        self._files.copy()
        self._make_all()
        self._new = self._files.state()

    def round(self, n_writers: int, draw: random.Random) -> tuple[int, str]:
        """Let some write at the same time, and kill some; return how many, and what was lost."""
        self._files.copy()
        processes = []
        for number in range(n_writers):
            make = functools.partial(
                self._files.make, self.race.makes[number % len(self.race.makes)]
            )
            step = draw.randrange(self._n_steps) if draw.random() < 0.5 else -1
            processes.append(Process(make, "kill", step, pauses=draw.randrange(1 << 30)))
        outcomes = [process.wait() for process in processes]
        n_killed = sum(outcome.is_killed for outcome in outcomes)
        try:
            self._check(outcomes)
        except AssertionError as error:
            return n_killed, str(error)
        return n_killed, ""

    def _check(self, outcomes: list[Outcome]) -> None:
        is_killed = any(outcome.is_killed for outcome in outcomes)
        for outcome in outcomes:
            check_outcome(outcome)
            # `doctor` finds what another one has left that was killed just now.
            is_found = is_killed and "no temporary file is left behind" in outcome.stdout
            require(
                outcome.is_killed or outcome.value == 0 or is_found,
                f"failed: {outcome.stdout} {outcome.stderr}",
            )
        found = self._files.state()
        require(is_killed or not temporary(found), f"left {temporary(found)}")
        wrong = unlike(without(found), *self._states, self._new, by_file=self.race.by_file)
        require(not wrong, f"neither as before nor as after: {wrong}")
        is_done = not all(outcome.is_killed for outcome in outcomes)
        require(not is_done or without(found) != self._files.old, "success, and as before")
        forget(self._files.folder, self.race.made)
        self._make_all()
        found = self._files.state()
        require(not temporary(found), f"the next run left {temporary(found)}")
        require(found == self._new, f"in the end not as after: {unlike(found, self._new)}")

    def _make_all(self) -> None:
        for make in self.race.makes:
            self._files.must(make)


def check_outcome(outcome: Outcome) -> None:
    """Require that a process was killed, succeeded, or failed with an error of ours."""
    if not outcome.is_killed:
        require(not outcome.error, f"{outcome.error} {outcome.stderr}")
        require(outcome.value in (0, 3), f"exit code {outcome.value}: {outcome.stderr}")
        is_told = "vecache: " in outcome.stderr or outcome.stdout
        require(outcome.value == 0 or bool(is_told), "exit code 3, and no word")
    for text in ("Traceback", "this is a bug"):
        require(text not in outcome.stderr, outcome.stderr)


def in_child(function: Callable[[], object]) -> Outcome:
    """Run a function in a process of its own; it must not fail."""
    outcome = Process(function).wait()
    require(not outcome.error, f"{outcome.error} {outcome.stderr}")
    return outcome


def require(is_so: bool, what: str) -> None:
    """Raise unless it is so."""
    if not is_so:
        raise AssertionError(what)


def temporary(found: _State) -> list[str]:
    """Return the names of temporary files and folders."""
    return [name for name in found if OWN_TEMPORARY in name]


def without(found: _State) -> _State:
    """Return a state without what is temporary."""
    return {name: data for name, data in found.items() if OWN_TEMPORARY not in name}


def unlike(found: _State, *states: _State, by_file: bool = False) -> list[str]:
    """Return the names of the files that are as in no state, or else mix some."""
    if not by_file and found in states:
        return []
    names = sorted({name for each in (found, *states) for name in each})
    if not by_file:
        return [name for name in names if found.get(name) != states[0].get(name)]
    return [name for name in names if found.get(name) not in [each.get(name) for each in states]]
