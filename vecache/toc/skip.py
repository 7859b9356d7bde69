r"""Skip one JSON value of a TOC as Go does, without keeping any of it.

Go skips the fields that it does not know, and whatever they hold must still be JSON. A run of
strings, numbers and literals is matched by one expression, so Python code runs for a bracket only,
and for a number with a large exponent: jsoniter reads such a number as a float, which must hold it.

1. Match the elements of an array, or the fields of an object, as long as they hold no bracket.
2. Step into a bracket, or over the last value before a closing one.
3. Close as many brackets as end here.

About 10 ns a byte, and one byte of memory for each open bracket.

Source: json-iterator/go 1.1.12 iter_skip.go, iter_skip_strict.go.
"""

from __future__ import annotations

import re
from typing import Final

from vecache.errors import TocError

__all__ = ["JSON_TEXT", "Skipper", "compile_json", "json_error"]

JSON_TEXT: Final = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
"""An expression for a string with its quotes."""

_MAX_LEVELS: Final = 1_000
_MAX_FLOATS: Final = 1_000_000
_FLOAT32_OVERFLOW: Final = float.fromhex("0x1.ffffffp127")


def compile_json(expression: bytes) -> re.Pattern[bytes]:
    """Compile an expression in which `_` is white space; possessive: it never goes back."""
    return re.compile(expression.replace(b"_", rb"[ \t\n\r]*+"))


# Without an exponent any number will do; with one of these no float overflows.
_PLAIN = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?![.0-9eE])"
_SMALL = rb"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]++)?+[eE](?:-[0-9]++|\+?[0-9])(?![.0-9eE])"
_WORDS = (rb"true", rb"false", rb"null", rb"\[_\]", rb"\{_\}")
_SCALAR = rb"(?:" + b"|".join([JSON_TEXT, _PLAIN, _SMALL, *_WORDS]) + rb")"

_ELEMENTS = compile_json(rb"(?:_" + _SCALAR + rb"_,)*+_")
_FIELDS = compile_json(rb"(?:_" + JSON_TEXT + rb"_:_" + _SCALAR + rb"_,)*+_")
_NAME = compile_json(JSON_TEXT + rb"_:_")
_VALUE = compile_json(rb"_(?:" + _SCALAR + rb"|([\[{]))")
_FLOAT = compile_json(rb"_(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+[eE][+-]?[0-9]++)")
_BEHIND = compile_json(rb"_([,\]}])")
_CLOSING: Final = {b"[": b"]", b"{": b"}"}


def json_error(at: int, wanted: str) -> TocError:
    """Return an error that says where a document is not JSON."""
    return TocError(f"not JSON, near byte {at}: wanted {wanted}")


class Skipper:
    """Skips values of one document; counts what takes a call of Python."""

    __slots__ = ("_data", "_n_floats")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._n_floats = 0

    def skip(self, at: int) -> int:
        """Return the offset behind the value at `at`; a `TocError` if there is none."""
        closing: list[bytes] = []  # of the brackets that are open
        while True:
            if closing and closing[-1] == b"}":
                at = self._match(_FIELDS, at, "a field").end()
                at = self._match(_NAME, at, "the name of a field").end()
            elif closing:
                at = self._match(_ELEMENTS, at, "a value").end()
            found = _VALUE.match(self._data, at)
            at = self._skip_float(at) if found is None else found.end()
            if found is not None and found[1] is not None:
                closing.append(_CLOSING[found[1]])
                if len(closing) > _MAX_LEVELS:
                    raise TocError("nested too deeply")
                continue
            at = self._close(at, closing)
            if not closing:
                return at

    def _skip_float(self, at: int) -> int:
        # jsoniter skips a number with an exponent by reading it: as float32 where it begins with 0.
        found = self._match(_FLOAT, at, "a value")
        limit = _FLOAT32_OVERFLOW if found[1].startswith(b"0") else float("inf")
        if abs(float(found[1])) >= limit:
            raise TocError(f"{found[1][:40].decode()} is too large for a number")
        self._n_floats += 1
        if self._n_floats > _MAX_FLOATS:
            raise TocError(f"found over {_MAX_FLOATS:,} numbers with large exponents")
        return found.end()

    def _close(self, at: int, closing: list[bytes]) -> int:
        """Skip the brackets that end behind a value, and the comma before the next one."""
        while closing:
            found = self._match(_BEHIND, at, "a comma or a closing bracket")
            at = found.end()
            if found[1] == b",":
                break
            if found[1] != closing.pop():
                raise json_error(found.start(1), "another closing bracket")
        return at

    def _match(self, pattern: re.Pattern[bytes], at: int, wanted: str) -> re.Match[bytes]:
        found = pattern.match(self._data, at)
        if found is None:
            raise json_error(at, wanted)
        return found
