"""Check the cache file and the TOC of a layer: rules 1 to 16.

A cache file that is, byte for byte, what the TOC gives is sound, and nothing else is asked of it.
Any other is validated; where no rule of the format is broken, it belongs to another TOC.

About 5 ms a megabyte of TOC, and 0.5 us a tag of a file that is wrong. Memory is that of one TOC
and its cache.

Source: containers/storage pkg/chunked/cache_linux.go load, readCacheFileFromMemory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.cache.format import MAX_VERSION
from vecache.cache.reader import CacheFile
from vecache.cache.validate import validate
from vecache.cache.writer import build_cache
from vecache.doctor.rules import Finding, Remedy, Rule
from vecache.errors import FormatError, StoreError, VecacheError, VersionError
from vecache.index.load import open_cache
from vecache.store.bigdata import CACHE_KEY, LAYER_DATA_KEY, TOC_KEY, layer_layout, read_big_data
from vecache.toc.parse import MAX_TOC_BYTES

if TYPE_CHECKING:
    from vecache.store.records import LayerRecord

__all__ = ["LayerCheck", "check_layer", "read_wanted"]


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """What a layer has, and what is wrong with it."""

    findings: tuple[Finding, ...]
    has_toc: bool
    has_cache: bool


def check_layer(record: LayerRecord) -> LayerCheck:
    """Check the cache file and the TOC of a layer."""
    if record.unreadable:
        text = f"when the snapshot was made: {record.unreadable}"
        return LayerCheck(
            (Finding(Rule.TOC, text, layer=record.id),), has_toc=False, has_cache=False
        )
    findings: list[Finding] = []
    wanted: bytes | None = None
    has_toc = True
    try:
        layer_layout(record)
    except StoreError as error:
        findings.append(_finding(record, Rule.LAYOUT, LAYER_DATA_KEY, str(error)))
    else:
        try:
            wanted = read_wanted(record)
            has_toc = wanted is not None
        except VecacheError as error:
            findings.append(_finding(record, Rule.TOC, TOC_KEY, str(error)))
    remedy = None if wanted is None else Remedy.BUILD
    try:
        cache = open_cache(record)
    except VersionError as error:
        findings.append(_finding(record, _version_rule(error), CACHE_KEY, str(error), remedy))
    except (FormatError, StoreError) as error:
        if not isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            text = str(error)
            findings.append(_finding(record, Rule.CACHE_READABLE, CACHE_KEY, text, remedy))
        elif CACHE_KEY in record.big_data_names:
            text = "a listed cache file that is not there"
            findings.append(_finding(record, Rule.ITEM_MISSING, CACHE_KEY, text, remedy))
        elif has_toc:
            findings.append(_finding(record, Rule.CACHE_MISSING, CACHE_KEY, "no cache file yet"))
    else:
        findings += _check_cache(record, cache, wanted, has_toc=has_toc)
        return LayerCheck(tuple(findings), has_toc, has_cache=True)
    return LayerCheck(tuple(findings), has_toc, has_cache=False)


def read_wanted(record: LayerRecord) -> bytes | None:
    """Build the cache file that a layer's TOC gives; None for a layer without a TOC."""
    toc_data = read_big_data(record, TOC_KEY, MAX_TOC_BYTES)
    return None if toc_data is None else build_cache(toc_data, layer_layout(record))


def _check_cache(
    record: LayerRecord, cache: CacheFile, wanted: bytes | None, *, has_toc: bool
) -> list[Finding]:
    remedy = None if wanted is None else Remedy.BUILD
    if wanted is not None and np.array_equal(cache.data, np.frombuffer(wanted, np.uint8)):
        if cache.n_tags:
            return []
        return [_finding(record, Rule.CACHE_EMPTY, CACHE_KEY, f"{cache.n_bytes} bytes, no tags")]
    findings = [
        _finding(record, Rule(problem.rule), CACHE_KEY, str(problem), remedy)
        for problem in validate(cache)
    ]
    if not findings and wanted is not None:
        text = _describe_difference(cache, CacheFile.parse(wanted))
        findings.append(_finding(record, Rule.CACHE_OF_TOC, CACHE_KEY, text, remedy))
    elif not findings and not has_toc:
        text = "a cache file, and no TOC that gives it"
        findings.append(_finding(record, Rule.CACHE_OF_TOC, CACHE_KEY, text))
    return findings


def _describe_difference(found: CacheFile, wanted: CacheFile) -> str:
    """Say in what two sound files differ."""
    n_extra = int((wanted.find_tags(found.packed) < 0).sum())
    n_lacking = int((found.find_tags(wanted.packed) < 0).sum())
    if n_extra or n_lacking:
        return (
            f"{found.n_tags:,} tags: {n_extra:,} of them are not in the TOC, and {n_lacking:,} of "
            f"the {wanted.n_tags:,} in the TOC are lacking"
        )
    n_common = min(found.n_bytes, wanted.n_bytes)
    differ = np.flatnonzero(found.data[:n_common] != wanted.data[:n_common])
    first = int(differ[0]) if len(differ) else n_common
    return f"the digests of the TOC, but other bytes from byte {first:,}: other locations or names"


def _version_rule(error: VersionError) -> Rule:
    return Rule.CACHE_VERSION if error.version <= MAX_VERSION else Rule.CACHE_READABLE


def _finding(
    record: LayerRecord, rule: Rule, key: str, found: str, remedy: Remedy | None = None
) -> Finding:
    path = str(record.big_data_path(key))
    found = found.removeprefix(f"{path}: ")
    remedy = None if rule.is_hint else remedy
    return Finding(rule, found, layer=record.id, path=path, remedy=remedy)
