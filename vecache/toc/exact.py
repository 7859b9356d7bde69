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

1. No opening bracket (`"entries":]}`), or a comma in its stead (`"entries":,{}]`).
2. `{` for the comma between fields, `[` for the comma between entries.
3. A field without a name or a value in the stead of the closing bracket (`[{"name":"a","":]`).
4. In a field that is skipped, a number with leading zeros, no integer part or a plus, each after a
   minus sign (`-01`, `-.5`, `-+0.5e1`).
5. Control characters in a text, after an escape.
6. Integers beyond 64 bits, some of which jsoniter wraps (21000000000000000000).
7. Nesting deeper than 1,000 levels (jsoniter: 10,000).
8. Over a thousand fields in an entry or beside the entries; more extended attributes in an entry
   than a file of Linux can have; a million numbers with large exponents. What is absurd in any
   document is refused in `parse`.

The first five are not JSON. A field of an entry takes one match of an expression and one store into
a list; what is skipped takes less (`skip`). Memory grows with the columns alone: lists hold some
thousand entries before they become columns.

Source: containers/storage pkg/chunked/cache_linux.go unmarshalToc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from vecache.arrays import frozen
from vecache.errors import TocError
from vecache.toc.columns import INTEGERS, MAX_XATTRS, TEXTS, TIMES, ParsedToc, check_times
from vecache.toc.entries import Xattrs
from vecache.toc.json_reader import JsonReader
from vecache.toc.skip import compile_json

if TYPE_CHECKING:
    from vecache.arrays import I64, BinaryColumn

__all__ = ["parse_exact"]

_TOP_FIELDS: Final = {
    name.lower().encode(): name for name in ("version", "entries", "tarSplitDigest")
}
_ENTRY_FIELDS: Final = {
    name.lower().encode(): name for name in (*TEXTS, *INTEGERS, *TIMES, "xattrs")
}
_BLOCK_ENTRIES: Final = 1 << 13
_TIME_NAMES: Final = tuple(name.encode() for name in TIMES)
_NO_FIELD: Final = (b"", None, None, b"")
_MAX_FIELDS: Final = 1_000  # of an entry, and of the document; Go knows 20 and 3
_MAX_TIMES: Final = 1 << 16  # distinct ones, before they are checked
_MAX_XATTRS_OF_ENTRY: Final = 1 << 16  # the kernel's XATTR_LIST_MAX: bytes of names

_PLAIN_TEXT = rb'"([^"\\\x00-\x1f]*+)"'
_OTHER = rb"true|false|null|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+"
# A field of an entry as nearly all are, and the comma or the bracket behind it.
_FIELD: Final = compile_json(
    rb"_%b_:_(?:%b|(-?(?:0|[1-9][0-9]{0,17}))|%b)_([,}])" % (_PLAIN_TEXT, _PLAIN_TEXT, _OTHER)
)
_XATTR: Final = compile_json(rb'_"([^"\\\x00-\x1f]++)"_:_' + _PLAIN_TEXT + rb"_([,}])")


def parse_exact(data: bytes) -> ParsedToc:
    """Parse a TOC; raise a `TocError` for what Go refuses and for what is not JSON."""
    reader, columns = JsonReader(data), _Columns()
    version = 0
    tar_split_digests = []
    for n_fields, name in enumerate(reader.fields("the document"), 1):
        if n_fields > _MAX_FIELDS:
            raise TocError(f"found over {_MAX_FIELDS:,} fields beside the entries")
        known = _TOP_FIELDS.get(_fold(name))
        if known == "version":
            version = reader.integer(known)
        elif known == "tarSplitDigest":
            tar_split_digests.append(reader.text(known))
        elif known == "entries":
            for _ in reader.elements(known):
                columns.read_entry(reader)
        else:
            reader.skip()
    reader.finish()
    return columns.finish(version, tar_split_digests)


def _fold(name: bytes) -> bytes:
    """Lower the case as `strings.ToLower` does: two signs beyond ASCII become ASCII letters."""
    if not name.isascii():
        name = name.replace("\N{KELVIN SIGN}".encode(), b"k")
        name = name.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}".encode(), b"i")
    return name.lower()


class _Columns:
    """Collects entries in columns, one entry after the other: order and repeats matter."""

    def __init__(self) -> None:
        self._text_parts: dict[str, list[BinaryColumn]] = {name: [] for name in TEXTS}
        self._integer_parts: dict[str, list[I64]] = {name: [] for name in INTEGERS}
        self._xattr_parts: list[Xattrs] = []
        self._times: dict[bytes, None] = {}  # distinct, in order: messages name the first bad one
        self._n_done = 0
        self._n_xattrs = 0
        self._start_block()

    def _start_block(self) -> None:
        self._texts = {name.encode(): [b""] * _BLOCK_ENTRIES for name in TEXTS}
        self._integers = {name.encode(): [0] * _BLOCK_ENTRIES for name in INTEGERS}
        self._xattrs: list[tuple[int, bytes, bytes]] = []
        self._row = 0

    def read_entry(self, reader: JsonReader) -> None:
        """Read one entry, which may be null."""
        # A field as nearly all are takes one match here, any other one several.
        row, texts, integers, times = self._row, self._texts, self._integers, self._times
        xattrs: dict[bytes, bytes] = {}
        is_open = reader.open_object("an entry")
        for _ in range(_MAX_FIELDS):
            if not is_open:
                break
            found = _FIELD.match(reader.data, reader.at)
            name, text, number, mark = _NO_FIELD if found is None else found.groups()
            if name in texts and text is not None:
                texts[name][row] = text
            elif name in integers and number is not None:
                integers[name][row] = int(number)
            elif name in _TIME_NAMES and text is not None:
                times[text] = None
                if len(times) > _MAX_TIMES:
                    self._check_times()
            elif not self._take_other(name, text, number):
                found = None
            if found is not None:
                reader.at, is_open = found.end(), mark == b","
                continue
            name = reader.field_name("an entry")
            known = _ENTRY_FIELDS.get(_fold(name))
            if known == "xattrs":
                xattrs = _read_xattrs(reader)
            else:
                self._read_field(reader, known)
            is_open = reader.has_next_field()
        if is_open:
            raise TocError(f"an entry has over {_MAX_FIELDS:,} fields")
        self._xattrs += [(self._n_done + row, key, xattrs[key]) for key in sorted(xattrs)]
        self._row += 1
        if self._row == _BLOCK_ENTRIES or len(self._xattrs) > _MAX_XATTRS_OF_ENTRY:
            self._finish_block()

    def _take_other(self, name: bytes, text: bytes | None, number: bytes | None) -> bool:
        """Take a field with a name in other letter case or unknown; return whether that was all."""
        known = _ENTRY_FIELDS.get(_fold(name)) if name else ""
        if known in TEXTS and text is not None:
            self._texts[known.encode()][self._row] = text
        elif known in INTEGERS and number is not None:
            self._integers[known.encode()][self._row] = int(number)
        else:
            return known is None  # skipped: its value is JSON
        return True

    def _read_field(self, reader: JsonReader, name: str | None) -> None:
        """Read a field in any letter case, with escapes or null; skip one without a name here."""
        if name is None:
            reader.skip()
        elif name in TIMES:
            self._times[reader.text(name)] = None
            if len(self._times) > _MAX_TIMES:
                self._check_times()
        elif name in TEXTS:
            self._texts[name.encode()][self._row] = reader.text(name)
        else:
            self._integers[name.encode()][self._row] = reader.integer(name)

    def _check_times(self) -> None:
        check_times(pa.array(list(self._times), pa.binary()))
        self._times.clear()

    def _finish_block(self) -> None:
        n_rows = self._row
        for name in TEXTS:
            texts = self._texts[name.encode()][:n_rows]
            self._text_parts[name].append(pa.array(texts, pa.binary()))
        for name in INTEGERS:
            integers = self._integers[name.encode()][:n_rows]
            self._integer_parts[name].append(np.array(integers, np.int64))
        rows, keys, values = zip(*self._xattrs, strict=True) if self._xattrs else ((), (), ())
        self._xattr_parts.append(
            Xattrs(
                np.array(rows, np.int64), pa.array(keys, pa.binary()), pa.array(values, pa.binary())
            )
        )
        self._n_xattrs += len(rows)
        if self._n_xattrs > MAX_XATTRS:
            raise TocError(f"found over {MAX_XATTRS:,} extended attributes")
        self._n_done += n_rows
        self._start_block()

    def finish(self, version: int, tar_split_digests: list[bytes]) -> ParsedToc:
        """Return the columns of all entries."""
        self._finish_block()
        parts, self._xattr_parts = self._xattr_parts, []
        return ParsedToc(
            version=version,
            tar_split_digests=tar_split_digests,
            texts={name: pa.concat_arrays(self._text_parts.pop(name)) for name in TEXTS},
            integers={name: np.concatenate(self._integer_parts.pop(name)) for name in INTEGERS},
            times=pa.array(list(self._times), pa.binary()),
            xattrs=Xattrs(
                entry_row=frozen(np.concatenate([part.entry_row for part in parts])),
                name=pa.concat_arrays([part.name for part in parts]),
                value=pa.concat_arrays([part.value for part in parts]),
            ),
        )


def _read_xattrs(reader: JsonReader) -> dict[bytes, bytes]:
    xattrs: dict[bytes, bytes] = {}
    n_fields = 0
    is_open = reader.open_object("xattrs")
    while is_open:
        found = _XATTR.match(reader.data, reader.at)
        if found is not None:
            key, text, mark = found.groups()
            reader.at, is_open = found.end(), mark == b","
        else:
            key, text = reader.field_name("xattrs"), reader.text("xattrs")
            is_open = reader.has_next_field()
        xattrs[key] = text
        n_fields += 1
        if n_fields > _MAX_XATTRS_OF_ENTRY:
            raise TocError(f"an entry has over {_MAX_XATTRS_OF_ENTRY:,} extended attributes")
    return xattrs
