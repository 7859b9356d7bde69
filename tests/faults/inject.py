"""Run a function in a process of its own, in which one step of its file work kills it or fails.

A step of writing is a call that changes a file: of `os`, or `write` and `close` of a file that
Python opened for writing. Of the bytes of the `write` that fails, half are written. A step of
reading is an `open` or a `read`. What C++ libraries do by themselves, and what is read through a
map, has no steps. It forks, so the process that calls it must have no threads.
"""

from __future__ import annotations

import atexit
import builtins
import errno
import io
import os
import pickle
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.faults.power import PowerCut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KILLED: Final = 9
HUNG_SECONDS: Final = 120
SPACE: Final = frozenset({"mkdir", "open", "write", "pwrite", "fsync", "close"})
NAMES: Final = frozenset({"mkdir", "open", "replace", "rename", "unlink", "rmdir"})
BYTES: Final = frozenset({"write", "pwrite", "fsync", "close"})
READS: Final = frozenset({"read", "pread", "readv", "open to read"})
CUT: Final = "power cut"
UNREAD: Final = "EIO in reading"
FAULTS: dict[str, tuple[int, frozenset[str]]] = {
    "kill": (0, SPACE | NAMES),
    CUT: (0, SPACE | NAMES),
    "ENOSPC": (errno.ENOSPC, SPACE),
    "EROFS": (errno.EROFS, NAMES),
    "EACCES": (errno.EACCES, NAMES),
    "EIO": (errno.EIO, BYTES),
    UNREAD: (errno.EIO, READS),
}
"""Name of a fault -> its error number, and the steps that it can be at."""


@dataclass
class Outcome:
    """What became of the process: `step` names the step that failed, if there was one."""

    is_killed: bool = False
    value: Any = None
    error: str = ""
    stderr: str = ""
    stdout: str = ""
    step: str = ""
    n_steps: Counter[str] = field(default_factory=Counter)


class Injector:
    """Counts the steps that a fault can be at, and makes the one of a number fail.

    With `pauses` it also sleeps at some steps, so that several writers meet at different ones.
    """

    def __init__(self, fault: str, number: int, folder: Path | None, pauses: int | None) -> None:
        self.errno, self.steps = FAULTS[fault]
        self.number, self.n_due, self.failed = number, 0, ""
        self.n_steps: Counter[str] = Counter()
        self.cut = PowerCut(folder, number) if fault == CUT and folder is not None else None
        self.pauses = None if pauses is None else random.Random(pauses)

    def is_due(self, step: str) -> bool:
        if self.pauses is not None and self.pauses.random() < 0.2:
            time.sleep(0.005 * self.pauses.random())
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
            if self.cut is not None:
                self.cut.happen()
            _leave(KILLED)
        raise OSError(self.errno, os.strerror(self.errno), path)

    def install(self) -> None:
        """Put the steps in place of the functions, for as long as the process lives."""
        for name in (SPACE | NAMES | READS) & set(dir(os)) - {"write", "close"}:
            setattr(os, name, self._counted(name))
        builtins.open = io.open = self._open

    def _counted(self, name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            step = "open to read" if name == "open" and not args[1] & os.O_CREAT else name
            if self.is_due(step):
                self.fail(step, args[0] if isinstance(args[0], str) else None)
            if self.cut is not None:
                self.cut.note(name, args, named)
            if name == "fsync":
                return None  # only the power cut needs it, which is told
            return function(*args, **named)

        return call

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **named: Any
    ) -> Any:
        if "+" in mode:
            return _plain_open(file, mode, buffering, *args, **named)
        if "b" not in mode:
            return io.TextIOWrapper(self._open(file, f"{mode}b"), *args, **named)
        writes = bool(set(mode) & set("wxa"))
        step = "open" if writes else "open to read"
        if named.get("opener") is None and not isinstance(file, int) and self.is_due(step):
            self.fail(step, os.fspath(file))
        named.pop("encoding", None)
        raw = _File(self, file, mode.replace("b", ""), **named)
        if buffering == 0:
            return raw
        return io.BufferedWriter(raw) if writes else io.BufferedReader(raw)


_plain_open = io.open
_leave = os._exit


class _File(io.FileIO):
    """A file whose reads and writes are steps."""

    def __init__(self, injector: Injector, *args: Any, **named: Any) -> None:
        self._injector = injector
        super().__init__(*args, **named)

    def write(self, data: Any) -> int:
        if self._injector.cut is not None:
            self._injector.cut.note("write", (self.fileno(),), {})
        if self._injector.is_due("write"):
            view = memoryview(data).cast("B")
            super().write(view[: len(view) // 2])
            self._injector.fail("write")
        return super().write(data)

    def read(self, size: int | None = -1) -> Any:
        self._read()
        return super().read(size)

    def readall(self) -> bytes:
        self._read()
        return super().readall()

    def readinto(self, buffer: Any) -> Any:
        self._read()
        return super().readinto(buffer)

    def _read(self) -> None:
        if self._injector.is_due("read"):
            self._injector.fail("read")

    def close(self) -> None:
        if not self.closed:
            due = self.writable() and self._injector.is_due("close")
            super().close()
            if due:
                self._injector.fail("close")


class Process:
    """A process that runs a function, which fails at the step of this number, or at none."""

    def __init__(
        self,
        function: Callable[[], object],
        fault: str = "kill",
        number: int = -1,
        *,
        folder: Path | None = None,
        pauses: int | None = None,
    ) -> None:
        self._reader, writer = os.pipe()
        self._output = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - `wait` closes
        injector = Injector(fault, number, folder, pauses)
        self._pid = os.fork()
        if not self._pid:
            os.close(self._reader)
            _run_child(function, injector, writer, self._output)
        os.close(writer)

    def wait(self) -> Outcome:
        """Return what became of it."""
        with _plain_open(self._reader, "rb") as file:
            data = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        texts = []
        for output in self._output:
            output.seek(0)
            texts.append(output.read().decode(errors="replace"))
            output.close()
        stdout, stderr = texts
        if code == KILLED:
            return Outcome(is_killed=True, stdout=stdout, stderr=stderr)
        if code or not data:
            return Outcome(error=f"exit code {code}", stderr=stderr)
        outcome: Outcome = pickle.loads(data)
        outcome.stdout, outcome.stderr = stdout, stderr
        return outcome


def _run_child(
    function: Callable[[], object], injector: Injector, out: int, output: list[Any]
) -> None:
    outcome = Outcome()
    write = os.write
    signal.alarm(HUNG_SECONDS)
    for number, file in enumerate(output, 1):
        os.dup2(file.fileno(), number)
    atexit._clear()  # what the parent does in the end
    injector.install()
    try:
        outcome.value = function()
        atexit._run_exitfuncs()
    except BaseException as error:
        outcome.error = f"{type(error).__name__}: {error}"
    outcome.step, outcome.n_steps = injector.failed, injector.n_steps
    data = pickle.dumps(outcome)
    while data:
        data = data[write(out, data) :]
    _leave(0)
