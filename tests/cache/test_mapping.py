"""Protects the opening of files: what is no regular file is refused, and nothing ever waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from vecache.errors import StoreError, TruncatedError
from vecache.files import map_file

if TYPE_CHECKING:
    from pathlib import Path


def test_maps_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    data = map_file(path)
    assert data.tobytes() == b"abc"
    assert not data.flags.writeable


def test_outlives_the_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    data = map_file(path)
    path.unlink()
    assert data.tobytes() == b"abc"


def test_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TruncatedError, match="file: header at byte 0: the file is empty"):
        map_file(tmp_path / "file")


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone: No such file"):
        map_file(tmp_path / "gone")


def test_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Is a directory"):
        map_file(tmp_path)


def test_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="no regular file"):
        map_file(tmp_path / "fifo")


def test_refuses_a_device() -> None:
    with pytest.raises(StoreError, match="no regular file"):
        map_file("/dev/null")
