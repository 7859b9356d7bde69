"""Protects: registries.conf decides where an image is read as it does for Podman."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.errors import ConfigError, ImageNameError, RegistryError, VecacheError
from vecache.image.name import RegistryName, ShortName, parse_image_name
from vecache.image.registry.registries import Registries, load_registries

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "sha256:" + "ab" * 32
EXAMPLE = """
unqualified-search-registries = ["example.com"]
[[registry]]
prefix = "example.com/foo"
location = "internal.example.com/bar"
[[registry.mirror]]
location = "mirror-0.local/mirror-for-foo"
[[registry.mirror]]
location = "mirror-1.local/mirrors/foo"
insecure = true
[[registry]]
location = "registry.com"
[[registry.mirror]]
location = "mirror.registry.com"
"""  # of containers-registries.conf(5), with other hosts


def parse(tmp_path: Path, text: str) -> Registries:
    path = tmp_path / "registries.conf"
    path.write_text(text)
    found = Registries([path])
    found.add(path)
    return found


def resolve(registries: Registries, text: str) -> list[str]:
    name = parse_image_name(text)
    assert isinstance(name, ShortName)
    return [str(each) for each in registries.resolve(name)]


def places(registries: Registries, text: str) -> list[str]:
    name = parse_image_name(text)
    assert isinstance(name, RegistryName)
    return [str(each.name) for each in registries.endpoints(name)]


def test_the_example_of_the_manual_page(tmp_path: Path) -> None:
    registries = parse(tmp_path, EXAMPLE)
    assert places(registries, "example.com/foo/image:1") == [
        "mirror-0.local/mirror-for-foo/image:1",
        "mirror-1.local/mirrors/foo/image:1",
        "internal.example.com/bar/image:1",
    ]
    assert places(registries, "registry.com/image") == [
        "mirror.registry.com/image:latest",
        "registry.com/image:latest",
    ]
    name = RegistryName("example.com", "foo/image", "1")
    found = registries.endpoints(name)
    assert [(each.is_mirror, each.is_insecure) for each in found] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    assert places(registries, "example.com/food:1") == ["example.com/food:1"]
    assert resolve(registries, "foo") == ["example.com/foo:latest"]


@pytest.mark.parametrize(
    ("prefix", "image", "is_matched"),
    [
        ("a.io", "a.io/x", True),
        ("a.io", "a.io:5000/x", True),  # as upstream has it
        ("a.io", "a.io.evil/x", False),
        ("a.io/x", "a.io/x", True),
        ("a.io/x", "a.io/x/y", True),
        ("a.io/x", "a.io/xy", False),
        ("docker.io/library", "docker.io/debian", True),
        ("docker.io/debian", "docker.io/debian", False),  # it is in library/
        ("*.a.io", "b.a.io/x", True),
        ("*.a.io", "c.b.a.io:5000/x", True),
        ("*.a.io", "a.io/x", False),
        ("*.a.io", "b.a.io.evil/x", False),
        ("*.a.io", "evil.io/b.a.io/x", False),
    ],
)
def test_prefixes_end_where_a_part_of_the_name_does(
    prefix: str, image: str, is_matched: bool, tmp_path: Path
) -> None:
    location = "there.io/y" if "/" in prefix else "there.io"
    registries = parse(tmp_path, f'[[registry]]\nprefix="{prefix}"\nlocation="{location}"\n')
    assert places(registries, image)[0].startswith(location) == is_matched


def test_the_longest_prefix_counts_and_the_first_of_equal_ones(tmp_path: Path) -> None:
    tables = [("a.io", "1.io"), ("a.io/x/y", "2.io"), ("a.io/x", "3.io"), ("a.io/x/y", "4.io")]
    text = "".join(f'[[registry]]\nprefix="{a}"\nlocation="{b}"\n' for a, b in tables)
    assert places(parse(tmp_path, text), "a.io/x/y/z:1") == ["2.io/z:1"]


def test_a_wildcard_without_a_location_leaves_the_name(tmp_path: Path) -> None:
    mirror = '[[registry.mirror]]\nlocation="m.io/n"\n'
    registries = parse(tmp_path, f'[[registry]]\nprefix="*.a.io"\ninsecure=true\n{mirror}')
    assert places(registries, "b.a.io/x:1") == ["m.io/n/x:1", "b.a.io/x:1"]
    assert [
        each.is_insecure for each in registries.endpoints(RegistryName("b.a.io", "x", "1"))
    ] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("of_registry", "of_mirror", "by_tag", "by_digest"),
    [
        ("", "", True, True),
        ("", 'pull-from-mirror="all"', True, True),
        ("", 'pull-from-mirror="digest-only"', False, True),
        ("", 'pull-from-mirror="tag-only"', True, False),
        ("mirror-by-digest-only=true", "", False, True),
        ("mirror-by-digest-only=false", "", True, True),
    ],
)
def test_mirrors_may_be_for_tags_or_digests_only(
    of_registry: str, of_mirror: str, by_tag: bool, by_digest: bool, tmp_path: Path
) -> None:
    text = f'[[registry]]\nlocation="a.io"\n{of_registry}\n'
    registries = parse(tmp_path, f'{text}[[registry.mirror]]\nlocation="m.io"\n{of_mirror}\n')
    assert (len(places(registries, "a.io/x:1")) == 2) == by_tag
    assert (len(places(registries, f"a.io/x@{DIGEST}")) == 2) == by_digest


def test_a_blocked_registry_is_not_asked_but_its_mirrors_are(tmp_path: Path) -> None:
    registries = parse(tmp_path, '[[registry]]\nlocation="a.io"\nblocked=true\n')
    with pytest.raises(RegistryError, match=r"a.io/x:1: a.io is blocked in .*registries.conf"):
        places(registries, "a.io/x:1")
    text = '[[registry]]\nlocation="a.io"\nblocked=true\n[[registry.mirror]]\nlocation="m.io"\n'
    assert places(parse(tmp_path, text), "a.io/x:1") == ["m.io/x:1"]
    text += '[[registry]]\nlocation="m.io"\nblocked=true\n'
    with pytest.raises(RegistryError, match="blocked"):
        places(parse(tmp_path, text), "a.io/x:1")


def test_short_names_have_aliases_or_are_searched(tmp_path: Path) -> None:
    registries = parse(
        tmp_path,
        'unqualified-search-registries=["a.io","docker.io"]\n'
        '[aliases]\nfedora="registry.fedoraproject.org/fedora"\n"b/c"="docker.io/c"\nnone=""\n',
    )
    assert resolve(registries, "fedora:41") == ["registry.fedoraproject.org/fedora:41"]
    assert resolve(registries, f"fedora@{DIGEST}") == [
        f"registry.fedoraproject.org/fedora@{DIGEST}"
    ]
    assert resolve(registries, "b/c") == ["docker.io/library/c:latest"]
    assert resolve(registries, "none") == ["a.io/none:latest", "docker.io/library/none:latest"]
    registries.mode = "enforcing"
    assert len(resolve(registries, "fedora")) == 1
    with pytest.raises(ImageNameError, match=r"is enforcing; name one of a.io/x:1, docker.io/lib"):
        resolve(registries, "x:1")


def test_where_nothing_names_a_registry_the_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageNameError) as caught:
        load_registries(os.environ).resolve(ShortName("debian", "12"))
    assert "/registries.conf, " in str(caught.value)
    assert "/.config/containers/registries.conf.d (aliases" in str(caught.value)
    assert "such as docker.io/debian:12" in str(caught.value)
    assert caught.value.exit_code == 2


def write_files(tmp_path: Path, *names: str) -> None:
    """Write files whose search list is their own name."""
    for name in names:
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = f'[[registry]]\nprefix="{name.replace("/", "-").lower()}.io"\nlocation="x.io"\n'
        alias = '[aliases]\nx="last.io/' + name.rpartition("/")[2].partition(".")[0].lower() + '"\n'
        path.write_text(f'unqualified-search-registries=["{len(name)}.io"]\n{alias}{table}')


ETC = ("etc/registries.conf", "etc/registries.conf.d/b.conf", "etc/registries.conf.d/a.conf")
OWN = (".config/containers/registries.conf", ".config/containers/registries.conf.d/z.conf")


@pytest.mark.parametrize(
    ("files", "alias", "n_tables"),
    [
        (ETC[:1], "registries", 1),
        (ETC, "b", 3),
        ([*ETC, "etc/registries.conf.d/c.txt"], "b", 3),
        ([*ETC, OWN[1]], "z", 4),
        ([*ETC, *OWN], "z", 2),  # the user's own file hides the machine's, and its drop-ins
        ([*ETC, OWN[0]], "registries", 1),
        ([*ETC, OWN[1], "named.conf"], "z", 4),
    ],
)
def test_files_are_read_in_the_order_of_podman(
    files: list[str],
    alias: str,
    n_tables: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_files(tmp_path, *files)
    if "named.conf" in files:
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "home/named.conf"))
    found = load_registries(os.environ)
    assert resolve(found, "x:1") == [f"last.io/{alias}:1"]
    assert len(found.registries) == n_tables


def test_what_podman_recorded_comes_before_aliases(tmp_path: Path) -> None:
    write_files(tmp_path, *ETC)
    for folder in ("machine-cache", "xdg_cache_home"):  # of root, of a user
        path = tmp_path / "home" / folder / "containers/short-name-aliases.conf"
        path.parent.mkdir(parents=True)
        path.write_text('[aliases]\nx="recorded.io/y"\n')
    assert resolve(load_registries(os.environ), "x") == ["recorded.io/y:latest"]


def test_a_named_file_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", "/nowhere/x.conf")
    with pytest.raises(ConfigError, match=r"/nowhere/x\.conf: No such file"):
        load_registries(os.environ)


def test_credential_helpers_are_read(tmp_path: Path) -> None:
    assert parse(tmp_path, "").helpers == []
    assert parse(tmp_path, 'credential-helpers=["a","containers-auth.json"]').helpers[0] == "a"


def test_version_1_of_the_format_is_read(tmp_path: Path) -> None:
    registries = parse(
        tmp_path,
        '[registries.search]\nregistries=["a.io"]\n[registries.insecure]\nregistries=["b.io"]\n'
        '[registries.block]\nregistries=["c.io"]\n',
    )
    assert resolve(registries, "x") == ["a.io/x:latest"]
    assert registries.endpoints(RegistryName("b.io", "x", "1"))[0].is_insecure
    with pytest.raises(RegistryError, match=r"c\.io is blocked"):
        places(registries, "c.io/x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nx = y\nz = 1", r"registries.conf: .*line 2"),
        ("registry = 5", "registry: found an integer, wanted an array"),
        ("[registry]\nlocation='a.io'", "registry: found an object, wanted an array"),
        ("[[registry]]\nlocation=5", r"registry\[0\]: location: found an integer"),
        ("[[registry]]\nprefix='a.io'", r"registry\[0\]: location is missing"),
        ("[[registry]]\nlocation='https://a.io'", "wanted no scheme"),
        ("[[registry]]\nprefix='*.a.io/x'", r"wanted \*.DOMAIN alone"),
        ("[[registry]]\nlocation='a.io'\nblocked='yes'", "blocked: found a string, wanted a bool"),
        (
            "[[registry]]\nlocation='a.io'\n[[registry.mirror]]\ninsecure=true",
            "mirror: location is",
        ),
        (
            "[[registry]]\nlocation='a.io'\n[[registry.mirror]]\nlocation='m'\npull-from-mirror='x'",
            "pull-from-mirror: found 'x', wanted one of all, digest-only, tag-only",
        ),
        ("short-name-mode='x'", "wanted one of disabled, enforcing, permissive"),
        ("unqualified-search-registries='a.io'", "found a string, wanted an array"),
        ("aliases=5", "aliases: found an integer"),
    ],
)
def test_a_malformed_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "image", "message"),
    [
        ("[aliases]\nx='a.io/y:1'", "x", "aliases: x: .*not a tag"),
        ("[aliases]\nx='y'", "x", "aliases: found 'y', wanted HOST/NAME"),
        ("unqualified-search-registries=['a b']", "x", "unqualified-search-registries: "),
        ("[[registry]]\nprefix='a.io'\nlocation='A/b c'", "a.io/x", "location: .*not a repository"),
        # Joined, `mirror/x` would be a repository of Docker Hub.
        ("[[registry]]\nprefix='a.io'\nlocation='mirror'", "a.io/x", "'mirror', wanted a host"),
    ],
)
def test_a_malformed_value_is_named_where_it_is_used(
    text: str, image: str, message: str, tmp_path: Path
) -> None:
    registries = parse(tmp_path, text)
    name = parse_image_name(image)
    with pytest.raises(ConfigError, match=message):
        registries.resolve(name) if isinstance(name, ShortName) else places(registries, image)


WORDS = st.sampled_from(["a.io", "*.a.io", "a.io/x", "b", "", "x:1", "https://a.io", "all", "é"])
TABLES = st.dictionaries(
    st.sampled_from(["prefix", "location", "insecure", "blocked", "pull-from-mirror"]),
    WORDS | st.booleans() | st.integers(),
)


@given(st.lists(TABLES), st.lists(WORDS), st.dictionaries(WORDS, WORDS))
def test_whatever_files_hold_the_error_is_our_own(
    tmp_path_factory: pytest.TempPathFactory,
    tables: list[dict[str, object]],
    search: list[str],
    aliases: dict[str, str],
) -> None:
    def value(each: object) -> str:
        return str(each).lower() if isinstance(each, bool) else repr(each)

    text = f"unqualified-search-registries={search!r}\n[aliases]\n"
    text += "".join(f"{key!r}={name!r}\n" for key, name in aliases.items())
    for table in tables:
        text += "[[registry]]\n" + "".join(f"{key}={value(table[key])}\n" for key in table)
    for image in ("x:1", "b", "a.io/x:1", "b.a.io/x"):
        try:
            registries = parse(tmp_path_factory.mktemp("conf"), text)
            name = parse_image_name(image)
            names = registries.resolve(name) if isinstance(name, ShortName) else [name]
            assert names
            for each in names:
                assert isinstance(each, RegistryName)
                assert registries.endpoints(each)
        except VecacheError:
            pass
