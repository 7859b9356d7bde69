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
from vecache.image.name import PathName, RegistryName, Transport, is_tag, parse_image_name
from vecache.image.open import find_source
from vecache.image.source import load_image
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
    tls_verify: bool = True,
    auth_file: str | os.PathLike[str] | None = None,
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
    tls_verify : bool, optional
        False to accept any certificate, and a registry without TLS.
    auth_file : path, optional
        File with credentials; Podman's and Docker's files by default.
    retry : RetryPolicy, optional
        How often and how long to try to reach a registry.

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
    """
    series = find_series(reference, tags, tls_verify=tls_verify, auth_file=auth_file, retry=retry)
    return series.open(platform=platform)


@dataclass(frozen=True, slots=True)
class Series:
    """The images of a series, not opened yet."""

    reference: str  # without a tag
    tags: tuple[str, ...]
    source: ImageSource  # of the whole repository or layout
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
        return load_image(_with_tag(self.source, tag), f"{self.reference}:{tag}", platform)


def find_series(reference: str, tags: str, **access: Any) -> Series:
    """Find the images of a series; `access` is how `open_image` reaches a registry."""
    items = parse_tags(tags)
    name = parse_image_name(reference)
    match name:
        case RegistryName():
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
    source = find_source(name, None, **access)
    listed = _list_tags(source) if has_range(items) else ()
    choice = choose_tags(items, listed, reference)
    return Series(reference, choice.tags, source, len(listed), choice.skipped)


def _require_tags(items: Sequence[Item]) -> None:
    for tag in (each for item in items for each in item):
        if not is_tag(tag):
            raise ImageNameError(
                f"tags: {tag[:130]!r} is not a tag: letters, digits, '_', '.', '-'"
            )


def _list_tags(source: Any) -> tuple[str, ...]:
    if isinstance(source, OciLayout):
        return source.tags()
    from vecache.image.registry.tags import list_tags  # noqa: PLC0415 - slow, as in `open.py`

    return list_tags(source.session, source.image.repository)


def _with_tag(source: Any, tag: str) -> ImageSource:
    """Return the source of one tag of a registry's repository, or of a layout."""
    if isinstance(source, OciLayout):
        return replace(source, tag=tag)
    one: ImageSource = replace(source, image=replace(source.image, version=tag))
    return one
