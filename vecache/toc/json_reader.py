r"""Read JSON from its begin to its end, as Go's jsoniter does.

`JsonReader` stands at an offset in the bytes of a document. The caller asks for the value that it
wants next, or skips one, so nothing is kept of what it does not want. Texts are bytes: invalid
UTF-8 stays as it is, the escape of a lone surrogate becomes U+FFFD.

Source: json-iterator/go 1.1.12 iter_object.go, iter_array.go, iter_int.go, iter_str.go.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from vecache.errors import TocError
from vecache.toc.skip import JSON_TEXT, Skipper, compile_json, json_error

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JsonReader", "unescape"]

_TEXT: Final = compile_json(rb"_(" + JSON_TEXT + rb")")
_INTEGER: Final = compile_json(rb"_(-?(?:0|[1-9][0-9]*+))(?![.0-9eE])")
_NULL: Final = compile_json(rb"_null")
_OBJECT: Final = compile_json(rb"_\{_(\})?+")
_ARRAY: Final = compile_json(rb"_\[_(\])?+")
_COLON: Final = compile_json(rb"_:")
_BEHIND_FIELD: Final = compile_json(rb"_([,}])")
_BEHIND_ELEMENT: Final = compile_json(rb"_([,\]])")
_SPACE: Final = compile_json(rb"_")

_ESCAPE: Final = re.compile(
    rb"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})(?:\\u([0-9a-fA-F]{4}))?|u([0-9a-fA-F]{4})|.)",
    re.DOTALL,
)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_decoder: Final = json.JSONDecoder()


class JsonReader:
    """Reads one value after the other; a `TocError` where there is another one, or no JSON."""

    __slots__ = ("_skipper", "at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0  # the offset of what is read next
        self._skipper = Skipper(data)

    def fields(self, what: str) -> Iterator[bytes]:
        """Yield the name of each field of an object, for the caller to read its value."""
        is_open = self.open_object(what)
        while is_open:
            yield self.field_name(what)
            is_open = self.has_next_field()

    def elements(self, what: str) -> Iterator[None]:
        """Yield before each element of an array, for the caller to read it."""
        is_open = self._open(_ARRAY, f"{what}: wanted an array")
        while is_open:
            yield
            is_open = self._match(_BEHIND_ELEMENT, "a comma or ]")[1] == b","

    def open_object(self, what: str) -> bool:
        """Read the bracket of an object; return whether it has fields. Null has none."""
        return self._open(_OBJECT, f"{what}: wanted an object")

    def has_next_field(self) -> bool:
        """Read the comma behind a value, or the bracket."""
        return self._match(_BEHIND_FIELD, "a comma or }")[1] == b","

    def field_name(self, what: str) -> bytes:
        """Read the name of a field, and the colon."""
        name = _unescape_text(self._match(_TEXT, "the name of a field")[1])
        if not name:
            raise TocError(f"{what}: a field without a name")
        self._match(_COLON, "a colon")
        return name

    def text(self, name: str) -> bytes:
        """Read a text; null is an empty one."""
        found = _TEXT.match(self.data, self.at)
        if found is not None:
            self.at = found.end()
            return _unescape_text(found[1])
        self._read_null(f"{name}: wanted a text")
        return b""

    def integer(self, name: str) -> int:
        """Read an integer of 64 bits."""
        found = _INTEGER.match(self.data, self.at)
        # `int` takes quadratic time, and has a limit of its own.
        value = 2**63 if found is None or len(found[1]) > 20 else int(found[1])
        if found is None or not -(2**63) <= value < 2**63:
            raise self._other_value(f"{name}: wanted an integer of 64 bits")
        self.at = found.end()
        return value

    def skip(self) -> None:
        """Skip a value of any kind."""
        self.at = self._skipper.skip(self.at)

    def finish(self) -> None:
        """Check that nothing but white space is left."""
        self._match(_SPACE, "white space")
        if self.at < len(self.data):
            raise json_error(self.at, "the end")

    def _open(self, bracket: re.Pattern[bytes], wanted: str) -> bool:
        found = bracket.match(self.data, self.at)
        if found is not None:
            self.at = found.end()
            return found[1] is None
        self._read_null(wanted)
        return False

    def _read_null(self, wanted: str) -> None:
        found = _NULL.match(self.data, self.at)
        if found is None:
            raise self._other_value(wanted)
        self.at = found.end()

    def _other_value(self, wanted: str) -> TocError:
        """Return the error for a value of another kind, or for what is not JSON."""
        try:
            self.skip()
        except TocError as error:
            return error
        return TocError(wanted)

    def _match(self, pattern: re.Pattern[bytes], wanted: str) -> re.Match[bytes]:
        found = pattern.match(self.data, self.at)
        if found is None:
            raise json_error(self.at, wanted)
        self.at = found.end()
        return found


def _unescape_text(quoted: bytes) -> bytes:
    """Return a text of valid JSON without its quotes and escapes."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    text: str = _decoder.raw_decode(_unescape_unicode(quoted))[0]
    return text.encode("latin-1")


def unescape(texts: list[bytes]) -> list[bytes]:
    r"""Unescape JSON texts, given without their quotes; raise a `TocError` for a bad escape.

    Examples
    --------
    >>> unescape([rb"\u0061", rb"\\n"])
    [b'a', b'\\n']
    """
    try:
        loaded = json.loads(_unescape_unicode(b'["' + b'","'.join(texts) + b'"]'))
    except json.JSONDecodeError as error:
        raise TocError(f"not JSON: {error.msg}") from None
    return [text.encode("latin-1") for text in loaded]


def _unescape_unicode(data: bytes) -> str:
    r"""Replace the `\u` escapes in JSON; the result has one character a byte."""
    return (_ESCAPE.sub(_unescape, data) if b"\\u" in data else data).decode("latin-1")


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
