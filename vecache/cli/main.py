"""The `vecache` command: run one verb and turn every error into one line and an exit code.

1. Without a verb, or with `--help`, print the first screen.
2. Import the verb's own module, and no other; it imports what it needs when it runs.
3. Print an error of the verb as one line on stderr, and return:

   ====  ===================================================================
   0     success; also when the reader of the output closes the pipe (`| head`)
   1     something asked for was not found
   2     wrong usage: also a malformed reference, and an option that would do nothing
   3     bad, refused or unreadable input, failed output, out of memory; also where a layer of the
         store could not be read, unless `--incomplete-ok`
   4     over the limit of `--fail-over`
   130   interrupted
   ====  ===================================================================

A verb is a module in this folder with `add_arguments` and `run`, and a line in `VERBS`; its
docstring is the text of its `--help`. A verb of two words is in the folder of the first one, as
`fleet/add.py`; the first word alone prints the verbs that begin with it. This module does not
import numpy: `vecache --help` answers at once.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from vecache.cli.options import UsageError, error_text
from vecache.errors import VecacheError
from vecache.report.terminal import Screen, showing_waits
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import MetaPathFinder
    from typing import TextIO

__all__ = ["VERBS", "Verb", "first_screen", "main"]

VERBS: dict[str, dict[str, str]] = {
    "Before a pull": {
        "plan": "what it will reuse, fetch and ask for, and what would be best",
        "gather": "which few local layers hold most of the image",
        "history": "what each tag of a series costs a node that has the one before",
        "demo": "the same on a small sample in the package",
    },
    "In a store": {
        "layers": "what each layer holds, and why one has no cache",
        "lookup": "which layer, path and offset hold a digest",
        "overlap": "what layers and images share, and what each costs alone",
        "rm": "what removing layers or images would free, and cost again",
        "doctor": "what is wrong with its caches, TOCs and records; --fix mends caches",
        "index": "all tags sorted on disk, so that a large store answers at once",
        "snapshot": "all that plans of it need, in one file for other machines",
        "export": "all tags as one table for DuckDB, Polars, pandas and Spark",
    },
    "Many stores": {
        "fleet add": "snapshots of nodes into one folder, shared layers once",
        "fleet list": "its nodes: how old, how large, how much of them is shared",
        "fleet remove": "nodes from it, and what no other node has",
        "fleet plan": "which node pays what for which image",
        "fleet overlap": "what nodes have in common, and how often each byte is there",
        "fleet rm": "what removing images on all nodes would free",
    },
    "One file": {
        "build": "the cache file of a TOC, byte for byte as Podman writes it",
        "inspect": "what a cache file or a TOC holds, and what is wrong with it",
    },
    "For programs": {
        "schema": "the JSON Schema of what a verb prints with --json",
    },
}
"""Title of a group -> verb -> summary: the first screen, in this order."""

_EXAMPLES = {
    "vecache plan docker://HOST/NAME": "what would pulling it cost here?",
    "vecache layers --store DIR --json": "another store than this machine's, for jq",
}


_EXIT_CODES = (
    "  0 fine; 1 asked for and not there; 2 wrong usage, a malformed reference too;",
    "  3 bad or unreadable input; 4 over the limit of --fail-over; 130 interrupted",
)


class Verb(Protocol):
    """The two functions of a verb's module."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's arguments to its parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the verb, print its result, and return the exit code."""


class _StoreOnce(argparse.Action):
    """Store a value as argparse does, but refuse to store another: one of them would do nothing."""

    is_stored = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> None:
        if option is not None and self.is_stored:
            raise argparse.ArgumentError(self, "found twice, wanted once")
        self.is_stored = True
        setattr(namespace, self.dest, values)


class _Help(argparse.Action):
    """Print help as argparse does, but raise the error of a full disk."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(parser.format_help(), end="")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line."""
    if argv is None:
        _prepare_process()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no locale may stop the output
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:  # the only place that turns it into a message
        code, message = _error_message(error)
        if message and sys.stderr is not None:
            with suppress(OSError):
                print(f"vecache: error: {printable(message)}", file=sys.stderr)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        _flush(stream)
    if argv is None:
        gc.freeze()  # or Python searches all modules for garbage again at its end: 15 ms
    return code


def first_screen(screen: Screen) -> str:
    """Return the text of `vecache --help`."""
    lines = [
        "What a container pull reuses, fetches and costs, before it starts.",
        "",
        f"{screen.paint('Usage', 'bold')}  vecache VERB [OPTION...]",
    ]
    for title, verbs in {**VERBS, "Examples": _EXAMPLES}.items():
        width = max(map(len, verbs), default=0)
        lines += ["", screen.paint(title, "bold")]
        lines += [f"  {verb:<{max(width, 8)}}  {summary}" for verb, summary in verbs.items()]
    lines += ["", screen.paint("Exit code", "bold"), *_EXIT_CODES]
    lines += ["", "`vecache VERB --help` shows the options of a verb."]
    return "\n".join(lines)


def _group_screen(word: str, screen: Screen) -> str:
    """Return the text of `vecache WORD`, where WORD is the first of a verb's two words."""
    verbs = {verb: text for verb, text in _summaries().items() if verb.startswith(f"{word} ")}
    width = max(map(len, verbs))
    return "\n".join(
        [
            import_module(f"vecache.cli.{word}").__doc__ or "",
            f"{screen.paint('Usage', 'bold')}  vecache {word} VERB [OPTION...]",
            "",
            *(f"  {verb:<{width}}  {summary}" for verb, summary in verbs.items()),
            "",
            f"`vecache {word} VERB --help` shows the options of a verb.",
        ]
    )


def _summaries() -> dict[str, str]:
    """Return the summary of each verb."""
    return {verb: text for verbs in VERBS.values() for verb, text in verbs.items()}


class _NoPandas:
    """A finder by which `import pandas` fails, as if it were not installed."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _prepare_process() -> None:
    """Set up a process that runs one verb and nothing else."""
    # pyarrow imports pandas, where there is one, to know whether an array comes from it: 0.12 s.
    sys.meta_path.insert(0, cast("MetaPathFinder", _NoPandas))
    # What is imported and printed lives until the end: a tenth of a short run goes into searching
    # it for garbage.
    gc.set_threshold(100_000)


def _dispatch(arguments: list[str]) -> int:
    first, *rest = arguments or ["--help"]
    if first in {"-h", "--help", "help"}:
        print(first_screen(Screen.of(sys.stdout)))
        return 0
    if first in {"-V", "--version"}:
        from vecache import __version__

        print(f"vecache {__version__}")
        return 0
    name = first
    if any(verb.startswith(f"{first} ") for verb in _summaries()):
        second, *rest = rest or ["--help"]
        if second in {"-h", "--help", "help"}:
            print(_group_screen(first, Screen.of(sys.stdout)))
            return 0
        name = f"{first} {second}"
    if name not in _summaries():
        raise UsageError(_no_such_verb(name))
    verb = cast("Verb", import_module(f"vecache.cli.{name.replace(' ', '.')}"))
    parser = argparse.ArgumentParser(
        prog=f"vecache {name}",
        description=verb.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.register("action", None, _StoreOnce)
    parser.add_argument("-h", "--help", nargs=0, action=_Help, help="show this text")
    verb.add_arguments(parser)
    try:
        args = parser.parse_intermixed_args(rest)
    except SystemExit as stop:  # argparse has printed the message
        return int(stop.code or 0)
    with showing_waits():
        return verb.run(args)


def _no_such_verb(word: str) -> str:
    option = word.rpartition(" ")[2]
    if option.startswith("-"):
        return (
            f"no option {option} here; options come after the verb, as in `vecache layers --json`"
        )
    from difflib import get_close_matches

    near = get_close_matches(word, _summaries(), 1)
    hint = f"did you mean `{near[0]}`?" if near else "`vecache --help` lists them"
    return f"no verb `{word}`; {hint}"


def _error_message(error: BaseException) -> tuple[int, str]:
    """Return (exit code, message) for what a verb raised; an empty message is not printed."""
    match error:
        case KeyboardInterrupt():
            return 130, ""
        case UsageError():
            return 2, str(error)
        case VecacheError():
            return error.exit_code, error_text(error)
        case BrokenPipeError():  # as `| head` does
            return 0, ""
        case MemoryError():
            return 3, "not enough memory for this input"
        case RecursionError():
            return 3, "the input is nested too deeply"
        case OSError():
            return 3, error_text(error)
    if isinstance(error.__cause__, KeyboardInterrupt):  # Python wraps it while a class is made
        return 130, ""
    from traceback import extract_tb

    frame = extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    where = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
    return 3, f"this is a bug in vecache, please report it: {what} ({where})"


def _flush(stream: TextIO) -> None:
    """Write what is still buffered, or discard it: Python would fail again at exit."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
