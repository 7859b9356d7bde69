"""Compare several stores: one `Contents` of all, in which each layer has its host in its record.

A host is named after the machine of a snapshot, the node of a fleet, or the folder of a store or
data set; of folders with one name the first part of their paths that differs is the name. What is
left of equal names gets a number. In a mapping the keys are the names.
"""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecache.errors import StoreError
from vecache.image.model import Image
from vecache.index.layers_cache import LayersCache
from vecache.sharing.contents import MAX_BYTES, Contents
from vecache.store.graphroot import Store
from vecache.store.open import split_node
from vecache.store.records import with_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vecache.arrays import U8
    from vecache.sharing.members import TagSource
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["merge_hosts", "name_hosts", "split_hosts"]


def merge_hosts(named: Mapping[str, Contents]) -> Contents:
    """Return the contents of several stores, given by host; those of several hosts keep theirs."""
    by_host: dict[str, Contents] = {}
    for name, contents in named.items():
        parts = split_hosts(contents) if contents.hosts else {name: contents}
        for host, part in parts.items():
            if not host:
                raise ValueError("stores: found an empty name")
            by_host[_unused(host, by_host)] = part
    parts = {host: _with_host(part, host) for host, part in by_host.items()}
    layers = [layer for part in parts.values() for layer in part.layers]
    claimed = sum(max(each.files.logical_bytes, each.chunks.logical_bytes) for each in layers)
    if claimed > MAX_BYTES:
        raise StoreError(
            f"{', '.join(parts)}: found {claimed:,} bytes of content together, wanted at most "
            f"{MAX_BYTES:,}; compare fewer stores at once"
        )
    return Contents(
        tuple(layers),
        tuple(each for part in parts.values() for each in part.excluded),
        tuple(image for part in parts.values() for image in part.images),
        _HostSource({host: part.source for host, part in by_host.items()}),
        frozenset().union(*(part.additional_ids for part in parts.values())),
        tuple(parts),
    )


def split_hosts(contents: Contents) -> dict[str, Contents]:
    """Return the contents of each host, as they were before they were merged."""
    source = contents.source
    sources = source.by_host if isinstance(source, _HostSource) else {}
    members: list[LayerRecord | ImageRecord] = [*contents.records]
    members += [image.record for image in contents.images]
    return {
        host: _with_host(
            replace(
                contents,
                layers=tuple(each for each in contents.layers if each.record.host == host),
                excluded=tuple(each for each in contents.excluded if each.record.host == host),
                images=tuple(each for each in contents.images if each.record.host == host),
                source=sources.get(host),
                additional_ids=frozenset(
                    each.id
                    for each in members
                    if each.host == host and each.key in contents.additional_ids
                ),
                hosts=(),
            ),
            "",
        )
        for host in contents.hosts
    }


def name_hosts(sources: Sequence[Any]) -> list[str]:
    """Return a name for each source; no two are equal."""
    named = [_name_and_path(source) for source in sources]
    names: list[str] = []
    for name, path in named:
        alike = [other.parts for text, other in named if text == name]
        if len(set(alike)) > 1:
            steps = zip_longest(*alike)
            depth = next(n for n, parts in enumerate(steps) if len(set(parts)) > 1)
            names.append(_unused((*path.parts[depth:], name)[0], names))
        else:
            names.append(_unused(name, names))
    return names


def _name_and_path(source: Any) -> tuple[str, Path]:
    if isinstance(source, LayersCache):
        source = source.store
    if isinstance(source, Store):
        if source.snapshot is not None:
            node = split_node(source.path)
            name = source.snapshot.host if node is None else node[1]
            return name or source.path.stem, source.path.parent / source.path.stem
        return (platform.node() if source.is_own else source.path.name) or "store", source.path
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.path.abspath(source))
        return path.stem or "store", path.parent / path.stem
    if isinstance(source, Image):
        return source.name, Path()
    return type(source).__name__.lower(), Path()


def _unused(name: str, taken: Sequence[str] | Mapping[str, object]) -> str:
    """Return the name, with a number after it where it is taken."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique


def _with_host(contents: Contents, host: str) -> Contents:
    """Set the host of each layer and image."""

    def renamed(members: Any) -> Any:
        return tuple(replace(each, record=replace(each.record, host=host)) for each in members)

    return replace(
        contents,
        layers=renamed(contents.layers),
        excluded=renamed(contents.excluded),
        images=renamed(contents.images),
        additional_ids=frozenset(with_host(host, each) for each in contents.additional_ids),
    )


class _HostSource:
    """Reads paths and tags of each layer from the store of its host."""

    def __init__(self, by_host: Mapping[str, TagSource | None]) -> None:
        self.by_host = by_host

    def store_root(self, record: LayerRecord | ImageRecord) -> Path:
        source = self.by_host[record.host]
        return record.store_root if source is None else source.store_root(record)

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        source = self.by_host[record.host]
        return [None] * len(key) if source is None else source.find_paths(record, key)

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        for host, group in groupby(records, key=lambda record: record.host):
            source = self.by_host[host]
            if source is None:
                raise ValueError("contents: found no source to read tags from")
            yield from source.tags(list(group))
