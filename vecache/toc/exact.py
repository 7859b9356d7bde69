r"""Parse any TOC as Go does, at a tenth of the speed of `fast`.

Go reads a TOC with jsoniter, field by field. For every document that is JSON, whether its bytes are
UTF-8 or not, this parser gives Go's answer:

- Field names match in any letter case, by `strings.ToLower`. The last of repeated fields wins,
  except `entries`, which are concatenated.
- `null` is an empty text, an empty object or an empty array (so `null` alone is an empty TOC), but
  neither an integer nor a time.
- Texts are bytes: invalid UTF-8 stays as it is, the escape of a lone surrogate becomes U+FFFD.
- A field without a name is an error: Go takes it for the end of the object.
- A number with an exponent, in a field that is skipped, must still fit a float.

jsoniter also accepts documents that this parser refuses. No writer makes them, and to guess what
they mean would hide damage. All classes, each with a test:

1. No opening bracket (`"entries":]`), or a comma in its stead (`"entries":,{}]`).
2. `{` for the comma between fields, `[` for the comma between entries.
3. A field without a name or a value in the stead of the closing bracket (`[{"name":"a","":]`).
4. In a field that is skipped, a number with leading zeros, no integer part or a plus, each after a
   minus sign (`-01`, `-.5`, `-+0.5e1`).
5. Control characters in a text, after an escape.
6. Integers beyond 64 bits, some of which jsoniter wraps (21000000000000000000).
7. Nesting deeper than Python's own limit, about 1,000 levels (jsoniter: 10,000).

The first five are not JSON. Memory is about 15 times the document at worst, 5 times as a rule.

Source: containers/storage pkg/chunked/cache_linux.go unmarshalToc; json-iterator/go 1.1.12
iter_object.go, iter_array.go, iter_int.go, iter_str.go, iter_skip.go, iter_skip_strict.go.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa

from vecache.arrays import frozen
from vecache.errors import TocError
from vecache.toc.columns import INTEGERS, TEXTS, TIMES, ParsedToc
from vecache.toc.entries import Xattrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["parse_exact", "unescape"]

_TOP_FIELDS = {name.lower().encode(): name for name in ("version", "entries", "tarSplitDigest")}
_ENTRY_FIELDS = {name.lower().encode(): name for name in (*TEXTS, *INTEGERS, *TIMES, "xattrs")}

_ESCAPE = re.compile(
    rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})(?:\\u([0-9a-fA-F]{4}))?|u([0-9a-fA-F]{4})|.)",
    re.DOTALL,
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FLOAT32_OVERFLOW = float.fromhex("0x1.ffffffp127")


def parse_exact(data: bytes) -> ParsedToc:
    """Parse a TOC; raise a `TocError` for what Go refuses and for what is not JSON."""
    version = 0
    tar_split_digests = []
    entries: list[Any] = []
    for name, value in _fields(_load(data), _TOP_FIELDS, "the document"):
        if name == "version":
            version = _integer(name, value)
        elif name == "tarSplitDigest":
            tar_split_digests.append(_text(name, value))
        elif isinstance(value, list):
            entries += value
        elif value is not None:
            raise TocError("entries: wanted an array")
    return _collect(version, tar_split_digests, entries)


def unescape(texts: list[bytes]) -> list[bytes]:
    r"""Unescape JSON texts, given without their quotes; raise a `TocError` for a bad escape.

    Examples
    --------
    >>> unescape([rb"\u0061", rb"\\n"])
    [b'a', b'\\n']
    """
    loaded = _load(b'["' + b'","'.join(texts) + b'"]')
    return [text.encode("latin-1") for text in loaded]


def _load(data: bytes) -> Any:
    """Load JSON; objects become tuples of pairs, texts hold one character a byte."""
    text = (_ESCAPE.sub(_unescape, data) if b"\\u" in data else data).decode("latin-1")
    try:
        return json.loads(
            text,
            object_pairs_hook=tuple,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise TocError(f"not JSON, near byte {error.pos}: {error.msg}") from None
    except RecursionError:
        raise TocError("nested too deeply") from None


def _unescape(escape: re.Match[bytes]) -> bytes:
    r"""Return a `\u` escape as the UTF-8 that jsoniter makes of it; ASCII is left to `json`."""
    lead, trail, plain = escape.groups()
    if plain is not None:
        code = int(plain, 16)
        return escape[0] if code < 0x80 else chr(code).encode()
    if lead is None:
        return escape[0]
    if trail is None:
        return _REPLACEMENT.encode()
    high, low = int(lead, 16), int(trail, 16)
    if high < 0xDC00 and 0xDC00 <= low < 0xE000:
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)).encode()
    if low < 0x80:
        return _REPLACEMENT.encode() + b"\\u" + trail
    return (_REPLACEMENT + (_REPLACEMENT if 0xD800 <= low < 0xE000 else chr(low))).encode()


def _parse_int(digits: str) -> int | float:
    # More digits than 64 bits have, so `_integer` refuses it. `int` would take quadratic time.
    return int(digits) if len(digits) <= 20 else 0.0


def _parse_float(digits: str) -> float:
    # jsoniter skips a number with an exponent by reading it: as float32 where it begins with 0.
    if "e" in digits.lower():
        limit = _FLOAT32_OVERFLOW if digits.startswith("0") else float("inf")
        if abs(float(digits)) >= limit:
            raise TocError(f"{digits[:40]} is too large for a number")
    return 0.0


def _refuse_constant(name: str) -> NoReturn:
    raise TocError(f"{name} is not JSON")


def _fields(value: Any, known: dict[bytes, str], what: str) -> Iterator[tuple[str, Any]]:
    """Yield the known fields of an object; null has none."""
    for name, field in _pairs(value, what):
        folded = known.get(_fold(name))
        if folded is not None:
            yield folded, field


def _pairs(value: Any, what: str) -> Iterator[tuple[bytes, Any]]:
    if value is None:
        return
    if not isinstance(value, tuple):
        raise TocError(f"{what}: wanted an object")
    for name, field in value:
        if not name:
            raise TocError(f"{what}: a field without a name")
        yield name.encode("latin-1"), field


def _fold(name: bytes) -> bytes:
    """Lower the case as `strings.ToLower` does: two signs beyond ASCII become ASCII letters."""
    if not name.isascii():
        name = name.replace("\N{KELVIN SIGN}".encode(), b"k")
        name = name.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}".encode(), b"i")
    return name.lower()


def _integer(name: str, value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise TocError(f"{name}: wanted an integer of 64 bits")
    return value


def _text(name: str, value: Any) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise TocError(f"{name}: wanted a text")
    return value.encode("latin-1")


def _collect(version: int, tar_split_digests: list[bytes], entries: list[Any]) -> ParsedToc:
    """Collect the entries in columns, one entry after the other: order and repeats matter."""
    texts = {name: [b""] * len(entries) for name in TEXTS}
    integers = {name: [0] * len(entries) for name in INTEGERS}
    times: dict[bytes, None] = {}  # distinct, in order: messages name the first bad one
    xattrs: list[tuple[int, bytes, bytes]] = []
    for row, entry in enumerate(entries):
        of_entry: dict[bytes, bytes] = {}
        for name, value in _fields(entry, _ENTRY_FIELDS, "an entry"):
            if name == "xattrs":
                of_entry = {key: _text("xattrs", text) for key, text in _pairs(value, "xattrs")}
            elif name in TIMES:
                times[_text(name, value)] = None
            elif name in texts:
                texts[name][row] = _text(name, value)
            else:
                integers[name][row] = _integer(name, value)
        xattrs += [(row, key, of_entry[key]) for key in sorted(of_entry)]
    return ParsedToc(
        version=version,
        tar_split_digests=tar_split_digests,
        texts={name: pa.array(values, pa.binary()) for name, values in texts.items()},
        integers={name: np.array(values, np.int64) for name, values in integers.items()},
        times=pa.array(list(times), pa.binary()),
        xattrs=Xattrs(
            entry_row=frozen(np.array([row for row, _, _ in xattrs], np.int64)),
            name=pa.array([key for _, key, _ in xattrs], pa.binary()),
            value=pa.array([text for _, _, text in xattrs], pa.binary()),
        ),
    )
