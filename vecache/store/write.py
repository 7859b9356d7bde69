"""Write a big-data item into a store, so that Podman finds all of it or none.

This happens only on request, and never in a read-only store. Under the write lock:

1. the item is written to a temporary file in the layer's folder, synced and renamed;
2. if its key is new to the layer, 64 new bytes are written to the start of `layers.lock`, by which
   running Podman processes see that the list has changed,
3. and `layers.json` is replaced. The key is *inserted* into the text, so every other byte of it, in
   known fields or not, stays the same.

All that can fail for lack of space is done before the first rename. After a failure the store is as
it was; a crash leaves at worst an item that no list names, which `list_big_data` lists, and
temporary files, which the next writer removes. Folders are opened once, beneath the graph root and
never through a symbolic link, and all names are relative to them.

Source: containers/storage layers.go setBigData, saveLayers; pkg/lockfile newLastWriterID.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import struct
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from vecache.atomic import remove_leftovers, staged_file, sync_file
from vecache.errors import LayerNotFoundError, StoreError
from vecache.files import open_beneath, store_error
from vecache.store.lock import write_lock
from vecache.store.records import (
    is_incomplete,
    layer_lists,
    layer_locks,
    parse_records,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = ["insert_key", "list_big_data", "write_big_data"]

_LAST_WRITER: Final = struct.Struct("<QQI44s")
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def write_big_data(store: Store, layer: LayerRecord, key: str, data: bytes | memoryview) -> None:
    """Write or replace one big-data item of a layer."""
    path = layer.big_data_path(key)
    with _locked(store, layer, key) as (folder, locks, held):
        records, text = _find_list(store, layer.id)
        new_text = insert_key(text, layer.id, key)
        with contextlib.suppress(FileExistsError):
            os.mkdir(layer.id, 0o700, dir_fd=folder)
        item_folder = held.enter_context(_open_folder(path.parent, store.root))
        with staged_file("", mode=0o600, dir_fd=item_folder, owner=folder) as item:
            item.write(data)
            sync_file(item)
            if new_text == text:
                _rename(item, path, item_folder)
                os.fsync(item_folder)
                return
            with _staged_list(records, new_text, held) as new_records:
                was_there = _is_there(path.name, item_folder)
                _rename(item, path, item_folder)
                try:
                    os.fsync(item_folder)
                    new_records(locks)
                except BaseException:
                    if not was_there:
                        os.unlink(path.name, dir_fd=item_folder)
                    raise


def list_big_data(store: Store, layer: LayerRecord, key: str) -> None:
    """List an item that is there, and that a crash between two renames has left unlisted."""
    path = layer.big_data_path(key)
    with _locked(store, layer, key) as (_, locks, held):
        records, text = _find_list(store, layer.id)
        new_text = insert_key(text, layer.id, key)
        item_folder = held.enter_context(_open_folder(path.parent, store.root))
        if new_text != text and _is_there(path.name, item_folder):
            with _staged_list(records, new_text, held) as new_records:
                new_records(locks)


@contextlib.contextmanager
def _locked(
    store: Store, layer: LayerRecord, key: str
) -> Iterator[tuple[int, list[int], contextlib.ExitStack]]:
    """Lock a store for writing; yield the open folder of its layers, the locks, what is held.

    What earlier writers left there when they were killed is removed: now nobody else writes.
    """
    if layer.is_read_only or layer.store_root != store.root:
        raise StoreError(f"{layer.store_root}: a read-only store; nothing was written")
    path = layer.big_data_path(key)
    with contextlib.ExitStack() as held:
        locks = [
            held.enter_context(
                write_lock(lock, beneath=lock.parent.parent, wait_seconds=store.lock_wait_seconds)
            )
            for lock in layer_locks(store.root, store.image_store)
        ]
        try:
            folder = held.enter_context(_open_folder(path.parent.parent, store.root))
            remove_leftovers(folder)
            yield folder, locks, held
        except StoreError:
            raise
        except OSError as error:
            raise store_error(error, path, f"{key} cannot be written") from error


@contextlib.contextmanager
def _open_folder(path: Path, root: Path) -> Iterator[int]:
    """Open a folder of a store, which must not be a symbolic link; yield its descriptor."""
    descriptor = open_beneath(path, os.O_RDONLY | os.O_DIRECTORY, beneath=root)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _staged_list(
    records: Path, text: str, held: contextlib.ExitStack
) -> Iterator[Callable[[list[int]], None]]:
    """Write a list of layers to a temporary file; yield what signs the locks and replaces it."""
    folder = held.enter_context(_open_folder(records.parent, records.parent.parent))
    with staged_file("", mode=0o600, dir_fd=folder, owner=folder) as file:
        file.write(text.encode())
        sync_file(file)

        def replace(locks: list[int]) -> None:
            for count, lock in enumerate(locks, 1):
                _sign(lock, count)
            _rename(file, records, folder)

        yield replace
        os.fsync(folder)


def _rename(file: BinaryIO, path: Path, folder: int) -> None:
    """Give a staged file its name in the open folder."""
    os.replace(file.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _sign(lock: int, count: int) -> None:
    """Write a value to the lock file that no other writer will ever write."""
    value = _LAST_WRITER.pack(time.time_ns(), count, os.getpid(), secrets.token_bytes(44))
    if os.pwrite(lock, value, 0) != len(value):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _find_list(store: Store, layer_id: str) -> tuple[Path, str]:
    """Return the file that lists a layer now, and its text."""
    for path, _ in layer_lists(store.root, store.image_store):  # three at most
        text = read_text(path)
        for record in parse_records(text, path, "layer"):
            if record.values.get("id") == layer_id and not is_incomplete(record):
                record.text_array("big-data-names", [])  # an error where the key cannot be added
                return path, text
    raise LayerNotFoundError(f"{store.root}: layer {layer_id[:16]} is no longer in the store")


def insert_key(text: str, layer_id: str, key: str) -> str:
    """Add a key to a layer's `big-data-names`, and keep every other byte of a list of layers.

    Examples
    --------
    >>> insert_key('[{"id":"a1","n":1.50,"big-data-names":["x"]}]', "a1", "y")
    '[{"id":"a1","n":1.50,"big-data-names":["x","y"]}]'
    """
    for record, start, end in _items(text):
        if record.get("id") == layer_id:
            return _insert_into_record(text, record, start, end, key)
    raise KeyError(layer_id)


def _insert_into_record(text: str, record: dict[str, Any], start: int, end: int, key: str) -> str:
    """Add the key to the record text[start:end]."""
    names = record.get("big-data-names") or []
    if key in names:
        return text
    quoted = json.dumps(key)
    spans = [span for name, *span in _members(text, start) if name == "big-data-names"]
    if not spans:
        return f'{text[: end - 1]},"big-data-names":[{quoted}]{text[end - 1 :]}'
    names_start, names_end = spans[-1]  # of repeated members the last one counts
    if record["big-data-names"] is None:
        return f"{text[:names_start]}[{quoted}]{text[names_end:]}"
    comma = "," if names else ""
    return f"{text[: names_end - 1]}{comma}{quoted}{text[names_end - 1 :]}"


def _items(text: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Yield each object of an array, with the index where it starts and where it ends."""
    decoder = json.JSONDecoder()
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        record, end = decoder.raw_decode(text, at)
        yield record, at, end
        at = _skip_comma(text, end)


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Yield each member's name, with the index where its value starts and where it ends."""
    decoder = json.JSONDecoder()
    at = _skip(text, start + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, at)
        yield name, at, end
        at = _skip_comma(text, end)


def _skip(text: str, at: int) -> int:
    """Return the index of the next character that is not white space."""
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _skip_comma(text: str, at: int) -> int:
    """Return the index of what follows, after a comma if there is one."""
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at
