"""Change a fleet, and stop before every step that changes a file: a script of its own.

`python -m tests.store.fleet_kills FOLDER make|add|remove kill|full`, with `one` and `two`,
snapshots of a node, and `other`, one of another, in the folder. `kill` ends the process there, with
`full` the disk is full from there on. It forks, so it must have no threads.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecache.errors import StoreError
from vecache.store.bigdata import CACHE_KEY, TOC_KEY, read_big_data
from vecache.store.fleet import open_fleet
from vecache.store.sweep_fleet import remove_nodes, sweep
from vecache.store.write_fleet import add_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("mkdir", "open", "fsync", "replace", "rename", "unlink")
KILLED = 9


def content(fleet: Path) -> dict[str, list[tuple[str, bytes | None, bytes | None]]]:
    """What all nodes hold."""
    opened = open_fleet(fleet)
    return {
        name: [
            (layer.id, read_big_data(layer, TOC_KEY), read_big_data(layer, CACHE_KEY))
            for layer in opened.open_node(name).layers()
        ]
        for name in opened.nodes()
    }


def files(fleet: Path) -> dict[str, bytes]:
    found = (each for each in fleet.rglob("*") if each.is_file())
    return {str(each.relative_to(fleet)): each.read_bytes() for each in found}


def run_until(step: int, change: Callable[[], object], *, full: bool) -> bool:
    """Run a change in a process that stops before the step of this number; False if it has none."""
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code not in (0, KILLED):
            raise AssertionError(f"step {step}: exit code {code}")
        return code == KILLED
    n_done, is_full = 0, False
    creates = os.O_EXCL if full else os.O_CREAT  # a lock that is there needs no room

    def counted(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            nonlocal n_done, is_full
            if (name != "open" or args[1] & creates) and not (full and name == "unlink"):
                if n_done == step and full:
                    is_full = True
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if n_done == step:
                    os._exit(KILLED)
                n_done += 1
            return function(*args, **named)

        return call

    for name in STEPS:
        setattr(os, name, counted(name))
    try:
        change()
    except StoreError as error:
        os._exit(KILLED if full and "No space left on device" in str(error) else 1)
    except BaseException as error:
        sys.stderr.write(f"step {step}: {error!r}\n")
        os._exit(1)
    os._exit(1 if is_full else 0)  # an error that nobody saw


def main(folder: Path, what: str, how: str) -> None:
    """Try every step; print how many there are."""
    os.fsync = lambda fd: None  # a killed process loses nothing that was written
    fleet, before, after = folder / "fleet", folder / "before", folder / "after"
    if what != "make":
        add_snapshot(before, folder / "one", "node")
        add_snapshot(before, folder / "other", "other")

    def change() -> None:
        if what == "remove":
            remove_nodes(fleet, ["node"])
        else:
            add_snapshot(fleet, folder / "two", "node")
            sweep(fleet)

    if before.exists():
        shutil.copytree(before, fleet)
    change()
    fleet.rename(after)
    wanted = {"old": content(before) if before.exists() else None, "new": content(after)}
    seen: set[str] = set()
    step = 0
    while True:
        shutil.rmtree(fleet, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, fleet)
        if not run_until(step, change, full=how == "full"):
            break
        if how == "full":
            assert not list(fleet.rglob(".tmp-*")), f"step {step}: something is left"
        found = content(fleet) if (fleet / "fleet.json").exists() else None
        if found == {}:  # made, and nothing in it yet
            found = None
        seen.update(state for state, each in wanted.items() if found == each)
        assert found in wanted.values(), f"step {step}"
        if what == "remove" and found == wanted["new"]:
            sweep(fleet)
        else:
            change()
        assert files(fleet) == files(after), f"step {step}: something is left"
        step += 1
    assert seen == {"old", "new"}, seen
    sys.stdout.write(f"{step}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
