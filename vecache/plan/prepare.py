"""What is a layer to a plan, whatever it is held against? Its files, and the cache it leaves.

The same layer is planned many times over: by several images, and by every order of them that is
tried. What does not depend on the layers of the store is worked out once.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import DigestError, TocError
from vecache.index.layers import CachedLayer, CacheSource, ExcludedLayer
from vecache.plan.layer_files import select_files
from vecache.store.records import LayerRecord
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.image.model import ImageLayer
    from vecache.plan.layer_files import LayerFiles

__all__ = ["PreparedLayer", "Preparer", "joining_record", "naming"]


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A layer with a TOC, ready to be replayed and to join.

    Attributes
    ----------
    files : LayerFiles
        What a pull walks through.
    joining : CachedLayer or ExcludedLayer
        What it is to the next layers: the cache file that Podman will write, or why it cannot.
    """

    files: LayerFiles
    joining: CachedLayer | ExcludedLayer


class Preparer:
    """Prepares layers, each once.

    Parameters
    ----------
    layout : Layout
        How pulled layers are stored.
    """

    __slots__ = ("_prepared", "layout")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._prepared: dict[tuple[str, str, str | None], PreparedLayer] = {}

    def prepare(self, layer: ImageLayer) -> PreparedLayer:
        """Prepare a layer that has a TOC, or give what was prepared.

        Parameters
        ----------
        layer : ImageLayer
            The layer; the same blob in another image is the same layer.

        Returns
        -------
        PreparedLayer
            Ready to be replayed.

        Raises
        ------
        ImageError, TocError, DigestError
            If its TOC cannot be read or breaks a rule.
        """
        key = (layer.blob, layer.diff_id, layer.toc_digest)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(layer)
        return self._prepared[key]

    def _prepare(self, layer: ImageLayer) -> PreparedLayer:
        assert layer.toc_format is not None  # others are pulled whole
        entries, record = layer.toc.entries, joining_record(layer)
        with naming(layer):
            files = select_files(entries, layer.toc_format, layer.toc_offset, self.layout)
        try:
            cache = CacheFile.parse(pack_cache(entries, self.layout))
        except (DigestError, TocError) as error:
            # The pull itself does not look at each digest. The next one fails to write this cache,
            # logs that, and goes on without: source containers/storage cache_linux.go load.
            return PreparedLayer(files, ExcludedLayer(record, str(error)))
        flat_entries = entries if self.layout is Layout.FLAT else None
        joining = CachedLayer(record, cache, CacheSource.JOINED, flat_entries=flat_entries)
        return PreparedLayer(files, joining)


@contextmanager
def naming(layer: ImageLayer) -> Iterator[None]:
    """Let an error about an entry or a digest say in which layer it is.

    Parameters
    ----------
    layer : ImageLayer
        The layer.

    Raises
    ------
    TocError, DigestError
        As what is done inside raises them, with the layer's blob in front.
    """
    try:
        yield
    except (DigestError, TocError) as error:
        raise type(error)(f"layer {layer.blob}: {error}") from error


def joining_record(layer: ImageLayer) -> LayerRecord:
    """Make the record that the store will have of a pulled layer, as far as a plan needs it.

    Parameters
    ----------
    layer : ImageLayer
        The layer.

    Returns
    -------
    LayerRecord
        By its three digests the layer counts as present from then on.
    """
    return LayerRecord(
        id=layer.diff_id.partition(":")[2],
        diff_digest=layer.diff_id,
        compressed_diff_digest=layer.blob,
        toc_digest=layer.toc_digest,
        is_read_only=False,
    )
