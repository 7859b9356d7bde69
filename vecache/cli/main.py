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

`verbs.py` lists the verbs. The first word of a verb of two words prints those that begin with it.
This module does not import numpy: `vecache --help` answers at once.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, cast

from vecache.cli.options import UsageError, error_text
from vecache.cli.verbs import VERBS, did_you_mean, load_verb, make_parser, summaries
from vecache.errors import VecacheError
from vecache.report.terminal import Screen, showing_waits
from vecache.text import printable, wrap_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import MetaPathFinder
    from typing import TextIO

__all__ = ["EXIT_CODES", "VERBS", "first_screen", "main"]

_EXAMPLES = {
    "vecache plan docker://HOST/NAME": "what would pulling it cost here?",
    "vecache layers --store DIR --json": "another store than this machine's, for jq",
}


EXIT_CODES = (
    "  0 fine; 1 asked for and not there; 2 wrong usage, a malformed reference too;",
    "  3 bad or unreadable input; 4 over the limit of --fail-over; 130 interrupted",
)


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
    lines += ["", screen.paint("Exit code", "bold"), *EXIT_CODES]
    lines += ["", "`vecache VERB --help` shows the options of a verb."]
    return wrap_lines("\n".join(lines), screen.width)


def _group_screen(word: str, screen: Screen) -> str:
    """Return the text of `vecache WORD`, where WORD is the first of a verb's two words."""
    verbs = {verb: text for verb, text in summaries().items() if verb.startswith(f"{word} ")}
    width = max(map(len, verbs))
    text = "\n".join(
        [
            import_module(f"vecache.cli.{word}").__doc__ or "",
            f"{screen.paint('Usage', 'bold')}  vecache {word} VERB [OPTION...]",
            "",
            *(f"  {verb:<{width}}  {summary}" for verb, summary in verbs.items()),
            "",
            f"`vecache {word} VERB --help` shows the options of a verb.",
        ]
    )
    return wrap_lines(text, screen.width)


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
    if first == "help" and rest:
        return _dispatch([*rest, "--help"])
    if first in {"-h", "--help", "help"}:
        print(first_screen(Screen.of(sys.stdout)))
        return 0
    if first in {"-V", "--version"}:
        from vecache import __version__

        print(f"vecache {__version__}")
        return 0
    name = first
    if any(verb.startswith(f"{first} ") for verb in summaries()):
        second, *rest = rest or ["--help"]
        if second in {"-h", "--help", "help"}:
            print(_group_screen(first, Screen.of(sys.stdout)))
            return 0
        name = f"{first} {second}"
    if name not in summaries():
        raise UsageError(_no_such_verb(name))
    verb = load_verb(name)
    try:
        args = make_parser(name, verb).parse(rest)
    except SystemExit as stop:  # the help was printed
        return int(stop.code or 0)
    with showing_waits():
        return verb.run(args)


def _no_such_verb(word: str) -> str:
    option = word.rpartition(" ")[2]
    if option.startswith("-"):
        return (
            f"no option {option} here; options come after the verb, as in `vecache layers --json`"
        )
    words = [*summaries(), *{verb.partition(" ")[0] for verb in summaries()}]
    hint = did_you_mean(word, words) or "`vecache --help` lists them"
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
