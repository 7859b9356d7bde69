"""Open a snapshot: one file with all of a store that plans need, for use on other machines.

A snapshot is a ustar archive compressed with zstd (`tar -tf FILE` lists it). Its members, all of
them regular files, are

=============================  =====================================================================
`snapshot.json`                the first member: whose store this is, and how it is pulled into
`overlay-layers/layers.json`   records of the layers, in store order
`overlay-layers/ID/KEY`        big data of a layer: its TOC, its layout, its cache file
`overlay-images/images.json`   records of the images
`overlay-images/ID/KEY`        big data of an image: its manifests, its config
`additional/N/overlay-...`     the same for additional store N
=============================  =====================================================================

where KEY is the item's key, not the name of its file. `snapshot.json` is one object:

=============================  =====================================================================
`schema`                       `vecache.snapshot/1`
`host`, `time`                 name of the machine, and when the store was read (ISO 8601, UTC)
`versions`                     of vecache, Python and the kernel
`driver`                       `overlay`
`is_own`                       whether storage.conf named this store, so that all settings are its
`settings`                     the fields of `PullSettings`
`blob_info`                    `blobs`, `tocs`: the pairs of `BlobInfo` that its layers could match
`roots`                        the graph root, then the additional stores
`removed`                      ids of layers and images that were removed while the store was read
=============================  =====================================================================

Each root has a `path`, an `image_store` (a path or null), `image_store_layers` (ids of the layers
whose files are there), `built` (ids of the layers whose cache file is what the TOC gives: it is not
in the archive, and is built when the snapshot is opened) and `unreadable` (id to reason).

Opening one unpacks it into the user's cache folder, under the sha256 of the file, where it stays
for the next time; it may be deleted there whenever no program uses it. Where that folder cannot be
written it goes to a temporary folder until the program ends. The archive is untrusted: only members
with these names are taken, each within the limits that reading it from a store has, and all
together at most 16 GiB and at most 256 times the size of the file and 64 MiB.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa

from vecache.cache.writer import build_cache
from vecache.digest import is_digest
from vecache.errors import StoreError, VecacheError
from vecache.files import cache_folder, open_regular, read_bounded, store_error
from vecache.json_fields import Fields, parse_fields
from vecache.store.bigdata import (
    CACHE_KEY,
    LAYER_DATA_KEY,
    MAX_BIG_DATA_BYTES,
    MAX_LAYER_DATA_BYTES,
    TOC_KEY,
    big_data_file_name,
    layer_layout,
    read_big_data,
)
from vecache.store.blob_info import BlobInfo
from vecache.store.config import StorageConfig
from vecache.store.records import (
    IMAGES,
    LAYERS,
    MAX_LIST_BYTES,
    SAFE_ID,
    ImageRecord,
    LayerRecord,
)
from vecache.store.settings import PullSettings
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "HEADER",
    "IMAGE_ITEM",
    "MAX_IMAGE_ITEM_BYTES",
    "MAX_LAYER_ITEM_BYTES",
    "SCHEMA",
    "Snapshot",
    "SnapshotRoot",
    "additional_folder",
    "max_unpacked_bytes",
    "open_snapshot",
]

SCHEMA: Final = "vecache.snapshot/1"
HEADER: Final = "snapshot.json"
IMAGE_ITEM: Final = re.compile(r"(manifest|(manifest-)?sha(256|384|512):[0-9a-f]{64,128})")
MAX_IMAGE_ITEM_BYTES: Final = 16 << 20
"""More than a manifest or a config may have."""
MAX_LAYER_ITEM_BYTES: Final = {
    TOC_KEY: MAX_BIG_DATA_BYTES,
    CACHE_KEY: MAX_BIG_DATA_BYTES,
    LAYER_DATA_KEY: MAX_LAYER_DATA_BYTES,
}

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MAX_HEADER_BYTES: Final = 64 << 20
_MAX_BYTES: Final = 16 << 30
_MAX_RATIO: Final = 256
_MAX_SLACK_BYTES: Final = 64 << 20
_MAX_MEMBERS: Final = 200_000
_BLOCK_BYTES: Final = 1 << 20
_UNPACKED: Final = "unpacked.json"
_NO_FOLDER: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_MEMBER: Final = re.compile(
    rf"(?P<root>(?:additional/[0-9]{{1,3}}/)?)(?P<folder>{LAYERS}|{IMAGES})/"
    rf"(?:(?P<list>layers\.json|images\.json)|(?P<id>{SAFE_ID.pattern})/(?P<key>[^/]+))"
)
_LISTS: Final = {LAYERS: "layers.json", IMAGES: "images.json"}


@dataclass(frozen=True, slots=True)
class SnapshotRoot:
    """One graph root of a snapshot."""

    folder: Path  # where it is unpacked
    path: Path  # where it was on its machine
    image_store: Path | None
    image_store_layers: frozenset[str]  # ids of the layers whose files were in the image store
    built: frozenset[str]  # ids of the layers whose cache file was built here
    unreadable: Mapping[str, str]  # id of a layer or an image -> why not all of it could be read

    def restore_layer(self, record: LayerRecord) -> LayerRecord:
        """Add to a record what only its own machine knows."""
        files_root = self.image_store if record.id in self.image_store_layers else None
        return replace(
            record,
            files_root=files_root or self.path,
            unreadable=self.unreadable.get(record.id, ""),
        )

    def restore_image(self, record: ImageRecord) -> ImageRecord:
        """Add to a record what only its own machine knows."""
        return replace(record, unreadable=self.unreadable.get(record.id, ""))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot says about the store that it was made of."""

    path: Path  # the file
    host: str
    time: datetime  # in UTC
    versions: Mapping[str, str]
    driver: str
    is_own: bool
    settings: PullSettings
    blob_info: BlobInfo
    roots: tuple[SnapshotRoot, ...]  # the graph root, then the additional stores
    removed: tuple[str, ...]

    @property
    def config(self) -> StorageConfig:
        """What storage.conf said on the snapshot's machine."""
        root, *additional = self.roots
        return StorageConfig(
            driver=self.driver,
            graph_root=root.path,
            image_store=root.image_store,
            additional_stores=tuple(each.path for each in additional),
            use_hard_links=self.settings.hard_links,
            enable_partial_images=self.settings.partial,
            convert_images=self.settings.convert,
            allow_unpredictable=self.settings.estargz,
            use_composefs=self.settings.layout is Layout.FLAT,
            path=None,
        )


def additional_folder(number: int) -> str:
    """Return the folder of an additional store in the archive."""
    return f"additional/{number}/"


def max_unpacked_bytes(n_bytes: int) -> int:
    """Return how many bytes a snapshot of `n_bytes` may unpack to."""
    return min(_MAX_BYTES, _MAX_RATIO * n_bytes + _MAX_SLACK_BYTES)


def open_snapshot(path: Path, environ: Mapping[str, str]) -> Snapshot:
    """Unpack a snapshot, unless that was done before, and return what it says."""
    try:
        with open_regular(path) as (file, n_bytes):
            if file.read(4) != _ZSTD_MAGIC:
                raise _not_a_snapshot(path, "it is not compressed with zstd")
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            file.seek(0)
            folder = _unpacked_folder(path, file, n_bytes, digest.hexdigest(), environ)
        return _parse_header(read_bounded(folder / HEADER, _MAX_HEADER_BYTES), path, folder)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise store_error(error, path, "the snapshot cannot be unpacked") from error


def _unpacked_folder(
    path: Path, file: BinaryIO, n_bytes: int, digest: str, environ: Mapping[str, str]
) -> Path:
    """Return the folder with the members, which other processes may be making too."""
    snapshots = cache_folder(environ) / "snapshots"
    folder = snapshots / digest
    if _is_complete(folder):
        return folder
    try:
        snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=snapshots))
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        scratch = Path(tempfile.mkdtemp(prefix="vecache-snapshot-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        _unpack(path, file, n_bytes, scratch)
        return scratch
    try:
        _unpack(path, file, n_bytes, scratch)
        if folder.exists() and not _is_complete(folder):  # something has deleted a part of it
            with contextlib.suppress(OSError):
                os.rename(folder, scratch / "old")
        try:
            os.rename(scratch, folder)
        except OSError:
            if not _is_complete(folder):
                raise
        shutil.rmtree(folder / "old", ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _is_complete(folder: Path) -> bool:
    """Return whether a folder has all the files that were unpacked, each of its size."""
    # Nothing is synced: of a file that a crash or somebody who tidies up has cut, the size is
    # another, or the file is gone.
    try:
        sizes = json.loads(read_bounded(folder / _UNPACKED, _MAX_HEADER_BYTES))
        return all(os.stat(folder / name).st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _unpack(path: Path, file: BinaryIO, n_bytes: int, folder: Path) -> None:
    """Write all members into an empty folder, build caches, and list what was written."""
    archive = _Archive(path, file, n_bytes)
    members = archive.members()
    name, size = next(members, ("", 0))
    if name != HEADER:
        raise _not_a_snapshot(path, f"its first member is not {HEADER}")
    if size > _MAX_HEADER_BYTES:
        raise archive.damaged(f"{HEADER} has {size:,} bytes, wanted {_MAX_HEADER_BYTES:,} at most")
    header = b"".join(archive.blocks(size))
    (folder / HEADER).write_bytes(header)
    snapshot = _parse_header(header, path, folder)
    for name, size in members:
        target = _member_path(archive, name, size, folder, len(snapshot.roots))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(target, "xb") as out:
                out.writelines(archive.blocks(size))
        except FileExistsError:
            raise archive.damaged(f"two members are {name}") from None
    for root in snapshot.roots:
        for folder_name in (LAYERS, IMAGES):
            (root.folder / folder_name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for layer_id in root.built:
            _build_cache(LayerRecord(layer_id, store_root=root.folder))
    files = (each for each in folder.rglob("*") if each.is_file())
    sizes = {str(each.relative_to(folder)): each.stat().st_size for each in files}
    (folder / _UNPACKED).write_text(json.dumps(sizes))


def _member_path(archive: _Archive, name: str, size: int, folder: Path, n_roots: int) -> Path:
    """Return where a member belongs; an error for one that a snapshot does not have."""
    found = _MEMBER.fullmatch(name)
    roots = ("", *map(additional_folder, range(n_roots - 1)))
    if found is None or found["root"] not in roots:
        raise archive.damaged(f"found a member {name!r:.100}")
    root = folder / found["root"]
    is_layer = found["folder"] == LAYERS
    if found["list"]:
        max_bytes = MAX_LIST_BYTES if found["list"] == _LISTS[found["folder"]] else -1
        target = root / found["folder"] / found["list"]
    elif is_layer:
        max_bytes = MAX_LAYER_ITEM_BYTES.get(found["key"], -1)
        target = LayerRecord(found["id"], store_root=root).big_data_path(found["key"])
    else:
        max_bytes = MAX_IMAGE_ITEM_BYTES if IMAGE_ITEM.fullmatch(found["key"]) else -1
        target = root / IMAGES / found["id"] / big_data_file_name(found["key"])
    if max_bytes < 0:
        raise archive.damaged(f"found a member {name!r:.100}")
    if size > max_bytes:
        raise archive.damaged(f"{name} has {size:,} bytes, wanted {max_bytes:,} at most")
    return target


def _build_cache(layer: LayerRecord) -> None:
    """Write the cache file that a layer had on its machine."""
    toc_data = read_big_data(layer, TOC_KEY)
    path = layer.big_data_path(CACHE_KEY)
    if toc_data is not None and not path.exists():
        with contextlib.suppress(VecacheError):  # loading the layer finds the same, and says so
            path.write_bytes(build_cache(toc_data, layer_layout(layer)))


class _Archive:
    """The members of a compressed ustar archive, read from the front."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int) -> None:
        self.path = path
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        self._max_bytes = max_unpacked_bytes(n_bytes)
        self._rest = self._max_bytes

    def members(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size of each member; `blocks` must be read in between."""
        for _ in range(_MAX_MEMBERS):
            header = self._read(tarfile.BLOCKSIZE)
            if not any(header):
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            except (tarfile.HeaderError, ValueError) as error:
                raise self.damaged(f"a member's header: {error}") from None
            if info.type != tarfile.REGTYPE or info.size < 0:
                raise self.damaged(f"{info.name!r:.100} is not a regular file")
            yield info.name, info.size
            self._read(-info.size % tarfile.BLOCKSIZE)
        raise self.damaged(f"more than {_MAX_MEMBERS:,} members")

    def blocks(self, n_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of the member."""
        while n_bytes > 0:
            block = self._read(min(n_bytes, _BLOCK_BYTES))
            n_bytes -= len(block)
            yield block

    def _read(self, n_bytes: int) -> bytes:
        if n_bytes > self._rest:
            raise self.damaged(
                f"more than {self._max_bytes:,} bytes when unpacked, too many for its size"
            )
        self._rest -= n_bytes
        parts: list[bytes] = []
        try:
            while n_bytes > 0:
                part = self._stream.read(n_bytes)  # ends early at the end of each frame
                if not part:
                    raise self.damaged("it ends too early")
                n_bytes -= len(part)
                parts.append(part)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise self.damaged(str(error)) from error
        return b"".join(parts)

    def damaged(self, reason: str) -> StoreError:
        """Return the error of an archive that no snapshot can be."""
        return StoreError(f"{self.path}: a damaged snapshot: {reason}; copy or make it again")


def _not_a_snapshot(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"{path}: neither a graph root nor a snapshot: {reason}; `vecache snapshot -o FILE` "
        "makes one"
    )


def _parse_header(data: bytes, path: Path, folder: Path) -> Snapshot:
    """Parse `snapshot.json`."""
    header = parse_fields(data, f"{path}: {HEADER}", StoreError)
    schema = header.text("schema", "")
    if schema != SCHEMA:
        if re.fullmatch(r"vecache\.snapshot/[0-9]+", schema):
            raise StoreError(
                f"{path}: a snapshot of another version of vecache: found {schema}, wanted "
                f"{SCHEMA}; make it again with this version, or read it with the other one"
            )
        raise _not_a_snapshot(path, f"found schema {schema!r:.60}, wanted {SCHEMA}")
    roots = header.objects("roots")
    if not 1 <= len(roots) <= 1000:
        raise StoreError(f"{header.where}: roots: found {len(roots)}, wanted 1 to 1,000")
    return Snapshot(
        path=path,
        host=header.text("host"),
        time=_time(header),
        versions=header.texts("versions"),
        driver=header.text("driver"),
        is_own=header.boolean("is_own"),
        settings=_settings(header.object("settings")),
        blob_info=_blob_info(header.object("blob_info")),
        roots=tuple(
            _root(each, folder / additional_folder(number - 1) if number else folder)
            for number, each in enumerate(roots)
        ),
        removed=tuple(header.text_array("removed")),
    )


def _time(header: Fields) -> datetime:
    text = header.text("time")
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise StoreError(
            f"{header.where}: time: found {text!r:.60}, wanted a time as 2026-01-31T12:00:00Z"
        ) from None


def _settings(values: Fields) -> PullSettings:
    found: dict[str, Any] = {
        each.name: values.boolean(each.name)
        for each in fields(PullSettings)
        if each.name not in ("layout", "parallel")
    }
    layout, parallel = values.text("layout"), values.integer("parallel")
    if layout not in tuple(Layout) or parallel < 1:
        raise StoreError(
            f"{values.where}: found layout {layout!r:.20} and parallel {parallel}, wanted dir or "
            "flat and a number from 1"
        )
    return PullSettings(layout=Layout(layout), parallel=parallel, **found)


def _blob_info(values: Fields) -> BlobInfo:
    blobs, tocs = values.texts("blobs"), values.texts("tocs")
    for pair in (*blobs.items(), *tocs.items()):
        if not all(map(is_digest, pair)):
            raise StoreError(f"{values.where}: found {pair!r:.200}, wanted two digests")
    return BlobInfo(blobs, tocs)


def _root(values: Fields, folder: Path) -> SnapshotRoot:
    ids = partial(_ids, values)
    image_store = values.text("image_store", "")
    return SnapshotRoot(
        folder=folder,
        path=Path(values.text("path")),
        image_store=Path(image_store) if image_store else None,
        image_store_layers=ids("image_store_layers"),
        built=ids("built"),
        unreadable=values.texts("unreadable"),
    )


def _ids(values: Fields, name: str) -> frozenset[str]:
    found = values.text_array(name)
    for each in found:
        if not SAFE_ID.fullmatch(each):
            raise StoreError(f"{values.where}: {name}: found {each!r:.80}, wanted ids of records")
    return frozenset(found)
