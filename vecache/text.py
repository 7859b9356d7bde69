"""Write text: escape what is untrusted, count and shorten, break lines at words.

Paths, image names and ids come from files that anybody may have written. A control character in
one could move a cursor, recolour a screen or hide a line, and a name may look like markup. All
text that is shown goes through `printable` first, and through `html.escape` where it becomes HTML;
text in a message goes through `quoted`, or is the `repr` of a string.

This module imports nothing heavy and prints nothing.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "MAX_LABEL_CHARACTERS",
    "ZSTD_MAGIC",
    "break_words",
    "count",
    "describe_content",
    "display_width",
    "html_table",
    "printable",
    "quoted",
    "short_labels",
    "wrap_lines",
]

MAX_LABEL_CHARACTERS = 28
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CONTENTS = (
    (0, ZSTD_MAGIC, "compressed with zstd; `zstd -d` unpacks it"),
    (0, b"\x1f\x8b", "compressed with gzip; `gzip -d` unpacks it"),
    (257, b"ustar", "a tar archive"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"{", "JSON, as a TOC is"),
    (0, b"\3\0\0\0\0\0\0\0", "a cache file"),
)  # offset, the bytes there, what that makes of a file
_ESCAPE = re.compile(r"\x1b\[\d*m")
_WORDS = re.compile(r" +(?!(?:[kMGTPE]?B|%)(?:\W|$))")  # a number and its unit are one
_TRANSPORT = re.compile(r"(?:containers-storage|dir|oci|oci-archive):|docker://")
_DIGEST = re.compile(r"(?:\w+:)?([0-9a-f]{32,})")
_DIGEST_CHARACTERS = 12
_MAX_COMMAND = 4096  # characters; nobody reads more in one line
_SHELL = re.compile(r"(?:RUN )?(?:\|\d+ .*?)?/bin/(?:ba|da)?sh -[a-z]*c (#\(nop\)(?: |$))?")
_SET = re.compile(r"^RUN (?:set(?: [\w-]+)+ ?(?:;|&&) )+")
_CONTENT = re.compile(r"\b(dir|file|multi):[0-9a-f]{64}\b")
_FLAGS = re.compile(r"^(RUN|COPY|ADD)(?: --\S+)+ ")  # how, not what: owners, mounts, stages
_TITLE = re.compile(r"[0-9a-f]{12} ")  # an id, and what made the layer
_MAX_SHADE = 0.5


def printable(text: str | bytes) -> str:
    r"""Escape bytes that are not UTF-8 and characters that a terminal would act on or not show.

    Examples
    --------
    >>> print(printable(b"etc/\x1b[2Jhosts\xff"))
    etc/\x1b[2Jhosts\xff
    >>> print(printable("日本語"))
    日本語
    """
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    # A back-slash stays as it is: this is for reading, and --json is exact.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def quoted(text: bytes) -> str:
    r"""Quote at most 100 bytes for a message.

    Examples
    --------
    >>> print(quoted(b"etc/\x1bhosts"))
    'etc/\x1bhosts'
    """
    return repr(text[:100].decode(errors="replace"))


def display_width(text: str) -> int:
    """Count the columns that a printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def describe_content(data: bytes) -> str:
    """Describe the content of a file, from its first 512 bytes, that is not what was wanted.

    Examples
    --------
    >>> describe_content(b"PAR1"), describe_content(b"import this")
    ('a Parquet file', "it begins with 'import t'")
    """
    for offset, magic, what in _CONTENTS:
        if data.startswith(magic, offset):
            return what
    return f"it begins with {quoted(data[:8])}" if data else "it is empty"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """Format a number and its noun.

    Examples
    --------
    >>> count(1, "layer"), count(1_000, "layer"), count(2, "class", "classes")
    ('1 layer', '1,000 layers', '2 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def wrap_lines(text: str, width: int | None) -> str:
    """Break long lines at words; those of tables, with more gaps than one, stay as they are.

    Examples
    --------
    >>> print(wrap_lines("On the wire:  914 kB of data, in 5 requests.", 30))
    On the wire:  914 kB of data,
                  in 5 requests.
    """
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _wrap_line(line, width))


def _wrap_line(line: str, width: int) -> list[str]:
    if len(line) <= width or _visible_width(line) <= width:
        return [line]
    start = len(line) - len(line.lstrip(" "))
    gaps = [match.end() for match in re.finditer(r"(?<=\S) {2,}(?=\S)", line)]
    if len(gaps) > 1:
        return [line]
    if gaps and _visible_width(line[: gaps[0]]) <= width // 2:
        start = gaps[0]
    indent = _visible_width(line[:start])
    lines = break_words(_WORDS.split(line[start:]), width - indent)
    return [line[:start] + lines[0], *(" " * indent + each for each in lines[1:])]


def break_words(words: Sequence[str], width: int) -> list[str]:
    """Join words to lines that are no wider, if no word is."""
    lines, room = [words[0]], width - _visible_width(words[0])
    for word in words[1:]:
        n_columns = _visible_width(word) + 1
        if n_columns <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
            room = width + 1
        room -= n_columns
    return lines


def _visible_width(text: str) -> int:
    """Count the columns of a text that may have escape sequences of `Screen.paint`."""
    return display_width(_ESCAPE.sub("", text))


def html_table(
    caption: str,
    titles: Sequence[str],
    rows: Iterable[Sequence[str | bytes | float | None]],
    *,
    n_rows: int = 0,
    n_shown: int = 20,
    tips: Mapping[str, str] = MappingProxyType({}),
    is_shaded: bool = False,
) -> str:
    """Return a small HTML table; integers get thousands separators, floats become percentages.

    Ids and digests keep 12 digits; the whole appears beside the mouse, as that of a text in `tips`
    does. Where the table is shaded, larger percentages have more of a colour.

    Examples
    --------
    >>> html_table("1 layer", ["id"], [["<b>"]])
    '<table><caption>1 layer</caption><tr><th>id</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    head = "".join(_text_cell("th", title, tips) for title in titles)
    head = f"<tr>{head}</tr>" if titles else ""
    lines = (
        "".join(_cell(cell, tips, is_shaded=is_shaded) for cell in row)
        for row in islice(rows, n_shown)
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    more = f" (the first {n_shown:,} of {n_rows:,} rows)" if n_rows > n_shown else ""
    return f"<table><caption>{_html(caption)}{more}</caption>{head}{body}</table>"


def short_labels(
    labels: Sequence[str], max_characters: int | None = MAX_LABEL_CHARACTERS
) -> list[str]:
    r"""Shorten labels without making two of them equal.

    Ids and digests keep 12 digits; names lose `:latest`, the transport and the folders that all
    share, and then their beginning. A host before them, `HOST: `, stays.

    Examples
    --------
    >>> short_labels(["sha256:" + "ab" * 32, "a\nb", "registry.example.com/project/app:latest"])
    ['abababababab', 'a\\nb', '…try.example.com/project/app']
    >>> short_labels(["localhost:5000/team/base:1", "localhost:5000/team/app:2"])
    ['base:1', 'app:2']
    >>> short_labels(["containers-storage:app:1", "containers-storage:app:2"])
    ['app:1', 'app:2']
    >>> short_labels(["web1: " + "ab" * 32, "web2: " + "ab" * 32])
    ['web1: abababababab', 'web2: abababababab']
    """
    hosts = ["".join(label.rpartition(": ")[:2]) for label in labels]
    labels = [
        label.removeprefix(host).removesuffix(":latest")
        for label, host in zip(labels, hosts, strict=True)
    ]
    n_common = _common_folder(labels) if len(labels) > 1 else 0
    short: list[str] = []
    taken: set[str] = set()
    for host, label in zip(hosts, labels, strict=True):  # labels, not rows
        text = unique = printable(host) + _short(label[n_common:], max_characters)
        number = 1
        while unique in taken:
            number += 1
            unique = f"{text} ({number})"
        taken.add(unique)
        short.append(unique)
    return short


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # some of them combine with class 0
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def short_command(created_by: str) -> str:
    """Shorten what made a layer to an instruction of a Containerfile, in one line.

    A shell alone, as `podman commit` writes it, says nothing and becomes empty.

    Examples
    --------
    >>> short_command("/bin/sh -c #(nop) COPY dir:" + "ab" * 32 + " in /app ")
    'COPY dir in /app'
    >>> short_command("RUN |1 V=3 /bin/sh -c set -eux;   apt-get update # buildkit")
    'RUN apt-get update'
    >>> short_command("/bin/sh")
    ''
    """
    text = _FLAGS.sub(r"\1 ", " ".join(created_by[:_MAX_COMMAND].split()))
    if shell := _SHELL.match(text):
        text = text[shell.end() :] if shell[1] else f"RUN {text[shell.end() :]}"
    text = _SET.sub("RUN ", text).removesuffix("# buildkit").strip()
    text = _CONTENT.sub(r"\1", text)
    return "" if text in ("sh", "bash", "/bin/sh", "/bin/bash") else text


def _cell(cell: str | bytes | float | None, tips: Mapping[str, str], *, is_shaded: bool) -> str:
    if cell is None or isinstance(cell, str | bytes):
        return _text_cell("td", cell or "", tips)
    style = "text-align: right"
    if isinstance(cell, int):
        return f'<td style="{style}">{cell:,}</td>'
    if is_shaded:  # of what lies below, so that text is legible in both themes
        style += f"; background: rgba(0, 114, 178, {_MAX_SHADE * min(max(cell, 0), 1):.2f})"
    return f'<td style="{style}">{cell:.1%}</td>'


def _text_cell(tag: str, text: str | bytes, tips: Mapping[str, str]) -> str:
    whole = text
    if isinstance(text, str):
        whole = tips.get(text, text)
        if _DIGEST.fullmatch(text.rpartition(": ")[2]):  # an id, or that of a layer of a host
            text = short_labels([text])[0]
    tip = "" if whole == text else f' title="{_html(whole)}"'
    return f"<{tag}{tip}>{_html(text)}</{tag}>"


def _html(text: str | bytes) -> str:
    from html import escape  # noqa: PLC0415 - 1 ms that only notebooks need

    return escape(printable(text))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as surrogateescape encodes it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _common_folder(labels: Sequence[str]) -> int:
    """Return the length of the transport and the longest folder that all labels begin with."""
    low, high = min(labels), max(labels)
    n_alike = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    transport = _TRANSPORT.match(low)
    n_transport = transport.end() if transport and transport.end() <= n_alike else 0
    return max(low.rfind("/", 0, n_alike) + 1, n_transport)


def _short(label: str, max_characters: int | None) -> str:
    digest = _DIGEST.fullmatch(label)
    if digest:
        return digest[1][:_DIGEST_CHARACTERS]
    text = printable(label)
    if max_characters is not None and len(text) > max_characters:
        if _TITLE.match(text):
            is_wide = max_characters > _DIGEST_CHARACTERS + 4
            return f"{text[: max_characters - 1]}…" if is_wide else text[:_DIGEST_CHARACTERS]
        return f"…{text[1 - max_characters :]}"
    return text
