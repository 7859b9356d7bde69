"""Whatever happens, the answer is a number and at most one line, never a traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from vecache.cli import layers
from vecache.cli.main import VERBS, first_screen, main
from vecache.errors import FormatError, LayerNotFoundError
from vecache.report.terminal import Screen

if TYPE_CHECKING:
    import argparse

ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]


def shell(*argv: str, then: str = "") -> subprocess.CompletedProcess[str]:
    """Run `python -m vecache` in bash, with a pipe or redirection behind it."""
    line = f'"$0" -m vecache "$@" {then}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, sys.executable, *argv],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_the_first_screen_names_every_verb(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert shown == first_screen(Screen()) + "\n"
    for verb in ALL_VERBS:
        assert f"\n  {verb} " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_verb_of_two_words_is_found_by_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vecache.cli.fleet.scan", layers)
    monkeypatch.setitem(VERBS, "Many", {"fleet scan": "what there is", "fleet scat": "the rest"})
    for argv in (["fleet"], ["fleet", "--help"], ["fleet", "-h"], ["fleet", "help"]):
        assert main(argv) == 0
        shown = capsys.readouterr().out
        assert re.search(r"\n  fleet scan +what there is\n", shown)
        for verb in ALL_VERBS:
            assert (f"\n  {verb} " in shown) is verb.startswith("fleet ")
    assert main(["fleet", "scan", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: vecache fleet scan ")
    for argv, hint in (
        (["fleet", "scn"], "no verb `fleet scn`; did you mean `fleet scan`?"),
        (["fleet", "--json"], "no option --json here; options come after the verb"),
        (["scan"], "no verb `scan`"),
    ):
        assert main(argv) == 2
        assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [[], ["--version"], *([*verb.split(), "--help"] for verb in ALL_VERBS)],
)
def test_help_does_not_wait_for_numpy(argv: list[str]) -> None:
    code = (
        "import sys\n"
        "from vecache.cli.main import VERBS, main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not {'numpy', 'pyarrow', 'urllib3'} & set(sys.modules)\n"
        "verbs = {verb for group in VERBS.values() for verb in group}\n"
        "modules = {verb: 'vecache.cli.' + verb.replace(' ', '.') for verb in verbs}\n"
        "loaded = {verb for verb in verbs if modules[verb] in sys.modules}\n"
        "assert loaded <= {' '.join(sys.argv[1:-1])}\n"
    )
    subprocess.run([sys.executable, "-c", code, *argv], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: vecache {verb} ")


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("verb", ALL_VERBS)
def test_help_breaks_at_words(
    verb: str,
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    module = import_module(f"vecache.cli.{verb.replace(' ', '.')}")
    assert " ".join((module.__doc__ or "!").split()) in " ".join(shown.split())
    _, description = shown.split("\n\n", 1)
    description = re.split("^[a-z ]+:$", description, maxsplit=1, flags=re.MULTILINE)[0]
    checked = shown if columns == 80 else description  # usage has words of more than 30 columns
    assert max(map(len, checked.splitlines())) <= columns
    if "oci-archive:" in shown:
        assert "containers-storage:NAME" in shown


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vecache 0.")


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["lokup"], "did you mean `lookup`?"),
        (["frobnicate"], "`vecache --help` lists them"),
        (["--store", "x"], "options come after the verb"),
        (["main"], "no verb `main`"),
        (["layers", "--frob"], "no option --frob; `vecache layers --help` lists them"),
        (["layers", "--js"], "no option --js; did you mean `--json`?"),
        (
            ["history", "oci:x", "--store=x"],
            "no option --store; `vecache history --help` lists them",
        ),
        (["plan", "oci:x", "--stroe=x", "--bogus"], "no option --stroe; did you mean `--store`?"),
        (["fleet", "list", "--jsonn"], "no option --jsonn; did you mean `--json`?"),
        (["fleett", "list"], "no verb `fleett`; did you mean `fleet`?"),
        (["inspect"], "wanted FILE; `vecache inspect --help` shows what it takes"),
        (["plan", "oci:x", "--reflink", "yess"], "wanted auto, yes or no; did you mean `yes`?"),
        (["layers", "--json", "--jsonl"], "not allowed with"),
        (["layers", "-o", "x.xlsx"], ".parquet .arrow .csv .json .jsonl"),
        (["layers", "--store", "a", "--store", "b"], "--store: found twice, wanted once"),
        (["layers", "-o", "a.csv", "--output", "b.csv"], "found twice, wanted once"),
        (["lookup", "-", "-"], "found `-` twice"),
        (["overlap", "--picture", "upset"], "--picture needs -o FILE.svg"),
        (["overlap", "--picture", "heatmap", "-o", "x.csv"], "--picture needs -o FILE.svg"),
        (["overlap", "--metric", "bytes", "-o", "x.svg"], "shows jaccard or containment"),
        (["overlap", "--metric", "files", "--json"], "--metric does nothing here"),
        (["overlap", "--metric", "jaccard", "-o", "x.csv"], "--metric does nothing here"),
        (
            ["overlap", "--metric", "jaccard", "--picture", "upset", "-o", "x.svg"],
            "only a heatmap has",
        ),
    ],
)
def test_wrong_usage_is_2_and_says_what_to_do(
    argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert hint in shown.err
    assert shown.err.count("\n") == 1  # no usage block
    assert shown.out == ""


def wrapped_interrupt() -> RuntimeError:
    """What Python 3.11 makes of an interrupt in `__set_name__`, while a module is imported."""
    error = RuntimeError("Error calling __set_name__ on 'cached_property'")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FormatError("no\x1b[2J", section="bloom", offset=36), 3, r"bloom at byte 36: no\x1b[2J"),
        (LayerNotFoundError("no layer 'x'"), 1, "no layer 'x'"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 3, "/x: No space left on device"),
        (OSError("odd"), 3, "input or output: odd"),
        (MemoryError(), 3, "not enough memory"),
        (RecursionError(), 3, "nested too deeply"),
        (ZeroDivisionError("of ours"), 3, "this is a bug in vecache"),
        (KeyboardInterrupt(), 130, ""),
        (wrapped_interrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
    ],
)
def test_what_a_verb_raises_becomes_a_number_and_a_line(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(_: argparse.Namespace) -> int:
        sys.stdout.write("so far\n")
        raise error

    monkeypatch.setattr(layers, "run", run)
    assert main(["layers"]) == code
    shown = capsys.readouterr()
    assert shown.out == "so far\n"
    assert message in shown.err
    assert shown.err.count("\n") == (1 if message else 0)
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_silent(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = shell("--help", then="| true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("argv", [["--help"], ["layers", "--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_3(
    argv: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = shell(*argv, then="> /dev/full")
    assert done.returncode == 3
    assert done.stderr == "vecache: error: input or output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_lost_message_leaves_the_exit_code(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert shell("lokup", then="2> /dev/full").returncode == 2
    assert shell("layers", "--frob", then="2> /dev/full").returncode == 2
    assert shell("--help", then="> /dev/full 2>&1").returncode == 3


def test_closed_streams_are_silent() -> None:
    done = shell("layers", "--frob", then=">&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    done = shell("--help", then=">&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_no_locale_stops_the_output() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vecache", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii()


def test_control_c_is_130() -> None:
    code = (
        "import os, signal, sys\n"
        "from vecache.cli import layers, main\n"
        "layers.run = lambda args: os.kill(os.getpid(), signal.SIGINT) or 0\n"
        "sys.exit(main.main(['layers']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")
