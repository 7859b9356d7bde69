"""Protects runs on a scheduler that is not there, is lost, or has the wrong workers."""

from __future__ import annotations

import socket
import sys
import threading
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from tests.fleet import tasks
from tests.fleet.dask import DaskCluster
from vecache.errors import MissingExtraError, WorkerError
from vecache.fleet import scheduler as scheduler_module
from vecache.fleet.cluster import _Call, run_tasks

if TYPE_CHECKING:
    from pathlib import Path


def test_a_task_that_kills_workers_is_an_error(tmp_path: Path) -> None:
    with DaskCluster(tmp_path, n_workers=2) as own:
        with pytest.raises(
            WorkerError, match=r"several workers died of a task.* tcp://.*enough memory"
        ):
            list(run_tasks(tasks.kill_itself, [1], scheduler=own.address))
        own.start_worker()
        results = run_tasks(tasks.slow_when_even, range(100), scheduler=own.address)
        next(results)
        own.scheduler.kill()
        with pytest.raises(WorkerError, match="the scheduler, or what workers had, is lost"):
            list(results)


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(WorkerError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers"):
        list(run_tasks(tasks.square, [1], scheduler="tcp://127.0.0.1:1"))


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_port_where_something_else_listens(
    greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "_CONNECT_SECONDS", 0.2)
    connections: list[socket.socket] = []

    def answer() -> None:
        connections.append(server.accept()[0])
        connections[0].sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        with pytest.raises(WorkerError, match="no Dask scheduler answers"):
            list(run_tasks(tasks.square, [1], scheduler=f"tcp://127.0.0.1:{port}"))
        thread.join()
        connections[0].close()


def test_workers_that_are_not_there_or_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "vecache-9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: vecache\nVersion: 9.9\n")
    with DaskCluster(tmp_path) as own:
        with monkeypatch.context() as patch:
            patch.setattr(scheduler_module, "_CONNECT_SECONDS", 0.2)
            with pytest.raises(WorkerError, match="no workers; start some: `dask worker tcp://"):
                list(run_tasks(tasks.square, [1], scheduler=own.address))
        own.start_worker(str(tmp_path))
        monkeypatch.setattr(scheduler_module, "_CONNECT_SECONDS", 30)
        with pytest.raises(WorkerError, match=r"on worker tcp://.*: found 9\.9, wanted 0"):
            list(run_tasks(tasks.square, [1], scheduler=own.address))


def test_a_worker_that_came_late_checks_the_version_itself() -> None:
    call = _Call(tasks.square, has_shared=False)
    found = scheduler_module._Work("9.9", call, 3)(None)
    assert isinstance(found, scheduler_module._Failure)
    assert "wanted 9.9" in str(found.error)
    assert scheduler_module._Work(metadata.version("vecache"), call, 3)(None) == 9


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecache\[cluster\]'"):
        list(run_tasks(tasks.square, [1], scheduler="tcp://127.0.0.1:1"))
