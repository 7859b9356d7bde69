"""Images out of TOCs alone, in memory: what property tests plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vecache.image.model import Image, ImageLayer
from vecache.plan.planner import Planner
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.options import PlanOptions


@dataclass(frozen=True)
class TocBytes:
    """A reader of a TOC that is in memory."""

    data: bytes
    toc_offset: int
    toc_format: TocFormat = TocFormat.ZSTD_CHUNKED

    @property
    def digest(self) -> str:
        return digest_of(self.data)

    def offset(self) -> int:
        return self.toc_offset

    def wire_bytes(self) -> int:
        return len(self.data)

    def fetch(self) -> bytes:
        return self.data

    def unpack(self, packed: bytes) -> bytes:
        return packed


def open_sparse(*tocs: tuple[bytes, int] | None, name: str = "image") -> Image:
    """An image with a layer for each (TOC, its offset); None is a layer without one."""
    return Image(name, name, digest_of(name.encode()), tuple(map(_layer, tocs)))


def _layer(toc: tuple[bytes, int] | None) -> ImageLayer:
    if toc is None:
        return ImageLayer(digest_of(b"plain"), 1_000, digest_of(b"plain tar"))
    reader = TocBytes(*toc)
    blob = digest_of(b"blob of " + reader.data)
    return ImageLayer(blob, toc[1] + len(toc[0]), digest_of(blob.encode()), reader)


def plan_with(image: Image, cache: LayersCache, options: PlanOptions) -> ImagePlan:
    """Plan as the oracles do, one layer after the other."""
    return Planner(replace(options, parallel=1)).plan(image, cache)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
