"""The files of the golden layers, unpacked from their blobs to where Podman has them."""

from __future__ import annotations

import hashlib
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow as pa

from tests.golden import GOLDEN_SMALL, pulls

if TYPE_CHECKING:
    from pathlib import Path

_LANDMARKS = (".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json")


def unpack_layers(root: Path, store: str) -> None:
    """Write the files of all layers of a copied store."""
    # The layers of `converted` were pulled from gzip blobs that are not here; the tars are equal.
    like = "dir" if store == "converted" else store
    blobs = {pull["layer"]: pull["blob"] for pull in pulls(GOLDEN_SMALL) if pull["store"] == like}
    oci = GOLDEN_SMALL / ("oci-estargz" if store == "estargz" else "oci")
    for layer, blob in blobs.items():
        packed = (oci / "blobs" / "sha256" / blob.removeprefix("sha256:")).read_bytes()
        codec = "gzip" if store == "estargz" else "zstd"
        with pa.CompressedInputStream(pa.BufferReader(packed), codec) as stream:
            data = bytes(stream.read())
        diff = root / "overlay" / layer / "diff"
        diff.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            for member in archive:
                _unpack(archive, member, diff, is_flat=store == "flat")


def _unpack(
    archive: tarfile.TarFile, member: tarfile.TarInfo, diff: Path, *, is_flat: bool
) -> None:
    path = diff / member.name
    file = archive.extractfile(member) if member.isreg() else None
    if file is not None and member.name not in _LANDMARKS:
        data = file.read()
        if is_flat:
            digest = hashlib.sha256(data).hexdigest()
            path = diff / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    elif is_flat:
        return
    elif member.isdir():
        path.mkdir(parents=True, exist_ok=True)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        path.hardlink_to(diff / member.linkname)
