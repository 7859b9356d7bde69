"""Opening never waits and takes only regular files; replacing leaves the old file or the new."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vecache.errors import StoreError, TruncatedError
from vecache.files import map_file, open_regular, read_bounded, replace_file, staged_file

if TYPE_CHECKING:
    from collections.abc import Callable


def open_it(path: Path | str) -> None:
    with open_regular(path):
        pass


@pytest.mark.parametrize("read", [open_it, lambda path: read_bounded(path, 10), map_file])
def test_only_regular_files_are_opened(
    tmp_path: Path, read: Callable[[Path | str], object]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (tmp_path / "fifo", "Not a regular file"),
        ("/dev/null", "Not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "gone", "No such file"),
    ):
        with pytest.raises((OSError, StoreError), match=reason) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert read_bounded(path, 3) == b"abc"
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes, more than the 3 allowed"):
        read_bounded(path, 3)


def test_a_map_is_read_only_and_outlives_the_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    data = map_file(path)
    path.unlink()
    assert data.tobytes() == b"abc"
    assert not data.flags.writeable


def test_an_empty_file_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TruncatedError, match="file: header at byte 0: the file is empty"):
        map_file(tmp_path / "file")


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
    owner.touch()
    os.chown(owner, 1234, 1235)
    with staged_file(tmp_path, mode=0o600, owner=owner) as file:
        status = os.stat(file.name)
    assert (status.st_uid, status.st_gid) == (1234, 1235)
