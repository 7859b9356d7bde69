"""From argv to one verb, and from whatever happens there to an exit code.

1. Without a verb, or with `--help`, the first screen.
2. A verb's own module is imported, and no other; it loads what it needs when it runs.
3. What the verb raises becomes one line on stderr and a number:

   ====  ===================================================================
   0     fine; also when the reader of the output closes the pipe (`| head`)
   1     something asked for was not found
   2     wrong usage
   3     bad or refused input, output that cannot be written, no memory left
   130   interrupted
   ====  ===================================================================

A new verb is a module in this room with `add_arguments` and `run`, and a line in `VERBS`; its
docstring is the text of its `--help`. Does not import numpy: `vecache --help` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from vecache.cli.options import UsageError
from vecache.errors import VecacheError
from vecache.report.terminal import Screen
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

__all__ = ["VERBS", "Verb", "first_screen", "main"]

VERBS: dict[str, dict[str, str]] = {
    "Before a pull": {
        "plan": "what it will reuse, fetch and ask for, and what would be best",
        "gather": "which few local layers hold most of the image",
        "demo": "the same on a small sample that ships inside",
    },
    "In a store": {
        "layers": "what each layer holds, and why one has no cache",
        "lookup": "which layer, path and offset hold a digest",
        "overlap": "what layers and images share, and what each costs alone",
        "rm": "what removing layers or images would free, and cost again",
        "export": "all tags as one table, for DuckDB, Polars, pandas and Spark",
    },
    "One file": {
        "build": "make the cache file of a TOC, byte for byte as Podman does",
        "inspect": "what a cache file or a TOC holds, and what is wrong with it",
    },
}
"""Title of a group -> verb -> summary: the first screen, in this order."""

_EXAMPLES = {
    "vecache plan docker://HOST/NAME": "what would pulling it cost here?",
    "vecache layers --store DIR --json": "another store than this machine's, for jq",
}


class Verb(Protocol):
    """What a verb's module offers."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what the verb understands."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it, print it, and return the exit code."""


class _Help(argparse.Action):
    """Print help as argparse does, but do not swallow the error of a full disk."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(parser.format_help(), end="")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no locale may stop the output
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:  # nobody above turns it into a message
        code, message = _explain(error)
        if message and sys.stderr is not None:
            with suppress(OSError):
                print(f"vecache: error: {printable(message)}", file=sys.stderr)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        _settle(stream)
    return code


def first_screen(screen: Screen) -> str:
    """Write what `vecache` says about itself."""
    lines = [
        "What a container pull reuses, fetches and costs, before it starts.",
        "",
        f"{screen.paint('Usage', 'bold')}  vecache VERB [OPTION...]",
    ]
    for title, verbs in {**VERBS, "Examples": _EXAMPLES}.items():
        width = max(map(len, verbs), default=0)
        lines += ["", screen.paint(title, "bold")]
        lines += [f"  {verb:<{max(width, 8)}}  {summary}" for verb, summary in verbs.items()]
    lines += ["", "`vecache VERB --help` tells more, `vecache --version` which one this is."]
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    first, *rest = arguments or ["--help"]
    if first in {"-h", "--help", "help"}:
        print(first_screen(Screen.of(sys.stdout)))
        return 0
    if first in {"-V", "--version"}:
        from vecache import __version__

        print(f"vecache {__version__}")
        return 0
    if not any(first in verbs for verbs in VERBS.values()):
        raise UsageError(_no_such_verb(first))
    verb = cast("Verb", import_module(f"vecache.cli.{first}"))
    parser = argparse.ArgumentParser(
        prog=f"vecache {first}",
        description=verb.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", nargs=0, action=_Help, help="show this text")
    verb.add_arguments(parser)
    try:
        args = parser.parse_intermixed_args(rest)
    except SystemExit as stop:  # argparse has printed what there is to say
        return int(stop.code or 0)
    return verb.run(args)


def _no_such_verb(word: str) -> str:
    if word.startswith("-"):
        return f"no option {word} here; options come after the verb, as in `vecache layers --json`"
    from difflib import get_close_matches

    near = get_close_matches(word, [verb for verbs in VERBS.values() for verb in verbs], 1)
    hint = f"did you mean `{near[0]}`?" if near else "`vecache --help` lists them"
    return f"no verb `{word}`; {hint}"


def _explain(error: BaseException) -> tuple[int, str]:
    """(exit code, message) of what a verb raised; an empty message is not printed."""
    match error:
        case KeyboardInterrupt():
            return 130, ""
        case UsageError():
            return 2, str(error)
        case VecacheError():
            return error.exit_code, str(error)
        case BrokenPipeError():  # the reader has seen enough
            return 0, ""
        case MemoryError():
            return 3, "not enough memory for this input"
        case RecursionError():
            return 3, "the input is nested too deeply"
        case OSError():
            where = error.filename if error.filename is not None else "input or output"
            return 3, f"{os.fsdecode(where)}: {error.strerror or error}"
    if isinstance(error.__cause__, KeyboardInterrupt):  # while a class was made, Python wraps it
        return 130, ""
    from traceback import extract_tb

    frame = extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    return 3, f"this is a bug in vecache, please report it: {what} ({place})"


def _settle(stream: TextIO) -> None:
    """Write what is still buffered, or let it go: Python would fail on it once more at exit."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
