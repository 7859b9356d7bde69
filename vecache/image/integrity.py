"""Say whether bytes are those that a digest promised.

Everything an image is made of is named by its digest. Bytes are hashed before anybody parses
them, whatever a server or a file name says they are.
"""

from __future__ import annotations

import hashlib
import re

from vecache.digest import WANTED_DIGEST
from vecache.errors import DigestError

__all__ = ["check_digest", "is_digest", "parse_digest"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


def is_digest(text: str) -> bool:
    """Tell whether a text is a digest of a known algorithm.

    Parameters
    ----------
    text : str
        Anything.

    Returns
    -------
    bool
        Whether it is `sha256:`, `sha384:` or `sha512:` and all of its hex.

    Examples
    --------
    >>> is_digest("sha256:" + "0" * 64), is_digest("sha256:" + "A" * 64)
    (True, False)
    """
    return _DIGEST.fullmatch(text) is not None


def parse_digest(text: str, where: str) -> str:
    """Give a digest back if it is one; it is then also safe as a file name or in a URL.

    Parameters
    ----------
    text : str
        What should be a digest.
    where : str
        The document and field, for the message.

    Returns
    -------
    str
        The same text.

    Raises
    ------
    DigestError
        If it is no digest.
    """
    if not is_digest(text):
        raise DigestError(f"{where}: {text[:100]!r} is not a digest; {WANTED_DIGEST}")
    return text


def check_digest(
    data: bytes, digest: str, where: str, error: type[Exception] = DigestError
) -> None:
    """Hash bytes and compare.

    Parameters
    ----------
    data : bytes
        What was read.
    digest : str
        A valid digest.
    where : str
        What was read, for the message.
    error : type of exception
        What to raise; takes one message.

    Raises
    ------
    DigestError
        (or `error`) if they differ.
    """
    algorithm = digest.partition(":")[0]
    found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    if found != digest:
        raise error(
            f"{where}: its {len(data):,} bytes have the digest {found}, wanted {digest}; "
            "the copy is damaged or was changed, fetch it again"
        )
