"""Find out from registries.conf where an image is: its registry, and the mirrors of that.

These files are read, one after another; a missing one is skipped.

1. The first that there is of `$CONTAINERS_REGISTRIES_CONF`, `~/.config/containers/registries.conf`
   and `/etc/containers/registries.conf`;
2. `*.conf` in `/etc/containers/registries.conf.d`, but not after the user's own file;
3. `*.conf` in `~/.config/containers/registries.conf.d`;
4. `short-name-aliases.conf`, to which Podman itself writes.

A later file replaces the lists of an earlier one, and its aliases and `[[registry]]` tables of the
same name or prefix.

A short name (`debian`) stands for its alias, else for the name in each search registry. Podman on a
terminal asks in which of several; here the first that has the image is taken, unless the
`short-name-mode` is `enforcing`. Of a name with a registry, the `[[registry]]` with the longest
prefix counts: its mirrors are tried first, then its location. Each of them is left out if the
table of its own name is blocked. Mirrors are not asked for lists of tags.

Source: containers/image pkg/sysregistriesv2, pkg/shortnames/shortnames.go Resolve,
docker/docker_image_src.go newImageSource.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vecache.errors import ConfigError, ImageNameError, RegistryError
from vecache.image.name import parse_registry_name
from vecache.json_fields import Fields
from vecache.store.config import effective_uid, read_toml
from vecache.store.settings import drop_ins, is_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vecache.image.name import RegistryName, ShortName

__all__ = ["Endpoint", "Registries", "load_registries"]

_NAMED = "CONTAINERS_REGISTRIES_CONF"
_ETC = Path("/etc/containers")
_ROOT_CACHE = Path("/var/cache")
_USES = ("", "all", "digest-only", "tag-only")
_MODES = ("", "disabled", "enforcing", "permissive")


class Endpoint(NamedTuple):
    """One place to ask for an image."""

    name: RegistryName
    is_mirror: bool = False
    is_insecure: bool = False  # any certificate is accepted, and plain http


class _Place(NamedTuple):
    """What stands for a prefix: the registry itself, or a mirror."""

    location: str  # empty: the name as it is
    is_insecure: bool = False
    use: str = ""  # of `_USES`, for a mirror


class _Registry(NamedTuple):
    """One `[[registry]]` table."""

    prefix: str
    primary: _Place
    mirrors: tuple[_Place, ...]
    is_blocked: bool
    where: str  # the file and the table, for messages


@dataclass(slots=True)
class Registries:
    """What all files say."""

    looked_at: list[Path] = field(default_factory=list)  # files and folders, for messages
    registries: dict[str, _Registry] = field(default_factory=dict)  # by prefix
    aliases: dict[str, tuple[str, Path]] = field(default_factory=dict)  # value and file
    search: list[str] = field(default_factory=list)
    search_file: Path | None = None
    mode: str = ""
    helpers: list[str] = field(default_factory=list)  # for logins; see `auth.py`

    def resolve(self, short: ShortName) -> list[RegistryName]:
        """Return the names that a short name may stand for, in the order to try them."""
        value, file = self.aliases.get(short.repository, ("", None))
        if value:
            version = str(short)[len(short.repository) :]
            name = _parse(value + version, f"{file}: aliases: {short.repository}")
            if not value.startswith(f"{name.domain}/"):
                raise ConfigError(f"{file}: aliases: found {value[:100]!r}, wanted HOST/NAME")
            return [name]
        if not self.search:
            raise ImageNameError(
                f"{str(short)!r}: no transport and no host, and no registry for it in "
                f"{', '.join(map(str, self.looked_at))} (aliases, unqualified-search-registries); "
                f"name it in full, such as docker.io/{short}"
            )
        where = f"{self.search_file}: unqualified-search-registries"
        found = [_parse(f"{domain}/{short}", where) for domain in self.search]
        if self.mode == "enforcing" and len(found) > 1:
            raise ImageNameError(
                f"{str(short)!r}: {where}: found several, and short-name-mode is enforcing; "
                f"name one of {', '.join(map(str, found))}"
            )
        return found

    def endpoints(self, name: RegistryName) -> list[Endpoint]:
        """Return where to ask for an image, mirrors first."""
        registry = self._find(name)
        if registry is None:
            return [Endpoint(name)]
        uses = ("", "all", "digest-only" if name.is_pinned else "tag-only")
        places = [each for each in registry.mirrors if each.use in uses]
        found, blocked = [], registry
        for place in (*places, registry.primary):
            there = _moved(name, registry, place.location)
            own = self._find(there)
            if own is not None and own.is_blocked:
                blocked = own
            else:
                is_mirror = place is not registry.primary
                found.append(Endpoint(there, is_mirror, place.is_insecure))
        if not found:
            raise RegistryError(f"{name}: {blocked.prefix} is blocked in {blocked.where}")
        return found

    def _find(self, name: RegistryName) -> _Registry | None:
        tables = (each for each in self.registries.values() if _matched(name.name, each.prefix))
        return max(tables, key=lambda each: len(each.prefix), default=None)

    def add(self, path: Path) -> None:
        """Read one file."""
        document = Fields(read_toml(path, _NAMED), str(path), ConfigError)
        old = document.object("registries", {})  # version 1 of the format
        found = [_parse_table(each) for each in _objects(document, "registry")]
        for is_insecure, key in enumerate(("block", "insecure")):
            for prefix in old.object(key, {}).text_array("registries", []):
                place = _Place(prefix, bool(is_insecure))
                found.append(_Registry(prefix, place, (), not is_insecure, str(path)))
        # Of equal prefixes in one file the first counts.
        self.registries |= {each.prefix: each for each in reversed(found)}
        self.aliases |= {key: (value, path) for key, value in document.texts("aliases").items()}
        search = old.object("search", {}).text_array("registries", [])
        if search or "unqualified-search-registries" in document:
            self.search = document.text_array("unqualified-search-registries", search)
            self.search_file = path
        self.helpers = document.text_array("credential-helpers", self.helpers)
        self.mode = _choice(document, "short-name-mode", _MODES) or self.mode


def load_registries(environ: Mapping[str, str]) -> Registries:
    """Read the files that apply to this user."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    own, machine = (each / "registries.conf" for each in (home / ".config/containers", _ETC))
    file, folders = machine, [Path(f"{machine}.d"), Path(f"{own}.d")]
    if environ.get(_NAMED):
        file = Path(environ[_NAMED])
    elif not is_missing(own):
        file, folders = own, folders[1:]
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    cache = _ROOT_CACHE if effective_uid(environ) == 0 else cache
    files = [file] if environ.get(_NAMED) or not is_missing(file) else []
    files += [each for folder in folders for each in drop_ins(folder)]
    recorded = cache / "containers/short-name-aliases.conf"
    files += [] if is_missing(recorded) else [recorded]
    registries = Registries([file, *folders])
    for path in files:
        registries.add(path)
    return registries


def _objects(table: Fields, key: str) -> list[Fields]:
    return table.objects(key) if key in table else []


def _choice(table: Fields, key: str, choices: tuple[str, ...]) -> str:
    value = table.text(key, "")
    if value not in choices:
        wanted = ", ".join(choices[1:])
        raise ConfigError(f"{table.where}: {key}: found {value[:60]!r}, wanted one of {wanted}")
    return value


def _switch(table: Fields, key: str) -> bool:
    return table.boolean(key) if key in table else False


def _parse_table(table: Fields) -> _Registry:
    """Read a `[[registry]]` table."""
    primary = _parse_place(table)
    prefix = table.text("prefix", "").rstrip("/") or primary.location
    is_wildcard = prefix.startswith("*.")
    if is_wildcard and any(character in prefix for character in "/@:"):
        raise ConfigError(f"{table.where}: prefix: found {prefix!r}, wanted *.DOMAIN alone")
    if not (primary.location or is_wildcard):
        raise ConfigError(f"{table.where}: location is missing, wanted HOST[:PORT][/NAME]")
    mirrors = tuple(map(_parse_place, _objects(table, "mirror")))
    if not all(each.location for each in mirrors):
        raise ConfigError(f"{table.where}: mirror: location is missing")
    if _switch(table, "mirror-by-digest-only"):
        mirrors = tuple(each._replace(use="digest-only") for each in mirrors)
    return _Registry(prefix, primary, mirrors, _switch(table, "blocked"), table.where)


def _parse_place(table: Fields) -> _Place:
    location = table.text("location", "").rstrip("/")
    if location.startswith(("http://", "https://")):
        raise ConfigError(f"{table.where}: location: found {location[:100]!r}, wanted no scheme")
    return _Place(location, _switch(table, "insecure"), _choice(table, "pull-from-mirror", _USES))


def _matched(name: str, prefix: str) -> int:
    """Return how much of a name a prefix covers; 0 where it does not match."""
    end = len(prefix)
    if prefix.startswith("*."):
        domain = name.partition("/")[0].partition(":")[0]
        return len(domain) if domain.endswith(prefix[1:]) else 0
    # `:` also where it begins a port, as upstream has it.
    return end if name.startswith(prefix) and name[end : end + 1] in ("", "/", ":", "@") else 0


def _moved(name: RegistryName, registry: _Registry, location: str) -> RegistryName:
    """Return the name with a location in place of the prefix."""
    if not location:
        return name
    text = location + str(name)[_matched(name.name, registry.prefix) :]
    there = _parse(text, f"{registry.where}: location")
    if str(there) != text:  # `mirror/debian` would be a repository of Docker Hub
        raise ConfigError(f"{registry.where}: location: found {location[:100]!r}, wanted a host")
    return there


def _parse(text: str, where: str) -> RegistryName:
    try:
        return parse_registry_name(text)
    except ImageNameError as error:
        raise ConfigError(f"{where}: {error}") from error
