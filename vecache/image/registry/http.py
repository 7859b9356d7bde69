"""When to ask again, how long to wait, and when to stop.

A request that was interrupted (a connection that failed or broke, a server that is too busy) is
made again after a wait that doubles each time, or after what the server asks for in `Retry-After`,
but never for longer than a cap. All attempts together have a deadline, and reading a body looks at
the same deadline, so a server that sends one byte at a time ends too.

Connections: TLS with the right certificates, and the proxy that the environment names.

Certificates for one registry are found where Podman looks: `HOST:PORT/*.crt` under a `certs.d`
folder adds to the authorities trusted for it, `*.cert` with `*.key` is what it is shown.

Source: containers/image docker/docker_client.go dockerCertDir, pkg/tlsclientconfig.

Say in words what a status other than success means.

A registry explains itself with a JSON body of codes. Only the codes are shown: free text from a
server could hold anything, the request's own secrets included.

Source: opencontainers/distribution-spec spec.md "Error Codes".

One HTTP request, and the answer as bytes that cannot outgrow their limit.

1. Connect, ask, read status and headers.
2. Follow redirects, a few. `Authorization` goes to the origin it was meant for and nowhere else:
   registries send blobs from the stores of others.
3. Hand the answer out; its body is read in pieces, each time looking at the limit and the deadline.

What may go well the next time becomes an InterruptedRequestError, all else a RegistryError. URLs
are shown without their query, since that is where stores of others put signatures.
"""

from __future__ import annotations

import re
import ssl
import time
import warnings
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urljoin, urlsplit

from vecache.errors import ConfigError, ImageError, ImageNotFoundError, RegistryError, VecacheError
from vecache.json_fields import parse_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import urllib3

__all__ = [
    "Answer",
    "Clock",
    "Deadline",
    "InterruptedRequestError",
    "Pools",
    "RetryPolicy",
    "Wire",
    "certificate_folders",
    "find_proxy",
    "origin_of",
    "parse_retry_after",
    "raise_for_status",
    "raise_if_busy",
    "require_plain",
    "show_url",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, so that tests need not wait for it."""

    now: Callable[[], float] = time.monotonic  # seconds that only go up
    # seconds since 1970, to compare with a date that a server sends
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep  # waits so many seconds


class InterruptedRequestError(Exception):
    """A request that may go well the next time; never leaves this package."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which to give up."""

    clock: Clock  # what tells the time
    end: float  # on that clock

    def left(self) -> float:
        """Count the seconds until then; negative when it is past."""
        return self.end - self.clock.now()

    def check(self, where: str) -> None:
        """Raise RegistryError if it is past."""
        if self.left() <= 0:
            raise RegistryError(f"{where}: gave up, it took too long; try again later")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be."""

    n_attempts: int = 4  # how often to ask at most
    first_wait: float = 0.5  # seconds before the second attempt, and before any
    longest_wait: float = 60.0  # seconds before the second attempt, and before any
    total_seconds: float = 600.0  # for all attempts of one request together, its body included
    clock: Clock = field(default_factory=Clock)  # what tells the time and waits

    def run(self, action: Callable[[Deadline], T], where: str) -> T:
        """Do something until it goes well."""
        deadline = Deadline(self.clock, self.clock.now() + self.total_seconds)
        reason = ""
        for attempt in range(self.n_attempts):
            try:
                return action(deadline)
            except InterruptedRequestError as error:
                reason = error.reason
                wait = self._wait(attempt, error.retry_after)
            if attempt + 1 < self.n_attempts:
                if wait >= deadline.left():
                    break
                self.clock.sleep(wait)
        raise RegistryError(f"{where}: {reason}; asked {attempt + 1} times, try again later")

    def _wait(self, attempt: int, retry_after: float | None) -> float:
        wait = self.first_wait * 2**attempt if retry_after is None else retry_after
        return min(wait, self.longest_wait)


def parse_retry_after(text: str | None, wall: float) -> float | None:
    """Read a `Retry-After` header.

    Examples
    --------
    >>> parse_retry_after("7", 0.0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 30.0)
    (7.0, 30.0)
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Pools:
    """The connections of one client, by origin, kept open between requests."""

    tls_verify: bool  # whether a server must prove who it is
    certificates: tuple[Path, ...]  # the `certs.d` folders, the one to look into first first
    environ: Mapping[str, str]  # where proxies are named
    _managers: dict[str, urllib3.PoolManager] = field(default_factory=dict, repr=False)

    def manager(self, url: str) -> urllib3.PoolManager:
        """Give the connections to a URL's host."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._managers:
            self._managers[origin] = self._connect(url, parts.netloc)
        return self._managers[origin]

    def _connect(self, url: str, host: str) -> urllib3.PoolManager:
        try:
            import urllib3  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            raise ImageError(
                "reading from a registry needs urllib3: pip install 'vecache[registry]'"
            ) from None

        context = _tls_context(self.certificates, host, tls_verify=self.tls_verify)
        proxy = find_proxy(url, self.environ)
        if proxy is None:
            return urllib3.PoolManager(ssl_context=context)
        user = urlsplit(proxy)
        headers = None
        if user.username:
            login = f"{user.username}:{user.password or ''}"
            headers = urllib3.util.make_headers(proxy_basic_auth=login)
        return urllib3.ProxyManager(proxy, ssl_context=context, proxy_headers=headers)


def certificate_folders(home: Path) -> tuple[Path, ...]:
    """List the `certs.d` folders of a user, in Podman's order."""
    return (
        home / ".config/containers/certs.d",
        Path("/etc/containers/certs.d"),
        Path("/etc/docker/certs.d"),
    )


def find_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """Find the proxy for a URL as Go programs do.

    Examples
    --------
    >>> find_proxy("https://quay.io/v2/", {"https_proxy": "proxy:3128", "NO_PROXY": ".lan"})
    'http://proxy:3128'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name)
    if not proxy or _is_loopback(host):
        return None
    for rule in (environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(","):
        domain = rule.strip().lower().lstrip("*").lstrip(".")
        if rule.strip() == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls_context(folders: tuple[Path, ...], host: str, *, tls_verify: bool) -> ssl.SSLContext:
    if tls_verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    folder = next((each / host for each in folders if (each / host).is_dir()), None)
    if folder is None:
        return context
    try:
        for authority in sorted(folder.glob("*.crt")):
            context.load_verify_locations(cafile=authority)
        for own in sorted(folder.glob("*.cert")):
            context.load_cert_chain(own, own.with_suffix(".key"))
    except OSError as error:  # ssl.SSLError too
        raise ConfigError(f"{folder}: a certificate cannot be read: {error}") from error
    return context


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
    """Explain a status that is no success."""
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
        document = parse_fields(answer.read(_MAX_ERROR_BYTES), "error", RegistryError)
        errors = document.objects("errors")
        codes = [error.text("code", "") for error in errors[:5]]
    except (VecacheError, InterruptedRequestError):
        return []
    return [code for code in codes if re.fullmatch(r"[A-Z][A-Z0-9_]{1,40}", code)]


_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body has not been read yet; close it, or use it in a `with`."""

    url: str  # where it came from, after redirects
    response: urllib3.BaseHTTPResponse  # the open response
    deadline: Deadline  # when to stop reading

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """Give a header, whatever its letter case; None if there is none."""
        value = self.response.headers.get(name)
        return None if value is None else str(value)

    def read(self, n_bytes: int) -> bytes:
        """Read the next bytes of the body."""
        import urllib3  # noqa: PLC0415 - see `pools`

        pieces = []
        n_left = n_bytes
        while n_left:
            self.deadline.check(show_url(self.url))
            try:
                piece = self.response.read1(min(n_left, _PIECE_BYTES), decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise InterruptedRequestError(_explain(error)) from error
            if not piece:
                break
            pieces.append(piece)
            n_left -= len(piece)
        return b"".join(pieces)

    def skip(self, n_bytes: int) -> None:
        """Read bytes and forget them."""
        while n_bytes:
            n_read = len(self.read(min(n_bytes, _PIECE_BYTES)))
            if not n_read:
                raise InterruptedRequestError("the answer is shorter than the blob")
            n_bytes -= n_read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()


@dataclass(frozen=True)
class Wire:
    """What makes requests."""

    pools: Pools  # connections
    connect_seconds: float = 15.0  # how long to wait for a connection, and for the next bytes
    read_seconds: float = 60.0  # how long to wait for a connection, and for the next bytes

    def get(self, url: str, headers: Mapping[str, str], deadline: Deadline) -> Answer:
        """Ask, and follow redirects."""
        origin = origin_of(url)
        for _ in range(_MAX_REDIRECTS + 1):
            sent = dict(headers)
            if origin_of(url) != origin:
                sent.pop("Authorization", None)
            answer = self.ask("GET", url, sent, deadline)
            if answer.status not in _REDIRECTS:
                return answer
            with answer:
                url = self._redirected(url, answer.header("Location"))
        raise RegistryError(f"{show_url(url)}: more than {_MAX_REDIRECTS} redirects")

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        deadline: Deadline,
        body: str | None = None,
    ) -> Answer:
        """Make one request, following nothing; parameters and errors as for `get`."""
        deadline.check(show_url(url))
        manager = self.pools.manager(url)  # before the import: it says what to do without urllib3
        import urllib3  # noqa: PLC0415 - see `pools`

        timeout = urllib3.Timeout(
            connect=min(self.connect_seconds, deadline.left()),
            read=min(self.read_seconds, deadline.left()),
        )
        try:
            with warnings.catch_warnings():
                # The caller asked for no verification and need not be told at each request.
                warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
                response = manager.urlopen(
                    method,
                    url,
                    headers={"Accept-Encoding": "identity", "User-Agent": "vecache", **headers},
                    body=body,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=timeout,
                )
        except urllib3.exceptions.SSLError as error:
            raise RegistryError(
                f"{show_url(url)}: {_explain(error)}; for a registry with its own certificate put "
                "that into certs.d, for one without TLS turn tls_verify off (--tls-verify=false)"
            ) from error
        except (urllib3.exceptions.LocationParseError, UnicodeError) as error:
            raise RegistryError(f"{show_url(url)}: not a URL that can be asked") from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise InterruptedRequestError(_explain(error)) from error
        return Answer(url, response, deadline)

    def _redirected(self, url: str, location: str | None) -> str:
        shown = show_url(url)
        if not location:
            raise RegistryError(f"{shown}: a redirect that does not say where to")
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            is_url = bool(parts.hostname) and parts.scheme in ("http", "https")
            origin_of(target)
        except ValueError:
            is_url = False
        if not is_url:
            raise RegistryError(f"{shown}: a redirect to something that is no http or https URL")
        if parts.scheme == "http" and urlsplit(url).scheme == "https" and self.pools.tls_verify:
            raise RegistryError(f"{shown}: a redirect from https to plain http, not followed")
        return target


def show_url(url: str) -> str:
    """Give a URL without user, query and fragment, for messages."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a malformed URL"
    return ascii(f"{parts.scheme}://{host}{parts.path}")[1:-1][:300]


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Give scheme, host and port of a URL: whom a secret for that URL is meant for."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or default


def _explain(error: Exception) -> str:
    """Say what happened; the error's own text could quote a whole URL."""
    import urllib3  # noqa: PLC0415 - see `pools`

    kinds = urllib3.exceptions
    if isinstance(error, kinds.NameResolutionError):
        return "the host's name cannot be resolved"
    if isinstance(error, kinds.NewConnectionError):
        cause = error.__cause__
        detail = cause.strerror if isinstance(cause, OSError) else None
        return f"cannot connect: {(detail or 'unknown reason').lower()}"
    if isinstance(error, (kinds.TimeoutError, TimeoutError)):  # the one above is one of them
        return "no answer in time"
    if any(isinstance(each, IncompleteRead) for each in error.args):
        return "the connection ended in the middle of an answer"
    if isinstance(error, kinds.ProxyError):
        return "the proxy refused or failed"
    if isinstance(error, kinds.SSLError):
        cause = error.args[0] if error.args else None
        detail = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
        return f"TLS failed: {detail or 'unknown reason'}"
    return "the connection broke"
