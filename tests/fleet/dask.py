"""A Dask scheduler and workers on loopback, as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import distributed

if TYPE_CHECKING:
    from typing import Self

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60


class DaskCluster:
    """A scheduler and its workers while a `with` statement runs."""

    def __init__(self, folder: Path, n_workers: int = 0) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._n_workers = n_workers
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        port = ["--port", "0", "--scheduler-file", str(self._file)]
        self.scheduler = self._start("dask_scheduler", *port)
        try:
            for _ in range(self._n_workers):
                self.start_worker()
            self._wait(self._file.exists)
            self.address: str = json.loads(self._file.read_text())["address"]
            if self._n_workers:
                client = distributed.Client(  # type: ignore[no-untyped-call]
                    self.address, set_as_default=False
                )
                with client:
                    client.wait_for_workers(self._n_workers, timeout=_START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()

    def start_worker(self, python_path: str = "") -> subprocess.Popen[bytes]:
        """Start a worker of one thread; `python_path` comes before this tree."""
        number = len(self.workers)
        options = ["--nthreads", "1", "--no-nanny", "--name", str(number)]
        folder = ["--local-directory", str(self._folder / str(number))]
        file = ["--scheduler-file", str(self._file)]
        self.workers.append(self._start("dask_worker", *options, *folder, *file, path=python_path))
        return self.workers[-1]

    def kill_worker(self, victim: subprocess.Popen[bytes] | None = None) -> None:
        """Kill a worker in the middle of what it does, and start another one."""
        victim = victim or self.living()[0]
        victim.kill()
        victim.wait()
        self.start_worker()

    def living(self) -> list[subprocess.Popen[bytes]]:
        """The workers that have not been killed."""
        return [worker for worker in self.workers if worker.poll() is None]

    def _start(self, program: str, *arguments: str, path: str = "") -> subprocess.Popen[bytes]:
        here = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        # A task that two workers died of is not tried again: tests kill one.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (path, str(_ROOT)))),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        }
        with open(self._folder / "log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *here, *arguments],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def _wait(self, is_done: object) -> None:
        assert callable(is_done)
        end = time.monotonic() + _START_SECONDS
        while not is_done():
            if time.monotonic() > end or self.scheduler.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.02)
