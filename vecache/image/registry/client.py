"""An image in a registry: which URLs to ask, and what the answers must look like.

    GET /v2/NAME/manifests/VERSION     a manifest or a list
    GET /v2/NAME/blobs/DIGEST          a config, or a range of a layer

Manifests are read by tag and hashed here; the digest that a server sends along is not looked at. A
request that is answered with 401 is made once more after the login.

With `tls_verify` off, TLS is tried without looking at certificates, and then plain http, as Podman
does; this machine's own registry is no exception.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from vecache.errors import RegistryError
from vecache.image.manifest import ACCEPTED_TYPES, MAX_DOCUMENT_BYTES
from vecache.image.registry.ranges import ByteRange, require_small_blob
from vecache.image.registry.retry import InterruptedRequestError
from vecache.image.registry.status import raise_for_status, raise_if_busy, require_plain
from vecache.image.registry.wire import origin_of
from vecache.image.source import Document
from vecache.image.toc_reader import find_toc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vecache.image.manifest import Descriptor
    from vecache.image.registry.login import Login
    from vecache.image.registry.retry import Deadline, RetryPolicy
    from vecache.image.registry.wire import Answer, Wire
    from vecache.image.registry_name import RegistryName
    from vecache.image.toc_reader import TocReader

__all__ = ["RegistryImage", "RegistrySession", "RemoteBlob"]

T = TypeVar("T")


@dataclass(frozen=True)
class RegistrySession:
    """Requests to one registry, with retries and login.

    Attributes
    ----------
    host : str
        Host, and port.
    wire : Wire
        What makes requests.
    login : Login
        What answers challenges.
    policy : RetryPolicy
        How patient to be.
    """

    host: str
    wire: Wire
    login: Login
    policy: RetryPolicy

    def get(self, path: str, headers: Mapping[str, str], consume: Callable[[Answer], T]) -> T:
        """Ask for something below `/v2/` until an answer can be used.

        Parameters
        ----------
        path : str
            What stands behind `/v2/`.
        headers : mapping of str to str
            What to send.
        consume : callable
            Reads the answer; may be called again with another one after an interruption.

        Returns
        -------
        object
            What `consume` returned.

        Raises
        ------
        RegistryError
            If there is no answer that can be used.
        """
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
    """A blob in a registry.

    Attributes
    ----------
    session : RegistrySession
        How to ask.
    repository, digest : str
        Which blob.
    n_bytes : int
        Its size, as the manifest says.
    """

    session: RegistrySession
    repository: str
    digest: str
    n_bytes: int

    @property
    def where(self) -> str:
        """The blob, and the registry it is in."""
        return f"{self.session.host}/{self.repository}: blob {self.digest}"

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read a part with one range.

        Parameters
        ----------
        offset, n_bytes : int
            First byte in the blob, and how many.

        Returns
        -------
        bytes
            Exactly so many.

        Raises
        ------
        RegistryError
            If the registry does not give them.
        """
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
    """One image in a registry.

    Attributes
    ----------
    session : RegistrySession
        How to ask.
    image : RegistryName
        Which image.
    """

    session: RegistrySession
    image: RegistryName

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
