"""What can be wrong with input, as one small tree.

Everything that outside bytes, files, stores or registries can cause is a `VecacheError`, and each
class is a builtin error too, so callers who do not know this package can still catch it. Mistakes
of a caller (a wrong type, an impossible option) raise plain `TypeError` or `ValueError`.

Each message says what is wrong, where (file, section, byte offset) and, where there is
something to do, what to do. `exit_code` is what the command line returns for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import os

__all__ = [
    "ConfigError",
    "DatasetError",
    "DigestError",
    "FormatError",
    "ImageError",
    "ImageNotFoundError",
    "LayerNotFoundError",
    "LimitError",
    "LocationError",
    "MissingExtraError",
    "PathNotFoundError",
    "RegistryError",
    "StoreError",
    "TocError",
    "TruncatedError",
    "VecacheError",
    "VersionError",
]


class VecacheError(Exception):
    """The root of every error that input can cause."""

    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a message for people stays as it was written.
        return str(self.args[0]) if self.args else type(self).__name__


class FormatError(VecacheError, ValueError):
    """A cache file breaks the format.

    Parameters
    ----------
    reason : str
        What was found and what was wanted.
    section : str
        Part of the file: `header`, `bloom`, `sizes`, `tags`, `vdata` or `fnames`.
    offset : int
        Byte offset in the file of the field or row that is wrong.
    path : str or os.PathLike, optional
        The file, where there is one.
    """

    def __init__(
        self,
        reason: str,
        *,
        section: str,
        offset: int,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.reason = reason
        self.section = section
        self.offset = offset
        self.path = path
        where = f"{path}: " if path is not None else ""
        super().__init__(f"{where}{section} at byte {offset}: {reason}")


class TruncatedError(FormatError):
    """The file ends before a part that its header announces."""


class LimitError(FormatError):
    """A size is over the limit that containers/storage sets."""


class LocationError(FormatError):
    """A tag points outside the locations, or a location outside the names."""


class VersionError(VecacheError, ValueError):
    """The file is of another version, which containers/storage treats as "no cache"."""


class DigestError(VecacheError, ValueError):
    """A text is not a digest, or digests that must be alike are not."""


class TocError(VecacheError, ValueError):
    """A table of contents breaks a rule, or is not what its digest promised."""


class StoreError(VecacheError, OSError):
    """A graph root cannot be read, or is not one."""


class ConfigError(VecacheError, ValueError):
    """A configuration file (storage.conf, an auth file) cannot be understood."""


class LayerNotFoundError(VecacheError, KeyError):
    """A layer that was asked for by name is not in the store."""

    exit_code = 1


class DatasetError(VecacheError, ValueError):
    """A folder is no data set that `vecache export` wrote, or is damaged."""


class PathNotFoundError(VecacheError, KeyError):
    """No layer of an image has the path that was asked for."""

    exit_code = 1


class ImageError(VecacheError, ValueError):
    """An image reference, manifest or blob cannot be understood."""


class ImageNotFoundError(ImageError, KeyError):
    """An image that was asked for by name is not there."""

    exit_code = 1


class RegistryError(ImageError, ConnectionError):
    """A registry could not be asked, or refused."""


class MissingExtraError(VecacheError, ImportError):
    """A package is not installed that only some users need."""
