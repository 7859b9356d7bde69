"""The Go original as a peer: find Go and the sources, build `go_original_test.go`, and run it.

The test stands in a copy of containers/storage's `pkg/chunked`, since what it times is private to
that package. Sources and all that they import are those of Debian's package
`golang-github-containers-storage-dev`, in a GOPATH; nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.peers.kinds import KINDS
from vecache import CacheFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers.case import Case
    from vecache.arrays import I64

__all__ = ["GoMissingError", "GoOriginal"]

_PACKAGES = ("go.podman.io/storage", "github.com/containers/storage")  # since 1.60, and before
_TEST = Path(__file__).with_name("go_original_test.go")
_TAGS = "exclude_graphdriver_btrfs containers_image_openpgp"
_BUILD_SECONDS = 600


class GoMissingError(Exception):
    """Go or the sources are not here, or do not build."""


@dataclass(frozen=True)
class GoOriginal:
    """The built test."""

    program: Path
    version: str  # of Go and of the sources

    @classmethod
    def build(cls, root: Path, folder: Path) -> GoOriginal:
        """Build in `folder`, with the Debian packages that are installed under `root`."""
        go = next(iter(sorted(root.glob("usr/lib/go-*/bin/go"), reverse=True)), None)
        go = go or (Path(found) if (found := shutil.which("go")) else None)
        gopath = root / "usr/share/gocode"
        package = next((name for name in _PACKAGES if (gopath / "src" / name).is_dir()), None)
        if go is None or package is None:
            what = "no Go" if go is None else f"no sources in {gopath}"
            raise GoMissingError(
                f"{what}; apt install golang-go golang-github-containers-storage-dev"
            )
        copied = folder / "gopath" / "src" / package
        shutil.copytree((gopath / "src" / package).resolve(), copied)
        chunked = copied / "pkg" / "chunked"
        for path in chunked.glob("*_test.go"):
            path.unlink()  # they import what the package does not need
        shutil.copy(_TEST, chunked / "vecache_bench_test.go")
        program = folder / "go-original.test"
        environment = os.environ | {
            "GO111MODULE": "off",
            "GOPATH": f"{folder / 'gopath'}{os.pathsep}{gopath}",
            "GOCACHE": str(folder / "go-cache"),
            "GOROOT": str(go.parents[1]),
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }
        command = [str(go), "test", "-c", "-vet=off", "-tags", _TAGS, "-o", str(program), "."]
        built = subprocess.run(
            command, cwd=chunked, env=environment, capture_output=True, text=True, check=False,
            timeout=_BUILD_SECONDS,
        )  # fmt: skip
        shutil.rmtree(folder / "go-cache", ignore_errors=True)
        if built.returncode or not program.exists():
            raise GoMissingError(
                f"{package} of {gopath} does not build with the test, which is for containers/"
                f"storage 1.57 to 1.64: {(built.stderr + built.stdout).strip()[-400:]}"
            )
        version = subprocess.run([go, "version"], capture_output=True, text=True, check=True)
        release = (copied / "VERSION").read_text().strip() if (copied / "VERSION").exists() else ""
        return cls(program, f"{version.stdout.split()[2]}, {package} {release}".strip())

    def measure(
        self, case: Case, name: str, n_queries: int, runs: int, seconds: float, sets: Sequence[str]
    ) -> dict[str, Any]:
        """Measure as `worker.measure` does, and check every answer."""
        out = case.folder / "go"
        job = {
            "Layers": [str(path) for path in case.layer_paths()],
            "Queries": [str(case.query_path(which)) for which in sets],
            "N": n_queries,
            "Workers": KINDS[name].threads,
            "Repeats": runs,
            "Seconds": seconds,
            "Tocs": [str(path) for path in case.toc_paths()] if name == "go" else [],
            "Out": str(out),
        }
        (case.folder / "go-job.json").write_text(json.dumps(job))
        environment = os.environ | {"VECACHE_BENCH_JOB": str(case.folder / "go-job.json")}
        ran = subprocess.run(
            [self.program, "-test.run", "TestVecacheBench", "-test.timeout", "1h"],
            env=environment, cwd=case.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ran.returncode:
            raise RuntimeError(f"the Go test failed: {(ran.stdout + ran.stderr).strip()[-400:]}")
        result: dict[str, Any] = json.loads(Path(f"{out}.json").read_text())
        for number, which in enumerate(sets):
            layer = np.fromfile(f"{out}{number}", np.int64)
            if not np.array_equal(layer, _expected_layers(case, which, n_queries)):
                raise AssertionError(f"Go: other answers to {which} queries of {case.name}")
        for number, path in enumerate(case.layer_paths()[: len(result["tocs"] or ())]):
            if Path(f"{out}toc{number}").read_bytes() != path.read_bytes():
                raise AssertionError(f"Go: another cache of layer {number}")
        times = zip(sets, result["sets"], strict=True)
        result["sets"] = {which: time | {"n": n_queries} for which, time in times}
        return result | {"tocs": result["tocs"] or []}


def _expected_layers(case: Case, which: str, n_queries: int) -> I64:
    """(n,) int64: the layer that findFileInOtherLayers names: of a tag at the start of a file."""
    position, starts = case.expected(which, n_queries), case.starts()
    layer = np.searchsorted(starts, position, side="right") - 1
    layer[position < 0] = -1
    for number, path in enumerate(case.layer_paths()):
        rows = np.flatnonzero(layer == number)
        located = CacheFile.open(path).locate(position[rows] - starts[number])
        layer[rows[located.offset != 0]] = -1
    return layer
