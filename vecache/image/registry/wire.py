"""One HTTP request, and the answer as bytes that cannot outgrow their limit.

1. Connect, ask, read status and headers.
2. Follow redirects, a few. `Authorization` goes to the origin it was meant for and nowhere else:
   registries send blobs from the stores of others.
3. Hand the answer out; its body is read in pieces, each time looking at the limit and the deadline.

What may go well the next time becomes an InterruptedRequestError, all else a RegistryError. URLs
are shown without their query, since that is where stores of others put signatures.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

from vecache.errors import RegistryError
from vecache.image.registry.retry import InterruptedRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import urllib3

    from vecache.image.registry.pools import Pools
    from vecache.image.registry.retry import Deadline

__all__ = ["Answer", "Wire", "origin_of", "show_url"]

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body has not been read yet; close it, or use it in a `with`.

    Attributes
    ----------
    url : str
        Where it came from, after redirects.
    response : urllib3.BaseHTTPResponse
        The open response.
    deadline : Deadline
        When to stop reading.
    """

    url: str
    response: urllib3.BaseHTTPResponse
    deadline: Deadline

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """Give a header, whatever its letter case; None if there is none."""
        value = self.response.headers.get(name)
        return None if value is None else str(value)

    def read(self, n_bytes: int) -> bytes:
        """Read the next bytes of the body.

        Parameters
        ----------
        n_bytes : int
            How many at most.

        Returns
        -------
        bytes
            Fewer only if the body ends.

        Raises
        ------
        InterruptedRequestError
            If the connection breaks, or ends before the length in the header.
        RegistryError
            If it takes too long.
        """
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
    """What makes requests.

    Attributes
    ----------
    pools : Pools
        Connections.
    connect_seconds, read_seconds : float
        How long to wait for a connection, and for the next bytes.
    """

    pools: Pools
    connect_seconds: float = 15.0
    read_seconds: float = 60.0

    def get(self, url: str, headers: Mapping[str, str], deadline: Deadline) -> Answer:
        """Ask, and follow redirects.

        Parameters
        ----------
        url : str
            Where.
        headers : mapping of str to str
            What to send; `Authorization` only to the origin of `url`.
        deadline : Deadline
            When to give up.

        Returns
        -------
        Answer
            Of any status but a redirect.

        Raises
        ------
        InterruptedRequestError
            If it may go well the next time.
        RegistryError
            If not.
        """
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
