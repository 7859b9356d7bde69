"""Hash the files of a layer that a pull may reuse, and compare them with the TOC: rules 40 to 43.

1. From the TOC: the files that have content, by path; of a flat layer one for each content.
2. Each is opened beneath the layer's folder, a folder at a time, and no symbolic link is followed:
   none leads out.
3. Its bytes are read once, a megabyte at a time. The whole and each chunk are hashed.

Podman itself hashes a local chunk before it reuses it, but a whole file only counts by its name: a
file that has changed is copied into the new layer as it is, and one that is missing ends the pull.

Whiteouts, links, devices and empty files have no content to reuse. Time is that of reading all
bytes once, holes too; memory is that of the TOC and of a megabyte a thread.

Source: containers/storage pkg/chunked/storage_linux.go copyFileFromOtherLayer,
validateChunkChecksum.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from vecache.arrays import first_rows
from vecache.doctor.beneath import NotOpenedError, OpenFolder, open_folder
from vecache.doctor.rules import Finding, Rule
from vecache.errors import VecacheError
from vecache.files import store_error
from vecache.store.bigdata import TOC_KEY, layer_layout, read_big_data
from vecache.text import printable
from vecache.threads import map_blocks
from vecache.toc.entries import EntryKind
from vecache.toc.files import LANDMARKS, TocFormat, flat_files, merge_entries
from vecache.toc.layout import Layout
from vecache.toc.parse import MAX_TOC_BYTES, Toc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vecache.arrays import I64
    from vecache.store.records import LayerRecord
    from vecache.toc.files import TocFiles

__all__ = ["FilesCheck", "check_files"]

_FILES_PER_BLOCK: Final = 32
_BLOCK_BYTES: Final = 1 << 20
_MOST_SHOWN: Final = 100  # findings of one rule, for one layer
_WHITEOUT: Final = b".wh."


class FilesCheck(NamedTuple):
    """What was hashed of a layer, and what differs."""

    findings: list[Finding]
    n_files: int
    n_bytes: int


class _Drift(NamedTuple):
    rule: Rule
    name: bytes
    found: str


def check_files(record: LayerRecord, progress: Callable[[int], object] | None = None) -> FilesCheck:
    """Hash the files of a layer; `progress` gets the bytes of each block of files."""
    try:
        files = _read_files(record)
        if files is None:
            return FilesCheck([], 0, 0)
        root = _open_target(record)
    except (FileNotFoundError, NotADirectoryError):
        return FilesCheck([], 0, 0)  # a finding of the records
    except NotOpenedError as error:
        return FilesCheck([Finding(error.rule, str(error), layer=record.id)], 0, 0)
    except VecacheError:
        return FilesCheck([], 0, 0)  # a finding of the TOC
    except OSError as error:
        text = str(store_error(error, record.target, "the files cannot be read"))
        return FilesCheck([Finding(Rule.FILE_MISSING, text, layer=record.id)], 0, 0)
    try:
        return _check_all(record, _Hashing(root, files), progress)
    finally:
        os.close(root)


def _open_target(record: LayerRecord) -> int:
    """Open the folder of a layer's files; only the graph root may be reached through links."""
    root = os.open(record.files_root, os.O_PATH | os.O_DIRECTORY)
    try:
        return open_folder(
            root, map(os.fsencode, record.target.relative_to(record.files_root).parts)
        )
    finally:
        os.close(root)


def _read_files(record: LayerRecord) -> TocFiles | None:
    """Return the files of a layer, under the names that they have there."""
    toc_data = read_big_data(record, TOC_KEY, MAX_TOC_BYTES)
    if toc_data is None:
        return None
    # In which format, and where in its blob the TOC was, tells nothing about files on disk.
    files = merge_entries(Toc.parse(toc_data).entries, TocFormat.ZSTD_CHUNKED, 0)
    return flat_files(files) if layer_layout(record) is Layout.FLAT else files


def _check_all(
    record: LayerRecord, hashing: _Hashing, progress: Callable[[int], object] | None
) -> FilesCheck:
    rows, sizes = hashing.rows(), hashing.sizes

    def work(block: slice) -> list[_Drift]:
        try:
            drifts = list(hashing.check(rows[block]))
        except BaseException:
            hashing.stop.set()  # or the other threads would finish their files first
            raise
        if progress is not None:
            progress(int(sizes[rows[block]].sum()))
        return drifts

    drifts = [each for block in map_blocks(work, len(rows), _FILES_PER_BLOCK) for each in block]
    findings = []
    for rule in Rule:  # few
        of_rule = [drift for drift in drifts if drift.rule is rule]
        for drift in of_rule[:_MOST_SHOWN]:
            path = os.fsdecode(os.path.join(os.fsencode(record.target), drift.name))
            text = f"{printable(drift.name)}: {drift.found}"
            findings.append(Finding(rule, text, layer=record.id, path=path))
        if len(of_rule) > _MOST_SHOWN:
            text = f"and {len(of_rule) - _MOST_SHOWN:,} more files"
            findings.append(Finding(rule, text, layer=record.id))
    return FilesCheck(findings, len(rows), int(sizes[rows].sum()))


@dataclass(slots=True)
class _Hashing:
    """The files of a layer, the folder that they are in, and whether to stop."""

    root: int
    files: TocFiles
    stop: Event = field(default_factory=Event)
    sizes: I64 = field(init=False)  # (n_files,): the size of each file, by its row

    def __post_init__(self) -> None:
        self.sizes = self.files.entries.size[self.files.entry_row]

    def rows(self) -> I64:
        """(n,) int64: rows of the files with content, by path, each path once."""
        import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only this needs it

        files = self.files
        is_file = (files.entries.kind[files.entry_row] == EntryKind.REG) & (self.sizes > 0)
        rows = np.flatnonzero(is_file)
        names = files.name.take(pa.array(rows))
        firsts = first_rows(names)  # a sound layer has no path twice
        order = pc.sort_indices(names.take(pa.array(firsts))).to_numpy().astype(np.int64)
        by_path: I64 = rows[firsts[order]]
        return by_path

    def check(self, rows: I64) -> Iterator[_Drift]:
        """Check some files: a loop over files that are opened, not over rows of a table."""
        names = self.files.name.take(pa.array(rows)).to_pylist()
        with contextlib.closing(OpenFolder(self.root)) as folder:
            buffer = memoryview(bytearray(_BLOCK_BYTES))
            for row, name in zip(rows.tolist(), names, strict=True):
                if name.rpartition(b"/")[2].startswith(_WHITEOUT):
                    continue
                if self.stop.is_set():
                    return
                try:
                    descriptor = folder.open(name)
                except NotOpenedError as error:
                    if not self._is_landmark(row):
                        yield _Drift(error.rule, name, str(error))
                    continue
                try:
                    yield from self._check_file(row, name, descriptor, buffer)
                except OSError as error:
                    text = f"it cannot be read: {error.strerror}"
                    yield _Drift(Rule.FILE_MISSING, name, text)
                finally:
                    os.close(descriptor)

    def _check_file(
        self, row: int, name: bytes, descriptor: int, buffer: memoryview
    ) -> Iterator[_Drift]:
        entries, size = self.files.entries, int(self.sizes[row])
        found = os.fstat(descriptor).st_size
        if found != size:
            yield _Drift(Rule.FILE_SIZE, name, f"{found:,} bytes, wanted {size:,}")
            return
        entry = int(self.files.entry_row[row])
        chunks = self._chunks(row)
        whole, parts = _hash(descriptor, size, [chunk[:2] for chunk in chunks], buffer, self.stop)
        if self.stop.is_set():
            return
        digest = entries.digest
        if digest.is_sha256[entry] and whole != digest.raw[entry].tobytes():
            yield _Drift(Rule.FILE_DIGEST, name, f"sha256:{whole.hex()}")
            return  # and so some of its chunks are others
        for (start, end, wanted), part in zip(chunks, parts, strict=True):
            if part != wanted:
                text = f"its chunk of bytes {start:,} to {end - 1:,} is sha256:{part.hex()}"
                yield _Drift(Rule.FILE_DIGEST, name, text)

    def _chunks(self, row: int) -> list[tuple[int, int, bytes]]:
        """Return first byte, end and digest of a file's chunks, if these follow each other."""
        chunks, digest = self.files.chunks, self.files.entries.chunk_digest
        of_file = slice(*self.files.chunk_start[row : row + 2].tolist())
        entry_rows = chunks.entry_row[of_file]
        has_digest = digest.is_sha256[entry_rows]
        start = chunks.file_offset[of_file][has_digest]
        end = start + chunks.size[of_file][has_digest]
        # They do in every sound TOC. Else the same bytes might be hashed again and again.
        if not len(start) or start[0] < 0 or end[-1] > self.sizes[row] or (end <= start).any():
            return []
        if (start[1:] < end[:-1]).any():
            return []
        raw = [each.tobytes() for each in digest.raw[entry_rows[has_digest]]]
        return list(zip(start.tolist(), end.tolist(), raw, strict=True))

    def _is_landmark(self, row: int) -> bool:
        """Return whether eStargz has this file in its TOC, and no layer has it."""
        name = self.files.entries.name[int(self.files.entry_row[row])].as_py()
        return name in LANDMARKS


def _hash(
    descriptor: int,
    n_bytes: int,
    ranges: list[tuple[int, int]],
    buffer: memoryview,
    stop: Event,
) -> tuple[bytes, list[bytes]]:
    """Return the sha256 of a file, and those of ascending ranges of it."""
    is_whole = ranges == [(0, n_bytes)]
    left = [] if is_whole else ranges[::-1]
    whole, part, parts = hashlib.sha256(), hashlib.sha256(), []
    at = 0
    while at < n_bytes and not stop.is_set():
        n_read = os.readv(descriptor, [buffer])
        if not n_read:
            raise OSError(errno.EIO, "it was cut while it was read")
        whole.update(buffer[:n_read])
        while left and left[-1][0] < at + n_read:
            start, end = left[-1]
            part.update(buffer[max(start - at, 0) : min(end - at, n_read)])
            if end > at + n_read:
                break
            left.pop()
            parts.append(part.digest())
            part = hashlib.sha256()
        at += n_read
    return whole.digest(), [whole.digest()] if is_whole else parts
