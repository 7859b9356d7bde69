"""The name of an image in a registry, written out in full.

`debian` means `docker.io/library/debian:latest`: the first part is a host only if it looks like one
(a dot, a colon, a capital letter, or `localhost`); Docker's own registry has one-word names under
`library/`; and no tag means `latest`. Docker's registry answers at another host than its name says.

Source: github.com/distribution/reference normalize.go splitDockerDomain, regexp.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vecache.digest import is_digest
from vecache.errors import ImageError

__all__ = ["DOCKER_HUB", "RegistryName", "parse_registry_name"]

DOCKER_HUB = "docker.io"
_DOCKER_HUB_HOST = "registry-1.docker.io"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_MAX_NAME = 255
_BARE_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RegistryName:
    """An image in a registry."""

    domain: str  # the registry as people name it, with its port if it has one
    repository: str  # the name inside the registry
    version: str  # A tag, or a digest

    @property
    def host(self) -> str:
        """The host, and port, that answers for the domain."""
        return _DOCKER_HUB_HOST if self.domain == DOCKER_HUB else self.domain

    @property
    def name(self) -> str:
        """Domain and repository, which is also the key into auth files."""
        return f"{self.domain}/{self.repository}"

    @property
    def is_pinned(self) -> bool:
        """Whether the version is a digest."""
        return is_digest(self.version)

    def __str__(self) -> str:
        return f"{self.name}{'@' if self.is_pinned else ':'}{self.version}"


def parse_registry_name(text: str) -> RegistryName:
    """Read a name and write it out in full.

    Examples
    --------
    >>> str(parse_registry_name("debian")), str(parse_registry_name("localhost:5000/a/b:1"))
    ('docker.io/library/debian:latest', 'localhost:5000/a/b:1')
    """
    shown = repr(text[:200])
    name, at, version = text.partition("@")
    if at and not is_digest(version):
        raise ImageError(f"{shown}: what stands behind the @ is not a digest")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and at:
        raise ImageError(f"{shown}: both a tag and a digest; leave one of them out")
    if colon and not _TAG.fullmatch(tag):
        raise ImageError(f"{shown}: {tag[:130]!r} is not a tag: letters, digits, '_', '.', '-'")
    domain, repository = _split_domain(f"{head}{slash}{last}")
    if not _DOMAIN.fullmatch(domain):
        raise ImageError(f"{shown}: {domain[:100]!r} is not a host")
    if not _REPOSITORY.fullmatch(repository) or len(f"{domain}/{repository}") > _MAX_NAME:
        raise ImageError(
            f"{shown}: {repository[:100]!r} is not a repository: lower-case letters and digits, "
            f"single '.', '_' or '-' between them, parts split by '/', {_MAX_NAME} characters"
        )
    if _BARE_HEX.fullmatch(name):
        raise ImageError(f"{shown}: 64 hex digits are an image's ID, not a name in a registry")
    return RegistryName(domain, repository, version or tag or "latest")


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_host:
        domain, repository = DOCKER_HUB, name
    else:
        domain, repository = first, rest
    if domain == "index.docker.io":
        domain = DOCKER_HUB
    if domain == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return domain, repository
