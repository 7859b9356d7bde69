"""Check what the user's cache folder holds: rules 31 and 32.

These are the caches that were built before, of any store, and the index of this store. Whatever is
damaged there is never used, and made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.doctor.rules import Finding, Remedy, Rule
from vecache.files import store_error
from vecache.index.disk_folder import FOLDER_NAME, IndexFolder
from vecache.index.load import BuildCache

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.store.graphroot import Store

__all__ = ["check_kept"]


def check_kept(store: Store, folder: Path) -> list[Finding]:
    """Check the user's cache folder."""
    index = IndexFolder(folder / FOLDER_NAME, store.root, is_read_only=True)
    findings = []
    for rule, kept in ((Rule.KEPT_CACHE, BuildCache(folder)), (Rule.INDEX, index)):
        try:
            findings += [
                Finding(rule, reason, path=path, remedy=Remedy.REMOVE)
                for path, reason in kept.find_damage()
            ]
        except OSError as error:
            findings.append(Finding(rule, str(store_error(error, folder, "it cannot be read"))))
    return findings
