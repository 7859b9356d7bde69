"""Protects: Ctrl-C ends the command with exit code 130 and in silence, from its first line on.

The process sends the signal to itself, at its n-th audit event (a module is imported, a file is
opened), so each run is interrupted at another step, and always at the same one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL

if TYPE_CHECKING:
    from pathlib import Path

STORE = str(GOLDEN_SMALL / "stores/dir")
IMAGE = f"oci:{GOLDEN_SMALL}/oci:app2"
N_STEPS = 12
NEVER = 1 << 60

_PROGRAM = """
import _signal, sys
n_wanted, n_events, is_started = int(sys.argv.pop(1)), 0, False
def interrupt(event, arguments):
    global n_events
    if is_started:
        n_events += 1
        if n_events == n_wanted:
            _signal.raise_signal(_signal.SIGINT)
sys.addaudithook(interrupt)
from vecache.__main__ import main
is_started = True
code = main()
if n_events < n_wanted:
    print("events", n_events, file=sys.stderr)
sys.exit(code)
"""


def run_interrupted(n_events: int, *argv: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", _PROGRAM, str(n_events), *argv]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["layers", "--store", STORE, "-o", "new.arrow"],
        ["overlap", "--store", STORE, "-o", "new.svg"],
        ["export", "--store", STORE, "-o", "new.parquet"],
        ["plan", IMAGE, "--store", STORE, "--reflink", "no", "-o", "new.json"],
    ],
    ids=lambda argv: argv[0],
)
def test_it_is_130_and_silence(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if argv[0] == "overlap":
        pytest.importorskip("matplotlib")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = [str(tmp_path / each) if each.startswith("new.") else each for each in argv]
    run_interrupted(NEVER, *argv)  # what it keeps for the next run
    whole = run_interrupted(NEVER, *argv)
    assert whole.returncode == 0
    n_events = int(whole.stderr.split()[-1])
    results = set(tmp_path.glob("new.*"))
    for step in range(N_STEPS):
        for each in results:
            each.write_bytes(b"old")
        done = run_interrupted(1 + step * (n_events - 1) // N_STEPS, *argv)
        assert (done.returncode, done.stderr) == (128 + signal.SIGINT, b""), step
        assert not list(tmp_path.rglob(".tmp-*"))
        assert all(each.read_bytes() for each in results)


def test_before_the_verb_runs_it_ends_at_once() -> None:
    code = (
        "import _signal, vecache.__main__\n"
        "try: _signal.raise_signal(_signal.SIGINT)\n"
        "finally: print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


@pytest.mark.parametrize(
    "swallow",
    [
        "try: os.kill(os.getpid(), signal.SIGINT)\n    except BaseException: pass",
        "try: os.kill(os.getpid(), signal.SIGINT)\n    except BaseException: raise ImportError",
        "a = type('A', (), {'__del__': lambda _: signal.raise_signal(2)})()\n    del a",
    ],
)
def test_libraries_that_catch_it_change_nothing(swallow: str) -> None:
    code = (
        "import os, signal, sys, warnings\n"
        "import vecache.__main__\n"
        "from vecache.cli import layers\n"
        "def run(args):\n"
        f"    {swallow}\n"
        "    warnings.warn('x')\n"
        "    return 0\n"
        "layers.run = run\n"
        "sys.argv = ['vecache', 'layers']\n"
        "sys.exit(vecache.__main__.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


def test_a_background_job_ignores_it() -> None:
    code = (
        "import _signal\n"
        "_signal.signal(_signal.SIGINT, _signal.SIG_IGN)\n"
        "from vecache.__main__ import main\n"
        "_signal.raise_signal(_signal.SIGINT)\n"
        "main()\n"
        "assert _signal.getsignal(_signal.SIGINT) == _signal.SIG_IGN\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_importing_the_package_sets_no_handler() -> None:
    code = (
        "import _signal, vecache, vecache.cli.main\n"
        "assert _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
