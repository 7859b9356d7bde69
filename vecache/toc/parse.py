"""Parse a table of contents: from the bytes of its JSON to columns.

1. Refuse a document that is larger than containers/storage accepts, or holds too many values.
2. `fast` parses documents as writers lay them out; `exact` parses all others as Go does.
3. `columns` fills in defaults, codes and digests, and checks times, the same for both.

About 3 ms a megabyte for the first kind, 22 for the other, in one thread (Python 3.11, numpy 2.4,
pyarrow 26). Two threads over pieces of a document gain nothing: the numpy calls are too short.

Nothing here compares a TOC with its digest: the code that fetches it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecache.arrays import ArrowExport
from vecache.errors import TocError
from vecache.text import describe_content, html_table
from vecache.toc.columns import build_entries
from vecache.toc.exact import parse_exact
from vecache.toc.fast import parse_fast
from vecache.toc.layout import MAX_TOC_BYTES

if TYPE_CHECKING:
    import os

    from vecache.toc.entries import Entries

__all__ = ["MAX_TOC_BYTES", "Toc"]

# A few kilobytes may be decompressed to a document of nothing but small values, each of which takes
# far more time and memory than its bytes. In a real TOC there are some 30 bytes a value, 300 an
# entry, next to no escapes, and no null.
_FREE_COUNT = 1_000_000  # a document may have as many of each, whatever its size
_LIMITS = (
    ("objects, arrays and nulls", (b"{", b"[", b"null"), 200),
    ("values", (b",",), 16),
    ("escapes", (b"\\",), 256),
)  # what is counted, the bytes that mark it, and how many bytes a document must have for one more


@dataclass(frozen=True, slots=True, repr=False)
class Toc(ArrowExport):
    """The table of contents (TOC) of one layer. Created by `parse`.

    Attributes
    ----------
    entries : Entries
        Columns with one row an entry, in TOC order. `len(entries)` is the number of entries.
    version : int
        The TOC's `version`, or 0; containers/storage ignores it.
    tar_split_digest : str or None
        Digest of the layer's tar-split data, if the TOC has one.
    n_bytes : int
        Length of the document in bytes.

    Examples
    --------
    >>> import vecache
    >>> layer = vecache.LayersCache.load(vecache.open_sample()).layers[0]
    >>> toc = vecache.Toc.parse(layer.record.big_data_path("zstd-chunked-manifest").read_bytes())
    >>> toc
    <Toc: 376 entries, 141 files, 64,792 bytes of JSON>
    >>> toc.to_arrow()["name"][2:4].to_pylist(), toc.entries.size[2:4].tolist()
    (['etc/empty0', 'etc/empty1'], [0, 0])
    """

    entries: Entries
    version: int
    tar_split_digest: str | None
    n_bytes: int

    @classmethod
    def parse(cls, data: bytes | memoryview, *, path: str | os.PathLike[str] | None = None) -> Toc:
        """Parse the JSON of a TOC.

        Parameters
        ----------
        data : bytes or memoryview
            The whole document, uncompressed.
        path : str or os.PathLike, optional
            Where it comes from, for messages.

        Returns
        -------
        Toc
            Its entries and its other fields.

        Raises
        ------
        TocError
            If containers/storage would refuse it, if it is not JSON, or if it is over 150 MiB.
        TypeError
            If `data` is not bytes.

        Examples
        --------
        >>> Toc.parse(b'{"version":1,"entries":[{"type":"dir","name":"etc/"}]}')
        <Toc: 1 entries, 0 files, 54 bytes of JSON>
        """
        if not isinstance(data, bytes | memoryview):
            raise TypeError(f"a TOC: found {type(data).__name__}, wanted the bytes of its JSON")
        data = bytes(data)
        try:
            _check_size(data)
            parsed = parse_fast(data) or parse_exact(data)
            entries = build_entries(parsed)
        except TocError as error:
            where = "" if path is None else f"{path}: "
            reason = f"TOC: {error}"
            if not data[:64].lstrip().startswith(b"{") and str(error).startswith("not JSON"):
                reason = f"not a TOC: {describe_content(data[:512])}"
            raise TocError(f"{where}{reason}") from None
        digests = parsed.tar_split_digests
        tar_split_digest = digests[-1].decode("ascii") if digests else None
        return cls(entries, parsed.version, tar_split_digest, len(data))

    def to_arrow(self) -> Any:
        r"""Export the entries.

        Returns
        -------
        pyarrow.Table
            One row an entry, in TOC order: `kind`, `name`, `link_name`, `mode`, `uid`, `gid`,
            `size`, `digest`, `chunk_offset`, `chunk_size`, `chunk_kind`, `chunk_digest`, and
            `offset` and `end_offset` in the compressed blob. What the TOC lacks is as
            containers/storage takes it to be: a number 0, a text null, the digest of an empty file
            that of nothing. Bytes that are not UTF-8 are `\xNN`.
        """
        return self.entries.to_arrow()

    @property
    def is_blank(self) -> bool:
        """Whether it has neither a version nor entries, which no TOC is without but other JSON."""
        return not (self.version or len(self.entries))

    def __repr__(self) -> str:
        return (
            f"<Toc: {len(self.entries):,} entries, {self.entries.n_files:,} files, "
            f"{self.n_bytes:,} bytes of JSON>"
        )

    def _repr_html_(self) -> str:
        rows = (
            ("entries", len(self.entries)),
            ("files", self.entries.n_files),
            ("bytes in files", int(self.entries.size.sum())),
            ("bytes of JSON", self.n_bytes),
        )
        return html_table("TOC", (), rows)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_TOC_BYTES:
        raise TocError(f"found {len(data):,} bytes, wanted at most {MAX_TOC_BYTES:,}")
    for what, marks, n_bytes in _LIMITS:
        found = sum(data.count(mark) for mark in marks)
        limit = _FREE_COUNT + len(data) // n_bytes
        if found > limit:
            raise TocError(f"found {found:,} {what}, wanted at most {limit:,} in so few bytes")
