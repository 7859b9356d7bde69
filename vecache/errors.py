"""The exceptions of this package, as one tree under `VecacheError`.

Everything that outside bytes, files, stores or registries can cause is a `VecacheError`, and each
class is a builtin exception too, so that callers who do not know this package can catch it. A
caller's own mistake (a wrong type, an impossible option) raises plain `TypeError` or `ValueError`.

A message says what was found, what was wanted, where (file, section, byte offset) and, where there
is something to do, what to do. `exit_code` is what the command line returns for the error.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import os

__all__ = [
    "ColumnSizeError",
    "ConfigError",
    "DatasetError",
    "DigestError",
    "FormatError",
    "ImageError",
    "ImageNameError",
    "ImageNotFoundError",
    "LayerNotFoundError",
    "LimitError",
    "LocationError",
    "MissingExtraError",
    "NodeNotFoundError",
    "PathNotFoundError",
    "RegistryError",
    "StoreError",
    "StoreLockedError",
    "TocError",
    "TruncatedError",
    "VecacheError",
    "VersionError",
    "WorkerError",
]


class VecacheError(Exception):
    """The base class of every error that input can cause.

    Attributes
    ----------
    exit_code : int
        What the command line returns for it: 1 where something asked for by name is not there, 3
        for all else.

    Examples
    --------
    >>> import vecache
    >>> try:
    ...     vecache.Toc.parse(b"no JSON")
    ... except vecache.VecacheError as error:
    ...     print(type(error).__name__, error.exit_code)
    TocError 3
    """

    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        # KeyError would show the repr of the message, with its quotes and escapes.
        return str(self.args[0]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[object, ...]:
        # As by default, but for tblib (of Dask), which would call `__new__` of a builtin base.
        return type(self), self.args, self.__dict__


class FormatError(VecacheError, ValueError):
    """A cache file breaks the format."""

    def __init__(
        self,
        reason: str,  # what was found and what was wanted
        *,
        section: str,  # `header`, `bloom`, `sizes`, `tags`, `vdata` or `fnames`
        offset: int,  # byte offset in the file of the field or row that is wrong
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.reason = reason
        self.section = section
        self.offset = offset
        self.path = path
        where = f"{path}: " if path is not None else ""
        super().__init__(f"{where}{section} at byte {offset}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:  # a pickle would pass the message alone
        make = partial(type(self), section=self.section, offset=self.offset, path=self.path)
        return make, (self.reason,)


class TruncatedError(FormatError):
    """The file ends before a part that its header announces."""


class LimitError(FormatError):
    """A size is over the limit that containers/storage sets."""


class LocationError(FormatError):
    """A tag points outside the locations, or a location outside the names."""


class IndexDamagedError(VecacheError):
    """A file of the index on disk is damaged. It is built again, so no caller sees this."""


class VersionError(VecacheError, ValueError):
    """The file is of another version, which containers/storage treats as "no cache"."""

    def __init__(self, message: str, version: int = 0) -> None:
        self.version = version  # what was found
        super().__init__(message)


class ColumnSizeError(VecacheError, ValueError):
    """A result has more bytes than one Arrow column can hold."""


class DigestError(VecacheError, ValueError):
    """A text is not a digest, or digests that must be equal differ."""


class TocError(VecacheError, ValueError):
    """A table of contents breaks a rule, or does not have the digest that was promised."""


class StoreError(VecacheError, OSError):
    """A graph root cannot be read, or a folder is not one."""


class StoreLockedError(StoreError):
    """Another process has held the lock of a store for too long."""


class ConfigError(VecacheError, ValueError):
    """A configuration file (storage.conf, an auth file) cannot be understood."""


class LayerNotFoundError(VecacheError, KeyError):
    """A layer that was asked for by name is not in the store."""

    exit_code = 1


class NodeNotFoundError(VecacheError, KeyError):
    """A node that was asked for by name is not in the fleet."""

    exit_code = 1


class DatasetError(VecacheError, ValueError):
    """A path is not a data set that `vecache export` wrote, or is damaged."""


class PathNotFoundError(VecacheError, KeyError):
    """No layer of an image has the path that was asked for."""

    exit_code = 1


class ImageError(VecacheError, ValueError):
    """An image reference, manifest or blob cannot be understood."""


class ImageNameError(ImageError):
    """A text is not the name of an image."""

    exit_code = 2


class ImageNotFoundError(ImageError, KeyError):
    """An image that was asked for by name does not exist."""

    exit_code = 1


class RegistryError(ImageError, ConnectionError):
    """A registry could not be reached, or refused."""


class MissingExtraError(VecacheError, ImportError):
    """An optional dependency is not installed."""


class WorkerError(VecacheError, RuntimeError):
    """Workers cannot be reached, have another version, or died."""
