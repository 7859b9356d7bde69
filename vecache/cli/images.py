"""The images of one run: read their names from a file, open them, go on after one that is bad."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, error_text, note, read_input
from vecache.errors import ImageNameError, VecacheError
from vecache.report.terminal import count
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from vecache.image.model import Image
    from vecache.store.graphroot import Store

__all__ = ["BadImages", "note_platform", "open_images", "read_image_list"]

_MAX_LIST_BYTES = 1 << 20


class BadImages:
    """The images that could not be opened or planned, where the run goes on without them."""

    def __init__(self, *, keep_going: bool) -> None:
        self._keep_going = keep_going
        self.errors: list[dict[str, str]] = []
        """Image and error of each: what the JSON lists."""

    @contextmanager
    def collect(self, reference: str) -> Iterator[None]:
        """Note an error about one image; raise it where the run does not go on."""
        try:
            yield
        except (VecacheError, OSError) as error:
            if not self._keep_going:
                raise
            self.errors.append({"image": reference, "error": error_text(error)})

    def warn(self, n_images: int) -> None:
        """Print the errors, and of how many images the figures are."""
        for each in self.errors:
            line = printable(f"{each['image']}: {each['error']}")
            print(f"vecache: error: {line}", file=sys.stderr)
        if self.errors:
            n_bad = len(self.errors)
            rest = "all figures are of the others" if n_bad < n_images else "there are no figures"
            bad = f"{n_bad:,} of {count(n_images, 'image')} could not be planned"
            print(f"vecache: error: {bad}; {rest}", file=sys.stderr)


def open_images(args: argparse.Namespace, store: Store | None, bad: BadImages) -> list[Image]:
    """Open the images that the command line names."""
    from vecache.image.open import open_image

    images = []
    for reference in args.image:
        with bad.collect(reference):
            images.append(
                open_image(
                    reference,
                    platform=args.platform,
                    store=store,
                    tls_verify=args.tls_verify,
                    auth_file=args.authfile,
                )
            )
    note_platform(args, images)
    return images


def note_platform(args: argparse.Namespace, images: Sequence[Image]) -> None:
    """Say that `--platform` did nothing, where that is so."""
    if args.platform is not None and images and not any(image.is_chosen for image in images):
        note("--platform chooses nothing here: no image is one of several platforms")


def read_image_list(path: str) -> list[str]:
    """Read references from a file, or from standard input for `-`.

    One a line. Blank lines do not count, nor what begins with `#` at the start of a line or behind
    a space.
    """
    from vecache.image.name import parse_image_name

    where = "standard input" if path == "-" else path
    data = read_input(path, _MAX_LIST_BYTES)
    if len(data) > _MAX_LIST_BYTES:
        raise VecacheError(f"{where}: found a list of images above {_MAX_LIST_BYTES:,} bytes")
    references = []
    for number, line in enumerate(data.splitlines(), 1):
        reference = os.fsdecode(re.split(rb"(?:^|\s)#", line, maxsplit=1)[0].strip())
        if not reference:
            continue
        try:
            parse_image_name(reference)
        except ImageNameError as error:
            raise ImageNameError(f"{where}, line {number}: {error}") from error
        references.append(reference)
    if not references:
        raise UsageError(f"--images: found no image in {where}")
    return references
