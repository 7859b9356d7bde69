"""The chroot, the registry with its images, and the file systems; see README.md."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from tests.interop import proxy
from tests.interop.images import make_images, write_images
from tests.interop.podman import Chroot, PodmanStore, Settings, file_system, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.proxy import Proxy

    NewStore = Callable[[str, Settings], PodmanStore]

FOLDER = "VECACHE_INTEROP"  # the environment variable that names the chroot
_TALLY = pytest.StashKey[Counter[str]]()
_GOLDEN = ("base", "app1", "other", "dirs", "app2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def chroot() -> Iterator[Chroot]:
    """A Debian sid with Podman; made where it is missing."""
    if not os.environ.get(FOLDER):
        pytest.skip(f"{FOLDER} names no folder for a chroot; see tests/interop/README.md")
    if os.geteuid() != 0:
        pytest.skip("only root can run Podman in a chroot")
    root = Path(os.environ[FOLDER]).resolve()
    if not (root / "interop.lock").exists():  # refuses a folder that holds anything else
        subprocess.run([Path(__file__).with_name("make_chroot.sh"), root], check=True)
    with (root / "interop.lock").open("w") as lock, mounted(root) as found:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"{root}: another run uses this chroot")
        shutil.rmtree(root / "interop", ignore_errors=True)
        yield found


@pytest.fixture(scope="session")
def registry(chroot: Chroot) -> Iterator[Proxy]:
    """A registry with all images, seen through a proxy."""
    images = make_images()
    folder = chroot.root / "interop" / "images"
    write_images(folder / "made", images)
    for name in ("oci", "oci-estargz"):
        shutil.copytree(GOLDEN_SMALL / name, folder / name)
    with chroot.registry() as address, proxy.serve(address) as found:
        for tag, compression in itertools.product(images, ("zstd:chunked", "gzip")):
            chroot.push(folder / "made", tag, address, compression)
        for name, tag in itertools.product(("oci", "oci-estargz"), _GOLDEN):
            chroot.push(folder / name, tag, address, None)
        yield found


@pytest.fixture(scope="session")
def file_systems(chroot: Chroot) -> Iterator[Callable[[str], Path]]:
    """Return the folder where a file system of a kind is mounted."""
    folders: dict[str, Path] = {}
    with ExitStack() as mounts:

        def folder(kind: str) -> Path:
            if kind not in folders:
                folders[kind] = mounts.enter_context(file_system(chroot, kind))
            return folders[kind]

        yield folder


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Counter[str]:
    """Figures to print at the end."""
    return request.config.stash.setdefault(_TALLY, Counter())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, number in config.stash.get(_TALLY, Counter[str]()).items():
        terminalreporter.write_line(f"interop: {number:,} {name}")


@pytest.fixture
def new_store(
    chroot: Chroot,
    file_systems: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> NewStore:
    """Make an empty store on a file system, with settings for Podman and vecache."""

    def make(kind: str, settings: Settings) -> PodmanStore:
        folder = file_systems(kind)
        store = PodmanStore(chroot, folder / f"store-{len(os.listdir(folder))}", settings)
        store.enter(monkeypatch)
        return store

    return make
