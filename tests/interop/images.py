"""Make images of several layers that share files and chunks, as an OCI layout of plain tars.

Skopeo compresses them when it copies them to the registry. The same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from typing import TYPE_CHECKING, Any

from tests.layouts import write_index, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Tree = dict[str, bytes]

_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def make_images() -> dict[str, list[bytes]]:
    """Return the layers, as tars, of each image, in the order in which to pull them."""
    small = [small_files(seed, 150) for seed in range(4)]
    large = {f"usr/lib/large-{n}": content(n, 3 << 20) for n in range(3)}
    edited = {name: edit(data, at) for at, (name, data) in enumerate(large.items(), 1)}
    sparse = {"var/sparse": bytes(2 << 20) + content(9, 1 << 18) + bytes(1 << 20)}
    waves = [{**small_files(n, 60), **small_files(n + 1, 60)} for n in range(100, 112)]
    trees: dict[str, list[Tree]] = {
        "base": [small[0]],
        "large": [small[0], large],
        "edited": [small[1], edited, {**moved(small[0]), **sparse}],
        "same": [small[2], moved(small[2]), {**small[2], **small[1]}, {}, small[3]],
        "copies": [moved(small[3]), edited, {**large, **sparse}],
        "twelve": waves,
        "other": [moved(tree) for tree in waves[:5]] + [{"etc/one": b"one"}],
    }
    return {name: [pack(tree) for tree in layers] for name, layers in trees.items()}


def content(seed: int, n_bytes: int) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


def small_files(seed: int, n_files: int) -> Tree:
    """Files of up to 20,000 bytes; some are empty, some are equal."""
    sizes = random.Random(seed)
    tree = {}
    for n in range(n_files):
        n_bytes = sizes.choice((0, 1, 100, 5_000, 20_000))
        tree[f"usr/share/{seed}/{n % 7}/file-{n}"] = content(1000 * seed + n, n_bytes)
    tree[f"usr/share/{seed}/copy"] = tree[f"usr/share/{seed}/1/file-1"]
    return tree


def moved(tree: Tree) -> Tree:
    return {f"opt/{name}": data for name, data in tree.items()}


def edit(data: bytes, at: int) -> bytes:
    """Change a few bytes, and insert some: the chunks behind them stay the same."""
    middle = len(data) * at // 4
    return data[:middle] + b"edited" + data[middle + 3 :]


def pack(tree: Tree) -> bytes:
    """Write a tar: the files, and a link of each kind to the first of them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members(tree):
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def members(tree: Tree) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    folders = {name.rpartition("/")[0] for name in tree}
    for folder in sorted(parents(folders)):
        yield member(folder, type=tarfile.DIRTYPE, mode=0o755), b""
    for number, name in enumerate(sorted(tree)):
        mode = (0o644, 0o755, 0o4755)[number % 3]
        yield member(name, size=len(tree[name]), mode=mode, uid=number % 2), tree[name]
    if tree:
        first = min(tree)
        yield member(f"{first}.hard", type=tarfile.LNKTYPE, linkname=first), b""
        yield member(f"{first}.soft", type=tarfile.SYMTYPE, linkname=f"/{first}"), b""


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = 1_700_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def parents(folders: Iterable[str]) -> set[str]:
    return {
        "/".join(parts[:n])
        for parts in (folder.split("/") for folder in folders)
        for n in range(1, len(parts) + 1)
    }


def write_images(folder: Path, images: dict[str, list[bytes]]) -> None:
    """Write an OCI layout with one image a tag."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifests = {}
    for tag, layers in images.items():
        digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
        for digest, layer in zip(digests, layers, strict=True):
            (blobs / digest).write_bytes(layer)
        names = [f"sha256:{digest}" for digest in digests]
        described = [
            {"mediaType": _LAYER_TYPE, "digest": name, "size": len(layer)}
            for name, layer in zip(names, layers, strict=True)
        ]
        manifests[tag] = write_manifest(blobs, names, described)
    write_index(folder, manifests)
