"""Locks exclude this program and Podman from each other, also between threads, and never hang."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from vecache.errors import StoreError
from vecache.store.lock import read_lock, write_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What Podman does: a plain POSIX record lock on the whole file.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX if sys.argv[2] == "write" else fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(path: Path, kind: str) -> Iterator[int]:
    """Hold the lock in another process; yield its id."""
    command = [sys.executable, "-c", HOLDER, str(path), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid
        holder.communicate()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "layers.lock"
    path.touch()
    return path


def test_readers_share(lock: Path) -> None:
    with (
        held_elsewhere(lock, "read"),
        read_lock(lock, wait_seconds=0) as one,
        read_lock(lock, wait_seconds=0) as two,
    ):
        assert one
        assert two


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_writer_waits_for_all_others_and_names_the_process(lock: Path, kind: str) -> None:
    with (
        held_elsewhere(lock, kind) as pid,
        pytest.raises(StoreError, match=rf"process {pid} \(.+\) still holds"),
        write_lock(lock, wait_seconds=0.01),
    ):
        pytest.fail("the lock was taken twice")
    with write_lock(lock, wait_seconds=5) as descriptor:
        assert os.write(descriptor, b"x") == 1


def test_a_reader_waits_for_a_writer(lock: Path) -> None:
    with (
        held_elsewhere(lock, "write"),
        pytest.raises(StoreError, match="holds the lock"),
        read_lock(lock, wait_seconds=0.01),
    ):
        pytest.fail("read while a writer held the lock")


def test_a_lock_is_taken_when_the_other_process_ends(lock: Path) -> None:
    with contextlib.ExitStack() as stack:
        command = [
            sys.executable,
            "-c",
            HOLDER.replace("sys.stdin.read()", "import time; time.sleep(0.2)"),
            str(lock),
            "write",
        ]
        holder = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert stack.enter_context(read_lock(lock, wait_seconds=30))


def test_two_writers_of_one_process_exclude_each_other(lock: Path) -> None:
    with (
        write_lock(lock, wait_seconds=0),
        pytest.raises(StoreError, match="another process still holds"),
        write_lock(lock, wait_seconds=0.01),
    ):
        pytest.fail("the lock was taken twice")


def test_closing_another_descriptor_does_not_release_the_lock(lock: Path) -> None:
    # With the older kind of lock it would, and a second process could come in.
    attempt = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); "
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    with write_lock(lock):
        lock.read_bytes()
        ended = subprocess.run(
            [sys.executable, "-c", attempt, str(lock)], capture_output=True, check=False
        )
        assert b"BlockingIOError" in ended.stderr
    assert subprocess.run([sys.executable, "-c", attempt, str(lock)], check=False).returncode == 0


def test_reading_needs_no_lock_file_and_creates_none(tmp_path: Path) -> None:
    with read_lock(tmp_path / "none.lock") as is_held:
        assert not is_held
    assert not (tmp_path / "none.lock").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_lock_that_cannot_be_opened_for_reading_is_an_error(
    lock: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Once the store was read without it, beside whoever was writing."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), str(lock))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreError, match="cannot be locked for reading"), read_lock(lock):
        pytest.fail("read without a lock")


def test_without_locks_a_file_system_can_only_be_read(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with read_lock(lock) as is_held:
        assert not is_held
    with pytest.raises(StoreError, match="has no locks"), write_lock(lock):
        pytest.fail("written without a lock")


def test_a_lock_that_cannot_be_opened_for_writing_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="cannot be locked"),
        write_lock(tmp_path / "no" / "layers.lock"),
    ):
        pytest.fail("written without a lock")


def test_a_lock_that_is_a_symbolic_link_is_never_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    (tmp_path / "layers.lock").symlink_to(victim)
    with (
        pytest.raises(StoreError, match="cannot be locked for writing: Too many levels of symb"),
        write_lock(tmp_path / "layers.lock"),
    ):
        pytest.fail("the target of the link was locked")
