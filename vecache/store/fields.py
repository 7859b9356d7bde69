"""Parse a JSON list of records, and read their fields with the types checked.

A file that is broken, or a field of the wrong type, is an error that names file and record: half a
list of layers would give a wrong plan without a word. Fields nobody asks for are no concern of a
reader. A missing field and `null` are alike, as they are for Go.

An id becomes part of a path, so one that could leave its folder is an error too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vecache.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Fields", "parse_array"]

_SAFE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,254}")


def parse_array(text: str, path: Path) -> list[dict[str, Any]]:
    """Parse a file of records."""
    if not text:
        return []
    try:
        records = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; Podman cannot "
            "read this list either"
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: {error}") from error
    if records is None:  # as Go reads it
        return []
    if not isinstance(records, list):
        raise StoreError(f"{path}: found {_kind(records)}, wanted an array of records")
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise StoreError(f"{path}: record {number}: found {_kind(record)}, wanted an object")
    return records


@dataclass(frozen=True, slots=True)
class Fields:
    """One record, read with its types checked."""

    values: dict[str, Any]  # the record as it stands in the file
    where: str  # file and record, for messages

    def take(self, key: str, wanted: type, what: str) -> Any:
        """Return a value, None where it is missing or null."""
        value = self.values.get(key)
        if value is not None and type(value) is not wanted:
            raise StoreError(f"{self.where}: {key}: found {_kind(value)}, wanted {what}")
        return value

    def text(self, key: str) -> str | None:
        """Return a text, None where it is missing or empty."""
        return _printable(self.take(key, str, "a text") or "") or None

    def whole(self, key: str, default: int) -> int:
        """Return a whole number."""
        value = self.take(key, int, "a whole number")
        return default if value is None else int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty where it is missing."""
        values = self.take(key, list, "an array of texts") or []
        for value in values:
            if not isinstance(value, str):
                raise StoreError(f"{self.where}: {key}: found {_kind(value)}, wanted texts only")
        return tuple(_printable(value) for value in values)

    def safe_id(self) -> str:
        """Return the id, which must be usable as the name of a folder."""
        value = self.take("id", str, "a text")
        if value is None or not _SAFE_ID.fullmatch(value):
            raise StoreError(f"{self.where}: id: found {value!r:.80}, which is no id of a record")
        return str(value)


def _printable(text: str) -> str:
    """Return the text with half surrogate pairs replaced, as Go's reader does."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _kind(value: object) -> str:
    """Name a JSON value's type as its readers know it."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    names = {str: "a text", int: "a number", float: "a number", list: "an array"}
    return names.get(type(value), "an object")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
