"""Read from storage.conf where the store is and how Podman uses it.

Only the first of these files that exists is read:

1. `$CONTAINERS_STORAGE_CONF`, where it is set (it is an error if there is no such file);
2. for a user: `$XDG_CONFIG_HOME/containers/storage.conf` (`~/.config/...`);
3. `/etc/containers/storage.conf`;
4. `/usr/share/containers/storage.conf`;
5. for root: `$XDG_CONFIG_HOME/containers/storage.conf`, where that variable is set.

Podman run by a user takes only the driver, the pull options and `rootless_storage_path` from the
third and fourth, which are the machine's; the rest of them describes root's store. Elsewhere
`graphroot` comes before `rootless_storage_path`. There are no drop-in files (Podman 5). The default
store is `/var/lib/containers/storage` for root and `~/.local/share/containers/storage` for a user.

`$STORAGE_OPTS` and options without influence on a pull's cost are not read.

Source: containers/storage types/options.go loadStoreOptionsFromConfFile, getRootlessStorageOpts;
types/utils.go expandEnvPath.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vecache.errors import ConfigError
from vecache.files import read_bounded
from vecache.json_fields import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StorageConfig", "config_folder", "effective_uid", "load_config", "read_toml"]

_MACHINE_FILES: Final = (
    Path("/etc/containers/storage.conf"),
    Path("/usr/share/containers/storage.conf"),
)
_MACHINE_ROOT: Final = "/var/lib/containers/storage"
_MAX_CONFIG_BYTES: Final = 1 << 18  # those of distributions have 30 kB
_MAX_DOTS: Final = 50  # in a line, outside strings; no option has more than a few
# Strings and comments of TOML. One that does not end goes to the end, so that the search is linear.
_QUOTED: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?(?:"{3,5}|\Z)|"(?:[^"\\\n]|\\.)*+"?'''
    r"""|'{3}.*?(?:'{3,5}|\Z)|'[^'\n]*+'?|#[^\n]*+""",
    re.DOTALL,
)
_NAMED: Final = "CONTAINERS_STORAGE_CONF"


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """The settings of storage.conf for the store and for pulls."""

    driver: str  # `overlay`, the only driver with TOCs, by default; `$STORAGE_DRIVER` overrides it
    graph_root: Path  # the store
    image_store: Path | None  # where images' layers are, if not in the graph root
    additional_stores: tuple[Path, ...]  # graph roots that are only read
    # Pull options. Partial pulls of eStargz layers need `allow_unpredictable`, which is the option
    # `insecure_allow_unpredictable_image_contents`.
    use_hard_links: bool
    enable_partial_images: bool
    convert_images: bool
    allow_unpredictable: bool
    use_composefs: bool  # whether new layers get the flat layout
    path: Path | None  # the file that was read; None if there is none


def effective_uid(environ: Mapping[str, str]) -> int:
    """Return the id of the user whose store Podman would use."""
    # Inside `podman unshare` everybody seems to be root; the variable holds the user's own id.
    outside = environ.get("_CONTAINERS_ROOTLESS_UID", "")
    return int(outside) if re.fullmatch("[0-9]{1,10}", outside) else os.geteuid()


def load_config(environ: Mapping[str, str], uid: int) -> StorageConfig:
    """Read storage.conf as Podman run by a user would; the defaults where there is no file."""
    path, is_own = _config_file(environ, uid)
    document = Fields({} if path is None else read_toml(path, _NAMED), str(path), ConfigError)
    storage = document.object("storage", {})
    options = storage.object("options", {})
    own_options = options if is_own else Fields({}, options.where, ConfigError)
    pull = options.object("pull_options", {})
    driver = environ.get("STORAGE_DRIVER") or storage.text("driver", "") or "overlay"
    graph_root = _graph_root(storage, environ, uid, is_own=is_own)
    image_store = _path(storage, "imagestore") if is_own else ""
    if image_store and os.path.abspath(image_store) == str(graph_root):
        raise ConfigError(f"{storage.where}: imagestore: {image_store} is the graph root itself")
    return StorageConfig(
        driver="overlay" if driver == "overlay2" else driver,
        graph_root=graph_root,
        image_store=Path(os.path.abspath(image_store)) if image_store else None,
        additional_stores=_absolute_paths(own_options, "additionalimagestores"),
        use_hard_links=_switch(pull, "use_hard_links"),
        enable_partial_images=_switch(pull, "enable_partial_images"),
        convert_images=_switch(pull, "convert_images"),
        allow_unpredictable=_switch(pull, "insecure_allow_unpredictable_image_contents"),
        use_composefs=_switch(own_options.object("overlay", {}), "use_composefs"),
        path=path,
    )


def _config_file(environ: Mapping[str, str], uid: int) -> tuple[Path | None, bool]:
    """Return the file to read, and whether all of it applies to this user."""
    named = environ.get(_NAMED)
    if named is not None:
        if not named:
            raise ConfigError(f"{_NAMED}: found an empty value; unset it, or name a file")
        return Path(named), True
    if uid != 0:
        own = config_folder(environ, uid) / "storage.conf"
        if _is_there(own):
            return own, True
    files = [*_MACHINE_FILES]
    if uid == 0 and environ.get("XDG_CONFIG_HOME"):
        files.append(config_folder(environ, uid) / "storage.conf")
    return next((file for file in files if _is_there(file)), None), uid == 0


def _is_there(path: Path) -> bool:
    """Return whether there is a file, or a name that cannot be looked up, as reading it shows."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _graph_root(storage: Fields, environ: Mapping[str, str], uid: int, *, is_own: bool) -> Path:
    """Return the store that the file names, or the default one."""
    chosen = _path(storage, "graphroot") if is_own else ""
    # For root too, whatever its name says.
    chosen = chosen or _path(storage, "rootless_storage_path")
    if chosen:
        known = {**environ, "UID": str(uid), "HOME": _home(environ, uid)}
        # As Go's os.ExpandEnv does: a variable that is not set is empty.
        chosen = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: known.get(m[1] or m[2], ""), chosen)
    elif uid == 0:
        chosen = _MACHINE_ROOT
    else:
        data = environ.get("XDG_DATA_HOME") or os.path.join(_home(environ, uid), ".local", "share")
        chosen = os.path.join(data, "containers", "storage")
    return Path(os.path.abspath(chosen))


def config_folder(environ: Mapping[str, str], uid: int) -> Path:
    """Return the folder of the user's own configuration files."""
    folder = environ.get("XDG_CONFIG_HOME") or os.path.join(_home(environ, uid), ".config")
    return Path(folder, "containers")


def _home(environ: Mapping[str, str], uid: int) -> str:
    """Return the user's home folder: `$HOME`, or what the password file says."""
    if environ.get("HOME"):
        return environ["HOME"]
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        raise ConfigError(
            f"user {uid} has no home folder, so their configuration cannot be found; set HOME"
        ) from None


def read_toml(path: Path, variable: str) -> dict[str, Any]:
    """Read a TOML file, which `variable` can replace; a device such as /dev/null is empty."""
    try:
        data = b"" if stat.S_ISCHR(path.stat().st_mode) else read_bounded(path, _MAX_CONFIG_BYTES)
        text = data.decode()
        _refuse_long_keys(text)
        return tomllib.loads(text)
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, RecursionError) as error:  # a TOML error names line and column
        reason = str(error).partition("; use sys.")[0][:200]
    raise ConfigError(f"{path}: {reason}; correct the file, or name another in {variable}")


def _refuse_long_keys(text: str) -> None:
    """Raise ValueError for a line with too many dots."""
    # A key of n parts, `a.b.c`, takes the parser n * n of time and memory: gigabytes for 64 kB.
    for number, line in enumerate(_QUOTED.sub(_line_breaks, text).split("\n"), 1):
        if line.count(".") > _MAX_DOTS:
            raise ValueError(f"more than {_MAX_DOTS} dots outside strings (at line {number})")


def _line_breaks(quoted: re.Match[str]) -> str:
    return "\n" * quoted[0].count("\n")


def _switch(table: Fields, key: str) -> bool:
    """Return a switch, which the file holds as the string "true" or "false"."""
    value = table.values.get(key, False)
    if not isinstance(value, str | bool):
        raise ConfigError(
            f'{table.where}: {key}: found {value!r:.60}, wanted "true" or "false", in quotes'
        )
    return value.lower() == "true" if isinstance(value, str) else value


def _path(table: Fields, key: str) -> str:
    """Return a path; empty where it is missing."""
    text = table.text(key, "")
    if "\0" in text:
        raise ConfigError(f"{table.where}: {key}: found {text!r:.60}, wanted a path without NUL")
    return text


def _absolute_paths(table: Fields, key: str) -> tuple[Path, ...]:
    """Return a list of absolute paths, without tables such as `{append=true}`."""
    values = table.values.get(key, [])
    if isinstance(values, list):
        paths = [value for value in values if not isinstance(value, dict)]
        if all(
            isinstance(path, str) and os.path.isabs(path) and "\0" not in path for path in paths
        ):
            return tuple(Path(os.path.normpath(path)) for path in paths)
    raise ConfigError(
        f"{table.where}: {key}: found {values!r:.60}, wanted a list of absolute paths"
    )
