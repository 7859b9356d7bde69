"""A layer and an image as `Contents` holds them, and what else can be read of their layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vecache.store.records import with_host
from vecache.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vecache.arrays import U8
    from vecache.sharing.content_table import ContentTable
    from vecache.sharing.contents import Grain
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["ContentImage", "ContentLayer", "TagSource"]


class TagSource(Protocol):
    """What paths and tags are read from, since tables of contents hold neither."""

    def store_root(self, record: LayerRecord | ImageRecord) -> Path:
        """Return the graph root of a record, on the machine of its store."""
        ...

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        """Return the path of the first file of a layer with each (n, 32) key, or None."""
        ...

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        """Yield the table of all tags of each layer, and their keys, as `layer_tags` does."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class ContentLayer:
    """A layer and its distinct contents at either grain."""

    record: LayerRecord
    files: ContentTable
    chunks: ContentTable

    @property
    def id(self) -> str:
        """The layer's id."""
        return self.record.id

    def content_table(self, grain: Grain) -> ContentTable:
        """Return the contents at one grain."""
        return self.files if grain == "file" else self.chunks

    def __repr__(self) -> str:
        counts = f"{count(len(self.files), 'file')}, {count(len(self.chunks), 'chunk')}"
        return f"<ContentLayer {self.id[:12]}: {counts}>"


@dataclass(frozen=True, slots=True)
class ContentImage:
    """An image and its layers."""

    record: ImageRecord
    layer_ids: tuple[str, ...]  # from the base up, with excluded layers

    @property
    def label(self) -> str:
        """The image's first name, or its id, after its host where there are several stores."""
        return with_host(self.record.host, self.record.label)

    @property
    def id(self) -> str:
        """The image's id."""
        return self.record.id

    @property
    def layer_keys(self) -> tuple[str, ...]:
        """The `key` of each layer's record."""
        return tuple(with_host(self.record.host, layer_id) for layer_id in self.layer_ids)
