"""The settings of a pull are those that Podman itself would use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vecache.store.settings as settings_module
from vecache.errors import ConfigError
from vecache.store.open import open_store
from vecache.store.settings import DEFAULT_PARALLEL, PullSettings, read_parallel
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from tests.store.conftest import MakeStore

USER = 1000


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for /etc/containers and /usr/share/containers; both are empty."""
    monkeypatch.setattr(settings_module, "_ETC_FILE", tmp_path / "etc" / "containers.conf")
    monkeypatch.setattr(settings_module, "_USR_FILE", tmp_path / "usr" / "containers.conf")
    return tmp_path


@pytest.fixture
def environ(machine: Path) -> dict[str, str]:
    return {"HOME": str(machine / "home")}


def write(path: Path, parallel: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[engine]\nimage_parallel_copies = {parallel}\n")
    return path


def test_without_any_file_six_layers_are_copied_at_a_time(environ: dict[str, str]) -> None:
    assert read_parallel(environ, 0) == read_parallel(environ, USER) == DEFAULT_PARALLEL == 6


def test_each_later_file_replaces_what_the_earlier_ones_say(
    machine: Path, environ: dict[str, str]
) -> None:
    environ["CONTAINERS_CONF_OVERRIDE"] = str(machine / "override.conf")
    files = [
        "usr/containers.conf",
        "etc/containers.conf",
        "etc/containers.conf.d/10-b.conf",
        "etc/containers.conf.d/9-a.conf",
        "etc/containers.rootless.conf",
        "etc/containers.rootless.conf.d/x.conf",
        f"etc/containers.rootless.conf.d/{USER}/x.conf",
        "home/.config/containers/containers.conf",
        "home/.config/containers/containers.conf.d/x.conf",
        "override.conf",
    ]
    for number, file in enumerate(files, 11):
        write(machine / file, number)
        assert read_parallel(environ, USER) == number
        assert read_parallel(environ, 0) == (13 + (number > 13) if 15 <= number <= 17 else number)
    xdg = write(machine / "xdg" / "containers" / "containers.conf", 30)
    environ["XDG_CONFIG_HOME"] = str(xdg.parents[1])
    assert read_parallel(environ, USER) == 20
    del environ["CONTAINERS_CONF_OVERRIDE"]
    assert read_parallel(environ, USER) == 30


def test_only_files_that_end_in_conf_are_drop_ins(machine: Path, environ: dict[str, str]) -> None:
    write(machine / "etc/containers.conf.d/a.conf.bak", 9)
    write(machine / "etc/containers.conf.d/folder.conf/b.conf", 9)
    write(machine / f"etc/containers.rootless.conf.d/{USER + 1}/x.conf", 9)
    (machine / "etc/containers.conf.d/z.conf").symlink_to(machine / "nowhere")
    assert read_parallel(environ, USER) == 6


def test_a_named_file_is_read_alone_and_must_be_there(
    machine: Path, environ: dict[str, str]
) -> None:
    write(machine / "usr/containers.conf", 7)
    named = write(machine / "named.conf", 8)
    write(machine / "named.conf.d/x.conf", 9)
    environ["CONTAINERS_CONF"] = str(named)
    assert read_parallel(environ, USER) == 8
    environ["CONTAINERS_CONF_OVERRIDE"] = str(machine / "missing.conf")
    assert read_parallel(environ, USER) == 8, "an override may be missing"
    named.unlink()
    with pytest.raises(ConfigError, match="correct CONTAINERS_CONF"):
        read_parallel(environ, USER)
    environ["CONTAINERS_CONF"] = "/dev/null"
    assert read_parallel(environ, USER) == 6


def test_zero_means_the_default_also_in_a_later_file(
    machine: Path, environ: dict[str, str]
) -> None:
    write(machine / "usr/containers.conf", 9)
    etc = machine / "etc/containers.conf"
    write(etc, 0)
    assert read_parallel(environ, 0) == 6
    etc.write_text("[engine]\nnum_locks = 3\n[containers]\ninit = true\n")
    assert read_parallel(environ, 0) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[engine]\nimage_parallel_copies = -1\n", "found -1, wanted a number from 1, or 0 for 6"),
        ("[engine]\nimage_parallel_copies = '4'\n", "found a string, wanted an integer"),
        ("[engine]\nimage_parallel_copies = true\n", "found a boolean, wanted an integer"),
        ("[engine]\nimage_parallel_copies = 4.0\n", "found a number, wanted an integer"),
        ("[engine]\nimage_parallel_copies = 99999999999999999999\n", "wanted an integer of 64"),
        ("engine = 3\n", "engine: found an integer, wanted an object"),
        ("[engine\n", "line 1"),
        ("# " + "x" * (2 << 20), "262,144"),
    ],
)
def test_a_broken_file_is_named(
    machine: Path, environ: dict[str, str], text: str, message: str
) -> None:
    path = write(machine / "etc/containers.conf.d/a.conf", 1)
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_parallel(environ, 0)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_what_is_not_a_file_or_a_folder_is_refused_by_name(
    machine: Path, environ: dict[str, str]
) -> None:
    (machine / "etc").mkdir()
    pipe = machine / "etc/containers.conf"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="Not a regular file"):
        read_parallel(environ, 0)
    pipe.unlink()
    (machine / "etc/containers.conf.d").write_text("")
    with pytest.raises(ConfigError, match=r"containers\.conf\.d: Not a directory"):
        read_parallel(environ, 0)


CONF = """
[storage]
graphroot = "{root}"
[storage.options]
pull_options = {{use_hard_links="true"{more}}}
[storage.options.overlay]
use_composefs = "true"
"""


def configure(root: Path, more: str = "") -> None:
    Path(os.environ["CONTAINERS_STORAGE_CONF"]).write_text(CONF.format(root=root, more=more))


def test_pull_options_count_for_the_store_that_storage_conf_names(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = make_store([]), make_store([], name="other")
    monkeypatch.setenv("CONTAINERS_CONF", str(write(tmp_path / "c.conf", 3)))
    configure(root)
    none = PullSettings(
        reflink=True,
        hard_links=True,
        layout=Layout.FLAT,
        parallel=3,
        partial=False,
        estargz=False,
        convert=False,
    )
    for store in (open_store(), open_store(root)):
        assert store.is_own
        assert store.pull_settings(reflink=True) == none
    configure(
        root,
        ', enable_partial_images="true", convert_images="true", '
        'insecure_allow_unpredictable_image_contents="true"',
    )
    found = open_store().pull_settings(reflink=True)
    assert found == replace(none, partial=True, estargz=True, convert=True)
    copied = open_store(other)
    assert not copied.is_own
    found = copied.pull_settings(reflink=True)
    assert found == replace(none, partial=True, estargz=True, convert=False)


def test_reflinks_are_tested_where_the_layers_files_are(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, images = make_store([]), make_store([], name="images")
    asked: list[Path] = []

    def can_reflink(path: Path) -> bool:
        asked.append(path)
        return path == images

    monkeypatch.setattr(settings_module, "can_reflink", can_reflink)
    configure(root)
    store = open_store()
    assert not asked, "opening a store tests nothing"
    assert not store.pull_settings().reflink
    conf = Path(os.environ["CONTAINERS_STORAGE_CONF"])
    conf.write_text(f"[storage]\ngraphroot = '{root}'\nimagestore = '{images}'\n")
    store = open_store()
    assert store.pull_settings().reflink
    assert asked == [root, images]
    assert not store.pull_settings(reflink=False).reflink
    assert asked == [root, images], "a given answer is not tested"
