"""JSON documents of others, read field by field, with errors that say where.

A manifest, a config and an auth file are small objects of known shape. `Fields` wraps one object,
remembers which document and which field it is, and hands out values of the wanted type or an error
that names both. Unknown fields are skipped; the last of repeated fields wins.

Does not keep texts as bytes, and does not check digests: see `integrity`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecache.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Fields", "parse_fields"]

_JSON_NAMES = {dict: "object", list: "array", str: "text", int: "integer", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object of a document."""

    values: dict[str, Any]  # the object itself
    where: str  # the document, and the path of the object in it
    # what is raised where the shape is wrong; takes one message
    error: type[Exception] = ImageError

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def text(self, name: str, default: str | None = None) -> str:
        """Read a text; `default` where it is missing or null, an error if that is None too."""
        return str(self._value(name, str, default))

    def size(self, name: str) -> int:
        """Read a byte count: an integer from 0 to 2**63 - 1."""
        number = self._value(name, int, None)
        if not 0 <= number < 2**63:
            raise self.error(f"{self.where}: {name} is {number}, wanted a size in bytes")
        return int(number)

    def integer(self, name: str, default: int | None = None) -> int:
        """Read an integer; `default` where it is missing or null."""
        return int(self._value(name, int, default))

    def object(self, name: str, default: dict[str, Any] | None = None) -> Fields:
        """Read an object; `default` where it is missing or null."""
        return Fields(self._value(name, dict, default), f"{self.where}: {name}", self.error)

    def texts(self, name: str) -> dict[str, str]:
        """Read an object of texts; empty where it is missing or null."""
        inner = self.object(name, {})
        return {key: inner.text(key, "") for key in inner}

    def objects(self, name: str) -> list[Fields]:
        """Read an array of objects."""
        return [
            Fields(item, f"{self.where}: {name}[{i}]", self.error)
            for i, item in enumerate(self._items(name, dict))
        ]

    def text_array(self, name: str) -> list[str]:
        """Read an array of texts."""
        return self._items(name, str)

    def _items(self, name: str, kind: type) -> list[Any]:
        items = self._value(name, list, None)
        for i, item in enumerate(items):
            self._require(item, kind, f"{name}[{i}]")
        return list(items)

    def _value(self, name: str, kind: type, default: Any) -> Any:
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.error(f"{self.where}: {name} is missing, wanted {_name(kind)}")
        self._require(value, kind, name)
        return value

    def _require(self, value: Any, kind: type, name: str) -> None:
        # A JSON boolean is a Python int too, but it is no number.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = _name(type(value))
            raise self.error(f"{self.where}: {name} is {found}, wanted {_name(kind)}")


def parse_fields(data: bytes, where: str, error: type[Exception] = ImageError) -> Fields:
    """Read a document that must be one JSON object."""
    try:
        document = json.loads(data)
    except RecursionError:
        raise error(f"{where}: nested too deeply for any real document") from None
    except ValueError as cause:  # bad JSON, bad UTF-8, an integer of thousands of digits
        # The cause's own text could quote the document, and an auth file holds secrets.
        at = f" at byte {cause.pos}" if isinstance(cause, json.JSONDecodeError) else ""
        raise error(f"{where}: not JSON{at}") from None
    if not isinstance(document, dict):
        raise error(f"{where}: {_name(type(document))}, wanted one JSON object")
    return Fields(document, where, error)


def _name(kind: type) -> str:
    return _JSON_NAMES.get(kind, "null" if kind is type(None) else "number")
