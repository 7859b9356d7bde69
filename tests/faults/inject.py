"""Run a function in a process of its own, in which one step of writing kills it or fails.

A step is a call that changes a file: of `os`, or `write` and `close` of a file that Python opened
for writing. Of the bytes of the `write` that fails, half are written. What C++ libraries write by
themselves has no steps. It forks, so the process that calls it must have no threads.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pickle
import signal
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

KILLED = 9
HUNG_SECONDS = 60
SPACE = frozenset({"mkdir", "open", "write", "pwrite", "fsync", "close"})
NAMES = frozenset({"mkdir", "open", "replace", "rename", "unlink", "rmdir"})
BYTES = frozenset({"write", "pwrite", "fsync", "close"})
FAULTS: dict[str, tuple[int, frozenset[str]]] = {
    "kill": (0, SPACE | NAMES),
    "ENOSPC": (errno.ENOSPC, SPACE),
    "EROFS": (errno.EROFS, NAMES),
    "EACCES": (errno.EACCES, NAMES),
    "EIO": (errno.EIO, BYTES),
}
"""Name of a fault -> its error number, and the steps that it can be at."""


@dataclass
class Outcome:
    """What became of the process: `step` names the step that failed, if there was one."""

    is_killed: bool = False
    value: Any = None
    error: str = ""
    stderr: str = ""
    step: str = ""
    n_steps: Counter[str] = field(default_factory=Counter)


class Injector:
    """Counts the steps that a fault can be at, and makes the one of a number fail."""

    def __init__(self, fault: str, number: int) -> None:
        self.errno, self.steps = FAULTS[fault]
        self.number, self.n_due, self.failed = number, 0, ""
        self.n_steps: Counter[str] = Counter()

    def is_due(self, step: str) -> bool:
        self.n_steps[step] += 1
        if step not in self.steps:
            return False
        self.n_due += 1
        if self.errno == errno.ENOSPC and self.failed:  # a disk stays full
            return step != "close"
        return self.n_due - 1 == self.number

    def fail(self, step: str, path: object = None) -> None:
        self.failed = self.failed or step
        if not self.errno:
            os._exit(KILLED)
        raise OSError(self.errno, os.strerror(self.errno), path)

    def install(self) -> None:
        """Put the steps in place of the functions, for as long as the process lives."""
        for name in (SPACE | NAMES) - {"write", "close"}:
            setattr(os, name, self._counted(name))
        builtins.open = io.open = self._open

    def _counted(self, name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            if (name != "open" or args[1] & os.O_CREAT) and self.is_due(name):
                self.fail(name, args[0] if isinstance(args[0], str) else None)
            if name == "fsync":
                return None  # a killed process loses nothing that was written
            return function(*args, **named)

        return call

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **named: Any
    ) -> Any:
        if not set(mode) & set("wxa") or "+" in mode:
            return _plain_open(file, mode, buffering, *args, **named)
        if "b" not in mode:
            return io.TextIOWrapper(self._open(file, f"{mode}b"), *args, **named)
        if named.get("opener") is None and not isinstance(file, int) and self.is_due("open"):
            self.fail("open", os.fspath(file))
        named.pop("encoding", None)
        raw = _File(self, file, mode.replace("b", ""), **named)
        return raw if buffering == 0 else io.BufferedWriter(raw)


_plain_open = io.open


class _File(io.FileIO):
    """A file whose writes are steps."""

    def __init__(self, injector: Injector, *args: Any, **named: Any) -> None:
        self._injector = injector
        super().__init__(*args, **named)

    def write(self, data: Any) -> int:
        if self._injector.is_due("write"):
            view = memoryview(data).cast("B")
            super().write(view[: len(view) // 2])
            self._injector.fail("write")
        return super().write(data)

    def close(self) -> None:
        if not self.closed:
            due = self._injector.is_due("close")
            super().close()
            if due:
                self._injector.fail("close")


def run(function: Callable[[], object], fault: str = "kill", number: int = -1) -> Outcome:
    """Run a function that fails at the step of this number, or at none."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as stderr:
        pid = os.fork()
        if not pid:
            _run_child(function, Injector(fault, number), writer, stderr.fileno())
        os.close(writer)
        with _plain_open(reader, "rb") as file:
            data = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        stderr.seek(0)
        text = stderr.read().decode(errors="replace")
    if code == KILLED:
        return Outcome(is_killed=True, stderr=text)
    if code or not data:
        return Outcome(error=f"exit code {code}", stderr=text)
    outcome: Outcome = pickle.loads(data)
    outcome.stderr = text
    return outcome


def _run_child(function: Callable[[], object], injector: Injector, out: int, err: int) -> None:
    outcome = Outcome()
    write, leave = os.write, os._exit
    signal.alarm(HUNG_SECONDS)
    os.dup2(err, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    injector.install()
    try:
        outcome.value = function()
    except BaseException as error:
        outcome.error = f"{type(error).__name__}: {error}"
    outcome.step, outcome.n_steps = injector.failed, injector.n_steps
    data = pickle.dumps(outcome)
    while data:
        data = data[write(out, data) :]
    leave(0)
