"""Say in words what a status other than success means.

A registry explains itself with a JSON body of codes. Only the codes are shown: free text from a
server could hold anything, the request's own secrets included.

Source: opencontainers/distribution-spec spec.md "Error Codes".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vecache.errors import ImageNotFoundError, RegistryError, VecacheError
from vecache.image.fields import parse_fields
from vecache.image.registry.retry import InterruptedRequestError, parse_retry_after
from vecache.image.registry.wire import show_url

if TYPE_CHECKING:
    from vecache.image.registry.wire import Answer

__all__ = ["raise_for_status", "raise_if_busy", "require_plain"]

_MAX_ERROR_BYTES = 1 << 16
_BUSY = (429, 500, 502, 503, 504)


def raise_if_busy(answer: Answer) -> None:
    """Raise InterruptedRequestError if the server may answer better the next time."""
    if answer.status in _BUSY:
        wait = parse_retry_after(answer.header("Retry-After"), answer.deadline.clock.wall())
        name = "too many requests" if answer.status == 429 else "the server failed"
        raise InterruptedRequestError(f"{name}, status {answer.status}", wait)


def require_plain(answer: Answer) -> None:
    """Raise RegistryError if the body is a web page, or compressed, which nobody asked for."""
    where = show_url(answer.url)
    kind = (answer.header("Content-Type") or "").lower()
    if kind.startswith(("text/html", "application/xhtml")):
        raise RegistryError(f"{where}: answered with a web page; this is no registry, or a login")
    encoding = (answer.header("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise RegistryError(f"{where}: answered in the encoding {encoding[:20]!r}, not asked for")


def raise_for_status(answer: Answer, what: str) -> None:
    """Explain a status that is no success.

    Parameters
    ----------
    answer : Answer
        Its status is not 2xx; some of its body is read.
    what : str
        What was asked for.

    Raises
    ------
    ImageNotFoundError
        For 404.
    RegistryError
        For all others.
    """
    codes = _error_codes(answer)
    told = f" ({', '.join(codes)})" if codes else ""
    where = show_url(answer.url)
    if answer.status == 404:
        raise ImageNotFoundError(f"{what}: the registry has none{told}; asked {where}")
    if answer.status in (401, 403):
        raise RegistryError(
            f"{what}: not allowed, status {answer.status}{told}; asked {where}; there is no such "
            "image, or a login is needed: podman login"
        )
    raise RegistryError(f"{what}: status {answer.status}{told}; asked {where}")


def _error_codes(answer: Answer) -> list[str]:
    try:
        errors = parse_fields(answer.read(_MAX_ERROR_BYTES), "error").objects("errors")
        codes = [error.text("code", "") for error in errors[:5]]
    except (VecacheError, InterruptedRequestError):
        return []
    return [code for code in codes if re.fullmatch(r"[A-Z][A-Z0-9_]{1,40}", code)]
