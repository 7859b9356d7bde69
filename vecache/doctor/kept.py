"""Check what the user's cache folder holds: rules 31 and 32.

These are the caches that were built before, of any store, and the index of this store. Whatever is
damaged there is never used, and made again. Where the store has no cache file that can be used, one
that was built before is used: it must be what the TOC gives today, whichever version wrote it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cache.writer import build_cache
from vecache.doctor.rules import Finding, Remedy, Rule
from vecache.errors import VecacheError
from vecache.files import store_error
from vecache.index.disk_folder import FOLDER_NAME, IndexFolder
from vecache.index.load import BuildCache
from vecache.store.bigdata import TOC_KEY, layer_layout, read_big_data
from vecache.toc.parse import MAX_TOC_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = ["check_built", "check_kept"]


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


def check_built(record: LayerRecord, folder: Path) -> list[Finding]:
    """Check the cache that was built before of a layer without a cache file."""
    try:
        toc_data = read_big_data(record, TOC_KEY, MAX_TOC_BYTES)
        layout = layer_layout(record)
        if toc_data is None:
            return []
        found = BuildCache(folder).peek(toc_data, layout)
        if found is None or found[1].data.tobytes() == build_cache(toc_data, layout):
            return []
    except VecacheError:
        return []  # a finding of the TOC
    text = "not what the TOC gives: written by another version"
    return [Finding(Rule.KEPT_CACHE, text, record.id, path=found[0], remedy=Remedy.REMOVE)]
