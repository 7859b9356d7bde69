"""An image: its layers from the bottom up, and what each one's TOC costs and says.

Opening an image reads its manifest and config. A TOC is read, checked and parsed when somebody asks
for it, and then kept: a layer that is already in the store never needs its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.errors import ImageError
from vecache.text import html_table
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from vecache.image.toc import TocReader
    from vecache.toc.files import TocFormat

__all__ = ["Image", "ImageLayer"]


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
        What reads the TOC; None if the layer has none and is pulled whole.
    """

    blob: str
    blob_bytes: int
    diff_id: str
    reader: TocReader | None = None

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
        return self.reader.n_requests if self.reader else 0

    @cached_property
    def toc_offset(self) -> int:
        """The TOC's own offset in the blob; -1 if there is no TOC. eStargz: reads the footer."""
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
            Read when it is first asked for, and kept.

        Raises
        ------
        ImageError
            If the layer has none, or it cannot be read.
        TocError
            If it is not what its digest promised, or breaks a rule.
        """
        if self.reader is None:
            raise ImageError(f"layer {self.blob}: has no table of contents, it is pulled whole")
        return Toc.parse(self.reader.read(), path=f"layer {self.blob}")

    def __repr__(self) -> str:
        toc = f"{self.toc_format} TOC" if self.toc_format else "no TOC"
        return f"<ImageLayer {self.blob[:19]}: {self.blob_bytes:,} bytes, {toc}>"


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """One image.

    Attributes
    ----------
    reference : str
        As the caller named it.
    name : str
        The image's name where it was found: a tag, a name in a registry or store, a folder.
    digest : str
        Of its manifest.
    layers : tuple of ImageLayer
        From the bottom up.
    """

    reference: str
    name: str
    digest: str
    layers: tuple[ImageLayer, ...]

    @property
    def blob_bytes(self) -> int:
        """Bytes of all layers, compressed."""
        return sum(layer.blob_bytes for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        n_tocs = sum(layer.reader is not None for layer in self.layers)
        return (
            f"<Image {self.reference}: {len(self)} layers, {n_tocs} with a TOC, "
            f"{self.blob_bytes:,} bytes>"
        )

    def _repr_html_(self) -> str:
        rows = (
            (layer.blob[:19], layer.blob_bytes, str(layer.toc_format or "none"))
            for layer in self.layers
        )
        caption = f"{self.reference}: {len(self)} layers, {self.blob_bytes:,} bytes"
        return html_table(caption, ("layer", "bytes", "TOC"), rows, n_rows=len(self))
