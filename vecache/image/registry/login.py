"""What does a server want before it answers? The `WWW-Authenticate` header.

    Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"
    Basic realm="Registry"

One header may hold several challenges, and there may be several headers. Values are tokens or
quoted texts with back-slash escapes.

Source: RFC 9110 section 11.6.1.

Being let in: from a server's challenge to the `Authorization` header that answers it.

Nothing is sent before a server asks, and credentials are looked for only then, since a helper may
be slow. `Basic` sends the user's name and password. `Bearer` first fetches a token from the server
that the challenge names, with the user's name and password, with an identity token, or as nobody.

Credentials and tokens never appear in a message.

Source: containers/image docker/docker_client.go getBearerToken, getBearerTokenOAuth2.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from vecache.errors import RegistryError
from vecache.image.registry.http import raise_if_busy, show_url
from vecache.json_fields import parse_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.image.registry.auth import Credentials
    from vecache.image.registry.http import Answer, Deadline, Wire

__all__ = ["Challenge", "Login", "parse_challenges"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(
    rf'[\s,]*(?:(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_TOKEN}))'
    rf"|(?P<scheme>{_TOKEN})(?=[\s,]|$))"
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be let in."""

    scheme: str  # in small letters: `bearer`, `basic`
    parameters: dict[str, str]  # names in small letters


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read all challenges of an answer.

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


_MAX_TOKEN_BYTES = 1 << 20  # upstream: iolimits.MaxAuthTokenBodySize
_CLIENT_ID = "vecache"


@dataclass(slots=True)
class Login:
    """How one client is let in by one registry."""

    wire: Wire  # to fetch tokens with
    # looks for the user's credentials; called once, when a server asks
    find_credentials: Callable[[], Credentials | None]
    scope: str  # what to ask for where the challenge does not say
    is_plain_allowed: bool = False  # whether secrets may go over plain http
    _header: str = ""
    _credentials: Credentials | None = None
    _has_looked: bool = False

    def headers(self) -> dict[str, str]:
        """Give the headers that let a request in, as far as known."""
        return {"Authorization": self._header} if self._header else {}

    def respond(self, url: str, challenges: Iterable[str], deadline: Deadline) -> None:
        """Answer a challenge, so that `headers` lets the next request in."""
        known = {each.scheme: each.parameters for each in reversed(parse_challenges(challenges))}
        if not self._has_looked:
            self._credentials = self.find_credentials()
            self._has_looked = True
        if "bearer" in known:
            self._header = f"Bearer {self._fetch_token(url, known['bearer'], deadline)}"
        elif "basic" not in known:
            raise RegistryError(f"{show_url(url)}: wants a login, but not Basic or Bearer")
        elif self._credentials is None or not self._credentials.username:
            host = urlsplit(url).netloc
            raise RegistryError(f"{show_url(url)}: wants a login; run podman login {host}")
        else:
            self._require_secure(url)
            self._header = _basic(self._credentials)

    def _fetch_token(self, url: str, challenge: dict[str, str], deadline: Deadline) -> str:
        realm = challenge.get("realm", "")
        try:
            parts = urlsplit(realm)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_url = False
        if not is_url:
            raise RegistryError(f"{show_url(url)}: its token server is no http or https URL")
        if self._credentials is not None:
            self._require_secure(realm)
        wanted = {"scope": challenge.get("scope") or self.scope}
        if challenge.get("service"):
            wanted["service"] = challenge["service"]
        with self._ask(realm, wanted, deadline) as answer:
            raise_if_busy(answer)
            if answer.status != 200:
                raise RegistryError(
                    f"{show_url(realm)}: gave no token, status {answer.status}; "
                    f"is the login for {urlsplit(url).netloc} still right?"
                )
            data = answer.read(_MAX_TOKEN_BYTES + 1)
        return _parse_token(data, show_url(realm))

    def _ask(self, realm: str, wanted: dict[str, str], deadline: Deadline) -> Answer:
        credentials = self._credentials
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": _CLIENT_ID,
                **wanted,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self.wire.ask("POST", realm, headers, deadline, urlencode(form))
        headers = {}
        if credentials is not None and credentials.username:
            headers["Authorization"] = _basic(credentials)
            wanted = {"account": credentials.username, **wanted}
        parts = urlsplit(realm)
        query = urlencode([*parse_qsl(parts.query), *wanted.items()])
        return self.wire.get(parts._replace(query=query).geturl(), headers, deadline)

    def _require_secure(self, url: str) -> None:
        if urlsplit(url).scheme != "https" and not self.is_plain_allowed:
            raise RegistryError(f"{show_url(url)}: plain http, no credentials are sent there")


def _basic(credentials: Credentials) -> str:
    text = f"{credentials.username}:{credentials.password}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def _parse_token(data: bytes, where: str) -> str:
    if len(data) > _MAX_TOKEN_BYTES:
        raise RegistryError(f"{where}: a token of more than {_MAX_TOKEN_BYTES:,} bytes")
    answer = parse_fields(data, f"answer of {where}", RegistryError)
    token = answer.text("token", "") or answer.text("access_token", "")
    if not token or not all("!" <= character <= "~" for character in token):
        raise RegistryError(f"{where}: gave no token that can be sent")
    return token
