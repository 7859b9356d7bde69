"""HTTP requests to registries: urllib3, with a deadline, retries and errors without secrets.

`HttpClient` sends requests, `Response` is read in bounded pieces, `RetryPolicy` repeats what ends
in a `RetryableError`. The deadline covers all attempts and the body, and does not depend on what a
server sends: it shuts the connection down (`connections.py`).

Redirects are followed here, hop by hop. urllib3's own loop (2.8, `PoolManager.urlopen`) reads the
body of a redirect to its end, without a limit or a deadline, and uses the certificates and the
proxy of the first host for all others.
"""

from __future__ import annotations

import os.path
import re
import time
from dataclasses import dataclass, field
from http.client import IncompleteRead
from threading import Lock
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urljoin

import urllib3

from vecache.errors import ImageNotFoundError, RegistryError, VecacheError
from vecache.image.registry.connections import Watch, open_manager, watching
from vecache.image.registry.urls import find_proxy, parse_origin, show_url
from vecache.json_fields import parse_fields
from vecache.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vecache.errors import ImageError

__all__ = [
    "Deadline",
    "HttpClient",
    "PlainTextError",
    "Response",
    "RetryPolicy",
    "RetryableError",
]

T = TypeVar("T")

_MAX_REDIRECTS = 5
_CONNECT_SECONDS = 15.0
_READ_SECONDS = 60.0  # between two packets
_HEADER_SECONDS = _CONNECT_SECONDS + _READ_SECONDS  # until all headers of a response are there
_PIECE_BYTES = 1 << 16  # read at once, and of an error's body in all
_BUSY = (429, 500, 502, 503, 504)
_FAILURES = (urllib3.exceptions.HTTPError, OSError, ValueError)  # what urllib3 raises
# What OpenSSL says of bytes that are not TLS, depending on its version.
_NOT_TLS = ("wrong version number", "unknown protocol", "record layer failure")


class RetryableError(Exception):
    """A request failed in a way that may not happen again; never leaves this package."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  # seconds that the server asks for


class PlainTextError(RegistryError):
    """A server answered a TLS handshake with something that is not TLS."""


@dataclass(frozen=True)
class HttpClient:
    """Send requests to any host, from any thread."""

    # `certs.d` folders; HOST:PORT in the first that has it is used.
    # Source: containers/image docker/docker_client.go dockerCertDir, pkg/tlsclientconfig.
    certificates: tuple[Path, ...]
    cert_dir: Path | None = None  # in place of these
    host: str = ""  # the registry, the only one that gets the client's certificate in `cert_dir`
    tls_verify: bool = True
    _managers: dict[tuple[str | None, bool, str | None], urllib3.PoolManager] = field(
        default_factory=dict, repr=False
    )
    _lock: Lock = field(default_factory=Lock, repr=False)

    def get(self, url: str, headers: Mapping[str, str], deadline: Deadline) -> Response:
        """Send a GET request and follow redirects; `Authorization` stays with the origin."""
        sent = dict(headers)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self.request("GET", url, sent, deadline)
            location = response.raw.get_redirect_location()
            if location is False:  # not a redirect; None is one without a Location
                return response
            response.close()  # unread: the body of a redirect may be endless
            target = self._redirect_target(url, location)
            if parse_origin(target) != parse_origin(url):
                sent.pop("Authorization", None)
            url = target
        raise RegistryError(f"{show_url(url)}: more than {_MAX_REDIRECTS} redirects")

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        deadline: Deadline,
        body: str | None = None,
    ) -> Response:
        """Send one request and read the headers of its response."""
        where = show_url(url)
        if parse_origin(url) is None:
            raise RegistryError(f"{where}: not a valid http or https URL")
        deadline.check(where)
        manager = self._manager(url)  # not below: its errors are ValueErrors too
        watch = Watch(min(_HEADER_SECONDS, deadline.left()))
        try:
            with watching(watch), waiting(f"an answer of {_host(url)}"):
                raw = manager.urlopen(
                    method,
                    url,
                    headers={"Accept-Encoding": "identity", "User-Agent": "vecache", **headers},
                    body=body,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(
                        connect=min(_CONNECT_SECONDS, deadline.left()),
                        read=min(_READ_SECONDS, deadline.left()),
                    ),
                )
            watch.restart(deadline.left())
        except BaseException as error:
            watch.close()
            if not isinstance(error, _FAILURES) or isinstance(error, RegistryError):
                raise
            deadline.check(where)
            raise self._request_error(TimeoutError() if watch.is_over else error, where) from error
        return Response(url, raw, deadline, watch)

    def _request_error(self, error: Exception, where: str) -> Exception:
        """Return what to raise where a request fails before its deadline."""
        if isinstance(error, urllib3.exceptions.SSLError):
            return self._tls_error(error, where)
        if isinstance(error, (urllib3.exceptions.LocationParseError, UnicodeError)):
            return RegistryError(f"{where}: not a valid host name")
        through = (
            error.original_error if isinstance(error, urllib3.exceptions.ProxyError) else error
        )
        if isinstance(through, urllib3.exceptions.NameResolutionError):
            name = "host name" if through is error else "name of the proxy"
            advice = "check it, and the network"
            return RegistryError(f"{where}: the {name} cannot be resolved; {advice}")
        return RetryableError(_explain(error))

    def _redirect_target(self, url: str, location: str | None) -> str:
        where = show_url(url)
        if not location:
            raise RegistryError(f"{where}: a redirect without a Location")
        try:
            target = urljoin(url, location)
        except ValueError:
            target = ""
        origin = parse_origin(target)
        if origin is None:
            raise RegistryError(f"{where}: redirects to something that is not an http or https URL")
        if self.tls_verify and origin[0] == "http" and url.startswith("https:"):
            raise RegistryError(f"{where}: redirects from https to plain http, not followed")
        return target

    def _manager(self, url: str) -> urllib3.PoolManager:
        host = url.partition("://")[2].partition("/")[0]
        folders = (os.path.join(folder, host) for folder in self.certificates)
        folder = next(filter(os.path.isdir, folders), None)
        is_own = self.cert_dir is None or parse_origin(url) == parse_origin(f"https://{self.host}")
        key = folder if self.cert_dir is None else str(self.cert_dir), is_own, find_proxy(url)
        with self._lock:
            if key not in self._managers:
                folder, is_own, proxy = key
                self._managers[key] = open_manager(
                    folder, proxy, with_client=is_own, tls_verify=self.tls_verify
                )
            return self._managers[key]

    def _tls_error(self, error: urllib3.exceptions.SSLError, where: str) -> RegistryError:
        cause = error.args[0]
        reason = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
        message = f"{where}: TLS failed: {reason or 'unknown reason'}"
        if self.tls_verify:
            message += (
                "; for a registry with its own certificate put that into certs.d, "
                "for one without TLS turn tls_verify off (--tls-verify=false)"
            )
        text = str(cause).lower().replace("_", " ")
        kind = PlainTextError if any(words in text for words in _NOT_TLS) else RegistryError
        return kind(message)


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body has not been read yet; use it in a `with`."""

    url: str  # after redirects
    raw: urllib3.BaseHTTPResponse
    deadline: Deadline
    watch: Watch
    login: str = ""  # which one was sent, for messages

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.raw.status

    def header(self, name: str) -> str:
        """Return a header, or an empty string."""
        return self.raw.headers.get(name, "").strip()

    def read(self, n_bytes: int, offset: int = 0) -> bytes:
        """Discard `offset` bytes of the body and read `n_bytes`, or fewer at its end."""
        with waiting(f"data of {_host(self.url)}"):
            return self._read(n_bytes, offset)

    def _read(self, n_bytes: int, offset: int) -> bytes:
        pieces = []
        n_left = offset + n_bytes
        while n_left:
            self.deadline.check(show_url(self.url))
            try:
                piece = self.raw.read1(min(n_left, _PIECE_BYTES), decode_content=False)
            except _FAILURES as error:
                self._require_time()
                raise RetryableError(_explain(error)) from error
            if not piece:
                self._require_time()  # a body of unknown length only seems complete
                break
            pieces.append(piece[offset:])
            offset = max(0, offset - len(piece))
            n_left -= len(piece)
        return b"".join(pieces)

    def _require_time(self) -> None:
        """Raise an error if the connection was shut down."""
        self.deadline.check(show_url(self.url))
        if self.watch.is_over:
            raise RetryableError(_explain(TimeoutError()))

    def require_usable(self) -> None:
        """Raise RetryableError if the server is busy, RegistryError for a web page."""
        if self.status in _BUSY:
            name = "too many requests" if self.status == 429 else "the server failed"
            wait = parse_retry_after(self.header("Retry-After"))
            raise RetryableError(f"{name}, status {self.status}", wait)
        if self.status >= 300:
            return
        where = show_url(self.url)
        if self.header("Content-Type").lower().startswith(("text/html", "application/xhtml")):
            raise RegistryError(f"{where}: answered with a web page; not a registry, or a login")
        encoding = self.header("Content-Encoding").lower()
        if encoding not in ("", "identity"):
            raise RegistryError(f"{where}: sent in the encoding {encoding[:20]!r}, not asked for")

    def error(self, what: str) -> ImageError:
        """Return the error for a status that is not a success, with the registry's error codes."""
        # Only codes are shown: free text of a server could quote the secrets of the request.
        # Source: opencontainers/distribution-spec spec.md "Error Codes".
        try:
            document = parse_fields(self.read(_PIECE_BYTES), "error", RegistryError)
            codes = [each.text("code", "") for each in document.objects("errors")[:5]]
        except (VecacheError, RetryableError):
            codes = []
        shown = ", ".join(code for code in codes if re.fullmatch(r"[A-Z][A-Z0-9_]{1,40}", code))
        shown = (f" ({shown})" if shown else "") + f"; requested {show_url(self.url)}"
        if self.status == 404:
            return ImageNotFoundError(f"{what}: not found in the registry{shown}")
        if self.status not in (401, 403):
            return RegistryError(f"{what}: status {self.status}{shown}")
        advice = "there is no such image, or it needs a login: podman login"
        if self.login:
            advice = f"there is no such image, or {self.login} is wrong or does not allow it"
        return RegistryError(f"{what}: not allowed, status {self.status}{shown}; {advice}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the request; its connection is used again if the body was read to its end."""
        self.raw.close()
        self.watch.close()


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time at which a request and all its attempts must be over."""

    now: Callable[[], float]
    end: float

    def left(self) -> float:
        """Return the seconds left, negative when it is past."""
        return self.end - self.now()

    def check(self, where: str) -> None:
        """Raise RegistryError if it is past."""
        if self.left() <= 0:
            raise RegistryError(f"{where}: took too long, given up; try again later")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try; waits double unless the server sends `Retry-After`."""

    n_attempts: int = 4
    first_wait: float = 0.5  # seconds before the second attempt
    longest_wait: float = 60.0  # a limit for `Retry-After` too
    total_seconds: float = 600.0  # for all attempts of one request, bodies included
    now: Callable[[], float] = time.monotonic  # replaced in tests, like the next
    sleep: Callable[[float], None] = time.sleep

    def run(self, action: Callable[[Deadline], T], where: str) -> T:
        """Call `action` until it does not raise RetryableError, and return its result."""
        deadline = Deadline(self.now, self.now() + self.total_seconds)
        for attempt in range(self.n_attempts):
            try:
                return action(deadline)
            except RetryableError as error:
                reason, wait = str(error), error.retry_after
            wait = min(self.first_wait * 2**attempt if wait is None else wait, self.longest_wait)
            if attempt + 1 == self.n_attempts or wait >= deadline.left():
                break
            attempts = f"attempt {attempt + 2} of {self.n_attempts} in {wait:.0f} s"
            with waiting(f"{where}: {reason}; {attempts}"):
                self.sleep(wait)
        tried = f"; tried {attempt + 1} times, try again later" if attempt else ""
        raise RegistryError(f"{where}: {reason}{tried}")


def parse_retry_after(text: str) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date; None if it is neither."""
    try:
        return float(urllib3.Retry().parse_retry_after(text))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _host(url: str) -> str:
    """Return the host, and port, of a URL for messages."""
    return show_url(url).partition("://")[2].partition("/")[0]


def _explain(error: Exception) -> str:
    """Return what happened, in fixed words: the error's own text could quote a whole URL."""
    kinds = urllib3.exceptions
    if isinstance(error, kinds.NewConnectionError):
        cause = error.__cause__
        detail = cause.strerror if isinstance(cause, OSError) else None
        return f"cannot connect: {(detail or 'unknown reason').lower()}"
    if isinstance(error, (kinds.TimeoutError, TimeoutError)):
        return "no answer in time"
    if any(isinstance(each, IncompleteRead) for each in error.args):
        return "the connection ended in the middle of an answer"
    if isinstance(error, kinds.ProxyError):
        return "the proxy refused or failed"
    return "the connection broke"
