"""Open a series of images: several tags of one repository in a registry, or of one OCI layout.

Tags are listed only where a range is named; `tags.py` says which of them it takes. The images share
the login and the connections.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vecache.errors import ImageNameError
from vecache.image.ahead import ReadAhead
from vecache.image.local import OciLayout
from vecache.image.manifest import parse_platform
from vecache.image.name import (
    PathName,
    RegistryName,
    ShortName,
    Transport,
    is_tag,
    parse_image_name,
)
from vecache.image.open import find_sources
from vecache.image.registry.access import Access
from vecache.image.source import first_of, load_image
from vecache.image.tags import choose_tags, has_range, parse_tags

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from vecache.image.manifest import Platform
    from vecache.image.model import Image
    from vecache.image.registry.http import RetryPolicy
    from vecache.image.source import ImageSource
    from vecache.image.tags import Item

__all__ = ["Series", "find_series", "open_series"]


def open_series(
    reference: str,
    tags: str,
    *,
    platform: str | None = None,
    tls_verify: bool | None = None,
    auth_file: str | os.PathLike[str] | None = None,
    credentials: tuple[str, str] | None = None,
    cert_dir: str | os.PathLike[str] | None = None,
    retry: RetryPolicy | None = None,
) -> tuple[Image, ...]:
    """Open several tags of a repository in a registry, or of an OCI layout.

    Parameters
    ----------
    reference : str
        `[docker://]HOST[:PORT]/NAME`, `oci:DIR` or `oci-archive:FILE`, without a tag.
    tags : str
        Tags and ranges, as in `1.20..1.30,latest`. A range takes the tags from the first to the
        last in version order that have the form of one of these two.
    platform : str, optional
        `OS/ARCHITECTURE[/VARIANT]` that the images must be for; by default this machine's is
        chosen from a list of images.
    tls_verify, auth_file, credentials, cert_dir, retry : optional
        How to reach a registry, as in `open_image`.

    Returns
    -------
    tuple of Image
        In the order in which `tags` names them.

    Raises
    ------
    ImageNameError
        If the reference or `tags` is malformed.
    ImageNotFoundError
        If a tag is not there, or has no image for the platform.
    ImageError, DigestError, ConfigError
        As `open_image`.
    ValueError
        If `platform` is malformed.

    Examples
    --------
    >>> import vecache
    >>> images = vecache.open_series("oci:tests/data/small/oci", "base,app1..app2")
    >>> [(image.name, len(image)) for image in images]
    [('base', 1), ('app1', 2), ('app2', 3)]
    """
    access = Access.of(
        tls_verify=tls_verify,
        auth_file=auth_file,
        credentials=credentials,
        cert_dir=cert_dir,
        retry=retry,
    )
    return find_series(reference, tags, access).open(platform=platform)


@dataclass(frozen=True, slots=True)
class Series:
    """The images of a series, not opened yet."""

    reference: str  # without a tag
    tags: tuple[str, ...]
    sources: tuple[ImageSource, ...]  # of the whole repository or layout, in the order to try them
    n_listed: int  # tags that are there; 0 where they were not listed
    skipped: tuple[str, ...]  # tags inside a range that have another form

    def open(
        self, *, platform: str | None = None, progress: Callable[[], object] | None = None
    ) -> tuple[Image, ...]:
        """Open all images, a few side by side."""
        wanted = None if platform is None else parse_platform(platform)
        opening = ReadAhead({tag: partial(self._open, tag, wanted) for tag in self.tags})
        images = []
        for tag in self.tags:
            images.append(opening.fetch(tag))
            if progress is not None:
                progress()
        return tuple(images)

    def _open(self, tag: str, platform: Platform | None) -> Image:
        return first_of(
            partial(load_image, _with_tag(source, tag), f"{self.reference}:{tag}", platform)
            for source in self.sources
        )


def find_series(reference: str, tags: str, access: Access) -> Series:
    """Find the images of a series."""
    items = parse_tags(tags)
    name = parse_image_name(reference)
    match name:
        case RegistryName() | ShortName():
            # Only the text tells: without a tag the name is completed to the latest.
            has_tag = ":" in reference.rpartition("/")[2] or "@" in reference
            _require_tags(items)
        case PathName(transport=Transport.OCI | Transport.OCI_ARCHIVE, tag=tag):
            has_tag = bool(tag)
        case _:
            wanted = "docker://HOST/NAME, oci:DIR or oci-archive:FILE"
            raise ImageNameError(f"{reference[:200]!r}: has no tags to choose, wanted {wanted}")
    if has_tag:
        raise ImageNameError(f"{reference[:200]!r}: found a tag or digest, wanted none beside tags")
    sources = find_sources(name, None, access)
    listed: tuple[str, ...] = ()
    if has_range(items):
        listed, sources = _list_tags(sources)
    choice = choose_tags(items, listed, reference)
    return Series(reference, choice.tags, tuple(sources), len(listed), choice.skipped)


def _require_tags(items: Sequence[Item]) -> None:
    for tag in (each for item in items for each in item):
        if not is_tag(tag):
            raise ImageNameError(
                f"tags: {tag[:130]!r} is not a tag: letters, digits, '_', '.', '-'"
            )


def _list_tags(sources: Sequence[Any]) -> tuple[tuple[str, ...], list[ImageSource]]:
    """Return the tags of the first repository that lists them, and the sources of that."""
    if isinstance(sources[0], OciLayout):
        return sources[0].tags(), [*sources]
    from vecache.image.registry.tags import list_tags  # noqa: PLC0415 - slow, as in `open.py`

    def attempt(source: Any) -> tuple[tuple[str, ...], list[ImageSource]]:
        same = [each for each in sources if each.named == source.named]
        return list_tags(source.session, source.image.repository), same

    # A mirror need not have all tags. It is asked where the registry itself is blocked.
    registries = [each for each in sources if not each.is_mirror] or sources[-1:]
    return first_of(partial(attempt, each) for each in registries)


def _with_tag(source: Any, tag: str) -> ImageSource:
    """Return the source of one tag of a registry's repository, or of a layout."""
    if isinstance(source, OciLayout):
        return replace(source, tag=tag)
    one: ImageSource = source.with_tag(tag)
    return one
