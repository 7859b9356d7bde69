"""Run Podman, Skopeo and docker-registry in a Debian chroot, each store with its own settings.

Paths inside and outside differ by the folder of the chroot, so each store has two storage.conf
files. The blob-info cache is the chroot's, and starts empty with each store.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.image.registry.test_docker_registry import free_port, wait_for
from tests.stores import cache_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    Done = subprocess.CompletedProcess[str]

_MISSING = re.compile(r"Missing (\d+) bytes out of (\d+)")
_TEMPORARY = {"proc": "proc", "sysfs": "sys", "devtmpfs": "dev"}
_IMAGE_BYTES = 6 << 30  # sparse
BLOB_INFO = "var/lib/containers/cache"


@dataclass(frozen=True)
class Chroot:
    root: Path

    def run(self, *command: str, check: bool = True, **environ: str) -> Done:
        """Run a command in the chroot; an error has the end of its output."""
        done = subprocess.run(
            ["chroot", str(self.root), *command],
            env=inside(environ),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-1500:]}")
        return done

    @contextmanager
    def registry(self) -> Iterator[str]:
        """Run docker-registry with an empty folder; return its address."""
        data = self.root / "interop" / "registry"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        address = f"127.0.0.1:{free_port()}"
        (data / "config.yml").write_text(
            "version: 0.1\nlog: {level: error}\n"
            "storage: {filesystem: {rootdirectory: /interop/registry/data}}\n"
            f"http: {{addr: '{address}'}}\n"
        )
        command = ["docker-registry", "serve", "/interop/registry/config.yml"]
        with (data / "log").open("wb") as log:
            process = subprocess.Popen(
                ["chroot", str(self.root), *command], env=inside({}), stdout=log, stderr=log
            )
        try:
            wait_for(address, process, data / "log")
            yield address
        finally:
            process.terminate()
            process.wait(10)

    def push(self, layout: Path, tag: str, address: str, compression: str | None) -> None:
        """Copy an image of a layout in the chroot to `address/COMPRESSION:tag`, or as it is."""
        source = f"oci:/{layout.relative_to(self.root)}:{tag}"
        if compression is None:
            options, name = ["--preserve-digests"], layout.name
        else:
            # Forced: else Skopeo takes a blob that the registry has, in another compression.
            options = ["--dest-compress-format", compression, "--dest-force-compress-format"]
            name = compression.replace(":", "-")
        target = f"docker://{address}/{name}:{tag}"
        self.run("skopeo", "copy", "-q", "--dest-tls-verify=false", *options, source, target)


def inside(environ: dict[str, str]) -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8", **environ}


@contextmanager
def mounted(root: Path) -> Iterator[Chroot]:
    """Mount what Podman needs in a chroot, as long as the tests run."""
    with ExitStack() as mounts:
        for kind, name in _TEMPORARY.items():
            mounts.enter_context(mount(root / name, "-t", kind, kind))
        mounts.enter_context(mount(root / "run", "-t", "tmpfs", "tmpfs"))
        yield Chroot(root)


@contextmanager
def mount(folder: Path, *arguments: str) -> Iterator[Path]:
    done = subprocess.run(
        ["mount", *arguments, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this machine does not mount it: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: maps of cache files may live until the process ends.
        subprocess.run(["umount", "--recursive", "--lazy", str(folder)], check=True)


@contextmanager
def file_system(chroot: Chroot, kind: str) -> Iterator[Path]:
    """Make a file system of a kind in a file, and mount it in the chroot."""
    program = shutil.which(f"mkfs.{kind}")
    if program is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    folder = chroot.root / "interop" / kind
    folder.mkdir(parents=True, exist_ok=True)
    image = folder.with_suffix(".img")
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    try:
        subprocess.run([program, "-q", str(image)], check=True)
        with mount(folder, "-o", "loop", str(image)):
            yield folder
    finally:
        image.unlink()


@dataclass(frozen=True)
class Settings:
    """What storage.conf and containers.conf say."""

    parallel: int = 1
    hard_links: bool = False
    composefs: bool = False
    convert_images: bool = False
    unpredictable: bool = False

    def write(self, folder: Path, graph_root: str, run_root: str) -> dict[str, str]:
        """Write both files; return the environment that names them."""
        pull = {
            "enable_partial_images": True,
            "use_hard_links": self.hard_links,
            "convert_images": self.convert_images,
            "insecure_allow_unpredictable_image_contents": self.unpredictable,
        }
        options = ", ".join(f'{key} = "{str(value).lower()}"' for key, value in pull.items())
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{graph_root}"\nrunroot = "{run_root}"\n'
            f"[storage.options]\npull_options = {{{options}}}\n"
            f'[storage.options.overlay]\nuse_composefs = "{str(self.composefs).lower()}"\n'
        )
        (folder / "containers.conf").write_text(
            f"[engine]\nimage_parallel_copies = {self.parallel}\n"
        )
        return {"CONTAINERS_STORAGE_CONF": "storage.conf", "CONTAINERS_CONF": "containers.conf"}


class CacheState(NamedTuple):
    inode: int
    mtime_ns: int
    content: bytes


class PodmanStore:
    """A store of Podman's in a folder of the chroot."""

    def __init__(self, chroot: Chroot, folder: Path, settings: Settings) -> None:
        self.chroot = chroot
        self.root = folder / "graph"
        self.settings = settings
        shutil.rmtree(chroot.root / BLOB_INFO, ignore_errors=True)
        inside = Path("/", folder.relative_to(chroot.root))
        folders = {"inside": inside, "outside": folder}
        self.environ: dict[str, dict[str, str]] = {}
        for side, seen in folders.items():
            (folder / side).mkdir(parents=True)
            run_root = f"/run/interop/{inside.parent.name}-{inside.name}"
            named = settings.write(folder / side, str(seen / "graph"), run_root)
            self.environ[side] = {key: str(seen / side / name) for key, name in named.items()}

    def podman(self, *arguments: str, check: bool = True) -> Done:
        return self.chroot.run("podman", *arguments, check=check, **self.environ["inside"])

    def pull(self, image: str) -> list[list[int]]:
        """Pull an image; return `Missing M bytes out of T` of each layer with bytes, sorted."""
        done = self.podman("--log-level", "debug", "pull", "-q", "--tls-verify=false", image)
        found = [[int(m), int(t)] for m, t in _MISSING.findall(done.stderr)]
        return sorted(pair for pair in found if pair[1])

    def remove(self, *images: str) -> None:
        self.podman("rmi", "--force", *images)

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let vecache read the settings and the blob-info cache that Podman has."""
        for key, value in self.environ["outside"].items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(
            "vecache.store.blob_info._MACHINE_FOLDER", str(self.chroot.root / BLOB_INFO)
        )

    def cache_files(self) -> dict[str, CacheState]:
        """State of each cache file, by layer."""
        found = {}
        for layer in os.listdir(self.root / "overlay-layers"):
            path = cache_path(self.root, layer)
            if path.is_file():
                status = path.stat()
                found[layer] = CacheState(status.st_ino, status.st_mtime_ns, path.read_bytes())
        return found
