"""Read untrusted JSON documents field by field, with errors that say where.

A manifest, a config, an auth file and a list of layers are small objects of known shape. `Fields`
wraps one object, remembers which document and which field it is, and returns values of the wanted
type, or raises the caller's class of error with both names. What Go's reader does is done here too,
because it reads the same documents: unknown fields are skipped, of repeated fields the last one
wins, a missing field and `null` are alike, integers have 64 bits, and half of a surrogate pair
becomes U+FFFD.

Messages quote no strings of the document: an auth file holds secrets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Fields", "kind_name", "load_json", "parse_fields"]

_KIND_NAMES: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def load_json(data: bytes | str, where: str, error: type[Exception]) -> Any:
    """Parse a document; raise `error`, which takes one message, where that fails."""
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        reason = "nested too deeply"
    except json.JSONDecodeError as cause:
        reason = f"not JSON at line {cause.lineno}, column {cause.colno}: {cause.msg}"
    except UnicodeDecodeError as cause:
        reason = f"not JSON: not UTF-8 at byte {cause.start}"
    except ValueError as cause:  # NaN, or an integer of thousands of digits
        reason = f"not JSON: {str(cause).partition(';')[0]}"  # behind it: advice for programmers
    raise error(f"{where}: {reason}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def parse_fields(data: bytes | str, where: str, error: type[Exception]) -> Fields:
    """Parse a document that must be one JSON object."""
    document = load_json(data, where, error)
    if not isinstance(document, dict):
        raise error(f"{where}: found {kind_name(document)}, wanted an object")
    return Fields(document, where, error)


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object of a document."""

    values: dict[str, Any]  # the object itself
    where: str  # the document, and the path of the object in it
    error: type[Exception]  # what is raised where a value is wrong; takes one message

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string, or `default` where it is missing; an error if that is None too."""
        return _replace_surrogates(self._value(name, str, default))

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an integer of 64 bits, or `default` where it is missing."""
        number = self._value(name, int, default)
        if not -(2**63) <= number < 2**63:
            found = str(number)[:40]
            raise self.error(f"{self.where}: {name}: found {found}, wanted an integer of 64 bits")
        return int(number)

    def size(self, name: str) -> int:
        """Return a byte count: an integer from 0 to 2**63 - 1."""
        number = self.integer(name)
        if number < 0:
            raise self.error(f"{self.where}: {name}: found {number}, wanted a size in bytes")
        return number

    def boolean(self, name: str) -> bool:
        """Return a boolean."""
        return bool(self._value(name, bool, None))

    def object(self, name: str, default: dict[str, Any] | None = None) -> Fields:
        """Return an object, or `default` where it is missing."""
        return Fields(self._value(name, dict, default), f"{self.where}: {name}", self.error)

    def texts(self, name: str) -> dict[str, str]:
        """Return an object of strings, empty where it is missing."""
        inner = self.object(name, {})
        return {key: inner.text(key, "") for key in inner}

    def objects(self, name: str) -> list[Fields]:
        """Return an array of objects."""
        return [
            Fields(item, f"{self.where}: {name}[{i}]", self.error)
            for i, item in enumerate(self._items(name, dict, None))
        ]

    def text_array(self, name: str, default: list[str] | None = None) -> list[str]:
        """Return an array of strings, or `default` where it is missing."""
        return [_replace_surrogates(item) for item in self._items(name, str, default)]

    def _items(self, name: str, kind: type, default: list[Any] | None) -> list[Any]:
        items: list[Any] = self._value(name, list, default)
        for i, item in enumerate(items):
            self._check(item, kind, f"{name}[{i}]")
        return items

    def _value(self, name: str, kind: type, default: Any) -> Any:
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.error(f"{self.where}: {name} is missing, wanted {_KIND_NAMES[kind]}")
        self._check(value, kind, name)
        return value

    def _check(self, value: Any, kind: type, name: str) -> None:
        if type(value) is not kind:  # not isinstance: a boolean is a Python int too
            raise self.error(
                f"{self.where}: {name}: found {kind_name(value)}, wanted {_KIND_NAMES[kind]}"
            )


def kind_name(value: object) -> str:
    """Return the kind of a JSON value, as messages name it."""
    return _KIND_NAMES.get(type(value), type(value).__name__)


def _replace_surrogates(text: str) -> str:
    """Return the text with each half of a surrogate pair replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
