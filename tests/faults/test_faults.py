"""No process that is killed, and no system call that fails, loses anything that was there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

N_ROUNDS = 12
"""Some of the changes; `python -m tests.faults --rounds 1000` runs all of them many times."""


def test_stopped_at_some_steps_every_write_is_as_before_or_as_after() -> None:
    command = [sys.executable, "-m", "tests.faults", "--rounds", str(N_ROUNDS)]
    found = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.startswith(f"rounds {N_ROUNDS}, {N_ROUNDS // 4} of them with several")
    assert found.stdout.endswith("losses 0\n")
