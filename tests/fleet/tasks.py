"""Task functions for tests: workers import them from here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import LocationError

if TYPE_CHECKING:
    import numpy as np


def square(number: int) -> int:
    return number * number


def slow_when_even(number: int) -> int:
    """Even tasks end after the odd ones that follow them."""
    time.sleep(0.05 if number % 2 == 0 else 0)
    return number


def add(shared: np.ndarray, number: int) -> int:
    return int(shared.sum()) + number


def fail(number: int) -> int:
    if number == 3:
        raise LocationError("found 7, wanted 5", section="vdata", offset=9, path=Path("a.cache"))
    if number == 4:
        raise LookupError("not one of ours")
    return number


def leave_trace(folder: Path, number: int) -> int:
    """Write who runs which task."""
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.1)
    return number


def leave_trace_slowly(folder: Path, number: int) -> int:
    time.sleep(0.2)
    return leave_trace(folder, number)


def leave_trace_and_total(shared: tuple[Path, np.ndarray], number: int) -> tuple[int, int]:
    folder, column = shared
    return leave_trace(folder, number), int(column.sum())


def kill_itself(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
