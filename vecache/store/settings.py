"""Read how Podman pulls into a store: from storage.conf, containers.conf and the file system.

Of containers.conf only `image_parallel_copies` in `[engine]` is read, the number of layers that are
copied at the same time. Each of these files replaces what the ones before it say:

1. `$CONTAINERS_CONF` alone, where it is set; else
2. `/usr/share/containers/containers.conf`;
3. `/etc/containers/containers.conf`, then `/etc/containers/containers.conf.d/*.conf`;
4. for a user `/etc/containers/containers.rootless.conf`, then `*.conf` in
   `containers.rootless.conf.d/` and in `containers.rootless.conf.d/UID/`;
5. `$XDG_CONFIG_HOME/containers/containers.conf` (`~/.config/...`), then `containers.conf.d/*.conf`;
6. last of all `$CONTAINERS_CONF_OVERRIDE`.

Modules (`podman --module`) are not read.

Source: containers/common pkg/config/new.go systemConfigs (Podman 5); containers/image copy/copy.go
maxParallelDownloads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vecache.errors import ConfigError
from vecache.json_fields import Fields
from vecache.store.config import config_folder, read_toml
from vecache.store.reflink import can_reflink
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vecache.store.config import StorageConfig

__all__ = [
    "DEFAULT_PARALLEL",
    "PullSettings",
    "drop_ins",
    "is_missing",
    "load_settings",
    "read_parallel",
]

DEFAULT_PARALLEL: Final = 6
"""Layers copied at the same time where containers.conf names no number."""

_USR_FILE: Final = Path("/usr/share/containers/containers.conf")
_ETC_FILE: Final = Path("/etc/containers/containers.conf")
_NAMED: Final = "CONTAINERS_CONF"
_OVERRIDE: Final = "CONTAINERS_CONF_OVERRIDE"


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How Podman pulls into a store."""

    reflink: bool  # whether the file system of the layers' files can share blocks
    hard_links: bool  # whether files are reused by hard link
    layout: Layout  # of new layers
    parallel: int  # layers copied at the same time, at least 1
    partial: bool  # whether layers are pulled in part at all
    estargz: bool  # whether eStargz layers are; the contents of such layers are unpredictable
    convert: bool  # whether layers without a TOC are converted, and get one


def load_settings(
    config: StorageConfig,
    environ: Mapping[str, str],
    uid: int,
    *,
    files_root: Path,
    is_own: bool,
    reflink: bool | None = None,
) -> PullSettings:
    """Return the settings for a store; `reflink` replaces the test of its file system.

    The pull options of storage.conf say nothing of a store that is not the machine's own, such as
    a copied one. That pulls are partial is assumed for it.
    """
    return PullSettings(
        reflink=can_reflink(files_root) if reflink is None else reflink,
        hard_links=config.use_hard_links,
        layout=Layout.FLAT if config.use_composefs else Layout.DIR,
        parallel=read_parallel(environ, uid),
        partial=config.enable_partial_images if is_own else True,
        estargz=config.allow_unpredictable if is_own else True,
        convert=config.convert_images if is_own else False,
    )


def read_parallel(environ: Mapping[str, str], uid: int) -> int:
    """Return how many layers Podman run by a user copies at the same time."""
    found = 0
    for path in _config_files(environ, uid):
        document = Fields(read_toml(path, _NAMED), str(path), ConfigError)
        engine = document.object("engine", {})
        found = engine.integer("image_parallel_copies", found)
        if found < 0:
            raise ConfigError(
                f"{engine.where}: image_parallel_copies: found {found}, wanted a number from 1, "
                f"or 0 for {DEFAULT_PARALLEL}"
            )
    return found or DEFAULT_PARALLEL


def _config_files(environ: Mapping[str, str], uid: int) -> Iterator[Path]:
    """Yield the files that there are, in the order in which they are read."""
    named, override = environ.get(_NAMED), environ.get(_OVERRIDE)
    if named:
        if is_missing(Path(named)):
            raise ConfigError(f"{named}: no such file, but {_NAMED} names it; correct {_NAMED}")
        yield Path(named)
    else:
        yield from _file(_USR_FILE)
        yield from _withdrop_ins(_ETC_FILE)
        if uid != 0:
            rootless = _ETC_FILE.with_name("containers.rootless.conf")
            yield from _withdrop_ins(rootless)
            yield from drop_ins(Path(f"{rootless}.d", str(uid)))
        yield from _withdrop_ins(config_folder(environ, uid) / "containers.conf")
    if override:
        yield from _file(Path(override))


def _withdrop_ins(path: Path) -> list[Path]:
    return [*_file(path), *drop_ins(Path(f"{path}.d"))]


def _file(path: Path) -> list[Path]:
    return [] if is_missing(path) else [path]


def is_missing(path: Path) -> bool:
    """Return whether there is no such file; one that cannot be seen is not missing."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it is there; reading it says what is wrong
    return False


def drop_ins(folder: Path) -> list[Path]:
    """Return the files `*.conf` of a folder, sorted by name; none where it is missing."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if not each.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; correct the folder") from error
    files = (folder / name for name in sorted(names) if name.endswith(".conf"))
    return [file for file in files if not is_missing(file)]  # a symbolic link to nowhere is
