"""Protects: an image is the same in a layout, archive or folder, and damage is a VecacheError."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL
from tests.image.samples import (
    TOC,
    Sample,
    compress_zstd,
    digest_of,
    dir_files,
    estargz_layer,
    layout_files,
    make_image,
    make_index,
    plain_layer,
    write_archive,
    write_files,
    write_layout,
    zstd_layer,
)
from vecache.errors import DigestError, ImageError, ImageNotFoundError, VecacheError
from vecache.image.blob import FileBlob, read_document
from vecache.image.local import TarFiles
from vecache.image.manifest import DOCKER_IMAGE, DOCKER_LIST
from vecache.image.open import open_image
from vecache.image.toc import read_toc
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vecache.image.model import Image

    Writer = Callable[[Path, Sample], str]
    Change = Callable[[dict[str, bytes]], object]

LAYERS = [zstd_layer(), estargz_layer(), plain_layer()]
SAMPLE = make_image(LAYERS)


def facts(image: Image) -> list[tuple[Any, ...]]:
    return [
        (
            *(each.blob, each.blob_bytes, each.diff_id, each.toc_format, each.toc_digest),
            *(each.toc_offset, each.toc_bytes, each.toc_requests),
        )
        for each in image.layers
    ]


def read_tocs(reference: str) -> None:
    for layer in open_image(reference).layers[:2]:
        _ = layer.toc


def write_oci(folder: Path, sample: Sample) -> str:
    return f"oci:{write_layout(folder / 'layout', {'app': sample})}:app"


def write_oci_archive(folder: Path, sample: Sample) -> str:
    return f"oci-archive:{write_archive(folder / 'a.tar', layout_files({'app': sample}))}:app"


def write_dir(folder: Path, sample: Sample) -> str:
    return f"dir:{write_files(folder / 'dir', dir_files(sample))}"


WRITERS = pytest.mark.parametrize("write", [write_oci, write_oci_archive, write_dir])


@WRITERS
def test_an_image_is_the_same_in_each_kind_of_source(write: Writer, tmp_path: Path) -> None:
    image = open_image(write(tmp_path, SAMPLE))
    assert image.digest == SAMPLE.digest
    assert [each.blob_bytes for each in image.layers] == [len(each.blob) for each in LAYERS]
    formats = [TocFormat.ZSTD_CHUNKED, TocFormat.ESTARGZ, None]
    assert [each.toc_format for each in image.layers] == formats
    assert [each.toc_requests for each in image.layers] == [1, 2, 0]
    assert image.layers[0].toc_offset == 100
    assert image.layers[2].toc_offset == -1
    assert image.layers[2].toc_bytes == 0
    for layer in image.layers[:2]:
        assert layer.reader is not None
        assert read_toc(layer.reader) == TOC
        assert layer.toc is layer.toc
    with pytest.raises(ImageError, match="no table of contents"):
        _ = image.layers[2].toc


@WRITERS
def test_the_platform_chooses_from_a_list(write: Writer, tmp_path: Path) -> None:
    arm = make_image([zstd_layer()])
    index = make_index(
        [
            (SAMPLE, {"platform": {"os": "linux", "architecture": "amd64"}}),
            (arm, {"platform": {"os": "linux", "architecture": "arm64"}}),
        ]
    )
    reference = write(tmp_path, index)
    assert open_image(reference, platform="linux/arm64").digest == arm.digest
    assert open_image(reference, platform="linux/amd64").digest == SAMPLE.digest
    with pytest.raises(ImageNotFoundError, match="no image for the platform linux/s390x"):
        open_image(reference, platform="linux/s390x")


@WRITERS
def test_the_platform_of_an_image_that_is_in_no_list_is_checked(
    write: Writer, tmp_path: Path
) -> None:
    config = {"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": []}}
    arm = make_image([], config=json.dumps(config).encode())
    reference = write(tmp_path, arm)
    assert open_image(reference).digest == arm.digest
    assert open_image(reference, platform="linux/arm64").digest == arm.digest
    with pytest.raises(ImageNotFoundError, match="for linux/arm64 only, wanted linux/amd64"):
        open_image(reference, platform="linux/amd64")
    # A list that says no platform of its images is no choice either.
    listed = write(tmp_path, make_index([(arm, {})]))
    assert open_image(listed, platform="linux/arm64").digest == arm.digest
    with pytest.raises(ImageNotFoundError, match="for linux/arm64 only, wanted linux/amd64"):
        open_image(listed, platform="linux/amd64")


@WRITERS
def test_docker_images_have_no_tocs(write: Writer, tmp_path: Path) -> None:
    docker = make_image(LAYERS, media_type=DOCKER_IMAGE)
    platform = {"os": "linux", "architecture": "amd64"}
    listed = make_index([(docker, {"platform": platform})], media_type=DOCKER_LIST)
    image = open_image(write(tmp_path, listed), platform="linux/amd64")
    assert [each.toc_format for each in image.layers] == [None, None, None]


def spoil(name: str, change: Callable[[bytes], bytes]) -> Change:
    def apply(files: dict[str, bytes]) -> None:
        files[name] = change(files[name])

    return apply


CONFIG = json.loads(SAMPLE.manifest)["config"]["digest"]
HEX = {
    name: digest.removeprefix("sha256:")
    for name, digest in {
        "manifest": SAMPLE.digest,
        "config": CONFIG,
        "layer": digest_of(LAYERS[0].blob),
        "estargz": digest_of(LAYERS[1].blob),
    }.items()
}
BLOBS = "blobs/sha256/"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.pop("index.json"), ImageError, "index.json"),
        (spoil("index.json", lambda _: b"[]"), ImageError, "found an array, wanted an object"),
        (spoil("index.json", lambda _: SAMPLE.manifest), ImageError, "wanted a list"),
        (spoil("index.json", lambda d: d + b" " * (4 << 20)), ImageError, "at most 4,194,304"),
        (lambda f: f.pop(BLOBS + HEX["manifest"]), ImageError, HEX["manifest"]),
        (spoil(BLOBS + HEX["manifest"], lambda d: d + b" "), DigestError, "with the digest"),
        (lambda f: f.pop(BLOBS + HEX["config"]), ImageError, HEX["config"]),
        (
            spoil(BLOBS + HEX["config"], lambda d: d.replace(b"layers", b"Layers")),
            DigestError,
            "with the digest",
        ),
        (spoil(BLOBS + HEX["config"], lambda d: d + b" "), ImageError, "bytes"),
        (spoil(BLOBS + HEX["layer"], lambda d: d[:-1]), ImageError, "bytes"),
        (spoil(BLOBS + HEX["layer"], lambda d: d + b"x"), ImageError, "bytes"),
        (lambda f: f.pop(BLOBS + HEX["layer"]), ImageError, HEX["layer"]),
        (
            spoil(BLOBS + HEX["layer"], lambda d: d[:105] + b"????" + d[109:]),
            VecacheError,
            "with the digest",
        ),
        (spoil(BLOBS + HEX["estargz"], lambda d: d[:-1] + b"x"), ImageError, "eStargz footer"),
    ],
)
@pytest.mark.parametrize("is_archive", [False, True], ids=["folder", "archive"])
def test_damage_in_a_layout_is_a_vecache_error(
    change: Change,
    error: type[VecacheError],
    message: str,
    is_archive: bool,
    tmp_path: Path,
) -> None:
    files = layout_files({"app": SAMPLE})
    change(files)
    if is_archive:
        reference = f"oci-archive:{write_archive(tmp_path / 'a.tar', files)}:app"
    else:
        reference = f"oci:{write_files(tmp_path / 'layout', files)}:app"
    with pytest.raises(error, match=message):
        read_tocs(reference)


def test_a_layer_that_is_not_read_may_be_missing(tmp_path: Path) -> None:
    files = layout_files({"app": SAMPLE})
    del files[BLOBS + HEX["layer"]]
    image = open_image(f"oci:{write_files(tmp_path / 'layout', files)}")
    assert image.layers[1].toc.n_bytes == len(TOC)
    with pytest.raises(ImageNotFoundError, match="no such file"):
        _ = image.layers[0].toc


def test_without_a_tag_there_must_be_one_image(tmp_path: Path) -> None:
    other = make_image([zstd_layer(data=b"other")])
    one = write_layout(tmp_path / "one", {"app": SAMPLE})
    assert open_image(f"oci:{one}").name == "one"
    two = write_layout(tmp_path / "two", {"app": SAMPLE, "": other})
    with pytest.raises(ImageNotFoundError, match=r"2 images and no tag given; .*'app', '@1'"):
        open_image(f"oci:{two}")
    with pytest.raises(ImageNotFoundError, match="no image 'nope'; tags there: 'app', '@1'"):
        open_image(f"oci:{two}:nope")
    assert open_image(f"oci:{two}:@1").digest == other.digest
    for wrong in ("@2", "@", "@-1", "@x", "@9999999999"):
        with pytest.raises(ImageNotFoundError, match="no image"):
            open_image(f"oci:{two}:{wrong}")
    many = write_layout(tmp_path / "many", {f"t{i}": SAMPLE for i in range(30)})
    with pytest.raises(ImageNotFoundError, match=r"'t19', \.\.\.$"):
        open_image(f"oci:{many}")
    none = write_layout(tmp_path / "none", {})
    with pytest.raises(ImageNotFoundError, match="tags there: none"):
        open_image(f"oci:{none}")


def test_the_depth_of_lists_in_lists_is_limited(tmp_path: Path) -> None:
    nested = SAMPLE
    for depth in range(5):
        nested = make_index([(nested, {})])
        reference = f"oci:{write_layout(tmp_path / str(depth), {'': nested})}"
        if depth < 3:
            assert open_image(reference).digest == SAMPLE.digest
        else:
            with pytest.raises(ImageError, match="a list in a list"):
                open_image(reference)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.pop("manifest.json"), ImageNotFoundError, "manifest.json"),
        (spoil("version", lambda _: b"Directory Transport Version: 2.0"), ImageError, "version 1"),
        (lambda f: f.pop(HEX["config"]), ImageNotFoundError, HEX["config"]),
        (lambda f: f.pop(HEX["layer"]), ImageNotFoundError, HEX["layer"]),
    ],
)
def test_damage_in_a_dir_folder_is_a_vecache_error(
    change: Change,
    error: type[VecacheError],
    message: str,
    tmp_path: Path,
) -> None:
    files = dir_files(SAMPLE)
    change(files)
    with pytest.raises(error, match=message):
        _ = open_image(f"dir:{write_files(tmp_path / 'd', files)}").layers[0].toc


def test_a_dir_folder_needs_no_version_file(tmp_path: Path) -> None:
    files = dir_files(SAMPLE)
    del files["version"]
    assert open_image(f"dir:{write_files(tmp_path / 'd', files)}").digest == SAMPLE.digest


@pytest.mark.parametrize("name", ["version", "manifest.json"])
def test_no_message_shows_what_a_linked_file_holds(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:$6$hunter2:19000:0:::::")
    folder = write_files(tmp_path / "d", dir_files(SAMPLE))
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    with pytest.raises(ImageError) as caught:
        open_image(f"dir:{folder}")
    assert "hunter2" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["oci", "oci-archive", "dir"])
def test_a_missing_path_is_not_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match="no such file") as caught:
        open_image(f"{name}:{tmp_path}/nothing")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (gzip.compress(b"x"), "gzip"),
        (compress_zstd(b"x"), "zstd"),
        (b"\xfd7zXZ\0\0\0", "xz"),
        (b"BZh91AY&", "bzip2"),
    ],
)
def test_compressed_archives_are_refused_with_advice(
    start: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(start)
    with pytest.raises(ImageError, match=f"compressed with {name}; .*decompress it first"):
        open_image(f"oci-archive:{tmp_path}/a")


def negative_size_header() -> bytes:
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12  # base-256, -1
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def huge_pax_header() -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 33
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar",
        bytes(10),
        b"x" * 2000,
        negative_size_header() * 3,
        huge_pax_header() + bytes(2048),
        tarfile.TarInfo("index.json").tobuf()[:300],
    ],
    ids=["nothing", "text", "zeros", "rubbish", "negative size", "huge header", "cut"],
)
def test_a_file_that_is_not_a_tar_archive_is_an_image_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageError):
        open_image(f"oci-archive:{tmp_path}/a")


def test_an_archive_may_have_dots_in_its_names_and_long_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in layout_files({"app": SAMPLE}).items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mtime = len(data), 1.5
            member.pax_headers = {"comment": "ü" * 300}
            archive.addfile(member, io.BytesIO(data))
    assert open_image(f"oci-archive:{path}:app").layers[0].toc.n_bytes == len(TOC)


def header(name: str, kind: bytes, n_bytes: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, n_bytes
    return member.tobuf(tarfile.USTAR_FORMAT)


def extended(kind: bytes, keywords: dict[str, str], data: bytes = b"") -> bytes:
    """A PAX header of `kind`, with a member behind it."""
    records = tarfile.TarInfo._create_pax_generic_header(keywords, kind, "utf-8")  # type: ignore[attr-defined]
    return bytes(records) + header("f", tarfile.REGTYPE, len(data)) + data


def numbered(n_keywords: int) -> dict[str, str]:
    return {f"{i:x}": "" for i in range(n_keywords)}


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (extended(b"g", numbered(80_000)), "more than 100 global keywords"),
        (extended(b"g", numbered(60)) + extended(b"g", {"x": "", **numbered(101)}), "100 global"),
        (extended(b"x", {"path": "a" * (1 << 20)}), "a header of more than 1,048,576 bytes"),
        (extended(b"x", {"path": "a" * 600_000})[:-512] * 3, "a header of more than"),
        (extended(b"x", {"path": "a" * 900_000}) * 20, "more than 16,777,216 bytes of headers"),
        (header("f", tarfile.REGTYPE, 0) * 33_000, "more than 16,777,216 bytes of headers"),
        (extended(b"x", SPARSE, b"9" * 300 + b"\n" + b"0\n" * (1 << 20)), "a header of more than"),
    ],
    ids=["global", "added", "long", "chain", "in all", "members", "sparse"],
)
def test_headers_of_an_archive_are_bounded(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(data + bytes(1024))
    with pytest.raises(ImageError, match=message):
        open_image(f"oci-archive:{tmp_path}/a.tar")


def test_memory_does_not_grow_with_the_headers_of_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    member = header("f", tarfile.REGTYPE, 0)
    path.write_bytes(extended(b"g", numbered(100)) + member * 2000 + bytes(1024))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="has no member"):
            open_image(f"oci-archive:{path}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20  # 2,000 copies of 100 keywords have 10 MB


def test_of_two_members_with_one_name_the_last_is_read(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", {"index.json": b"first"})
    with tarfile.open(path, "a:") as archive:
        member = tarfile.TarInfo("index.json")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"second"))
    assert TarFiles(path).read_document("index.json") == b"second"


@given(data=st.data())
def test_any_change_of_an_archive_raises_only_vecache_errors(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    write_archive(path, layout_files({"app": SAMPLE}))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        read_tocs(f"oci-archive:{path}:app")
    except VecacheError:
        pass
    else:
        assert open_image(f"oci-archive:{path}:app").digest == SAMPLE.digest


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(ImageError, match="Not a regular file"):
        open_image(f"oci:{tmp_path}")
    with pytest.raises(ImageError, match="Not a regular file"):
        open_image(f"oci-archive:{tmp_path}/index.json")
    with pytest.raises(ImageError, match="Is a directory"):
        read_document(tmp_path, 10)


def test_only_a_part_of_a_huge_blob_is_read(tmp_path: Path) -> None:
    n_bytes = 1 << 40
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(n_bytes)
        file.seek(n_bytes - 10)
        file.write(b"0123456789")
    assert FileBlob(path, n_bytes).read(n_bytes - 10, 4) == b"0123"
    with pytest.raises(ImageError, match="too early"):
        FileBlob(path, n_bytes).read(n_bytes - 10, 11)


def test_an_image_shows_its_layers_and_bytes() -> None:
    image = open_image(f"oci:{GOLDEN_SMALL}/oci:app2")
    assert repr(image).endswith("oci:app2: 3 layers, 3 with a TOC, 1,089,623 bytes>")
    assert "zstd:chunked" in image._repr_html_()
    assert "zstd:chunked TOC" in repr(image.layers[0])
    assert image.blob_bytes == 1_089_623
    assert len(image) == 3


def test_golden_images_are_the_same_in_an_archive(tmp_path: Path) -> None:
    for folder in ("oci", "oci-estargz"):
        files = {
            str(path.relative_to(GOLDEN_SMALL / folder)): path.read_bytes()
            for path in (GOLDEN_SMALL / folder).rglob("*")
            if path.is_file()
        }
        path = write_archive(tmp_path / f"{folder}.tar", files)
        for tag in ("base", "app1", "other", "dirs", "app2"):
            here = open_image(f"oci:{GOLDEN_SMALL}/{folder}:{tag}")
            there = open_image(f"oci-archive:{path}:{tag}")
            assert facts(here) == facts(there)
