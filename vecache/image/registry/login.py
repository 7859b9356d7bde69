"""Answers to the login challenges of a registry: from `WWW-Authenticate` to `Authorization`.

Nothing is sent before a server asks, and credentials are looked for only then, since a helper may
be slow. `Basic` sends the user's name and password. `Bearer` first fetches a token from the server
that the challenge names: with name and password, with an identity token, or anonymously.
Credentials and tokens never appear in a message.

Source: containers/image docker/docker_client.go getBearerToken, getBearerTokenOAuth2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import parse_http_list

from vecache.errors import RegistryError
from vecache.image.registry.access import Credentials
from vecache.image.registry.urls import parse_origin, show_url
from vecache.json_fields import parse_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vecache.image.registry.http import Deadline, HttpClient, Response

__all__ = ["Login", "parse_challenges"]

_MAX_TOKEN_BYTES = 1 << 20  # upstream: iolimits.MaxAuthTokenBodySize
_MAX_CHALLENGE_CHARACTERS = 1 << 16  # of all headers, each 1 us
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_ITEM = re.compile(rf"(?:({_TOKEN})(?:\s+|$))?(?:({_TOKEN})\s*=\s*(.*))?", re.DOTALL)


@dataclass(slots=True)
class Login:
    """The login of one client to one registry, shared by its threads."""

    http: HttpClient
    find_credentials: Callable[[], Credentials | None]  # called once, when a server asks
    scope: str  # requested where the challenge names none
    is_plain_allowed: bool = False  # whether secrets may go over plain http
    _authorization: str = field(default="", repr=False)
    _credentials: Credentials | None = None  # not looked for yet
    _lock: Lock = field(default_factory=Lock, repr=False)

    def headers(self) -> dict[str, str]:
        """Return the headers that authorize a request, as far as known."""
        authorization = self._authorization
        return {"Authorization": authorization} if authorization else {}

    def respond(
        self, url: str, challenges: Iterable[str], sent: dict[str, str], deadline: Deadline
    ) -> None:
        """Log in, after a request to `url` with `sent`, which were `headers`, was answered 401."""
        with self._lock:
            if self.headers() != sent:
                return  # another thread has logged in since
            if self._credentials is None:
                self._credentials = self.find_credentials() or Credentials("", "")
            known = parse_challenges(_bounded(challenges, url))
            if "bearer" in known:
                token = self._fetch_token(url, known["bearer"], self._credentials, deadline)
                self._authorization = f"Bearer {token}"
            elif "basic" not in known:
                raise RegistryError(f"{show_url(url)}: needs a login, but not Basic or Bearer")
            elif not self._credentials.username:
                host = urlsplit(url).netloc
                raise RegistryError(f"{show_url(url)}: needs a login; run podman login {host}")
            else:
                self._require_secure(url)
                self._authorization = self._credentials.basic_header()

    def text(self) -> str:
        """Return which login is used and where it is from; empty if there is none."""
        credentials = self._credentials
        return str(credentials) if credentials is not None and credentials.source else ""

    def _fetch_token(
        self, url: str, challenge: dict[str, str], credentials: Credentials, deadline: Deadline
    ) -> str:
        realm = challenge.get("realm", "")
        where = show_url(realm)
        if parse_origin(realm) is None:
            raise RegistryError(f"{show_url(url)}: its token server is not an http or https URL")
        if credentials.username or credentials.identity_token:
            self._require_secure(realm)
        query = {"scope": challenge.get("scope") or self.scope}
        if challenge.get("service"):
            query["service"] = challenge["service"]
        with self._request_token(realm, query, credentials, deadline) as response:
            response.require_usable()
            if response.status != 200:
                refused = f"; {text} was refused" if (text := self.text()) else ""
                raise RegistryError(f"{where}: sent no token, status {response.status}{refused}")
            data = response.read(_MAX_TOKEN_BYTES + 1)
        if len(data) > _MAX_TOKEN_BYTES:
            raise RegistryError(f"{where}: a token of more than {_MAX_TOKEN_BYTES:,} bytes")
        fields = parse_fields(data, f"answer of {where}", RegistryError)
        token = fields.text("token", "") or fields.text("access_token", "")
        if not token or not all("!" <= character <= "~" for character in token):
            raise RegistryError(f"{where}: sent no usable token")
        return token

    def _request_token(
        self, realm: str, query: dict[str, str], credentials: Credentials, deadline: Deadline
    ) -> Response:
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "vecache",
                **query,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self.http.request("POST", realm, headers, deadline, urlencode(form))
        headers = {}
        if credentials.username:
            headers["Authorization"] = credentials.basic_header()
            query = {"account": credentials.username, **query}
        base, _, old = realm.partition("#")[0].partition("?")
        return self.http.get(
            f"{base}?{urlencode([*parse_qsl(old), *query.items()])}", headers, deadline
        )

    def _require_secure(self, url: str) -> None:
        if not url.lower().startswith("https:") and not self.is_plain_allowed:
            raise RegistryError(f"{show_url(url)}: plain http, no credentials are sent there")


def _bounded(challenges: Iterable[str], url: str) -> tuple[str, ...]:
    """Return the headers, unless they are longer than any that a registry sends."""
    challenges = tuple(challenges)
    n_characters = sum(map(len, challenges))
    if n_characters > _MAX_CHALLENGE_CHARACTERS:
        raise RegistryError(
            f"{show_url(url)}: found {n_characters:,} characters of WWW-Authenticate, "
            f"wanted at most {_MAX_CHALLENGE_CHARACTERS:,}"
        )
    return challenges


def parse_challenges(headers: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read `WWW-Authenticate` headers: the parameters of each scheme, names in lower case.

    One header may hold several challenges. Of what is repeated the first counts. `parse_keqv_list`
    is of no use for a header from outside: it fails on `x=` and on an item without `=`.
    Source: RFC 9110 section 11.6.1.

    Examples
    --------
    >>> parse_challenges(['Bearer realm="https://a/t", service=b, Basic realm="c"'])
    {'bearer': {'realm': 'https://a/t', 'service': 'b'}, 'basic': {'realm': 'c'}}
    """
    challenges: dict[str, dict[str, str]] = {}
    for header in headers:
        parameters: dict[str, str] = {}
        for item in parse_http_list(header):
            match = _ITEM.fullmatch(item)
            if match is None:
                continue
            scheme, name, value = match.groups()
            if scheme:
                parameters = {}
                challenges.setdefault(scheme.lower(), parameters)
            if name and value[:1] != '"':
                parameters.setdefault(name.lower(), value)
            elif name and value[1:].endswith('"'):
                parameters.setdefault(name.lower(), value[1:-1])
    return challenges
