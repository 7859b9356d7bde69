"""An image in a registry: its URLs, and what the responses must look like.

    GET /v2/NAME/manifests/VERSION     a manifest or a list
    GET /v2/NAME/blobs/DIGEST          a config, or one range of a layer
    GET /v2/NAME/tags/list             see `tags.py`

Manifests are read by tag and hashed here; the digest that a server sends along is not looked at. A
request that is answered with 401 is sent once more after the login.

A server that supports ranges answers 206 and names the range it sends. One that does not may answer
200 with the whole blob: then the part is read from the stream, if not too much comes before it. One
that refuses ranges (400, 501) gets a request for the whole blob, on the same terms.

With `tls_verify` off any certificate is accepted, and a registry that answers TLS in plain text is
read over http, on loopback too. No other failure leads to http. Podman falls back after all of
them, even where a registry with TLS is only slow. A registry on port 80 needs `:80` in its name.
Source: containers/image docker/docker_client.go detectPropertiesHelper.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from vecache.errors import RegistryError
from vecache.image.manifest import ACCEPTED_TYPES, MAX_DOCUMENT_BYTES
from vecache.image.registry.auth import find_auth_files, find_credentials
from vecache.image.registry.http import (
    HttpClient,
    PlainTextError,
    RetryableError,
    RetryPolicy,
)
from vecache.image.registry.login import Login
from vecache.image.registry.urls import parse_origin, show_url
from vecache.image.source import Document
from vecache.image.toc import find_toc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vecache.image.manifest import Descriptor
    from vecache.image.name import RegistryName
    from vecache.image.registry.access import Access
    from vecache.image.registry.http import Deadline, Response
    from vecache.image.registry.registries import Endpoint
    from vecache.image.toc import TocReader

__all__ = [
    "MAX_WHOLE_BYTES",
    "RegistryImage",
    "RegistrySession",
    "RemoteBlob",
    "connect",
    "read_document",
]

MAX_WHOLE_BYTES = 64 << 20
"""Most bytes to read of a blob for a part of it, where a server does not support ranges."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|\*)")

T = TypeVar("T")


def connect(
    endpoint: Endpoint,
    name: RegistryName,
    environ: Mapping[str, str],
    access: Access,
    helpers: Sequence[str] = (),
) -> RegistryImage:
    """Return the image `name` at an endpoint for it; nothing is sent yet."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    certificates = (  # in Podman's order
        home / ".config/containers/certs.d",
        Path("/etc/containers/certs.d"),
        Path("/etc/docker/certs.d"),
    )
    there = endpoint.name
    tls_verify = not endpoint.is_insecure if access.tls_verify is None else access.tls_verify
    http = HttpClient(certificates, access.cert_dir, there.host, tls_verify=tls_verify)
    # What the caller gives is for the registry that they name, and never sent to a mirror.
    given = access.credentials if there.domain == name.domain else None
    files = partial(find_auth_files, environ, access.auth_file)
    login = Login(
        http,
        lambda: given or find_credentials(files(), there, helpers),
        f"repository:{there.repository}:pull",
        is_plain_allowed=not tls_verify,
    )
    session = RegistrySession(there.host, http, login, access.retry or RetryPolicy())
    return RegistryImage(session, there, name, endpoint.is_mirror)


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """One image in a registry: an `ImageSource`."""

    session: RegistrySession
    image: RegistryName  # at the endpoint
    named: RegistryName  # as the user names it
    is_mirror: bool = False
    is_last: bool = True  # False: another endpoint may have it, which is asked without a wait

    @property
    def name(self) -> str:
        """The name, written out in full."""
        return str(self.named)

    def with_tag(self, tag: str) -> RegistryImage:
        """Return another image of the repository."""
        image, named = (replace(each, version=tag) for each in (self.image, self.named))
        return replace(self, image=image, named=named)

    def read_root(self) -> Document:
        """Read the manifest or list of the tag or digest."""
        image, where = self.image, str(self.image)
        data, media_type = self._read_document(f"manifests/{image.version}", where)
        digest = image.version if image.is_pinned else None
        return Document(data, media_type, where, digest, read_from=where)

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        return self._read_document(f"manifests/{descriptor.digest}", descriptor.where)[0]

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._read_document(f"blobs/{descriptor.digest}", descriptor.where)[0]

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find a layer's TOC through its annotations."""
        repository = self.image.repository
        blob = RemoteBlob(self.session, repository, descriptor.digest, descriptor.n_bytes)
        return find_toc(descriptor, blob)

    def _read_document(self, path: str, what: str) -> tuple[bytes, str]:
        def consume(response: Response) -> tuple[bytes, str]:
            data = read_document(response, what)
            return data, response.header("Content-Type").partition(";")[0].strip()

        headers = {"Accept": ", ".join(ACCEPTED_TYPES)} if path.startswith("manifests/") else {}
        path = f"{self.image.repository}/{path}"
        return self.session.get(path, headers, consume, once=not self.is_last)


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob in a registry."""

    session: RegistrySession
    repository: str
    digest: str
    n_bytes: int  # as the manifest says

    @property
    def where(self) -> str:
        """The registry and the blob, for messages."""
        return f"{self.session.host}/{self.repository}: blob {self.digest}"

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read a part of the blob, at least one byte, with one range."""

        def consume(response: Response) -> bytes | None:
            return self._read_part(response, offset, n_bytes)

        path = f"{self.repository}/blobs/{self.digest}"
        headers = {"Range": f"bytes={offset}-{offset + n_bytes - 1}"}
        data = self.session.get(path, headers, consume)
        if data is None:
            self._require_small(offset + n_bytes)
            data = self.session.get(path, {}, consume)
        if data is None:
            raise RegistryError(f"{self.where}: the registry refuses to send it")
        return data

    def _read_part(self, response: Response, offset: int, n_bytes: int) -> bytes | None:
        """Read the part from a response to either request; None if it refuses ranges."""
        if response.status in (400, 501):
            return None
        if response.status == 206:
            self._require_range(response, offset, offset + n_bytes - 1)
            data = response.read(n_bytes)
        elif response.status == 200:
            self._require_small(offset + n_bytes)
            self._require_size(response.header("Content-Length") or str(self.n_bytes))
            data = response.read(n_bytes, offset)
        elif response.status == 416:
            raise RegistryError(
                f"{self.where}: the registry has no bytes {offset:,} to {offset + n_bytes - 1:,}, "
                f"the manifest says that there are {self.n_bytes:,}; the copy there is damaged"
            )
        else:
            raise response.error(self.where)
        if len(data) != n_bytes:
            raise RetryableError(f"{len(data):,} bytes, wanted {n_bytes:,}")
        return data

    def _require_range(self, response: Response, first: int, last: int) -> None:
        found = response.header("Content-Range")
        match = _CONTENT_RANGE.fullmatch(found)
        size = int(match[3] or self.n_bytes) if match else -1
        if match is None or (int(match[1]), int(match[2]), size) != (first, last, self.n_bytes):
            raise RegistryError(
                f"{self.where}: requested bytes {first}-{last} of {self.n_bytes}, the response has "
                f"{found[:80] or 'nothing'!r}; requested {show_url(response.url)}"
            )

    def _require_size(self, found: str) -> None:
        if found != str(self.n_bytes):
            raise RegistryError(
                f"{self.where}: the registry sends {found[:20]!r} bytes, "
                f"the manifest says {self.n_bytes:,}; the copy there is damaged"
            )

    def _require_small(self, n_bytes: int) -> None:
        if n_bytes > MAX_WHOLE_BYTES:
            raise RegistryError(
                f"{self.where}: the registry does not support byte ranges, and {n_bytes:,} bytes "
                "are too many to read for a table of contents; copy the image first: "
                "skopeo copy docker://... oci:DIR"
            )


def read_document(response: Response, what: str) -> bytes:
    """Read a small document whole, from a response that must be a success."""
    if response.status != 200:
        raise response.error(what)
    data = response.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise RegistryError(f"{what}: the registry sends more than {MAX_DOCUMENT_BYTES:,} bytes")
    if not data:
        raise RetryableError("an empty answer")
    return data


@dataclass
class RegistrySession:
    """Requests to one registry from any number of threads, with retries and login."""

    host: str  # with its port, if it has one
    http: HttpClient
    login: Login
    policy: RetryPolicy
    _scheme: str = ""  # not known yet
    _lock: Lock = field(default_factory=Lock, repr=False)

    def get(
        self,
        path: str,
        headers: Mapping[str, str],
        consume: Callable[[Response], T],
        *,
        once: bool = False,
    ) -> T:
        """Request something below `/v2/` and return what `consume` makes of the response.

        After an interruption `consume` is called again, with another response, unless `once`.
        """

        def attempt(deadline: Deadline) -> T:
            url = f"{self._find_scheme(deadline)}://{self.host}/v2/{path}"
            with self._request(url, headers, deadline) as response:
                response.require_usable()
                return consume(response)

        policy = replace(self.policy, n_attempts=1) if once else self.policy
        return policy.run(attempt, self.host)

    def _find_scheme(self, deadline: Deadline) -> str:
        if self.http.tls_verify:
            return "https"
        with self._lock:  # one thread finds out, the others wait for it
            if not self._scheme:
                try:
                    self.http.request("GET", f"https://{self.host}/v2/", {}, deadline).close()
                    self._scheme = "https"
                except PlainTextError:
                    self._scheme = "http"
            return self._scheme

    def _request(self, url: str, headers: Mapping[str, str], deadline: Deadline) -> Response:
        login = self.login.headers()
        response = self.http.get(url, {**headers, **login}, deadline)
        # A redirect may end at another server, whose challenges are not for this login.
        if response.status != 401 or parse_origin(response.url) != parse_origin(url):
            return response
        response.close()
        challenges = response.raw.headers.getlist("WWW-Authenticate")
        self.login.respond(url, challenges, login, deadline)
        response = self.http.get(url, {**headers, **self.login.headers()}, deadline)
        return replace(response, login=self.login.text())
