"""A part of a blob from an answer to `Range: bytes=a-b`, whatever the server made of it.

A server that knows ranges answers 206 and says which range it sends. One that does not may
answer 200 with the whole blob: then the part is read from the stream and the rest is left alone,
if not too much comes before it. One that refuses ranges (400, 501) is asked once more for the
whole blob, on the same terms.

An image in a registry: which URLs to ask, and what the answers must look like.

    GET /v2/NAME/manifests/VERSION     a manifest or a list
    GET /v2/NAME/blobs/DIGEST          a config, or a range of a layer

Manifests are read by tag and hashed here; the digest that a server sends along is not looked at. A
request that is answered with 401 is made once more after the login.

With `tls_verify` off, TLS is tried without looking at certificates, and then plain http, as Podman
does; this machine's own registry is no exception.

Put together what talks to one registry, from the user's environment. Nothing is sent yet.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vecache.errors import RegistryError
from vecache.image.manifest import ACCEPTED_TYPES, MAX_DOCUMENT_BYTES
from vecache.image.registry.auth import find_auth_files, find_credentials
from vecache.image.registry.http import (
    InterruptedRequestError,
    Pools,
    RetryPolicy,
    Wire,
    certificate_folders,
    origin_of,
    raise_for_status,
    raise_if_busy,
    require_plain,
    show_url,
)
from vecache.image.registry.login import Login
from vecache.image.source import Document
from vecache.image.toc import find_toc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vecache.image.manifest import Descriptor
    from vecache.image.name import RegistryName
    from vecache.image.registry.auth import Credentials
    from vecache.image.registry.http import Answer, Deadline
    from vecache.image.toc import TocReader

__all__ = [
    "MAX_WHOLE_BYTES",
    "ByteRange",
    "RegistryImage",
    "RegistrySession",
    "RemoteBlob",
    "connect",
    "require_small_blob",
]

MAX_WHOLE_BYTES = 64 << 20
"""Most bytes to read of a blob for a part of it, where a server knows no ranges."""

_REFUSALS = (400, 501)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|\*)")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a blob."""

    offset: int  # first byte, and how many, from 1
    n_bytes: int  # first byte, and how many, from 1
    blob_bytes: int  # size of the blob, as the manifest says
    what: str  # the blob, for messages

    @property
    def header(self) -> dict[str, str]:
        """The request's header."""
        return {"Range": f"bytes={self.offset}-{self.offset + self.n_bytes - 1}"}

    def read(self, answer: Answer) -> bytes | None:
        """Take the part out of an answer."""
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


T = TypeVar("T")


@dataclass(frozen=True)
class RegistrySession:
    """Requests to one registry, with retries and login."""

    host: str  # host, and port
    wire: Wire  # what makes requests
    login: Login  # what answers challenges
    policy: RetryPolicy  # how patient to be

    def get(self, path: str, headers: Mapping[str, str], consume: Callable[[Answer], T]) -> T:
        """Ask for something below `/v2/` until an answer can be used."""
        url = f"{self._scheme}://{self.host}/v2/{path}"

        def attempt(deadline: Deadline) -> T:
            with self._let_in(url, headers, deadline) as answer:
                raise_if_busy(answer)
                if answer.status < 300:
                    require_plain(answer)
                return consume(answer)

        return self.policy.run(attempt, self.host)

    @cached_property
    def _scheme(self) -> str:
        if self.wire.pools.tls_verify:
            return "https"

        def ping(deadline: Deadline) -> str:
            self.wire.ask("GET", f"https://{self.host}/v2/", {}, deadline).response.close()
            return "https"

        try:
            return replace(self.policy, n_attempts=1).run(ping, self.host)
        except RegistryError:
            return "http"

    def _let_in(self, url: str, headers: Mapping[str, str], deadline: Deadline) -> Answer:
        answer = self.wire.get(url, {**headers, **self.login.headers()}, deadline)
        if answer.status != 401 or origin_of(answer.url) != origin_of(url):
            return answer
        with answer:
            challenges = answer.response.headers.getlist("WWW-Authenticate")
        self.login.respond(url, challenges, deadline)
        return self.wire.get(url, {**headers, **self.login.headers()}, deadline)


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob in a registry."""

    session: RegistrySession  # how to ask
    repository: str  # which blob
    digest: str  # which blob
    n_bytes: int  # its size, as the manifest says

    @property
    def where(self) -> str:
        """The blob, and the registry it is in."""
        return f"{self.session.host}/{self.repository}: blob {self.digest}"

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read a part with one range."""
        path = f"{self.repository}/blobs/{self.digest}"
        part = ByteRange(offset, n_bytes, self.n_bytes, self.where)
        data = self.session.get(path, part.header, part.read)
        if data is None:
            require_small_blob(self.where, offset + n_bytes)
            data = self.session.get(path, {}, part.read)
        if data is None:
            raise RegistryError(f"{self.where}: the registry refuses to send it")
        return data


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """One image in a registry."""

    session: RegistrySession  # how to ask
    image: RegistryName  # which image

    @property
    def name(self) -> str:
        """The name, written out in full."""
        return str(self.image)

    def read_root(self) -> Document:
        """Read the manifest or list that the tag or digest stands for."""
        image = self.image
        data, media_type = self._read_document(f"manifests/{image.version}", str(image))
        return Document(data, media_type, str(image), image.version if image.is_pinned else None)

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        return self._read_document(f"manifests/{descriptor.digest}", descriptor.where)[0]

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._read_document(f"blobs/{descriptor.digest}", descriptor.where)[0]

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find a layer's TOC through its annotations."""
        blob = RemoteBlob(
            self.session, self.image.repository, descriptor.digest, descriptor.n_bytes
        )
        return find_toc(descriptor, blob)

    def _read_document(self, path: str, what: str) -> tuple[bytes, str]:
        def consume(answer: Answer) -> tuple[bytes, str]:
            if answer.status != 200:
                raise_for_status(answer, what)
            data = answer.read(MAX_DOCUMENT_BYTES + 1)
            if len(data) > MAX_DOCUMENT_BYTES:
                raise RegistryError(
                    f"{what}: the registry sends more than {MAX_DOCUMENT_BYTES:,} bytes"
                )
            if not data:
                raise InterruptedRequestError("an empty answer")
            media_type = (answer.header("Content-Type") or "").partition(";")[0].strip()
            return data, media_type

        headers = {"Accept": ", ".join(ACCEPTED_TYPES)} if path.startswith("manifests/") else {}
        return self.session.get(f"{self.image.repository}/{path}", headers, consume)


def connect(
    image: RegistryName,
    environ: Mapping[str, str],
    *,
    auth_file: Path | None = None,
    retry: RetryPolicy | None = None,
    tls_verify: bool = True,
) -> RegistryImage:
    """Make the client for one image."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    wire = Wire(Pools(tls_verify, certificate_folders(home), environ))

    def find() -> Credentials | None:
        return find_credentials(find_auth_files(environ, auth_file), image)

    login = Login(
        wire, find, f"repository:{image.repository}:pull", is_plain_allowed=not tls_verify
    )
    return RegistryImage(RegistrySession(image.host, wire, login, retry or RetryPolicy()), image)
