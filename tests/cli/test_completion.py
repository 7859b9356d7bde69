"""Completion offers what the parsers take, in the form that each shell wants."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import GOLDEN_SMALL
from vecache.cli.completion import SCRIPTS, complete
from vecache.cli.main import VERBS, main

STORE = str(GOLDEN_SMALL / "stores" / "dir")
IMAGE = "localhost:5001/small/app2:latest"


def offered(line: str) -> list[str]:
    """Complete the last word of a line, behind `vecache `."""
    return list(complete(line.split(" ")))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("pl", ["plan"]),
        ("fl", ["fleet"]),
        ("fleet ", [verb[6:] for verb in VERBS["Many stores"]]),
        ("fleet ov", ["overlap"]),
        ("nosuch ", []),
        ("fleet nosuch ", []),
        ("plan --refl", ["--reflink"]),
        ("plan --reflink ", ["auto", "yes", "no"]),
        ("plan --reflink=y", ["--reflink=yes"]),
        ("overlap --store a --sto", ["--store"]),
        ("plan --tls-verify ", ["true", "false"]),
        ("plan --hard", ["--hard-links"]),
        ("plan --store ", []),
        ("plan oci", ["oci:", "oci-archive:"]),
        ("plan oci:", []),
        ("plan --json oci", ["oci:", "oci-archive:"]),
        (f"plan --store {STORE} containers-storage:localhost:5001/small/o", ["other"]),
        (f"rm --store {STORE} localhost:5001/small/app2", ["app2"]),
        (f"plan --store {STORE} --present a localhost:5001/small/app2", ["app2"]),
        ("plan --store nowhere containers-storage:", []),
        ("completion ", list(SCRIPTS)),
        ("inspect ", []),
        ("layers ", []),
        ("fleet list a b ", []),
    ],
)
def test_what_is_known_is_offered(line: str, wanted: list[str]) -> None:
    found = offered(line)
    if ":5001" in line:
        assert [word.rpartition("/")[2] for word in found] == [f"{wanted[0]}:latest"]
    else:
        assert [word for word in found if word != "--no-hard-links"] == wanted


def test_every_verb_offers_its_options() -> None:
    for verb in (verb for verbs in VERBS.values() for verb in verbs):
        assert "--help" in offered(f"{verb} -")


@pytest.mark.parametrize(
    ("shell", "text", "printed"),
    [
        ("bash", f"vecache rm --store {STORE} {IMAGE[:-8]}\n", "5001/small/app2:latest"),
        ("bash", f"vecache  rm --store {STORE} loc\n", IMAGE),
        ("bash", "vecache fleet pl\n", "plan"),
        ("zsh", f"rm\n--store\n{STORE}\n{IMAGE[:-8]}\n", IMAGE.replace(":", r"\:")),
        ("zsh", "fleet\npl\n", "plan:which node pays what for which image"),
        ("fish", "fleet\npl\n", "plan\twhich node pays what for which image"),
    ],
)
def test_each_shell_gets_its_form(  # bash replaces only what is behind the last colon
    shell: str,
    text: str,
    printed: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["completion", shell, "--words"]) == 0
    assert printed in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_has_no_error_of_syntax(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    done = subprocess.run([program, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def bash(line: str, tmp_path: Path) -> list[str]:
    """Complete a line in a real bash."""
    program = tmp_path / "vecache"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vecache "$@"\n')
    program.chmod(0o755)
    code = (
        'eval "$(vecache completion bash)"; complete -p vecache >/dev/null || exit; '
        'COMP_LINE=$0 COMP_POINT=${#0}; _vecache vecache; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["bash", "--norc", "-c", code, line]
    return subprocess.check_output(command, text=True, env=environ).split()


def test_bash_completes(tmp_path: Path) -> None:
    assert bash("vecache lay", tmp_path) == ["layers"]
    assert bash("vecache plan --layout ", tmp_path) == ["dir", "flat"]
    assert bash(f"vecache rm --store {STORE} localhost:5001/small/o", tmp_path) == [
        "5001/small/other:latest"
    ]


def test_completion_does_not_wait_for_numpy() -> None:
    code = (
        "import sys\n"
        "from vecache.cli.completion import complete\n"
        f"assert complete(['rm', '--store', {STORE!r}, ''])\n"
        "assert not {'numpy', 'pyarrow', 'urllib3'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
