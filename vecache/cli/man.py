"""Write the manual pages: one for each verb, from its parser, and one for all.

The build of the wheel puts them into share/man/man1. The text is what `--help` shows: all of it is
escaped, and only names of options and metavars get a font.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from vecache.cli.main import EXIT_CODES
from vecache.cli.verbs import VERBS, load_verb, make_parser, summaries
from vecache.text import wrap_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

__all__ = ["man_pages"]

_WIDTH = 79
_ENVIRONMENT = {
    "CONTAINERS_STORAGE_CONF": "the storage.conf that names this machine's store",
    "VECACHE_THREADS": "how many threads look-ups use; as many as there are cores by default",
    "XDG_CACHE_HOME": "where the folder vecache with caches and indexes is, ~/.cache by default",
    "NO_COLOR": "no colours, if it is set to something",
    "FORCE_COLOR": "colours also into files and pipes, if it is set to something",
}


def man_pages(version: str, seconds: float) -> Iterator[tuple[str, str]]:
    """Yield the name of each page and its text; `seconds` since 1970 are the date they have."""
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    names = {verb: f"vecache-{verb.replace(' ', '-')}" for verb in summaries()}
    for verb in summaries():
        title = (load_verb(verb).__doc__ or "").partition("\n")[0]
        head = _head(names[verb], title[:1].lower() + title[1:].rstrip("."), version, date)
        yield f"{names[verb]}.1", "\n".join([*head, *_verb_page(verb), ""])
    summary = "what a container pull reuses, fetches and costs, before it starts"
    head = _head("vecache", summary, version, date)
    yield "vecache.1", "\n".join([*head, *_main_page(names), ""])


def _head(name: str, summary: str, version: str, date: str) -> Iterator[str]:
    yield f'.TH {name.upper()} 1 {date} "vecache {version}"'
    yield from (".nh", ".ad l")
    yield ".SH NAME"
    yield _escape(f"{name} - {summary}")
    yield ".SH SYNOPSIS"


def _main_page(names: dict[str, str]) -> Iterator[str]:
    yield ".B vecache"
    yield r"\fIVERB\fR [\fIOPTION\fR ...]"
    yield ".SH VERBS"
    for title, verbs in VERBS.items():
        yield f".SS {title}"
        for verb, summary in verbs.items():
            yield from (".TP", rf"\fB{_escape(verb)}\fR", _escape(summary))
    yield ".SH EXIT STATUS"
    yield _escape(" ".join(" ".join(EXIT_CODES).split()) + ".")
    yield ".SH ENVIRONMENT"
    for name, meaning in _ENVIRONMENT.items():
        yield from (".TP", f".B {name}", _escape(meaning))
    yield ".SH SEE ALSO"
    yield from _references(names.values())


def _verb_page(verb: str) -> Iterator[str]:
    parser = make_parser(verb, load_verb(verb))
    usage = " ".join(parser.format_usage().split()).partition(parser.prog)[2]
    yield f".B {parser.prog}"
    yield _escape(usage.strip())
    yield ".SH DESCRIPTION"
    start = ""
    for paragraph in (parser.description or "").strip().split("\n\n"):
        text = " ".join(paragraph.split())
        status = text.removeprefix("Exit code: ")
        yield from [".SH EXIT STATUS"] if status != text else filter(None, [start])
        yield _escape(status)
        start = ".PP"
    for title, actions in parser.groups():
        yield f'.SH "{_escape(title.upper())}"'
        for action in actions:
            yield from (".TP", _signature(action), _escape(action.help or ""))
    yield ".SH SEE ALSO"
    yield from _references(["vecache"])


def _signature(action: argparse.Action) -> str:
    metavar = str(action.metavar or f"{{{','.join(map(str, action.choices or ()))}}}")
    value = rf"\fI{_escape(metavar)}\fR"
    options = ", ".join(rf"\fB{_escape(each)}\fR" for each in action.option_strings)
    match action.nargs:
        case 0:
            return options
        case "?":
            value = f"[{value}]"
        case "*":
            value = f"[{value} ...]"
        case "+":
            value = f"{value} ..."
    return f"{options} {value}".lstrip()


def _references(names: Iterable[str]) -> Iterator[str]:
    *rest, last = names
    for name in rest:
        yield f".BR {_escape(name)} (1),"
    yield f".BR {_escape(last)} (1)"


def _escape(text: str) -> str:
    r"""Escape text for roff: back-slashes, hyphens that are typed, dots at the start of a line.

    Lines are short, as roff wants them.

    Examples
    --------
    >>> print(_escape(".crt with --json"))
    \&.crt with \-\-json
    """
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga")
    return re.sub("^(?=[.'])", r"\\&", wrap_lines(text, _WIDTH), flags=re.MULTILINE)
