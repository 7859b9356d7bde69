"""What does a server want before it answers? The `WWW-Authenticate` header.

    Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"
    Basic realm="Registry"

One header may hold several challenges, and there may be several headers. Values are tokens or
quoted texts with back-slash escapes.

Source: RFC 9110 section 11.6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Challenge", "parse_challenges"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(
    rf'[\s,]*(?:(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_TOKEN}))'
    rf"|(?P<scheme>{_TOKEN})(?=[\s,]|$))"
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be let in.

    Attributes
    ----------
    scheme : str
        In small letters: `bearer`, `basic`.
    parameters : dict of str to str
        Names in small letters.
    """

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read all challenges of an answer.

    Parameters
    ----------
    headers : iterable of str
        Each `WWW-Authenticate` header.

    Returns
    -------
    list of Challenge
        In their order; what cannot be understood ends the header it stands in.

    Examples
    --------
    >>> parse_challenges(['Bearer realm="https://a/t", service=b, Basic realm="c"'])[0].parameters
    {'realm': 'https://a/t', 'service': 'b'}
    """
    challenges: list[Challenge] = []
    for header in headers:
        position, first = 0, len(challenges)
        while match := _PART.match(header, position):
            position = match.end()
            if match["scheme"]:
                challenges.append(Challenge(match["scheme"].lower(), {}))
            elif len(challenges) > first:
                quoted = match["quoted"]
                value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                challenges[-1].parameters.setdefault(match["name"].lower(), value)
    return challenges
