"""The images of one run: their options, their names from a file, opening them.

Imports only what the parsers need, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, error_text, note, read_input
from vecache.cli.values import check_platform, parse_bool, parse_count
from vecache.errors import ImageNameError, VecacheError
from vecache.report.terminal import count
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from vecache.image.model import Image
    from vecache.image.registry.access import Access
    from vecache.store.graphroot import Store

__all__ = [
    "BadImages",
    "add_images",
    "note_origins",
    "note_platform",
    "open_images",
    "read_image_list",
    "registry_access",
    "sort_out_images",
]

_MAX_LIST_BYTES = 1 << 20


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add IMAGE and the options for opening one; `sort_out_images` counts them."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="*",
        help="oci:DIR[:TAG], oci-archive:FILE[:TAG], dir:DIR, containers-storage:NAME, "
        "[docker://]HOST[:PORT]/NAME[:TAG|@DIGEST], or a short NAME, as registries.conf says",
    )
    where = parser.add_argument_group("where images are")
    where.add_argument(
        "--platform",
        metavar="OS/ARCH",
        type=check_platform,
        help="what images must be for (default: this machine's, from a list of images)",
    )
    where.add_argument("--authfile", metavar="FILE", help="logins for registries")
    where.add_argument(
        "--creds",
        metavar="USER[:PASSWORD]",
        help="login for the one registry of all images; asks for a password that is left out",
    )
    where.add_argument(
        "--cert-dir", metavar="DIR", help="certificates for registries: *.crt, *.cert and *.key"
    )
    where.add_argument(
        "--tls-verify",
        metavar="{true,false}",
        type=parse_bool,
        nargs="?",
        const=True,
        help="verify a registry's certificate; false also allows plain http "
        "(default: as registries.conf says, else true)",
    )
    where.add_argument(
        "--retry-times",
        metavar="N",
        type=parse_count,
        help="how often to try again what a registry does not answer (default: 3)",
    )


def sort_out_images(args: argparse.Namespace, *, most: int | None = None) -> None:
    """Move images that argparse took for ids of `--present` back; check number and form."""
    from vecache.image.name import RegistryName, ShortName, parse_image_name

    ids: Sequence[str] = args.present or ()
    args.image = [*args.image, *filter(_is_image, ids)]
    if args.present is not None:
        args.present = [word for word in ids if not _is_image(word)]
    if not args.image:
        hint = "; put it before --present" if ids else "; `--help` lists the ways"
        raise UsageError(f"name an IMAGE, such as oci:DIR:TAG{hint}")
    if most is not None and len(args.image) > most:
        raise UsageError(f"found {len(args.image)} images, wanted {most} at most")
    names = [parse_image_name(image) for image in args.image]  # wrong usage, whatever the store is
    domains = {name.domain for name in names if isinstance(name, RegistryName)}
    domains |= {str(name) for name in names if isinstance(name, ShortName)}
    if args.creds is not None and len(domains) > 1:
        found = ", ".join(sorted(domains))
        raise UsageError(f"--creds is for one registry; found {found}; use --authfile")
    for option in ("authfile", "creds", "cert_dir", "tls_verify", "retry_times"):
        if not domains and getattr(args, option) is not None:
            name = option.replace("_", "-")
            note(f"--{name} does nothing here: no image is in a registry")


def registry_access(args: argparse.Namespace) -> Access:
    """Return how the command line says that registries are reached; may ask for a password."""
    from vecache.image.registry.access import Access

    credentials = retry = None
    if args.creds is not None:
        user, colon, password = args.creds.partition(":")
        if not user:
            raise UsageError("--creds: found no user, wanted USER or USER:PASSWORD")
        credentials = user, password if colon else _ask_for_password(user)
    if args.retry_times is not None:
        from vecache.image.registry.http import RetryPolicy

        retry = RetryPolicy(n_attempts=args.retry_times + 1)
    return Access.of(
        tls_verify=args.tls_verify,
        auth_file=args.authfile,
        credentials=credentials,
        cert_dir=args.cert_dir,
        retry=retry,
    )


def _ask_for_password(user: str) -> str:
    from getpass import getpass

    try:
        if sys.stdin is not None and sys.stdin.isatty():
            return getpass(f"Password for {printable(user)}: ")
    except EOFError:
        pass
    raise UsageError("--creds: found no password, and no terminal to ask; wanted USER:PASSWORD")


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


def open_images(
    args: argparse.Namespace, store: Store | None, bad: BadImages, access: Access | None = None
) -> list[Image]:
    """Open the images that the command line names."""
    from vecache.image.open import open_with

    access = registry_access(args) if access is None else access
    images = []
    for reference in args.image:
        with bad.collect(reference):
            images.append(open_with(access, reference, platform=args.platform, store=store))
    note_platform(args, images)
    return images


def note_platform(args: argparse.Namespace, images: Sequence[Image]) -> None:
    """Say that `--platform` did nothing, where that is so."""
    if args.platform is not None and images and not any(image.is_chosen for image in images):
        note("--platform chooses nothing here: no image is one of several platforms")


def note_origins(images: Sequence[Image]) -> None:
    """Say which images were read from a registry or mirror that their names do not name."""
    for image in images:
        if image.origin:
            note(printable(f"{image.reference} was read from {image.origin}"))


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


def _is_image(word: str) -> bool:
    """Return whether a word has a transport, which no name of a present layer or image has."""
    from vecache.image.name import Transport

    return word.partition(":")[0] in set(Transport)
