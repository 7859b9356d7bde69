"""Every verb has a manual page, with all of its options, that roff reads without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vecache
from vecache.cli.build_hook import ShareHook
from vecache.cli.main import VERBS
from vecache.cli.man import man_pages
from vecache.cli.verbs import load_verb, make_parser

ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]
PAGES = dict(man_pages("1.2", 0.0))


def plain(page: str) -> str:
    """Take the escapes out of a page."""
    return re.sub(r"\\f[BIR]|\\&", "", page).replace(r"\-", "-").replace(r"\(ga", "`")


def test_there_is_a_page_for_each_verb_and_one_for_all() -> None:
    names = [f"vecache-{verb.replace(' ', '-')}.1" for verb in ALL_VERBS]
    assert list(PAGES) == [*names, "vecache.1"]
    assert PAGES["vecache.1"].startswith('.TH VECACHE 1 1970-01-01 "vecache 1.2"\n')
    for verb in ALL_VERBS:
        assert f"\n{verb}\n" in plain(PAGES["vecache.1"])


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_a_page_has_all_options(verb: str) -> None:
    page = plain(PAGES[f"vecache-{verb.replace(' ', '-')}.1"])
    for option in make_parser(verb, load_verb(verb)).options():
        assert re.search(rf"^(-\w, )?(.*, )?{option}\b", page, re.MULTILINE)
    assert page.count(".SH EXIT STATUS") == ("Exit code: " in (load_verb(verb).__doc__ or ""))


@pytest.mark.parametrize(
    "command", [["mandoc", "-T", "lint"], ["groff", "-ww", "-man", "-T", "utf8", "-z"]]
)
def test_roff_has_no_warning(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for page in PAGES.values():
        done = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
        assert done.stdout + done.stderr == ""


def test_pages_are_made_without_the_libraries_that_verbs_need() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('numpy', 'pyarrow', 'urllib3', 'xxhash')))\n"
        "from vecache.cli.man import man_pages\n"
        "assert list(man_pages('1', 0.0))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("version", "target"), [("editable", "wheel"), ("standard", "sdist")])
def test_only_a_wheel_gets_shared_files(version: str, target: str) -> None:
    assert shared_files(version, target) == {}


def test_the_build_puts_pages_and_scripts_where_programs_look() -> None:
    found = shared_files("standard", "wheel")
    pages = {f"share/man/man1/{name}" for name in PAGES}
    assert found.keys() - pages == {
        "share/bash-completion/completions/vecache",
        "share/zsh/site-functions/_vecache",
        "share/fish/vendor_completions.d/vecache.fish",
    }
    assert pages <= found.keys()
    assert found["share/zsh/site-functions/_vecache"].startswith("#compdef vecache\n")


def shared_files(version: str, target: str) -> dict[str, str]:
    """Run the build's hook, and read what it would add: text by place."""
    root, metadata = str(Path(vecache.__file__).parents[1]), SimpleNamespace(version="1")
    hook = ShareHook(root, {}, None, metadata, "", target)  # type: ignore[arg-type]
    build_data: dict[str, Any] = {"shared_data": {}}
    hook.initialize(version, build_data)
    shared = build_data["shared_data"].items()
    texts = {place: Path(path).read_text() for path, place in shared}
    hook.finalize(version, build_data, "")
    assert not any(Path(path).exists() for path, _ in shared)
    return texts
