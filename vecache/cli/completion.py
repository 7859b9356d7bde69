"""Print a script by which a shell completes verbs, options, their values, files and images.

The wheel has the scripts where shells look for them, below share/. Elsewhere, and in a virtual
environment, put `source <(vecache completion bash)` into ~/.bashrc, the same with zsh into ~/.zshrc
behind compinit, and `vecache completion fish | source` into ~/.config/fish/config.fish.

The script runs `vecache completion SHELL --words` at each press of Tab, which reads images.json of
the store and nothing from the network.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.cli.verbs import VERBS, load_verb, make_parser, summaries
from vecache.errors import VecacheError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from vecache.cli.verbs import Parser

__all__ = ["SCRIPTS", "complete"]

SCRIPTS = {
    "bash": r"""
_vecache() {
    local IFS=$'\n'
    COMPREPLY=($("$1" completion bash --words <<<"${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${COMPREPLY[0]} != *[:/=] ]] || compopt -o nospace
}
complete -o default -F _vecache vecache
""",
    "zsh": r"""
#compdef vecache
_vecache() {
    local line
    local -a closed open
    for line in "${(@f)$(print -rl -- "${(@)words[2,CURRENT-1]}" "$PREFIX" |
        $words[1] completion zsh --words 2>/dev/null)}"; do
        case $line in
            '') ;;
            *[:/=]|*[:/=]:*) open+=("$line") ;;
            *) closed+=("$line") ;;
        esac
    done
    if (( $#closed + $#open )); then
        _describe vecache closed -- open -S ''
    else
        compset -P '*[:=]'
        _files
    fi
}
if [ "$funcstack[1]" = _vecache ]; then _vecache "$@"; else compdef _vecache vecache; fi
""",
    "fish": r"""
function __vecache_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l found (printf '%s\n' $before[2..] "$current" |
        $before[1] completion fish --words 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
        return
    end
    set -l head (string match -r '^.*[:=]' -- "$current")
    for path in (__fish_complete_path (string replace -r '^.*[:=]' '' -- "$current"))
        echo "$head$path"
    end
end
complete -c vecache -f -a '(__vecache_complete)'
""",
}
"""Shell -> its script. Where there are no words to offer, it offers files."""

_MAX_BYTES = 1 << 16
_MAX_LIST_BYTES = 1 << 24
_TRANSPORTS = {
    "containers-storage:": "an image of the store",
    "docker://": "an image in a registry",
    "oci:": "an OCI layout, a folder",
    "oci-archive:": "an OCI layout in a tar archive",
    "dir:": "a folder of blobs and a manifest",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="the shell that runs the script")
    parser.add_argument(
        "--words",
        action="store_true",
        help="read the words of a command line from standard input, and print what may be the last",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    if not args.words:
        print(SCRIPTS[args.shell].strip())
        return 0
    text = os.fsdecode(sys.stdin.buffer.read(_MAX_BYTES)).removesuffix("\n")
    words = text.split("\n")
    if args.shell == "bash":  # which cuts words at colons; so it sends the line
        *head, last = text.split(" ")
        _, *words = [*filter(None, head), last]
    typed = max(words[-1].rfind(end) for end in ":=") + 1
    for word, meaning in complete(words).items():
        match args.shell:
            case "bash":  # it replaces only what is behind the last colon
                print(word[typed:])
            case "zsh":
                print(word.replace(":", "\\:"), *filter(None, [meaning]), sep=":")
            case "fish":
                print(word, meaning, sep="\t")
    return 0


def complete(words: Sequence[str]) -> dict[str, str]:
    """Return what the last word may be, each with its meaning; nothing where it may be a file."""
    *before, current = words
    verbs = summaries()
    name = " ".join(before[:2])
    if name not in verbs:
        name = " ".join(before[:1])
    if name in verbs:
        offered = _of_verb(name, before[name.count(" ") + 1 :], current)
    else:
        head = "".join(f"{word} " for word in before)
        offered = {
            word: title.lower() if more else text
            for title, group in VERBS.items()
            for verb, text in group.items()
            if verb.startswith(head)
            for word, more, _ in [verb[len(head) :].partition(" ")]
        }
    if current.endswith(":"):  # a file follows, or the name of an image
        offered.pop(current, None)
    return {word: text for word, text in offered.items() if word.startswith(current)}


def _of_verb(name: str, before: Sequence[str], current: str) -> dict[str, str]:
    """Return what may follow the words behind a verb."""
    parser = make_parser(name, load_verb(name))
    action, n_positionals = _find_open_option(parser, before)
    option, is_joined, _ = current.partition("=")
    if is_joined and option in parser.options():
        values = _values(parser.options()[option], before)
        return {f"{option}={value}": text for value, text in values.items()}
    if current.startswith("-"):
        options = parser.options().items()
        return {option: each.help or "" for option, each in options if option.startswith("--")}
    positionals = parser.positionals()
    if action is None and positionals:
        action = positionals[min(n_positionals, len(positionals) - 1)]
    return {} if action is None else _values(action, before)


def _find_open_option(parser: Parser, words: Iterable[str]) -> tuple[argparse.Action | None, int]:
    """Return the option whose value is the next word, and the number of other words so far."""
    action, n_positionals = None, 0
    for word in words:
        if word.startswith("-") and word != "-":
            action = parser.options().get(word)
            if action is not None and action.nargs == 0:
                action = None
        elif action is None:
            n_positionals += 1
        elif action.nargs != "*":
            action = None
    return action, n_positionals


def _values(action: argparse.Action, before: Sequence[str]) -> dict[str, str]:
    """Return the values of an option or a positional argument that are known."""
    metavar = str(action.metavar)
    if action.choices is not None:
        return dict.fromkeys(map(str, action.choices), "")
    if metavar.startswith("{"):
        return dict.fromkeys(metavar.strip("{}").split(","), "")
    match metavar:
        case "IMAGE":
            images = {f"containers-storage:{name}": "" for name in _image_names(before)}
            return {**_TRANSPORTS, **images}
        case "NAME" | "LAYER-or-IMAGE":
            return dict.fromkeys(_image_names(before), "")
        case "VERB":
            return summaries()
    return {}


def _image_names(before: Sequence[str]) -> Iterator[str]:
    """Yield the names of images of the store that is named, or of the machine's own."""
    from vecache.files import read_bounded
    from vecache.store.config import effective_uid, load_config

    with suppress(VecacheError, OSError, ValueError, TypeError, AttributeError):
        if "--store" in before[:-1]:
            root = Path(before[before.index("--store") + 1])
        else:
            root = load_config(os.environ, effective_uid(os.environ)).graph_root
        path = root / "overlay-images" / "images.json"
        for record in json.loads(read_bounded(path, _MAX_LIST_BYTES, beneath=root)):
            yield from filter(str.isprintable, record.get("names") or ())
