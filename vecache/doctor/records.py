"""Check the lists of a store against its folders, and against each other: rules 20 to 30.

The lists and the folders are read together, under the locks: no writer is between two steps then,
so what does not fit is what a crash has left.

Of a snapshot, which has only some of the big data and no files, only the lists are checked. Layers
of additional stores count as listed, and are not checked themselves. A separate image store is
checked with the graph root that uses it, not by itself: the big data of its layers is there.

Source: containers/storage drivers/overlay/overlay.go ListLayers; layers.go datadir, tspath.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from vecache.atomic import OWN_TEMPORARY
from vecache.doctor.rules import Finding, Remedy, Rule
from vecache.errors import StoreError, StoreLockedError
from vecache.files import store_error
from vecache.store.bigdata import CACHE_FILE_NAME, CACHE_KEY, big_data_file_name
from vecache.store.lock import read_lock
from vecache.store.records import (
    IMAGES,
    LAYERS,
    is_incomplete,
    layer_locks,
    parse_records,
    read_layer_lists,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from vecache.store.graphroot import Store
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["check_records"]

_TEMPORARY: Final = ".tmp-"
_TAR_SPLIT: Final = ".tar-split.gz"
_OVERLAY: Final = "overlay"
# Of layers and images. Other folders are Podman's own, some of them for a moment: `l`, `staging`,
# `tempdirs`, `tmp`, `compat123`.
_USUAL_ID: Final = re.compile("[0-9a-f]{64}")


class _Folder(NamedTuple):
    """A folder with one folder for each layer or image."""

    path: Path
    items: dict[str, frozenset[str]]  # name of a folder -> names of what is in it
    files: frozenset[str]  # names of what is beside these
    unreadable: tuple[Finding, ...]


def check_records(store: Store) -> list[Finding]:
    """Check the lists of a store, and what they list."""
    try:
        known, findings = _check_layers(store)
        known_images, more = _check_images(store)
        layers = store.layers()
    except StoreLockedError:
        raise  # nothing is known then
    except StoreError as error:
        return [Finding(Rule.LISTS, str(error))]
    # Read before the images and after them: what was pulled in between is in one of the two.
    known |= {layer.id for layer in layers}
    findings += more
    for layer in layers:
        if layer.parent is not None and layer.parent not in known:
            text = f"layer {layer.parent} below it is not listed"
            findings.append(Finding(Rule.PARENT, text, layer=layer.id))
    for image in known_images:
        if image.top_layer is not None and image.top_layer not in known:
            text = f"its top layer {image.top_layer} is not listed"
            findings.append(Finding(Rule.TOP_LAYER, text, image=image.id))
    return findings


def _check_layers(store: Store) -> tuple[set[str], list[Finding]]:
    """Check big data and files of layers; return the ids of all layers too."""
    if store.snapshot is not None:
        return {layer.id for layer in store.layers()}, []
    wait_seconds = store.lock_wait_seconds
    with contextlib.ExitStack() as held:
        for lock in layer_locks(store.root, store.image_store):
            beneath = lock.parent.parent
            held.enter_context(read_lock(lock, beneath=beneath, wait_seconds=wait_seconds))
        layers = store.layers()
        incomplete = [
            record.text("id", "")
            for text, path, _ in read_layer_lists(
                store.root, store.image_store, wait_seconds=wait_seconds
            )
            for record in parse_records(text, path, "layer")
            if is_incomplete(record)
        ]
        known = {layer.id for layer in layers} | set(incomplete)
        own = [layer for layer in layers if layer.store_root == store.root]
        folder = _scan(store.root / LAYERS)
        findings = [*folder.unreadable, *_check_files(store, own, known)]
    text = "never finished: it counts as not there"
    findings += [Finding(Rule.INCOMPLETE, text, layer=layer_id) for layer_id in incomplete]
    for layer in own:
        findings += _check_items(folder, layer, Finding(Rule.ITEM_MISSING, "", layer=layer.id))
    findings += _check_orphans(folder, known, "layer")
    return known, findings


def _check_images(store: Store) -> tuple[tuple[ImageRecord, ...], list[Finding]]:
    """Check big data of images; return the images too."""
    if store.snapshot is not None:
        return store.images(), []
    findings: list[Finding] = []
    for root in filter(None, (store.image_store, store.root)):
        lock = root / IMAGES / "images.lock"
        with read_lock(lock, beneath=root, wait_seconds=store.lock_wait_seconds):
            images = store.images()
            folder = _scan(root / IMAGES)
        findings += folder.unreadable
        for image in images:
            if image.store_root == root:
                subject = Finding(Rule.ITEM_MISSING, "", image=image.id)
                findings += _check_items(folder, image, subject)
        findings += _check_orphans(folder, {image.id for image in images}, "image")
    return images, findings


def _check_items(
    folder: _Folder, owner: LayerRecord | ImageRecord, subject: Finding
) -> Iterator[Finding]:
    """Check the big data of a layer or an image; `subject` says of which."""
    own_path = folder.path / owner.id
    if any(finding.path in (str(folder.path), str(own_path)) for finding in folder.unreadable):
        return
    there = folder.items.get(owner.id, frozenset())
    listed = {}
    for key in owner.big_data_names:
        try:
            listed[big_data_file_name(key)] = key
        except ValueError:
            yield replace(subject, found=f"{key!r:.80} is listed, which cannot name a file")
    for name, key in listed.items():
        # A cache file is checked with what it holds.
        if name not in there and key != CACHE_KEY:
            path = str(own_path / name)
            yield replace(subject, found=f"{key} is listed and not there", path=path)
    for name in sorted(there - set(listed)):
        path = str(own_path / name)
        if name.startswith(_TEMPORARY):
            yield replace(_leftover(path), layer=subject.layer, image=subject.image)
            continue
        is_cache = name == CACHE_FILE_NAME and subject.layer is not None
        yield replace(
            subject,
            rule=Rule.ITEM_UNLISTED,
            found=f"{_key_of(name)} is there and not listed",
            path=path,
            remedy=Remedy.LIST if is_cache else None,
        )


def _check_orphans(folder: _Folder, known: Collection[str], what: str) -> Iterator[Finding]:
    """Check for big data, and tar-splits, of layers or images that nobody lists."""
    for name in sorted(folder.items):
        if name not in known and _USUAL_ID.fullmatch(name):
            text = f"big data of no listed {what}"
            yield Finding(Rule.BIG_DATA_ORPHANED, text, path=str(folder.path / name))
    for name in sorted(folder.files):
        path = str(folder.path / name)
        owner = name.removesuffix(_TAR_SPLIT)
        if name.startswith(_TEMPORARY):
            yield _leftover(path)
        elif owner != name and owner not in known and _USUAL_ID.fullmatch(owner):
            text = "the tar-split of no listed layer"
            yield Finding(Rule.BIG_DATA_ORPHANED, text, path=path)


def _check_files(store: Store, layers: list[LayerRecord], known: set[str]) -> Iterator[Finding]:
    """Check the folders of files of layers."""
    for root in filter(None, (store.root, store.image_store)):
        overlay = root / _OVERLAY
        own = [layer for layer in layers if layer.files_root == root]
        try:
            with os.scandir(overlay) as entries:
                folders = {each.name for each in entries if each.is_dir(follow_symlinks=False)}
        except FileNotFoundError:
            if own:
                yield Finding(Rule.FOLDERS, f"no {_OVERLAY}/", path=str(overlay))
            continue
        except OSError as error:
            text = str(store_error(error, overlay, "it cannot be read"))
            yield Finding(Rule.FOLDERS, text, path=str(overlay))
            continue
        for layer in own:
            if layer.id not in folders:
                text, path = "no folder of its files", layer.target.parent
                yield Finding(Rule.FOLDER_MISSING, text, layer=layer.id, path=str(path))
            elif not _is_there(layer.target):
                text = "no diff/ in the folder of its files"
                yield Finding(Rule.FOLDER_MISSING, text, layer=layer.id, path=str(layer.target))
        for name in sorted(filter(_USUAL_ID.fullmatch, folders - known)):
            text = "the folder of no listed layer"
            yield Finding(Rule.FOLDER_ORPHANED, text, path=str(overlay / name))


def _scan(folder: Path) -> _Folder:
    """List a folder, and what is in each of its folders."""
    unreadable: list[Finding] = []
    items: dict[str, frozenset[str]] = {}
    files = set()
    for name, is_folder in _list(folder, unreadable):
        if is_folder:
            items[name] = frozenset(name for name, _ in _list(folder / name, unreadable))
        else:
            files.add(name)
    return _Folder(folder, items, frozenset(files), tuple(unreadable))


def _list(folder: Path, unreadable: list[Finding]) -> list[tuple[str, bool]]:
    """Return the name of each entry, and whether it is a folder; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return [(each.name, each.is_dir(follow_symlinks=False)) for each in entries]
    except FileNotFoundError:
        pass
    except OSError as error:
        text = str(store_error(error, folder, "it cannot be read"))
        unreadable.append(Finding(Rule.ITEM_MISSING, text, path=str(folder)))
    return []


def _is_there(folder: Path) -> bool:
    """Return whether there is a folder, or nobody can say."""
    try:  # a symbolic link in an additional layer store
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _leftover(path: str) -> Finding:
    is_own = os.path.basename(path).startswith(OWN_TEMPORARY)
    remedy = Remedy.REMOVE if is_own else None
    return Finding(Rule.LEFTOVER, "a temporary file that no writer uses", path=path, remedy=remedy)


def _key_of(file_name: str) -> str:
    """Return the key of a big-data item, as far as the name of its file is one."""
    try:
        key = base64.b64decode(file_name[1:], validate=True).decode()
    except ValueError:
        return repr(file_name)
    return key if file_name == big_data_file_name(key) else repr(file_name)
