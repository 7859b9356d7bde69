"""Fuzz the readers of outside bytes.

    python -m tests.fuzz --seconds 60 [--target NAME] [--crashers FOLDER] [--seed N]

With atheris (`pip install vecache[fuzz]`) inputs are made by the coverage that they reach, each
target in a process of its own; without, or with `--plain`, they are seeds changed at random. What
breaks the bar is written to the folder, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fuzz import NAMES

if TYPE_CHECKING:
    from tests.fuzz.bar import Bar

_REPORT = re.compile(r"^[a-z-]+: ([0-9,]+) inputs ", re.MULTILINE)
_ENLARGE_EVERY = 50
_ADDRESS_SPACE_BYTES = 16 << 30  # an input that takes all memory must not take the machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers.")
    parser.add_argument("--seconds", type=float, default=10, help="for each target")
    parser.add_argument("--target", choices=NAMES, help="all by default, one after another")
    parser.add_argument("--crashers", type=Path, default=Path("crashers"), metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="without atheris")
    options = parser.parse_args()
    if options.target is None:
        return _run_all()
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES,) * 2)
    is_guided = not options.plain and importlib.util.find_spec("atheris") is not None
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        _use_own_environment(Path(folder))
        return (_run_guided if is_guided else _run_plain)(options, Path(folder))


def _run_all() -> int:
    """Run each target in a process of its own, and print the sums of their reports."""
    command = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:], "--target"]
    n_inputs = n_crashers = 0
    start = time.monotonic()
    for name in NAMES:
        run = subprocess.run([*command, name], check=False, stdout=subprocess.PIPE, text=True)
        print(run.stdout, end="", flush=True)
        n_crashers += run.returncode != 0
        n_inputs += sum(int(n.replace(",", "")) for n in _REPORT.findall(run.stdout))
    seconds = time.monotonic() - start
    print(f"total: {n_inputs:,} inputs in {seconds:,.0f} s, {n_crashers} crashers")
    return int(n_crashers > 0)


def _use_own_environment(folder: Path) -> None:
    """Point every folder that vecache may look for at one of this run."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        os.environ[name] = str(folder / "home")
    conf = folder / "storage.conf"
    conf.write_text('[storage]\ndriver = "overlay"\n')
    os.environ |= {"CONTAINERS_STORAGE_CONF": str(conf), "CONTAINERS_CONF": os.devnull}


def _run_plain(options: argparse.Namespace, folder: Path) -> int:
    from tests.fuzz.bar import Bar
    from tests.fuzz.mutate import enlarge, mutate
    from tests.fuzz.targets import make_target

    bar = Bar(make_target(options.target, folder / "files"))
    bar.run_seeds()
    numbers, start = random.Random(options.seed), time.monotonic()
    data = b""
    try:
        while time.monotonic() < start + options.seconds:
            data = mutate(numbers, bar.target.seeds, bar.target.json_share)
            if bar.n_inputs % _ENLARGE_EVERY == 0:
                data = enlarge(numbers, data)
            bar.run(data)
    except Exception as error:
        _write_crasher(options, data, error)
        return 1
    finally:
        _report(bar, "plain", time.monotonic() - start)
    return 0


def _run_guided(options: argparse.Namespace, folder: Path) -> int:
    atheris: Any = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["vecache"], enable_loader_override=False):
        from tests.fuzz.bar import Bar
        from tests.fuzz.targets import make_target

    from tests.fuzz.mutate import MAX_BYTES, enlarge, mutate_json

    bar = Bar(make_target(options.target, folder / "files"))
    bar.run_seeds()
    corpus, start = folder / "corpus", time.monotonic()
    corpus.mkdir()
    for number, seed in enumerate(bar.target.seeds):
        (corpus / str(number)).write_bytes(seed)

    def run(data: bytes) -> None:
        if time.monotonic() > start + options.seconds:
            _report(bar, "atheris", time.monotonic() - start)
            _leave(folder, 0)
        try:
            bar.run(data)
            if bar.n_inputs % _ENLARGE_EVERY == 0:  # no seed of the next: they would be slow
                data = enlarge(random.Random(data), data)
                bar.run(data)
        except Exception as error:
            _write_crasher(options, data, error)
            _report(bar, "atheris", time.monotonic() - start)
            _leave(folder, 1)

    seeds, share = bar.target.seeds, bar.target.json_share

    def change(data: bytes, max_bytes: int, seed: int) -> bytes:
        numbers = random.Random(seed)
        changed = None
        if numbers.random() < share:
            # Most changes make an input one that is refused early, and so are its own changes.
            start = data if numbers.randrange(2) else numbers.choice(seeds)
            changed = mutate_json(numbers, start) or mutate_json(numbers, numbers.choice(seeds))
        if changed is None or len(changed) > max_bytes:
            return bytes(atheris.Mutate(data, max_bytes))
        return changed

    longest = max(MAX_BYTES, *map(len, bar.target.seeds))
    flags = [f"-max_len={longest}", f"-seed={options.seed + 1}", "-rss_limit_mb=0", "-verbosity=0"]
    flags += ["-mutate_depth=1", "-timeout=120", "-report_slow_units=120"]
    options.crashers.mkdir(parents=True, exist_ok=True)
    prefix = f"-artifact_prefix={options.crashers}/{options.target}-"
    atheris.Setup([sys.argv[0], *flags, prefix, str(corpus)], run, custom_mutator=change)
    atheris.Fuzz()
    return 0


def _leave(folder: Path, status: int) -> None:
    """End at once: libFuzzer takes any other end for a crash."""
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _write_crasher(options: argparse.Namespace, data: bytes, error: Exception) -> None:
    options.crashers.mkdir(parents=True, exist_ok=True)
    path = options.crashers / f"{options.target}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    print(f"{path}: {type(error).__name__}: {error!s:.300}", file=sys.stderr)


def _report(bar: Bar, how: str, seconds: float) -> None:
    print(
        f"{bar.target.name}: {bar.n_inputs:,} inputs ({how}) in {seconds:.0f} s, "
        f"{bar.n_refused:,} refused; most: {bar.most_seconds:.2f} s, "
        f"{bar.most_memory_bytes >> 20:,} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
