"""Run one input of a target and hold it to the bar.

The bar: a result or a VecacheError, within 5 s of processor time or 5 times what the longest seed
takes a byte, whichever is more, and within 1 GiB of memory more than before. What runs in Python is
cut off at that time; what runs in C ends first, and fails then. Processor time, so that a busy
machine fails nothing; an input that only waits is not cut off here.
"""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import VecacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.targets import Target

MAX_SECONDS = 5.0
MAX_FACTOR = 5.0
MAX_MEMORY_BYTES = 1 << 30


class BarError(AssertionError):
    """An input took too much time or memory."""


class _CutOffError(BaseException):
    """The time is over; no `except Exception` may catch it."""


@dataclass
class Bar:
    """What a target may take, and the most that an input took."""

    target: Target
    seconds_per_byte: float = 0.0
    n_inputs: int = 0
    n_refused: int = 0
    most_seconds: float = 0.0
    most_memory_bytes: int = 0

    def run_seeds(self) -> None:
        """Run the sound inputs, and measure what the longest takes a byte."""
        for seed in filter(None, (*sorted(self.target.seeds, key=len), self.target.large)):
            start = time.process_time()
            self.run(seed)
            self.seconds_per_byte = (time.process_time() - start) / max(1, len(seed))

    def run(self, data: bytes) -> None:
        """Run one input; any exception is a finding."""
        limit = max(MAX_SECONDS, MAX_FACTOR * self.seconds_per_byte * len(data))
        _reset_peak()
        before = status_bytes("VmRSS")
        start = time.process_time()
        self.n_inputs += 1
        with _cut_off(limit):
            try:
                self.target.run(data)
            except VecacheError:
                self.n_refused += 1
        seconds = time.process_time() - start
        n_bytes = status_bytes("VmHWM") - before
        self.most_seconds = max(self.most_seconds, seconds)
        self.most_memory_bytes = max(self.most_memory_bytes, n_bytes)
        if seconds > limit:
            raise BarError(f"{seconds:.1f} s, wanted {limit:.1f} at most")
        if n_bytes > MAX_MEMORY_BYTES:
            raise BarError(f"{n_bytes:,} bytes of memory, wanted {MAX_MEMORY_BYTES:,} at most")


@contextlib.contextmanager
def _cut_off(seconds: float) -> Iterator[None]:
    def raise_error(*_: object) -> None:
        raise _CutOffError

    old = signal.signal(signal.SIGPROF, raise_error)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except _CutOffError:
        raise BarError(f"cut off after {seconds:.1f} s of processor time") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _reset_peak() -> None:
    """Let the peak of resident memory be what is resident now."""
    with contextlib.suppress(OSError):  # else it is the peak of all inputs so far
        Path("/proc/self/clear_refs").write_text("5")


def status_bytes(name: str) -> int:
    """Return resident memory (`VmRSS`) or its peak (`VmHWM`) in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024
