"""Protects tasks on workers: the same results in order anywhere, whatever happens to a worker."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fleet import tasks
from tests.fleet.dask import DaskCluster
from tests.golden import GOLDEN_SMALL, STORES
from vecache import errors
from vecache.cli.options import add_tasks
from vecache.errors import ImageError, LocationError, WorkerError
from vecache.fleet.cluster import TASKS_PER_WORKER, run_tasks
from vecache.fleet.overlap import overlap_fleet
from vecache.fleet.plan import plan_fleet
from vecache.image.open import open_image
from vecache.store.open import open_store
from vecache.store.write_fleet import add_store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Run = Callable[..., Generator[Any, None, None]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask"), n_workers=2) as found:
        yield found


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where tasks leave files named NUMBER-PID."""
    folder = tmp_path / "trace"
    folder.mkdir()
    return folder


@pytest.fixture(params=["here", "processes", "cluster"])
def run(request: pytest.FixtureRequest) -> Run:
    if request.param == "cluster":
        address = request.getfixturevalue("cluster").address
        return partial(run_tasks, scheduler=address)
    return partial(run_tasks, processes=2 if request.param == "processes" else None)


def count_taken(n: int, taken: list[int]) -> Iterator[int]:
    for number in range(n):
        taken.append(number)
        yield number


def test_results_come_in_order_and_few_tasks_are_taken_ahead(
    run: Run,
) -> None:
    taken: list[int] = []
    done: list[None] = []
    for number, result in enumerate(
        run(tasks.slow_when_even, count_taken(30, taken), progress=lambda: done.append(None))
    ):
        assert result == number
        assert len(taken) <= number + 2 * TASKS_PER_WORKER
    assert (number, len(done)) == (29, 30)


def test_what_all_tasks_need_is_passed_first(run: Run) -> None:
    shared = np.arange(100_000)
    assert list(run(tasks.add, range(3), shared=shared)) == [shared.sum() + n for n in range(3)]
    assert list(run(tasks.add, [], shared=shared)) == []


def test_tasks_may_depend_on_the_number_of_workers(run: Run) -> None:
    asked: list[int] = []

    def cut(n_workers: int) -> list[int]:
        asked.append(n_workers)
        return [10] * n_workers

    found = list(run(tasks.add, cut, shared=np.ones(1)))
    assert found == [11] * asked[0]
    assert len(asked) == 1


def test_an_error_of_ours_is_raised_as_it_was(run: Run) -> None:
    results = run(tasks.fail, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(
        LocationError, match=r"^a\.cache: vdata at byte 9: found 7, wanted 5$"
    ) as at:
        next(results)
    assert (at.value.section, at.value.offset, at.value.path) == ("vdata", 9, Path("a.cache"))
    with pytest.raises(LookupError, match="not one of ours"):
        list(run(tasks.fail, [4]))


def test_tasks_that_wait_are_cancelled_when_the_results_are_closed(run: Run, trace: Path) -> None:
    results = run(tasks.leave_trace_slowly, range(100), shared=trace)
    next(results)
    results.close()
    time.sleep(1)  # what runs on a cluster runs to its end
    assert len(list(trace.iterdir())) < 2 * TASKS_PER_WORKER


def test_errors_survive_a_pickle() -> None:
    """They come from workers as pickles."""
    for name in errors.__all__:
        kind = getattr(errors, name)
        more = {"section": "tags", "offset": 5} if issubclass(kind, errors.FormatError) else {}
        error = kind("what, where", **more)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind
        assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"processes": 0}, "processes: found 0, wanted at least 1"),
        ({"processes": 2, "scheduler": "tcp://a:1"}, "found both"),
        ({"scheduler": "a:1"}, "found 'a:1', wanted tcp://HOST:PORT"),
        ({"scheduler": "tcp://a"}, "found 'tcp://a', wanted"),
        ({"scheduler": "tcp://a:1\n"}, "wanted tcp"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_tasks(tasks.square, [], **options)


def test_a_local_process_that_dies_is_an_error() -> None:
    with pytest.raises(WorkerError, match="a local process died"):
        list(run_tasks(tasks.kill_itself, range(20), processes=2))


# A cluster: what is lost with a worker is done again.


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_worker_changes_nothing(cluster: DaskCluster, trace: Path) -> None:
    column = np.arange(1_000_000)
    numbers = list(range(24))
    results = run_tasks(
        tasks.leave_trace_and_total,
        numbers,
        shared=(trace, column),
        scheduler=cluster.address,
    )
    found = [next(results)]
    victim = cluster.living()[0]
    # It runs its second task, or has a result that nobody has fetched.
    wait_for(lambda: sum(f"-{victim.pid}" in path.name for path in trace.iterdir()) >= 2)
    cluster.kill_worker(victim)
    found += results
    assert found == [(number, int(column.sum())) for number in numbers]
    runs = [int(path.name.split("-")[0]) for path in trace.iterdir()]
    assert sorted(set(runs)) == numbers
    assert len(runs) > len(numbers), "the killed worker was doing nothing"


class KillOne:
    """Progress that kills a worker when so many steps are done."""

    def __init__(self, cluster: DaskCluster, n_steps: int) -> None:
        self._cluster = cluster
        self._n_steps = n_steps
        self.n_done = 0

    def __call__(self) -> None:
        self.n_done += 1
        if self.n_done == self._n_steps:
            self._cluster.kill_worker()


def test_a_fleet_is_compared_as_here_while_a_worker_is_killed(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    fleet = golden_fleet(tmp_path)
    wanted = overlap_fleet(fleet)
    progress = KillOne(cluster, 6)
    found = overlap_fleet(fleet, scheduler=cluster.address, max_rows=50, progress=progress)
    assert progress.n_done > 20
    for grain in ("file", "chunk"):
        for name in ("n_contents", "n_bytes", "exclusive_bytes", "unique_bytes"):
            columns = [getattr(each.sums[grain], name).tolist() for each in (found, wanted)]
            assert columns[0] == columns[1], (grain, name)
    assert found.repeated.to_arrow() == wanted.repeated.to_arrow()


@pytest.mark.parametrize("engine", ["processes", "cluster"])
def test_images_are_planned_as_here_even_while_a_worker_is_killed(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fleet = golden_fleet(tmp_path)
    names = [f"oci:{GOLDEN_SMALL / 'oci'}:{name}" for name in ("base", "app1", "app2", "other")]
    images = [open_image(name) for name in names]
    wanted = plan_fleet(images, fleet)
    assert len(wanted.classes) > 1
    if engine == "cluster":
        cluster = request.getfixturevalue("cluster")
        run = {"scheduler": cluster.address, "progress": KillOne(cluster, 6)}
    else:
        run = {"processes": 2}
    n_times = 12 if engine == "cluster" else 2
    found = plan_fleet(images * n_times, fleet, **run)
    assert found.figures.tolist() == np.tile(wanted.figures, (1, n_times, 1)).tolist()
    assert (found.classes, found.unread) == (wanted.classes, wanted.unread)


def test_an_image_that_is_another_one_elsewhere_is_refused(tmp_path: Path) -> None:
    fleet = golden_fleet(tmp_path)
    layout = tmp_path / "oci"
    shutil.copytree(GOLDEN_SMALL / "oci", layout)
    image = open_image(f"oci:{layout}:app1")
    index = json.loads((layout / "index.json").read_text())
    tag = "org.opencontainers.image.ref.name"
    others = {"app1": "app2", "app2": "app1"}
    for each in index["manifests"]:
        name = each["annotations"][tag]
        each["annotations"][tag] = others.get(name, name)
    (layout / "index.json").chmod(0o644)
    (layout / "index.json").write_text(json.dumps(index))
    with pytest.raises(ImageError, match=f"where a task runs, wanted {image.digest}"):
        plan_fleet([image, image], fleet, processes=2)
    assert plan_fleet([image], fleet).is_planned.all()  # here it is the one that was opened


def golden_fleet(folder: Path) -> Path:
    """All golden stores, each a node."""
    for name in STORES:
        add_store(folder / "fleet", open_store(GOLDEN_SMALL / "stores" / name), name)
    return folder / "fleet"


# Processes of their own: what they import, print and leave behind.

_SCRIPT = """
import sys
from pathlib import Path
from tests.fleet import tasks
from vecache.fleet.cluster import run_tasks
if __name__ == "__main__":
    folder, option, value = sys.argv[1:]
    options = {option: int(value) if value.isdigit() else value} if option else {}
    try:
        for result in run_tasks(tasks.leave_trace, range(50), shared=Path(folder), **options):
            print(result, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    assert "distributed" not in sys.modules
"""


def start_script(folder: Path, option: str = "", value: str = "") -> subprocess.Popen[bytes]:
    script = folder.parent / "script.py"
    script.write_text(_SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), option, value],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C goes to all processes of a terminal
    )


def workers_of(folder: Path) -> set[int]:
    return {int(path.name.split("-")[1]) for path in folder.iterdir()}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"


@pytest.mark.parametrize("engine", ["processes", "cluster"])
def test_control_c_ends_all(engine: str, trace: Path, request: pytest.FixtureRequest) -> None:
    if engine == "processes":
        script = start_script(trace, "processes", "2")
    else:
        script = start_script(trace, "scheduler", request.getfixturevalue("cluster").address)
    with script:
        assert script.stdout is not None
        script.stdout.readline()
        os.killpg(script.pid, signal.SIGINT)
        _, errors_printed = script.communicate(timeout=30)
    assert (script.returncode, errors_printed) == (130, b"")
    assert len(list(trace.iterdir())) < 30
    if engine == "processes":
        assert not any(map(is_alive, workers_of(trace)))


def test_local_processes_end_when_this_one_is_killed(trace: Path) -> None:
    with start_script(trace, "processes", "2") as script:
        assert script.stdout is not None
        script.stdout.readline()
        wait_for(lambda: len(workers_of(trace)) == 2)
        script.kill()
        script.communicate(timeout=30)
    wait_for(lambda: not any(map(is_alive, workers_of(trace))))


def test_distributed_is_not_imported_for_nothing() -> None:
    code = (
        "import sys, vecache.cli.main\n"
        "from vecache.fleet.cluster import run_tasks\n"
        "list(run_tasks(len, ['a']))\n"
        "print(sorted({'dask', 'distributed', 'numpy', 'asyncio'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert found.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--processes", "0"], "found 0, wanted a number from 1"),
        (["--scheduler", "there:1"], "found 'there:1', wanted tcp://HOST:PORT"),
        (["--scheduler", "tcp://there:1", "--processes", "2"], "not allowed with"),
    ],
)
def test_options_of_the_command_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_tasks(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(argv)
    assert message in capsys.readouterr().err
    found = parser.parse_args(["--scheduler", "tcp://[::1]:8786"])
    assert (found.scheduler, found.processes) == ("tcp://[::1]:8786", None)
