"""Mend what a check found: build caches again, list them, remove our own temporary files.

1. `plan_actions` says what there is to do.
2. `mend` does it. A cache is built from the layer's TOC, byte for byte as Podman does, and written
   with its listing by `store.write`, under the store's locks: as before or as after, at any moment.
   Temporary files are removed under the same locks, when no writer uses them.

Nothing else is touched: no file of a layer, no TOC, no record but the listing of a cache. What
fails does not stop the rest.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vecache.atomic import OWN_TEMPORARY
from vecache.doctor.caches import read_wanted
from vecache.doctor.rules import Remedy, Rule
from vecache.errors import LayerNotFoundError, StoreError, StoreLockedError, VecacheError
from vecache.files import OWNER_ADVICE, store_error
from vecache.store.bigdata import CACHE_KEY
from vecache.store.lock import write_lock
from vecache.store.records import LAYERS, layer_locks
from vecache.store.write import write_big_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.doctor.rules import Finding
    from vecache.store.graphroot import Store

__all__ = ["Action", "mend", "plan_actions", "require_writable"]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, or that was done."""

    remedy: Remedy
    rule: Rule  # that of the first finding for which it is done
    layer: str | None
    path: str
    is_done: bool = False
    error: str | None = None  # why it could not be done


def require_writable(store: Store) -> None:
    """Raise unless this is a store of this machine that may be written."""
    if store.snapshot is not None:
        raise StoreError(
            f"{store.title}: what is read here is a copy; nothing was written: run "
            f"`vecache doctor --fix` on {store.snapshot.host}"
        )
    additional = map(os.path.realpath, store.config.additional_stores)
    if os.path.realpath(store.root) in additional:
        raise StoreError(f"{store.root}: an additional store, which is only read")
    if not os.access(store.root / LAYERS, os.W_OK, effective_ids=True):
        raise StoreError(f"{store.root}: it cannot be written; nothing was done; {OWNER_ADVICE}")


def plan_actions(findings: Iterable[Finding]) -> list[Action]:
    """Return what there is to do: one action a file."""
    actions: dict[str, Action] = {}
    for finding in findings:
        if finding.remedy is None or finding.path is None:
            continue
        action = Action(finding.remedy, finding.rule, finding.layer, finding.path)
        before = actions.setdefault(finding.path, action)
        if finding.remedy is Remedy.BUILD is not before.remedy:  # which lists it too
            actions[finding.path] = action
    return list(actions.values())


def mend(
    store: Store, actions: Iterable[Action], progress: Callable[[], object] | None = None
) -> list[Action]:
    """Do it; return each action with its outcome."""
    require_writable(store)
    done: list[Action] = []
    locked = ""
    for action in actions:
        if locked:  # do not wait again for each of a thousand layers
            done.append(replace(action, error=locked))
            continue
        try:
            _do(store, action)
        except StoreLockedError as error:
            locked = str(error)
            done.append(replace(action, error=locked))
        except VecacheError as error:
            done.append(replace(action, error=str(error)))
        else:
            done.append(replace(action, is_done=True))
        if progress is not None:
            progress()
    return done


def _do(store: Store, action: Action) -> None:
    if action.remedy is not Remedy.REMOVE:
        _build(store, action)
    elif action.rule is Rule.LEFTOVER:
        _remove_leftover(store, action.path)
    else:  # in the user's cache folder, where whatever is missing is made again
        try:
            os.unlink(action.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, action.path, "it cannot be removed") from error


def _build(store: Store, action: Action) -> None:
    record = next((each for each in store.layers() if each.id == action.layer), None)
    packed = None if record is None else read_wanted(record)
    if record is None or packed is None:
        raise LayerNotFoundError(f"{store.root}: layer {action.layer} is no longer in the store")
    write_big_data(store, record, CACHE_KEY, packed)


def _remove_leftover(store: Store, path: str) -> None:
    """Remove a temporary file of ours from the folder of the layers, or from that of a layer."""
    *folders, name = os.path.relpath(path, store.root).split("/")
    if not name.startswith(OWN_TEMPORARY):
        raise StoreError(f"{path}: not a temporary file of vecache")
    with contextlib.ExitStack() as held:
        for lock in layer_locks(store.root, store.image_store):
            wait_seconds, beneath = store.lock_wait_seconds, lock.parent.parent
            held.enter_context(write_lock(lock, beneath=beneath, wait_seconds=wait_seconds))
        try:
            folder = os.open(store.root, os.O_RDONLY | os.O_DIRECTORY)
            for part in folders:
                held.callback(os.close, folder)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                folder = os.open(part, flags, dir_fd=folder)
            held.callback(os.close, folder)
            if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass  # another writer has removed it
        except OSError as error:
            raise store_error(error, path, "it cannot be removed") from error
