"""Protects: images and TOCs of both formats come out of a real registry as they went in.

Runs `docker-registry` (the Debian package of that name) on loopback, where it is installed.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from tests.image.samples import make_index
from vecache.errors import ImageNotFoundError, RegistryError
from vecache.image.open import open_image
from vecache.image.series import open_series
from vecache.image.toc import read_toc
from vecache.plan.series import history

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = shutil.which("docker-registry")
TAGS = ("base", "app1", "other", "dirs", "app2")
FOLDERS = ("oci", "oci-estargz")

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="docker-registry (the Debian package) is not installed"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(
    address: str, method: str, path: str, body: bytes = b"", content_type: str = ""
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def push_blob(address: str, name: str, digest: str, blob: bytes) -> None:
    if send(address, "HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
        return
    location = send(address, "POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    path = location.partition(address)[2] or location
    mark = "&" if "?" in path else "?"
    kind = "application/octet-stream"
    answer = send(address, "PUT", f"{path}{mark}digest={digest}", blob, kind)
    assert answer.status == 201, answer.status


def push_manifest(address: str, name: str, version: str, data: bytes) -> None:
    kind = json.loads(data)["mediaType"]
    answer = send(address, "PUT", f"/v2/{name}/manifests/{version}", data, kind)
    assert answer.status == 201, answer.status


def push_golden(address: str, folder: str) -> None:
    layout = GOLDEN_SMALL / folder
    for tag, entry in zip(
        TAGS, json.loads((layout / "index.json").read_text())["manifests"], strict=True
    ):
        blobs = layout / "blobs" / "sha256"
        manifest = (blobs / entry["digest"].removeprefix("sha256:")).read_bytes()
        document = json.loads(manifest)
        for each in (document["config"], *document["layers"]):
            blob = (blobs / each["digest"].removeprefix("sha256:")).read_bytes()
            push_blob(address, f"small/{folder}", each["digest"], blob)
        push_manifest(address, f"small/{folder}", tag, manifest)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that holds the golden images."""
    assert PROGRAM is not None
    folder = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=log, stderr=log)
    try:
        wait_for(address, process, folder / "log")
        for name in FOLDERS:
            push_golden(address, name)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.fail(f"docker-registry ended: {log.read_text()[-500:]}")
        try:
            if send(address, "GET", "/v2/").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail("docker-registry does not answer")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("tag", TAGS)
def test_golden_images_are_the_same_over_http(address: str, folder: str, tag: str) -> None:
    there = open_image(f"docker://{address}/small/{folder}:{tag}", tls_verify=False)
    here = open_image(f"oci:{GOLDEN_SMALL}/{folder}:{tag}")
    assert there.digest == here.digest
    for one, other in zip(there.layers, here.layers, strict=True):
        assert (one.blob, one.diff_id, one.toc_format) == (
            other.blob,
            other.diff_id,
            other.toc_format,
        )
        assert (one.toc_offset, one.toc_bytes) == (other.toc_offset, other.toc_bytes)
        assert one.reader is not None
        assert other.reader is not None
        assert read_toc(one.reader) == read_toc(other.reader)


def test_a_short_name_is_read_from_a_mirror(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'[aliases]\napp="a.invalid/team/oci"\n[[registry]]\nlocation="a.invalid/team"\n'
        '[[registry.mirror]]\nlocation="127.0.0.1:1/x"\ninsecure=true\n'
        f'[[registry.mirror]]\nlocation="{address}/small"\ninsecure=true\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    there, here = open_image("app:app1"), open_image(f"oci:{GOLDEN_SMALL}/oci:app1")
    assert there.read_from == f"{address}/small/oci:app1"
    assert (there.name, there.digest) == ("a.invalid/team/oci:app1", here.digest)
    assert history([there, here]).pulls.tolist() == history([here, here]).pulls.tolist()


def test_an_image_is_found_by_digest(address: str) -> None:
    digest = open_image(f"oci:{GOLDEN_SMALL}/oci:base").digest
    reference = f"docker://{address}/small/oci@{digest}"
    assert open_image(reference, tls_verify=False).digest == digest


def test_a_list_is_resolved(address: str) -> None:
    entries = json.loads((GOLDEN_SMALL / "oci" / "index.json").read_text())["manifests"]
    platforms = [("linux", "amd64"), ("linux", "arm64")]
    index = json.loads(make_index([]).manifest)
    for entry, (system, architecture) in zip(entries, platforms, strict=False):
        platform = {"os": system, "architecture": architecture}
        index["manifests"].append({**entry, "platform": platform})
    push_manifest(address, "small/oci", "list", json.dumps(index).encode())
    for entry, (system, architecture) in zip(entries, platforms, strict=False):
        image = open_image(
            f"docker://{address}/small/oci:list",
            tls_verify=False,
            platform=f"{system}/{architecture}",
        )
        assert image.digest == entry["digest"]


@pytest.mark.parametrize(
    "name", ["small/oci:nope", "missing/missing", "small/oci@sha256:" + "0" * 64]
)
def test_a_missing_image_is_not_found(address: str, name: str) -> None:
    with pytest.raises(ImageNotFoundError, match=r"MANIFEST_UNKNOWN|NAME_UNKNOWN"):
        open_image(f"docker://{address}/{name}", tls_verify=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_series_is_listed_and_opened(address: str, folder: str) -> None:
    reference = f"docker://{address}/small/{folder}"
    images = open_series(reference, "app1..other", tls_verify=False)
    assert [image.reference for image in images] == [
        f"{reference}:{tag}" for tag in ("app1", "app2", "other")
    ]
    here = [open_image(f"oci:{GOLDEN_SMALL}/{folder}:{tag}") for tag in ("app1", "app2")]
    assert [image.digest for image in images[:2]] == [image.digest for image in here]
    there, local = history(images[:2]), history(here)
    assert there.pulls.tolist() == local.pulls.tolist()
    with pytest.raises(ImageNotFoundError, match="tags there: 'app1', 'app2'"):
        open_series(reference, "app..other", tls_verify=False)


def test_the_tags_of_a_missing_repository_are_not_found(address: str) -> None:
    with pytest.raises(ImageNotFoundError, match=r"missing/missing: list of tags: .*NAME_UNKNOWN"):
        open_series(f"docker://{address}/missing/missing", "a..b", tls_verify=False)


def test_plain_http_must_be_allowed(address: str) -> None:
    with pytest.raises(RegistryError, match="turn tls_verify off"):
        open_image(f"docker://{address}/small/oci:base")
