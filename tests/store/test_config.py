"""storage.conf leads to the store that Podman itself would use."""

from __future__ import annotations

import contextlib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecache.store.config as config_module
from vecache.errors import ConfigError
from vecache.store.config import effective_uid, load_config

if TYPE_CHECKING:
    from collections.abc import Callable

USER = 1000


@pytest.fixture
def machine_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Stand-ins for the files in /etc and /usr/share; neither exists yet."""
    files = (tmp_path / "etc.conf", tmp_path / "usr.conf")
    monkeypatch.setattr(config_module, "_MACHINE_FILES", files)
    return files


@pytest.fixture
def environ(tmp_path: Path, machine_files: tuple[Path, Path]) -> dict[str, str]:
    del machine_files  # used so that no test sees the real ones
    return {"HOME": str(tmp_path / "home"), "USER": "ann"}


@pytest.fixture
def write_own(tmp_path: Path, environ: dict[str, str]) -> Callable[[str], Path]:
    """Write the file that $CONTAINERS_STORAGE_CONF names."""

    def write(text: str) -> Path:
        path = tmp_path / "own.conf"
        path.write_text(text)
        environ["CONTAINERS_STORAGE_CONF"] = str(path)
        return path

    return write


def test_without_any_file_the_store_is_the_default_one(environ: dict[str, str]) -> None:
    root = load_config(environ, 0)
    assert (root.graph_root, root.driver, root.path) == (
        Path("/var/lib/containers/storage"),
        "overlay",
        None,
    )
    switches = (root.use_hard_links, root.enable_partial_images, root.convert_images)
    assert (*switches, root.use_composefs) == (False, False, False, False)
    assert root.additional_stores == ()
    user = load_config(environ, USER)
    assert user.graph_root == Path(environ["HOME"], ".local/share/containers/storage")
    moved = load_config({**environ, "XDG_DATA_HOME": "/data"}, USER)
    assert moved.graph_root == Path("/data/containers/storage")


def test_the_files_are_tried_in_order(
    tmp_path: Path, environ: dict[str, str], machine_files: tuple[Path, Path]
) -> None:
    xdg = tmp_path / "xdg" / "containers" / "storage.conf"
    home = Path(environ["HOME"], ".config/containers/storage.conf")
    named = tmp_path / "named.conf"
    etc, usr = machine_files
    for path in (usr, etc, home, xdg, named):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[storage]\ndriver = 'overlay'\n")
    everything = {
        **environ,
        "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
        "CONTAINERS_STORAGE_CONF": str(named),
    }
    assert load_config(everything, USER).path == named
    assert load_config(everything, 0).path == named
    del everything["CONTAINERS_STORAGE_CONF"]
    assert load_config(everything, USER).path == xdg
    assert load_config(everything, 0).path == etc
    assert load_config(environ, USER).path == home
    home.unlink()
    assert load_config(environ, USER).path == etc
    etc.unlink()
    assert load_config(everything, 0).path == usr
    usr.unlink()
    assert load_config(everything, 0).path == xdg
    assert load_config(environ, 0).path is None


def test_a_named_file_that_is_missing_is_an_error(
    environ: dict[str, str], machine_files: tuple[Path, Path]
) -> None:
    """As in containers/storage since 1.42: another store would be shown unasked."""
    machine_files[0].write_text("[storage]\ngraphroot = '/elsewhere'\n")
    for name in ("/no/such/storage.conf", "/" + "x" * 300, "/" + "x/" * 3000, ""):
        environ["CONTAINERS_STORAGE_CONF"] = name
        with pytest.raises(ConfigError, match="CONTAINERS_STORAGE_CONF"):
            load_config(environ, 0)
    environ["CONTAINERS_STORAGE_CONF"] = "/dev/null"
    assert load_config(environ, 0).path == Path("/dev/null")


def test_an_own_file_that_cannot_be_looked_up_is_an_error(environ: dict[str, str]) -> None:
    environ["XDG_CONFIG_HOME"] = "/" + "x" * 300
    with pytest.raises(ConfigError, match="File name too long"):
        load_config(environ, USER)
    environ["XDG_CONFIG_HOME"] = "/dev/null"
    assert load_config(environ, USER).path is None


def test_all_settings_of_an_own_file(
    environ: dict[str, str], write_own: Callable[[str], Path]
) -> None:
    path = write_own(
        """
        [storage]
        driver = "overlay2"
        graphroot = "/g/../graph"
        imagestore = "/images"
        future_setting = 3
        [storage.options]
        additionalimagestores = ["/a", "/b/", {append = true}]
        pull_options = {enable_partial_images="True", use_hard_links=true, convert_images="no"}
        [storage.options.overlay]
        use_composefs = "true"
        """
    )
    config = load_config(environ, 0)
    assert config.path == path
    assert config.driver == "overlay"
    assert config.graph_root == Path("/graph")
    assert config.image_store == Path("/images")
    assert config.additional_stores == (Path("/a"), Path("/b"))
    assert (config.enable_partial_images, config.use_hard_links) == (True, True)
    assert config.convert_images is False
    assert config.allow_unpredictable is False
    assert config.use_composefs


def test_storage_driver_overrides_the_file(
    environ: dict[str, str], write_own: Callable[[str], Path]
) -> None:
    write_own("[storage]\ndriver = 'overlay'\n")
    assert load_config({**environ, "STORAGE_DRIVER": "vfs"}, 0).driver == "vfs"


def test_a_user_gets_their_own_store(
    environ: dict[str, str],
    write_own: Callable[[str], Path],
    machine_files: tuple[Path, Path],
) -> None:
    both = "[storage]\ngraphroot = '/graph'\nrootless_storage_path = '/less/$USER/$UID${HOME}'\n"
    more = "imagestore = '/i'\n[storage.options]\nadditionalimagestores = ['/a']\n"
    more += "pull_options = {use_hard_links = 'true'}\n"
    more += "[storage.options.overlay]\nuse_composefs = 'true'\n"
    machine_files[0].write_text(both + more)
    user = load_config(environ, USER)
    assert user.graph_root == Path(f"/less/ann/1000{environ['HOME']}"), "graphroot is root's"
    assert user.use_hard_links, "pull options are for all"
    assert (user.additional_stores, user.image_store, user.use_composefs) == ((), None, False)
    assert load_config(environ, 0).graph_root == Path("/graph")
    write_own(both)
    assert load_config(environ, USER).graph_root == Path("/graph"), "the user's own graphroot"
    write_own("[storage]\nrootless_storage_path = '/less'\n")
    assert load_config(environ, USER).graph_root == Path("/less")
    assert load_config(environ, 0).graph_root == Path("/less"), "root's too"
    write_own("[storage]\ngraphroot = '$HOME/x/$NOT_SET'\n")
    assert load_config(environ, USER).graph_root == Path(environ["HOME"], "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[storage]\ndriver = \n", "line 2"),
        ("storage = 3\n", "storage"),
        ("[storage]\ngraphroot = 7\n", "graphroot"),
        ("[storage]\ngraphroot = '/g'\nimagestore = '/g'\n", "imagestore"),
        ("[storage.options]\nadditionalimagestores = 'x'\n", "additionalimagestores"),
        ("[storage.options]\nadditionalimagestores = ['x']\n", "absolute"),
        ("[storage.options]\nadditionalimagestores = [3]\n", "absolute"),
        ("[storage.options]\nadditionalimagestores = ['/a', \"/b\\u0000\"]\n", "absolute"),
        ("[storage.options]\npull_options = {use_hard_links = 1}\n", "use_hard_links"),
        ('[storage]\ngraphroot = "/a\\u0000b"\n', "graphroot: found"),
        ('[storage]\nimagestore = "/a\\u0000b"\n', "wanted a path without NUL"),
        ("x = " + "[" * 20_000, "storage.conf"),
        ("# " + "x" * (2 << 20), "262,144"),
        ("x = " + "9" * 5000, "has 5000 digits; correct the file"),
        (
            "[storage]\na" + ".a" * 32_000 + " = 1\n",
            "more than 50 dots outside strings (at line 2)",
        ),
        ("[a" + ".'a'" * 32_000 + "]\n", "more than 50 dots outside strings (at line 1)"),
        ("x = {a" + ' . "a"' * 32_000 + " = 1}\n", "more than 50 dots outside strings (at line 1)"),
    ],
)
def test_a_broken_file_is_named(
    environ: dict[str, str], tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "storage.conf"
    path.write_text(text)
    environ["CONTAINERS_STORAGE_CONF"] = str(path)
    with pytest.raises(ConfigError) as caught:
        load_config(environ, 0)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_folder_or_pipe_is_refused_by_name(environ: dict[str, str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        environ["CONTAINERS_STORAGE_CONF"] = str(path)
        with pytest.raises(ConfigError, match=str(path)):
            load_config(environ, 0)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_config_or_an_error(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "storage.conf"
    path.write_bytes(data)
    environ = {"CONTAINERS_STORAGE_CONF": str(path), "HOME": "/h"}
    with contextlib.suppress(ConfigError):
        assert load_config(environ, USER).graph_root.is_absolute()


@given(
    values=st.lists(
        st.sampled_from(
            [
                "1.5 # . . . .",
                '"a.b.c.d.e # \\" \' \\\\"',
                "'a.b.c.d.e # \" \\'",
                '"""""" # "',
                '""""a.b.c.d.e""" # \'',
                '"""a"b""c\\"""d\n.e.f.g.h"""""',
                "''''a.b.c.d.e''' # \"",
                "'''\\\n\"\"\".a.b.c'''''",
                '[\'.....\', """.....""""]',
            ]
        ),
        min_size=1,
    ),
    parts=st.lists(st.sampled_from(["a", '"b.c"', "'d.e.\"'", '"\\""']), min_size=1, max_size=6),
)
def test_only_dots_of_keys_are_counted(values: list[str], parts: list[str]) -> None:
    text = "\n".join(f"v{i} = {value}" for i, value in enumerate(values))
    text += "\n" + " . ".join(parts) + "= 1"
    tomllib.loads(text)  # the cases are sound
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_module, "_MAX_DOTS", 3)
        if len(parts) <= 4:
            config_module._refuse_long_keys(text)
        else:
            with pytest.raises(ValueError, match=f"at line {text.count(chr(10)) + 1}"):
                config_module._refuse_long_keys(text)


def test_podman_unshare_does_not_change_the_users_store() -> None:
    assert effective_uid({"_CONTAINERS_ROOTLESS_UID": "1000"}) == 1000
    assert effective_uid({"_CONTAINERS_ROOTLESS_UID": "no"}) == os.geteuid()
    assert effective_uid({}) == os.geteuid()


def test_a_user_without_home_is_an_error(machine_files: tuple[Path, Path]) -> None:
    del machine_files
    with pytest.raises(ConfigError, match="set HOME"):
        load_config({}, 987_654_321)
