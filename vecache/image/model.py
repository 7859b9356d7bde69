"""An image: its layers from the bottom up, and what the TOC of each one costs and says.

Opening an image reads its manifest and config. A TOC is read, checked and parsed when it is first
asked for, and then retained: a layer that is already in the store never needs its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from vecache.errors import ImageError
from vecache.image.ahead import ReadAhead
from vecache.text import count, html_table, short_command
from vecache.toc.files import TocFormat
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.image.toc import TocReader

__all__ = ["Image", "ImageLayer"]

_TOC_REQUESTS = MappingProxyType({TocFormat.ZSTD_CHUNKED: 1, TocFormat.ESTARGZ: 2})


@dataclass(frozen=True, eq=False, repr=False)
class ImageLayer:
    """One layer of an image.

    Attributes
    ----------
    blob : str
        Digest of the compressed layer.
    blob_bytes : int
        Size of the compressed layer.
    diff_id : str
        Digest of the layer's tar archive.
    reader : TocReader or None
        Reads the TOC; None if the layer has none and is pulled whole.
    created_by : str
        What made the layer, by the history in the image's config; empty where that is not known.
    """

    blob: str
    blob_bytes: int
    diff_id: str
    reader: TocReader | None = None
    created_by: str = ""
    _ahead: ReadAhead[bytes] | None = field(default=None, init=False)

    @property
    def toc_format(self) -> TocFormat | None:
        """The TOC's format; None if there is no TOC."""
        return self.reader.toc_format if self.reader else None

    @property
    def toc_digest(self) -> str | None:
        """The digest that the manifest gives for the TOC; None if there is no TOC."""
        return self.reader.digest if self.reader else None

    @property
    def toc_requests(self) -> int:
        """Requests a pull needs for the TOC: 1 for zstd:chunked, 2 for eStargz, else 0."""
        return _TOC_REQUESTS[self.reader.toc_format] if self.reader else 0

    @cached_property
    def toc_offset(self) -> int:
        """Offset of the TOC in the blob; -1 if there is no TOC. eStargz: reads the footer."""
        return self.reader.offset() if self.reader else -1

    @cached_property
    def toc_bytes(self) -> int:
        """Bytes a pull fetches for TOC, tar-split and footer. eStargz: reads the footer."""
        return self.reader.wire_bytes() if self.reader else 0

    @cached_property
    def toc(self) -> Toc:
        """The TOC, parsed.

        Returns
        -------
        Toc
            Read when it is first asked for, and retained.

        Raises
        ------
        ImageError
            If the layer has none, or it cannot be read.
        TocError
            If its digest or length is not the stated one, or it breaks a rule.
        """
        if self.reader is None:
            raise ImageError(f"layer {self.blob}: has no table of contents, it is pulled whole")
        ahead = self._ahead
        packed = self.reader.fetch() if ahead is None else ahead.fetch(self)
        object.__setattr__(self, "_ahead", None)  # it has this layer: a cycle would hold the TOC
        return Toc.parse(self.reader.unpack(packed), path=f"layer {self.blob}")

    def __repr__(self) -> str:
        toc = f"{self.toc_format} TOC" if self.toc_format else "no TOC"
        return f"<ImageLayer {self.blob[:19]}: {self.blob_bytes:,} bytes, {toc}>"


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """One image.

    Attributes
    ----------
    reference : str
        Its name as the caller gave it.
    name : str
        Its name where it was found: a tag, a name in a registry or store, a folder.
    digest : str
        Digest of its manifest.
    layers : tuple of ImageLayer
        From the bottom up.
    is_chosen : bool
        Whether it was chosen for its platform, from a list.
    read_from : str
        Its full name in the registry, or mirror, that it was read from; empty if in none.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> image.name, len(image), [len(layer.toc.entries) for layer in image.layers]
    ('localhost:5001/small/app2:latest', 3, [215, 4, 160])
    """

    reference: str
    name: str
    digest: str
    layers: tuple[ImageLayer, ...]
    is_chosen: bool = False
    read_from: str = ""

    @property
    def origin(self) -> str:
        """`read_from` where the reference does not name it, as for a mirror; else empty."""
        named = self.reference.removeprefix("docker://")
        return "" if self.read_from.startswith(named) else self.read_from

    @property
    def blob_bytes(self) -> int:
        """Bytes of all layers, compressed."""
        return sum(layer.blob_bytes for layer in self.layers)

    def read_ahead(self, layers: Iterable[ImageLayer] | None = None) -> None:
        """Announce which TOCs will be asked for, so that a few are fetched side by side.

        Nothing is read yet. Once the TOC of one of the layers is asked for, those of the next ones
        are fetched in the background, so a TOC that is announced and not asked for may cost a
        request. Errors are raised where a TOC is asked for, as without this call.

        Parameters
        ----------
        layers : iterable of ImageLayer, optional
            Layers of this image, in the order in which their TOCs will be asked for; all by
            default. Those without a TOC, and repeated ones, are skipped.
        """
        fetches = {}
        seen: set[str | None] = set()
        for layer in self.layers if layers is None else layers:
            known = {layer.blob, layer.diff_id, layer.toc_digest}
            if layer.reader is not None and "toc" not in vars(layer) and seen.isdisjoint(known):
                seen |= known
                fetches[layer] = layer.reader.fetch
        ahead = ReadAhead(fetches)
        for layer in fetches:
            object.__setattr__(layer, "_ahead", ahead)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        n_tocs = sum(layer.reader is not None for layer in self.layers)
        return (
            f"<Image {self.reference}: {count(len(self), 'layer')}, {n_tocs} with a TOC, "
            f"{self.blob_bytes:,} bytes>"
        )

    def _repr_html_(self) -> str:
        rows = (
            (
                layer.blob,
                layer.blob_bytes,
                str(layer.toc_format or "none"),
                short_command(layer.created_by),
            )
            for layer in self.layers
        )
        caption = f"{self.reference}: {count(len(self), 'layer')}, {self.blob_bytes:,} bytes"
        return html_table(caption, ("blob", "bytes", "TOC", "created by"), rows, n_rows=len(self))
