"""Replacing leaves the old file or the new one, and no temporary file for long."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vecache import atomic
from vecache.atomic import (
    FolderLock,
    remove_leftovers,
    replace_file,
    staged_file,
    staged_folder,
    sweep_folder,
)


@pytest.mark.parametrize("sync", [True, False])
def test_a_replaced_file_appears_whole_with_its_mode(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with replace_file(path, mode=0o600, sync=sync) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".tmp*"))


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, OSError])
def test_a_failed_replacement_keeps_the_old_file(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replace_file(path) as file:
            file.write(b"half of the n")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob(".tmp*"))


class _FailingFile(io.FileIO):
    """A file whose `close` fails, as on a network file system without space."""

    def close(self) -> None:
        was_open = not self.closed
        super().close()
        if was_open:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("step", ["close", "fsync", "write"])
def test_a_file_that_cannot_be_completed_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, sync: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open_failing(name: str, mode: str, opener: Any) -> io.BufferedWriter:
        raw = (_FailingFile if step == "close" else io.FileIO)(name, mode, opener=opener)
        if step == "write":
            monkeypatch.setattr(raw, "write", fail)
        return io.BufferedWriter(raw)

    def replace() -> None:
        with replace_file(path, sync=sync) as file:
            file.write(b"new")

    monkeypatch.setattr(os, "fsync", fail if step == "fsync" else os.fsync)
    monkeypatch.setattr(atomic, "open", open_failing, raising=False)
    if step == "fsync" and not sync:
        replace()
        assert path.read_bytes() == b"new"
    else:
        with pytest.raises(OSError, match="Input/output") as caught:
            replace()
        assert caught.value.filename == str(path)
        assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob(".tmp*"))


def test_a_link_or_fifo_is_replaced_and_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with replace_file(tmp_path / name) as file:
            file.write(b"new")
        assert stat.S_ISREG((tmp_path / name).lstat().st_mode)
    assert (tmp_path / "target").read_bytes() == b"old"


def test_a_staged_file_that_was_not_renamed_is_removed(tmp_path: Path) -> None:
    with staged_file(tmp_path, mode=0o600) as file:
        assert Path(file.name).parent == tmp_path
        assert stat.S_IMODE(os.stat(file.name).st_mode) == 0o600
    assert not list(tmp_path.glob(".tmp*"))


def test_a_staged_file_belongs_to_the_owner_that_is_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    owner = tmp_path / "owner"
    owner.mkdir()
    os.chown(owner, 1234, 1235)
    folder = os.open(owner, os.O_RDONLY)
    with staged_file(tmp_path, mode=0o600, owner=folder) as file:
        status = os.stat(file.name)
    os.close(folder)
    assert (status.st_uid, status.st_gid) == (1234, 1235)


def entry(folder: Path, name: str, n_bytes: int, age_seconds: float) -> Path:
    """Make a file, or a folder with two files where the name ends in `/`."""
    path = folder / name
    if name.endswith("/"):
        (path / "in").mkdir(parents=True)
        (path / "in" / "file").write_bytes(bytes(n_bytes - n_bytes // 2))
        (path / "file").write_bytes(bytes(n_bytes // 2))
    else:
        path.write_bytes(bytes(n_bytes))
    last_use = time.time() - age_seconds
    os.utime(path, (last_use, last_use))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_a_sweep_removes_the_least_recently_used_entries_and_what_was_left_over(
    folder: Path,
) -> None:
    for name, age in (("old", 30), ("mid", 20), ("new", 10), (".tmp-vecache-a", 0)):
        entry(folder, name, 100_000, age)
        entry(folder, name + "-folder/", 100_000, age + 1)
    with staged_file(folder) as file, staged_folder(folder) as (written, _):
        file.write(bytes(500_000))
        used = {Path(file.name).name, written.name}
        sweep_folder(folder, 2_000_000)
        everything = {"old", "old-folder", "mid", "mid-folder", "new", "new-folder"}
        assert names(folder) == everything | used
        sweep_folder(folder, 350_000)
        assert names(folder) == {"mid", "new", "new-folder"} | used
        sweep_folder(folder, 0)
        assert names(folder) == used
    sweep_folder(folder / "gone", 0)


def test_the_next_writer_removes_what_a_killed_one_left(folder: Path) -> None:
    for name in (".tmp-vecache-1", ".tmp-vecache-2/", ".tmp-other", ".tmp-other-folder/", "mine"):
        entry(folder, name, 10, 0)
    (folder / ".tmp-vecache-link").symlink_to(folder / "mine")
    with replace_file(folder / "new"):
        pass
    others = {".tmp-other", ".tmp-other-folder", "mine", ".tmp-vecache-link"}
    assert names(folder) == others | {"new"}
    entry(folder, ".tmp-vecache-3", 10, 0)
    with staged_folder(folder) as (path, _):
        path.rename(folder / "done")
    assert names(folder) == others | {"new", "done"}


def test_in_an_open_folder_of_a_store_no_folder_is_left_over(folder: Path) -> None:
    entry(folder, ".tmp-vecache-1", 10, 0)
    entry(folder, ".tmp-vecache-2/", 10, 0)
    descriptor = os.open(folder, os.O_RDONLY)
    with staged_file("", mode=0o600, dir_fd=descriptor) as file:
        assert names(folder) == {".tmp-vecache-2", file.name}
        remove_leftovers(descriptor)
        assert names(folder) == {".tmp-vecache-2", file.name}
    os.close(descriptor)


def test_what_another_process_writes_is_not_left_over(folder: Path) -> None:
    """Also between `close` and the rename: the lock is held until then."""
    with staged_file(folder) as file, staged_folder(folder) as (written, _):
        file.write(b"x")
        file.close()
        code = "import sys; from vecache.atomic import staged_file, staged_folder\n"
        code += "with staged_file(sys.argv[1]), staged_folder(sys.argv[1]): pass\n"
        subprocess.run([sys.executable, "-c", code, folder], check=True)
        assert names(folder) == {Path(file.name).name, written.name}


@pytest.mark.parametrize("moment", ["before the lock", "after it"])
def test_a_new_file_that_is_taken_for_one_left_over_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another process may come between making a temporary file and locking it."""
    lock = fcntl.flock
    seen: list[str] = []

    def come_between(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX | fcntl.LOCK_NB and not seen:
            seen.extend(names(folder))
            if moment == "before the lock":
                (folder / seen[0]).unlink()
            else:
                raise BlockingIOError
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", come_between)
    with replace_file(folder / "new") as file:
        assert file.name not in seen
        file.write(b"whole")
    assert (folder / "new").read_bytes() == b"whole"


def test_without_locks_files_are_written_and_none_is_left_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    entry(folder, ".tmp-vecache-1", 10, 0)
    with replace_file(folder / "new") as file:
        file.write(b"whole")
    assert names(folder) == {".tmp-vecache-1", "new"}


def test_a_sweep_leaves_a_folder_that_is_used_and_what_links_point_at(
    tmp_path: Path, folder: Path
) -> None:
    cache, elsewhere = folder, tmp_path / "elsewhere"
    entry(tmp_path, "elsewhere/", 10, 0)
    (cache / "link").symlink_to(elsewhere)
    used, slow = entry(cache, "used/", 10, 50), entry(cache, ".tmp-vecache-slow/", 10, 9000)
    locks = [FolderLock(used), FolderLock(used), FolderLock(slow)]
    assert used.stat().st_mtime > time.time() - 40  # a lock is a use
    sweep_folder(cache, 0)
    assert names(cache) == {"used", ".tmp-vecache-slow"}
    assert names(elsewhere) == {"in", "file"}
    del locks[1:]
    sweep_folder(cache, 0)
    assert names(cache) == {"used"}
    locks.clear()
    sweep_folder(cache, 0)
    assert names(cache) == set()


def test_a_sweep_leaves_what_another_process_uses(folder: Path) -> None:
    used = entry(folder, "used/", 10, 50)
    code = "import sys; from vecache.atomic import FolderLock\nlock = FolderLock(sys.argv[1])\n"
    code += "print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, used], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        sweep_folder(folder, 0)
        assert names(folder) == {"used"}
        process.communicate()
    sweep_folder(folder, 0)
    assert names(folder) == set()


def test_many_folders_are_used_at_the_same_time(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        locks = [FolderLock(folder) for _ in range(500)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(locks) == 500


def test_a_folder_that_is_being_removed_is_not_used(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(FileNotFoundError, match="Being removed"):
            FolderLock(tmp_path)
    finally:
        os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        FolderLock(tmp_path / "gone")
