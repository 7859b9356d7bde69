"""A part of a blob from an answer to `Range: bytes=a-b`, whatever the server made of it.

A server that knows ranges answers 206 and says which range it sends. One that does not may
answer 200 with the whole blob: then the part is read from the stream and the rest is left alone,
if not too much comes before it. One that refuses ranges (400, 501) is asked once more for the
whole blob, on the same terms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.errors import RegistryError
from vecache.image.registry.retry import InterruptedRequestError
from vecache.image.registry.status import raise_for_status
from vecache.image.registry.wire import show_url

if TYPE_CHECKING:
    from vecache.image.registry.wire import Answer

__all__ = ["MAX_WHOLE_BYTES", "ByteRange", "require_small_blob"]

MAX_WHOLE_BYTES = 64 << 20
"""Most bytes to read of a blob for a part of it, where a server knows no ranges."""

_REFUSALS = (400, 501)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|\*)")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a blob.

    Attributes
    ----------
    offset, n_bytes : int
        First byte, and how many, from 1.
    blob_bytes : int
        Size of the blob, as the manifest says.
    what : str
        The blob, for messages.
    """

    offset: int
    n_bytes: int
    blob_bytes: int
    what: str

    @property
    def header(self) -> dict[str, str]:
        """The request's header."""
        return {"Range": f"bytes={self.offset}-{self.offset + self.n_bytes - 1}"}

    def read(self, answer: Answer) -> bytes | None:
        """Take the part out of an answer.

        Parameters
        ----------
        answer : Answer
            To a request with `header`, or for the whole blob.

        Returns
        -------
        bytes or None
            Exactly `n_bytes`; None if the server refuses ranges.

        Raises
        ------
        RegistryError
            If it answered something else, or too much would have to be read.
        InterruptedRequestError
            If the body is too short.
        """
        if answer.status == 206:
            self._require_range(answer)
        elif answer.status == 200:
            self._require_whole(answer)
            answer.skip(self.offset)
        elif answer.status in _REFUSALS:
            return None
        elif answer.status == 416:
            raise RegistryError(
                f"{self.what}: the registry says that its blob has no "
                f"{self.header['Range']}, the manifest says that it has {self.blob_bytes:,} bytes; "
                "the copy there is damaged"
            )
        else:
            raise_for_status(answer, self.what)
        data = answer.read(self.n_bytes)
        if len(data) != self.n_bytes:
            raise InterruptedRequestError(f"{len(data):,} bytes, wanted {self.n_bytes:,}")
        return data

    def _require_range(self, answer: Answer) -> None:
        found = answer.header("Content-Range") or ""
        match = _CONTENT_RANGE.fullmatch(found.strip())
        wanted = (self.offset, self.offset + self.n_bytes - 1)
        is_right = match is not None and (int(match[1]), int(match[2])) == wanted
        is_right &= match is None or match[3] is None or int(match[3]) == self.blob_bytes
        if not is_right:
            raise RegistryError(
                f"{self.what}: asked for {self.header['Range']} of {self.blob_bytes:,}, the answer "
                f"says {found[:80] or 'nothing'!r}; asked {show_url(answer.url)}"
            )

    def _require_whole(self, answer: Answer) -> None:
        require_small_blob(self.what, self.offset + self.n_bytes)
        length = answer.header("Content-Length")
        if length is not None and length.strip() != str(self.blob_bytes):
            raise RegistryError(
                f"{self.what}: the registry sends {length[:20]!r} bytes, "
                f"the manifest says {self.blob_bytes:,}; the copy there is damaged"
            )


def require_small_blob(what: str, n_bytes: int) -> None:
    """Raise RegistryError if that is too much to read for a TOC."""
    if n_bytes > MAX_WHOLE_BYTES:
        raise RegistryError(
            f"{what}: the registry knows no byte ranges, and {n_bytes:,} bytes are too many to "
            "read for a table of contents; copy the image first: skopeo copy docker://... oci:DIR"
        )
