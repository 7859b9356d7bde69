"""The result is what the kernel does, and the attempt leaves no trace."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

import vecache.store.reflink as reflink_module
from vecache.errors import StoreError
from vecache.store.reflink import can_reflink, file_system_type

MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
40 22 8:1 / /var/lib/containers rw shared:5 master:2 - xfs /dev/sda1 rw,attr2
41 40 0:55 / /var/lib/containers/with\040space rw - btrfs /dev/sdb rw
42 22 0:56 / /data rw - ext4 /dev/sdc rw
43 42 0:57 / /data rw - tmpfs tmpfs rw
broken line
44 22 0:58 / /odd rw -
"""


def test_it_leaves_nothing_and_agrees_with_a_real_attempt(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    before = folder.stat().st_mtime_ns
    answer = can_reflink(folder)
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mtime_ns == before
    source, target = folder / "source", folder / "target"
    source.write_bytes(bytes(4096))
    with source.open("rb") as one, target.open("wb") as other:
        try:
            fcntl.ioctl(other.fileno(), 0x40049409, one.fileno())
        except OSError:
            assert not answer
        else:
            assert answer


def test_memory_cannot_reflink() -> None:
    if file_system_type(Path("/dev/shm")) != "tmpfs":
        pytest.skip("/dev/shm is not a tmpfs here")
    assert not can_reflink("/dev/shm")


def test_a_file_counts_as_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    file.touch()
    assert can_reflink(file) == can_reflink(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        can_reflink(tmp_path / "none")


def test_a_reflink_that_works_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 0)
    assert can_reflink(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EOPNOTSUPP, errno.EISDIR])
@pytest.mark.parametrize(("kind", "answer"), [("xfs", True), ("btrfs", True), ("ext4", False)])
def test_where_it_cannot_be_tried_the_type_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: str, answer: bool
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(reflink_module, "file_system_type", lambda _: kind)
    assert can_reflink(tmp_path) is answer


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/containers", "xfs"),
        ("/var/lib/containers/storage/overlay", "xfs"),
        ("/var/lib/containersxyz", "ext4"),
        ("/var/lib/containers/with space/x", "btrfs"),
        ("/data/x", "tmpfs"),  # mounted over an ext4
        ("/odd/x", "ext4"),
    ],
)
def test_file_systems_are_read_from_the_mounts(tmp_path: Path, folder: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system_type(Path(folder), mounts) == kind


def test_without_a_list_of_mounts_the_type_is_unknown(tmp_path: Path) -> None:
    assert file_system_type(Path("/"), tmp_path / "none") == ""
