"""The verbs, and the parser of each.

A verb is a module in this folder with `add_arguments` and `run`, and a line in `VERBS`; its
docstring is the text of its `--help`. A verb of two words is in the folder of the first one, as
`fleet/add.py`. Nothing here imports numpy.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from vecache.cli.options import UsageError
from vecache.cli.values import TRUTH
from vecache.text import wrap_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["VERBS", "Parser", "Verb", "did_you_mean", "load_verb", "make_parser", "summaries"]

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
        "completion": "a script by which bash, zsh or fish complete commands",
    },
}
"""Title of a group -> verb -> summary: the first screen, in this order."""


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


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Break text at words only, so that an option or the name of an image stays in one line."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        joined = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        return wrap_lines("\n\n".join(joined), width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap_lines(" ".join(text.split()), width).split("\n")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one line, with a suggestion where there is one."""

    color = False

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse arguments, after a look for options that there are not."""
        for word in takewhile(lambda word: word != "--", words):
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in word and name not in self.options():
                hint = did_you_mean(name, self.options()) or f"`{self.prog} --help` lists them"
                raise UsageError(f"no option {name}; {hint}")
        return self.parse_intermixed_args(list(self._with_values(words)))

    def _with_values(self, words: Sequence[str]) -> Iterator[str]:
        """Add the value that `--tls-verify` alone has, where the next word cannot be its value."""
        for word, following in zip(words, [*words[1:], ""], strict=False):
            action = self.options().get(word)
            is_alone = action is not None and action.nargs == "?" and following not in TRUTH
            yield f"{word}=true" if is_alone else word

    def options(self) -> dict[str, argparse.Action]:
        """Return the action of each option string."""
        return self._option_string_actions

    def positionals(self) -> list[argparse.Action]:
        """Return the actions of arguments that are not options, in their order."""
        return self._get_positional_actions()

    def groups(self) -> list[tuple[str, list[argparse.Action]]]:
        """Return the titles of groups of arguments, each with its actions, none empty."""
        groups = ((group.title or "", group._group_actions) for group in self._action_groups)  # noqa: SLF001
        return [(title, actions) for title, actions in groups if actions]

    def error(self, message: str) -> NoReturn:
        """Raise the error of a wrong command line."""
        message = message.removeprefix("argument ").replace(
            "the following arguments are required:", "wanted"
        )
        hint = "" if message.endswith("?") else f"; `{self.prog} --help` shows what it takes"
        raise UsageError(f"{message}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            *choices, last = map(str, action.choices)
            hint = did_you_mean(str(value), [*choices, last])
            found = f"found {value!r}, wanted {', '.join(choices)} or {last}"
            raise argparse.ArgumentError(action, f"{found}; {hint}" if hint else found)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a question about the word that is most like another; empty where none is."""
    from difflib import get_close_matches

    bare = {each.lstrip("-"): each for each in words}  # two dashes are not what makes them alike
    near = get_close_matches(word.lstrip("-"), bare, 1)
    return f"did you mean `{bare[near[0]]}`?" if near else ""


def load_verb(name: str) -> Verb:
    """Import the module of a verb."""
    return cast("Verb", import_module(f"vecache.cli.{name.replace(' ', '.')}"))


def make_parser(name: str, verb: Verb) -> Parser:
    """Return the parser of a verb's arguments."""
    parser = Parser(
        prog=f"vecache {name}",
        description=verb.__doc__,
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.color = False  # Python 3.14 would paint the usage, of manual pages too
    parser.register("action", None, _StoreOnce)
    parser.add_argument("-h", "--help", nargs=0, action=_Help, help="show this text")
    verb.add_arguments(parser)
    return parser


def summaries() -> dict[str, str]:
    """Return the summary of each verb."""
    return {verb: text for verbs in VERBS.values() for verb, text in verbs.items()}
