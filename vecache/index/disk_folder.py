"""Keep the index of each store in the user's cache folder.

The files of a store are runs (`disk.py`), named by a key of the store. Each says of which cache
files its tags are, so they need no list: a layer is taken from the largest run that has it.

1. A layer whose cache file is in no run was added or replaced, and gets a new run. A layer of a run
   that is not in the store, or not that file any more, is masked.
2. A new run takes in older ones that are at most twice as long, and those of which half is masked.
   So runs stay few, and each tag is written a few times in all.
3. One process writes at a time; the others wait, and find what it has written. A reader that has
   mapped an older file goes on with it.

What is not exactly as it was written is not believed, and made again. Where nothing can be written
the index is built in memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

from vecache.atomic import sweep_folder
from vecache.errors import IndexDamagedError
from vecache.index.disk import LAYER, VERSION, RunLayout, StoredRun, open_run
from vecache.index.disk_write import write_run
from vecache.index.lookup import LayerIndex
from vecache.index.merge import indexed_only, is_indexed
from vecache.index.run import build_run
from vecache.index.tags import LayerTags
from vecache.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vecache.arrays import I64, Bool
    from vecache.cache.reader import CacheFile
    from vecache.index.disk import Layers
    from vecache.index.load import CachedLayer

__all__ = ["FOLDER_NAME", "MAX_INDEX_BYTES", "IndexFolder", "Selection", "identify", "select_runs"]

FOLDER_NAME: Final = "index"
"""The indexes of all stores, in the user's cache folder."""

MAX_INDEX_BYTES: Final = 4 << 30
"""Most that the indexes of all stores take of the user's cache folder, by default."""

_LARGE_STORE_TAGS: Final = 2_000_000
"""From here on building the index takes longer than a look-up, and it is kept unasked."""

_KEY_BYTES: Final = LAYER.itemsize - LAYER["is_sound"].itemsize

_LOCK_WAIT_SECONDS: Final = 60.0
_LOCK_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The runs to take the layers of a set from.

    Attributes
    ----------
    runs : tuple of StoredRun
        From the largest to the smallest; each has layers that no other is asked for.
    layer_of : tuple of (n_layers_of_run,) int64
        For each run, the index of its layers in the set; -1 for a layer that is masked.
    missing : (n_missing,) int64
        Layers of the set that have tags and are in no run.
    wanted : (n_layers,) LAYER
        All layers of the set.
    """

    runs: tuple[StoredRun, ...]
    layer_of: tuple[I64, ...]
    missing: I64
    wanted: Layers

    def is_kept(self) -> list[bool]:
        """Return which runs stay as they are when the missing layers are written."""
        live = [int(run.layers["n_tags"][of >= 0].sum()) for run, of in self._pairs()]
        kept = [2 * n >= run.layers["n_tags"].sum() for n, run in zip(live, self.runs, strict=True)]
        n_moved = int(self.wanted["n_tags"][self.missing].sum())
        n_moved += sum(n for n, is_kept in zip(live, kept, strict=True) if not is_kept)
        for row in reversed(range(len(live))):  # the smallest first
            if kept[row] and live[row] <= 2 * n_moved:
                kept[row] = False
                n_moved += live[row]
        return kept

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to write."""
        return not len(self.missing) and all(self.is_kept())

    def to_write(self) -> I64:
        """(n,) int64: the layers of the next run, ascending."""
        moved = [
            of for of, is_kept in zip(self.layer_of, self.is_kept(), strict=True) if not is_kept
        ]
        numbers: I64 = np.sort(np.concatenate([self.missing, *moved]))
        return numbers[numbers >= 0]

    def is_sound(self) -> Bool:
        """(n_layers,) bool: which layers of the set have their tags in a run, or have none."""
        is_sound: Bool = self.wanted["n_tags"] == 0
        for run, layer_of in self._pairs():
            is_live = layer_of >= 0
            is_sound[layer_of[is_live]] = run.layers["is_sound"][is_live] == 1
        return is_sound

    def _pairs(self) -> Iterator[tuple[StoredRun, I64]]:
        return zip(self.runs, self.layer_of, strict=True)


@dataclass(frozen=True, slots=True)
class IndexFolder:
    """The index of one store in the user's cache folder.

    Attributes
    ----------
    folder : pathlib.Path
        Where the indexes of all stores are; made when it is needed.
    root : pathlib.Path
        The graph root.
    max_bytes : int
        Most that the indexes of all stores may take.
    is_read_only : bool
        Whether only to read: for a set that has not all layers of the store.
    """

    folder: Path
    root: Path
    max_bytes: int = MAX_INDEX_BYTES
    is_read_only: bool = False

    @property
    def key(self) -> int:
        """64 bits that tell the store from others: by its path, device and inode."""
        # A folder that was deleted and made again, or mounted over, is another store.
        status = os.stat(self.root)
        text = f"{os.path.realpath(self.root)}\0{status.st_dev}\0{status.st_ino}"
        return xxhash.xxh3_64_intdigest(os.fsencode(text))

    def find_runs(self) -> list[StoredRun]:
        """Map the runs of the store, without those that are damaged or of another version."""
        runs: list[StoredRun] = []
        with contextlib.suppress(OSError):  # no folder, or no store any more
            key = self.key
            for path in self._paths():
                with contextlib.suppress(OSError, IndexDamagedError):
                    runs.append(open_run(path, key))
        return runs

    def find_damage(self) -> Iterator[tuple[str, str]]:
        """Read all files of the store; yield the path of each that is damaged, and the reason."""
        key = self.key
        for path in self._paths():
            try:
                n_damaged = open_run(path, key).guard.count_damaged()
            except FileNotFoundError:
                continue  # replaced meanwhile
            except (OSError, IndexDamagedError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                yield path, str(reason or error).removeprefix(f"{path}: ")
            else:
                if n_damaged:
                    yield path, f"{n_damaged:,} damaged pages"

    def open(self, layers: Sequence[CachedLayer], *, always: bool = False) -> LayerIndex:
        """Open the index over layers; first write what is missing, if that is worth it.

        Parameters
        ----------
        layers : sequence of CachedLayer
            The layers of a set.
        always : bool
            Whether to write it for a small store too, and to raise where that fails.

        Returns
        -------
        LayerIndex
            Over mapped runs; what was not written is in memory.

        Raises
        ------
        OSError
            Only if `always`: if it cannot be written.
        """
        if not always and not self._is_worth_it(layers):
            return LayerIndex.build([layer.cache for layer in layers])
        try:
            found = self.refresh(layers, always=always)
        except OSError:
            if always:
                raise
            found = select_runs(self.find_runs(), identify(layers))
        for run in found.runs:
            with contextlib.suppress(OSError):
                os.utime(
                    run.path, follow_symlinks=False
                )  # what is used is not what `sweep_folder` removes first
        return _open_selection([layer.cache for layer in layers], found)

    def refresh(
        self, layers: Sequence[CachedLayer], *, always: bool = False, anew: bool = False
    ) -> Selection:
        """Write what the runs lack, or all (`anew`), if that is worth it; return what is there."""
        wanted = identify(layers)
        found = select_runs(self.find_runs(), wanted)
        paths = self._paths()
        is_large = int(wanted["n_tags"].sum()) >= _LARGE_STORE_TAGS
        is_current = found.is_current and len(found.runs) == len(paths) and not anew
        if self.is_read_only or is_current or not (always or is_large or paths):
            return found
        os.makedirs(self.folder, 0o700, exist_ok=True)
        with _lock(self.folder):
            # Another process may have written it meanwhile.
            runs = [] if anew else self.find_runs()
            self._write([layer.cache for layer in layers], select_runs(runs, wanted))
        return select_runs(self.find_runs(), wanted)

    def sweep(self) -> None:
        """Remove the indexes that were not used for longest, this one last."""
        for path in self._paths():
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)
        sweep_folder(self.folder, self.max_bytes)

    def remove(self) -> int:
        """Remove the files of the store, and return how many these were."""
        paths = self._paths()
        for path in paths:
            os.unlink(path)
        return len(paths)

    def _is_worth_it(self, layers: Sequence[CachedLayer]) -> bool:
        """Return whether there are files of the store, or there should be."""
        if sum(layer.cache.n_tags for layer in layers) >= _LARGE_STORE_TAGS:
            return True
        try:
            return bool(self._paths())
        except OSError:
            return False

    def _paths(self) -> list[str]:
        """List the files of the store, readable or not."""
        prefix = self._prefix
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        return [os.path.join(self.folder, name) for name in names if name.startswith(prefix)]

    def _write(self, files: Sequence[CacheFile], found: Selection) -> None:
        """Write one run of all layers that no kept run has, and remove the other files."""
        kept = [run for run, is_kept in zip(found.runs, found.is_kept(), strict=True) if is_kept]
        paths = {run.path for run in kept}
        numbers = found.to_write()
        if len(numbers):
            is_sound = found.is_sound()
            missing = found.missing.tolist()
            checked = indexed_only([files[number] for number in missing])
            is_sound[missing] = [file is not None for file in checked]
            table = found.wanted[numbers]
            table["is_sound"] = is_sound[numbers]
            self._require_room(kept, table)
            path = os.path.join(self.folder, f"{self._prefix}{os.urandom(8).hex()}")
            write_run(path, self.key, table, [files[number] for number in numbers.tolist()])
            paths.add(path)
        for path in self._paths():
            if path not in paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        self.sweep()

    def _require_room(self, kept: Sequence[StoredRun], table: Layers) -> None:
        """Raise unless there is room for one more run, beside those that are kept."""
        n_bytes = RunLayout.of_layers(table).n_bytes
        n_free = shutil.disk_usage(self.folder).free
        if n_bytes > n_free // 2:  # a cache should not be what fills a disk
            reason = f"The index needs {n_bytes:,} bytes, and only {n_free:,} are free"
            raise OSError(errno.ENOSPC, reason, str(self.folder))
        n_bytes += sum(run.n_bytes for run in kept)
        if n_bytes > self.max_bytes:
            reason = f"The index needs {n_bytes:,} bytes, more than the {self.max_bytes:,} allowed"
            raise OSError(errno.EFBIG, reason, str(self.folder))

    @property
    def _prefix(self) -> str:
        return f"{self.key:016x}.{VERSION}."


def identify(layers: Sequence[CachedLayer]) -> Layers:
    """(n_layers,) LAYER: what tells the cache of each layer from any other."""
    table = np.zeros(len(layers), LAYER)
    ids = []
    for layer in layers:  # over layers: a microsecond each
        name = f"{layer.record.id}\0{layer.record.toc_digest}"
        key = xxhash.xxh3_128(name.encode(errors="surrogatepass"))  # a record has any text
        if layer.cache.state is None:  # bytes in memory have no inode, but are at hand
            key.update(layer.cache.data.data)
        ids.append(key.digest())
    table["id"] = np.frombuffer(b"".join(ids), np.uint64).reshape(-1, 2)
    states = [layer.cache.state or (0, 0, layer.cache.n_bytes, 0) for layer in layers]
    if states:
        table["device"], table["inode"], table["n_bytes"], table["mtime_ns"] = zip(
            *states, strict=True
        )
    table["n_tags"] = [layer.cache.n_tags for layer in layers]
    return table


def select_runs(runs: Sequence[StoredRun], wanted: Layers) -> Selection:
    """Select the runs to take the layers of a set from.

    Parameters
    ----------
    runs : sequence of StoredRun
        All runs of the store, in any order.
    wanted : (n_layers,) LAYER
        From `identify`.

    Returns
    -------
    Selection
        Each layer in one run, or missing.
    """
    # Layers without tags need no run.
    keys_and_tags = zip(_keys(wanted), wanted["n_tags"].tolist(), strict=True)
    left = {key: number for number, (key, n_tags) in enumerate(keys_and_tags) if n_tags}
    chosen, layer_of = [], []
    for run in sorted(runs, key=lambda run: (-int(run.layers["n_tags"].sum()), run.path)):
        keys = _keys(run.layers)
        found = np.array([left.get(key, -1) for key in keys], np.int64)
        live = found[found >= 0]
        # In another order of the layers, the first row of a digest is not the first layer's.
        if len(live) and (live[1:] > live[:-1]).all():
            chosen.append(run)
            layer_of.append(found)
            for key in keys:
                left.pop(key, None)
    return Selection(
        tuple(chosen), tuple(layer_of), np.array(sorted(left.values()), np.int64), wanted
    )


def _keys(table: Layers) -> list[bytes]:
    """Return all fields of each row but the last as one key."""
    rows: list[bytes] = table.view(f"V{LAYER.itemsize}").tolist()
    return [row[:_KEY_BYTES] for row in rows]


def _open_selection(files: Sequence[CacheFile], found: Selection) -> LayerIndex:
    """Open the index; what no run has is sorted in memory."""
    pairs = list(zip(found.runs, found.layer_of, strict=True))
    runs = [run.as_run(layer_of) for run, layer_of in pairs]
    tables = [run.as_table(layer_of, len(files)) for run, layer_of in pairs]
    is_sound = found.is_sound()
    if len(found.missing):
        rest = [files[number] for number in found.missing.tolist()]
        runs.append(build_run(rest, found.missing))
        is_sound[found.missing] = [is_indexed(file) for file in rest]
    return LayerIndex(files, runs, is_sound, LayerTags.of_files(files, tables))


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Be the only one to write into a folder; TimeoutError after a minute.

    Without a lock, where the file system has none, two writers do the same work twice.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        with waiting(f"the process that writes the index, {folder}"):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(
                            errno.ETIMEDOUT, "Another process is still writing", str(folder)
                        ) from None
                    time.sleep(_LOCK_PAUSE_SECONDS)
                except OSError:
                    break
        yield
    finally:
        os.close(descriptor)
