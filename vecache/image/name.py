"""Parse an image's name as Skopeo does: a transport, a colon, and where to look.

    oci:DIR[:TAG]                                an OCI layout; `@N` for TAG is the Nth image in it
    oci-archive:FILE[:TAG]                       the same in a tar archive
    dir:DIR                                      a folder that `skopeo copy` wrote
    docker://HOST[:PORT]/NAME[:TAG|@DIGEST]      a registry
    HOST[:PORT]/NAME[:TAG|@DIGEST]               the same
    NAME[:TAG|@DIGEST]                           a registry that registries.conf names
    containers-storage:[[DRIVER@]GRAPHROOT]NAME  a store; the part in square brackets is optional

A name in a registry is completed: `docker://debian` means `docker.io/library/debian:latest`. The
first part is a host only if it looks like one (a dot, a colon, a capital letter, or `localhost`),
one-word names in Docker's own registry are under `library/`, and no tag means `latest`.

Source: containers/image oci/internal/oci_util.go SplitPathAndImage, storage/storage_transport.go
ParseStoreReference; github.com/distribution/reference normalize.go splitDockerDomain, regexp.go.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from vecache.digest import is_digest
from vecache.errors import ImageNameError

__all__ = [
    "DOCKER_HUB",
    "ImageName",
    "PathName",
    "RegistryName",
    "ShortName",
    "StoreName",
    "Transport",
    "is_tag",
    "parse_image_name",
    "parse_registry_name",
    "parse_short_name",
]

DOCKER_HUB = "docker.io"
_DOCKER_HUB_HOST = "registry-1.docker.io"  # what answers for it

_FORMS = (
    "oci:DIR[:TAG], oci-archive:FILE[:TAG], dir:DIR, [docker://]HOST[:PORT]/NAME[:TAG|@DIGEST], "
    "containers-storage:NAME"
)
_WHOLE = ("docker-archive", "docker-daemon")  # these transports have whole layers, and no TOC
_UNSUPPORTED = ("atomic", "ostree", "sif", "tarball")  # Skopeo's others
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_MAX_NAME = 255
_WORD = re.compile(r"[a-zA-Z0-9+-]+")
_BARE_HEX = re.compile(r"[0-9a-f]{64}")
_STORE = re.compile(r"\[(?:[^@\]]*@)?(?P<root>/[^+:\]]*)(?:\+[^:\]]*)?(?::[^\]]*)?\](?P<name>.*)")
_NAME_AND_ID = re.compile(r"(?:.*@)?(?P<id>[0-9a-f]{64})")


class Transport(StrEnum):
    """The ways to reach an image."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DIR = "dir"
    DOCKER = "docker"
    STORAGE = "containers-storage"


@dataclass(frozen=True, slots=True)
class PathName:
    """An image in a local folder or archive."""

    transport: Transport  # OCI, OCI_ARCHIVE or DIR
    path: Path
    tag: str = ""  # empty if there is none, always so for DIR


@dataclass(frozen=True, slots=True)
class StoreName:
    """An image in a store."""

    graph_root: Path | None  # None if the name does not say which store
    name: str  # a name or an id, as `Store.find_image` takes it

    @property
    def digest(self) -> str:
        """The digest of a manifest that ends the name; empty if there is none."""
        digest = self.name.rpartition("@")[2]
        return digest if is_digest(digest) else ""


@dataclass(frozen=True, slots=True)
class RegistryName:
    """An image in a registry."""

    domain: str  # the registry, with its port if it has one
    repository: str
    version: str  # a tag, or a digest

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


@dataclass(frozen=True, slots=True)
class ShortName:
    """An image in a registry that the name leaves open."""

    repository: str
    version: str  # a tag, or a digest

    def __str__(self) -> str:
        return f"{self.repository}{'@' if is_digest(self.version) else ':'}{self.version}"

    def at(self, domain: str) -> RegistryName:
        """Return the image's name in a registry."""
        return parse_registry_name(f"{domain}/{self}")


ImageName: TypeAlias = PathName | RegistryName | ShortName | StoreName
"""What `parse_image_name` returns."""


def parse_image_name(text: str) -> ImageName:
    """Parse `TRANSPORT:REST`; looks at the file system to split a tag from a path.

    Examples
    --------
    >>> str(parse_image_name("docker://quay.io/podman/stable"))
    'quay.io/podman/stable:latest'
    >>> parse_image_name("oci:images:app")
    PathName(transport=<Transport.OCI: 'oci'>, path=PosixPath('images'), tag='app')
    """
    shown = repr(text[:200])
    name, colon, rest = text.partition(":")
    if not colon or name not in list(Transport):
        return _parse_without_transport(text)
    transport = Transport(name)
    if transport is Transport.DOCKER:
        if not rest.startswith("//"):
            raise ImageNameError(f"{shown}: docker needs two slashes, as in docker://{rest[:200]}")
        rest = rest[2:]
    if not rest or "\0" in rest:
        raise ImageNameError(f"{shown}: no name after {name}:")
    match transport:
        case Transport.DOCKER:
            return parse_registry_name(rest)
        case Transport.STORAGE:
            return _parse_store_name(rest)
        case Transport.DIR:
            return PathName(transport, Path(rest))
        case Transport.OCI | Transport.OCI_ARCHIVE:
            return PathName(transport, *_split_tag(rest))


def _parse_without_transport(text: str) -> RegistryName | ShortName:
    """Parse a name in a registry; for anything else, say how to name it."""
    shown = repr(text[:200])
    if os.path.exists(text) and (suggestion := _suggest_name(text)):
        raise ImageNameError(
            f"{shown}: a path without a transport; {suggestion}; "
            "for an image in a registry, docker://HOST/NAME"
        )
    name, colon, rest = text.partition(":")
    if colon and name in _WHOLE:
        raise ImageNameError(
            f"{shown}: {name} has whole layers without a table of contents, which cannot be pulled "
            "in part; copy it first: "
            f"`skopeo copy --dest-compress-format zstd:chunked {text[:200]} oci:DIR:TAG`, "
            "and name oci:DIR:TAG"
        )
    if colon and name in _UNSUPPORTED:
        raise ImageNameError(f"{shown}: unsupported transport {name!r}; wanted one of {_FORMS}")
    if "/" in rest and _WORD.fullmatch(name) and not rest[0].isdigit():  # not HOST:PORT/NAME
        raise ImageNameError(f"{shown}: unknown transport {name[:50]!r}; wanted one of {_FORMS}")
    first, slash, _ = text.partition("/")
    if first in ("", ".", ".."):
        raise ImageNameError(f"{shown}: no transport; wanted one of {_FORMS}")
    return parse_registry_name(text) if slash and _is_host(first) else parse_short_name(text)


def _is_host(text: str) -> bool:
    """Return whether the first part of a name is a host, and not part of a repository.

    Examples
    --------
    >>> [_is_host(text) for text in ("quay.io", "mirror:5000", "localhost", "library")]
    [True, True, True, False]
    """
    return "." in text or ":" in text or text == "localhost"


def is_tag(text: str) -> bool:
    """Return whether a text may be a tag in a registry."""
    return _TAG.fullmatch(text) is not None


def parse_registry_name(text: str) -> RegistryName:
    """Parse a name in a registry, and complete it.

    Examples
    --------
    >>> str(parse_registry_name("debian")), str(parse_registry_name("localhost:5000/a/b:1"))
    ('docker.io/library/debian:latest', 'localhost:5000/a/b:1')
    """
    name, version = _split_version(text)
    domain, repository = _split_domain(name)
    if not _DOMAIN.fullmatch(domain):
        raise ImageNameError(f"{text[:200]!r}: {domain[:100]!r} is not a host")
    _check_repository(text, repository, len(f"{domain}/{repository}"))
    return RegistryName(domain, repository, version)


def parse_short_name(text: str) -> ShortName:
    """Parse a name in a registry without the registry.

    Examples
    --------
    >>> str(parse_short_name("debian")), str(parse_short_name("library/debian:12"))
    ('debian:latest', 'library/debian:12')
    """
    name, version = _split_version(text)
    _check_repository(text, name, len(name))
    return ShortName(name, version)


def _split_version(text: str) -> tuple[str, str]:
    """Split a name into what is before and behind the colon of a tag, or the @ of a digest."""
    shown = repr(text[:200])
    name, at, version = text.partition("@")
    if at and not is_digest(version):
        raise ImageNameError(f"{shown}: what follows the @ is not a digest")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and at:
        raise ImageNameError(f"{shown}: both a tag and a digest; leave one of them out")
    if colon and not is_tag(tag):
        raise ImageNameError(f"{shown}: {tag[:130]!r} is not a tag: letters, digits, '_', '.', '-'")
    return f"{head}{slash}{last}", version or tag or "latest"


def _check_repository(text: str, repository: str, n_characters: int) -> None:
    if not _REPOSITORY.fullmatch(repository) or n_characters > _MAX_NAME:
        raise ImageNameError(
            f"{text[:200]!r}: {repository[:100]!r} is not a repository: lower-case letters and "
            "digits, single '.', '_' or '-' between them, parts split by '/', "
            f"{_MAX_NAME} characters"
        )
    if _BARE_HEX.fullmatch(text.partition("@")[0]):
        raise ImageNameError(
            f"{text[:200]!r}: 64 hex digits are an image's ID, not a name in a registry"
        )


def _split_domain(name: str) -> tuple[str, str]:
    """Split a name into domain and repository, and complete both."""
    first, slash, rest = name.partition("/")
    has_host = slash and (_is_host(first) or first != first.lower())
    domain, repository = (first, rest) if has_host else (DOCKER_HUB, name)
    if domain == "index.docker.io":
        domain = DOCKER_HUB
    if domain == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return domain, repository


def _parse_store_name(text: str) -> StoreName:
    """Parse `[[DRIVER@]GRAPHROOT[+RUNROOT][:OPTIONS]]NAME`; `@ID` and `NAME@ID` are names too.

    Driver, run root and options make no difference here.
    """
    graph_root, name = None, text
    if text.startswith("["):
        match = _STORE.fullmatch(text)
        if match is None:
            raise ImageNameError(f"{text[:200]!r}: wanted [DRIVER@/GRAPHROOT]NAME")
        graph_root, name = Path(match["root"]), match["name"]
    with_id = _NAME_AND_ID.fullmatch(name)
    name = with_id["id"] if with_id else name.removeprefix("@")
    if not name:
        raise ImageNameError(f"{text[:200]!r}: names no image")
    return StoreName(graph_root, name)


def _suggest_name(path: str) -> str:
    """Suggest how to name the image at a path that exists; empty for a folder without one."""
    if not os.path.isdir(path):
        return f"for an archive, oci-archive:{path}"
    if os.path.exists(os.path.join(path, "manifest.json")):
        return f"for the image in this folder, dir:{path}"
    if os.path.exists(os.path.join(path, "overlay-images")):
        root = os.path.abspath(path)
        return f"for an image of this store, containers-storage:[overlay@{root}]NAME"
    if os.path.exists(os.path.join(path, "index.json")):
        return f"for the OCI layout in this folder, oci:{path}"
    return ""


def _split_tag(text: str) -> tuple[Path, str]:
    """Split `PATH[:TAG]` at the first colon that leaves a path which exists.

    Skopeo always splits at the first colon, so no path may contain one. What Skopeo accepts means
    the same here; what it would refuse may be a path with colons.
    """
    colons = [i for i, character in enumerate(text) if character == ":"]
    for end in [*colons, len(text)]:
        if os.path.exists(text[:end]):
            return Path(text[:end]), text[end + 1 :]
    path, _, tag = text.partition(":")
    return Path(path), tag
