"""Small images made for tests, and ways to write them down: layout, archive, `dir:` folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vecache.image.manifest import OCI_IMAGE, OCI_INDEX
from vecache.image.toc import (
    MANIFEST_CHECKSUM,
    MANIFEST_POSITION,
    TAR_SPLIT_POSITION,
    TOC_DIGEST,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOC = json.dumps(
    {
        "version": 1,
        "entries": [
            {
                "type": "reg",
                "name": "etc/hosts",
                "size": 5,
                "digest": "sha256:" + hashlib.sha256(b"hello").hexdigest(),
                "offset": 0,
                "endOffset": 40,
            }
        ],
    }
).encode()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def compress_zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@dataclass(frozen=True)
class Layer:
    """A blob, and what a manifest says of it."""

    blob: bytes
    annotations: dict[str, str] = field(default_factory=dict)


def zstd_layer(
    toc: bytes = TOC, *, data: bytes = b"d" * 100, changes: dict[str, str] | None = None
) -> Layer:
    """A zstd:chunked layer; `changes` replaces `manifest`, `tarsplit` or `checksum`."""
    changes = changes or {}
    packed, split = compress_zstd(toc), b"tar-split"
    blob = data + packed + b"skip" + split + b"footer"
    return Layer(
        blob,
        {
            MANIFEST_CHECKSUM: changes.get("checksum", digest_of(packed)),
            MANIFEST_POSITION: changes.get("manifest", f"{len(data)}:{len(packed)}:{len(toc)}:1"),
            TAR_SPLIT_POSITION: changes.get(
                "tarsplit", f"{len(data) + len(packed) + 4}:{len(split)}:50"
            ),
        },
    )


def footer(offset: int) -> bytes:
    return (
        b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0%016xSTARGZ" % offset
        + b"\x01\0\0\xff\xff"
        + bytes(8)
    )


def toc_member(toc: bytes, **changes: Any) -> bytes:
    """A gzip member with a tar of one file; `changes` are attributes of its header."""
    member = tarfile.TarInfo("stargz.index.json")
    member.size = len(toc)
    for name, value in changes.items():
        setattr(member, name, value)
    padding = bytes(-len(toc) % 512 + 1024)
    return gzip.compress(member.tobuf() + toc + padding)


def estargz_layer(
    toc: bytes = TOC, *, member: bytes | None = None, tail: bytes | None = None
) -> Layer:
    """An eStargz layer; `member` and `tail` replace the TOC's gzip member and the footer."""
    data = gzip.compress(b"d" * 100)
    blob = data + (toc_member(toc) if member is None else member)
    blob += footer(len(data)) if tail is None else tail
    return Layer(blob, {TOC_DIGEST: digest_of(toc)})


def plain_layer() -> Layer:
    return Layer(b"a layer without a TOC")


@dataclass
class Sample:
    """An image: its manifest, and all blobs by digest (the manifest too)."""

    manifest: bytes
    media_type: str
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.manifest),
        }


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def make_image(
    layers: Sequence[Layer],
    *,
    media_type: str = OCI_IMAGE,
    config: bytes | None = None,
    **more: Any,
) -> Sample:
    """An image of layers; `more` replaces fields of the manifest."""
    if config is None:
        diff_ids = [digest_of(b"tar of " + layer.blob) for layer in layers]
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [
            descriptor(
                layer.blob, "application/vnd.oci.image.layer.v1.tar", annotations=layer.annotations
            )
            for layer in layers
        ],
        **more,
    }
    manifest = json.dumps(document).encode()
    blobs = {digest_of(blob): blob for blob in (config, manifest, *(each.blob for each in layers))}
    return Sample(manifest, media_type, blobs)


def make_index(
    entries: Sequence[tuple[Sample, dict[str, Any]]], *, media_type: str = OCI_INDEX
) -> Sample:
    """A list of images, each with more fields for its descriptor."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [{**sample.descriptor, **more} for sample, more in entries],
    }
    manifest = json.dumps(document).encode()
    blobs = {digest_of(manifest): manifest}
    for sample, _ in entries:
        blobs.update(sample.blobs)
    return Sample(manifest, media_type, blobs)


def layout_files(tagged: dict[str, Sample]) -> dict[str, bytes]:
    """The files of an OCI layout, by name."""
    name = "org.opencontainers.image.ref.name"
    index = make_index(
        [(sample, {"annotations": {name: tag}} if tag else {}) for tag, sample in tagged.items()]
    )
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index.manifest}
    for sample in tagged.values():
        for digest, blob in sample.blobs.items():
            files[f"blobs/{digest.replace(':', '/')}"] = blob
    return files


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_layout(folder: Path, tagged: dict[str, Sample]) -> Path:
    return write_files(folder, layout_files(tagged))


def write_archive(path: Path, files: dict[str, bytes], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def dir_files(sample: Sample) -> dict[str, bytes]:
    """The files of a `dir:` folder, by name."""
    files = {"version": b"Directory Transport Version: 1.1\n", "manifest.json": sample.manifest}
    for digest, blob in sample.blobs.items():
        if blob is not sample.manifest:
            is_manifest = blob.startswith(b'{"schemaVersion"')
            files[digest.removeprefix("sha256:") + ".manifest.json" * is_manifest] = blob
    return files
