"""Opening never waits, takes only regular files, and knows which file is mapped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from vecache.errors import StoreError, TruncatedError
from vecache.files import FileState, open_mapped, open_regular, read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vecache.arrays import U8


def open_it(path: Path | str) -> None:
    with open_regular(path):
        pass


def map_file(path: Path | str) -> tuple[U8, FileState]:
    with open_mapped(path) as (_, data, state):
        return data, state


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
    data, _ = map_file(path)
    path.unlink()
    assert data.tobytes() == b"abc"
    assert not data.flags.writeable


def test_an_empty_file_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TruncatedError, match="file: header at byte 0: the file is empty"):
        map_file(tmp_path / "file")


def test_a_map_comes_with_the_state_of_the_file_that_is_mapped(tmp_path: Path) -> None:
    """Whoever remembers what a file held, as the index does, must not take another one for it."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"first")
    data, state = map_file(path)
    assert state == FileState.of(path.stat())
    assert map_file(path)[1] == state
    other.write_bytes(b"other")
    other.rename(path)
    assert data.tobytes() == b"first"
    assert map_file(path)[1] != state
