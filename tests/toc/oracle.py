"""A slow model of a TOC: read as Go reads it, one byte and one entry at a time.

`Reader` moves over a document as jsoniter's iterator does, and is as lenient. `unmarshal` is the
upstream function that fills entries with it. The rest are the upstream rules on lists of
dictionaries. Nothing here is shared with the package.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = dict[str, Any]

TEXTS = ("type", "name", "linkname", "digest", "chunkdigest", "chunktype")
INTEGERS = (
    *("mode", "size", "uid", "gid", "devmajor", "devminor"),
    *("offset", "endoffset", "chunksize", "chunkoffset"),
)
TIMES = ("modtime", "accesstime", "changetime")
EMPTY = b"sha256:" + hashlib.sha256(b"").hexdigest().encode()
LANDMARKS = (b".prefetch.landmark", b".no.prefetch.landmark", b"stargz.index.json")
SPACE = b" \n\t\r"


class RefusedError(Exception):
    """Go returns an error."""


def is_json(data: bytes) -> bool:
    """Whether a document is JSON, in bytes that need not be UTF-8."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(data.decode("latin-1"), parse_constant=refuse, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True


class Reader:
    """jsoniter's Iterator over bytes; an error ends it at once."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.has_wrapped = False  # an integer beyond 64 bits was taken for another one

    def token(self) -> bytes:
        while self.at < len(self.data) and self.data[self.at] in SPACE:
            self.at += 1
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def byte(self) -> bytes:
        self.at += 1
        if self.at > len(self.data):
            raise RefusedError("unexpected end")
        return self.data[self.at - 1 : self.at]

    def word(self, rest: bytes) -> None:
        if self.data[self.at : self.at + len(rest)] != rest:
            raise RefusedError("literal")
        self.at += len(rest)

    def field(self) -> bytes:
        """Read the next field name of an object; empty at its end (ReadObject)."""
        token = self.token()
        if token == b"n":
            self.word(b"ull")
            return b""
        if token == b"}":
            return b""
        if token == b"{":
            token = self.token()
            if token == b"}":
                return b""
            if token != b'"':
                raise RefusedError("object")
            self.at -= 1
        elif token != b",":
            raise RefusedError("object")
        name = self.string()
        if self.token() != b":":
            raise RefusedError("colon")
        return name

    def fields(self) -> Iterator[bytes]:
        while name := self.field():
            yield name

    def array(self) -> bool:
        """Return whether an array has another element (ReadArray)."""
        token = self.token()
        if token == b"n":
            self.word(b"ull")
            return False
        if token == b"[":
            if self.token() == b"]":
                return False
            self.at -= 1
            return True
        if token not in (b"]", b","):
            raise RefusedError("array")
        return token == b","

    def string(self) -> bytes:
        token = self.token()
        if token == b"n":
            self.word(b"ull")
            return b""
        if token != b'"':
            raise RefusedError("string")
        plain = re.compile(rb"[^\"\\\x00-\x1f]*").match(self.data, self.at)
        assert plain is not None
        if plain.end() == len(self.data) or self.data[plain.end()] < 0x20:
            raise RefusedError("control character, or end")
        text = bytearray()
        while (char := self.byte()) != b'"':
            text += self.escape() if char == b"\\" else char
        return bytes(text)

    def escape(self) -> bytes:
        char = self.byte()
        if char != b"u":
            plain = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
            if ord(char) not in plain:
                raise RefusedError("escape")
            return bytes([plain[ord(char)]])
        first = self.hex4()
        if not 0xD800 <= first < 0xE000:
            return rune(first)
        if self.byte() != b"\\":
            self.at -= 1
            return rune(first)
        if self.byte() != b"u":
            self.at -= 1
            return rune(first) + self.escape()
        second = self.hex4()
        if first < 0xDC00 <= second < 0xE000:
            return rune(0x10000 + (first - 0xD800) * 0x400 + second - 0xDC00)
        return rune(first) + rune(second)

    def hex4(self) -> int:
        digits = b"".join(self.byte() for _ in range(4))
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise RefusedError("hex")
        return int(digits, 16)

    def integer(self) -> int:
        """Read an int64 (ReadInt64)."""
        token = self.token()
        is_negative = token == b"-"
        if is_negative:
            token = self.byte()
        digits = token
        if not re.fullmatch(rb"[0-9]", token):
            raise RefusedError("integer")
        if token != b"0":
            more = re.compile(rb"[0-9]*").match(self.data, self.at)
            assert more is not None
            digits += more[0]
            self.at = more.end()
        if self.data[self.at : self.at + 1] == b".":
            raise RefusedError("float")
        value = self.wrapped(digits)
        if value > 2**63 - (not is_negative):
            raise RefusedError("overflow")
        return -value if is_negative else value

    def wrapped(self, digits: bytes) -> int:
        """Read a uint64 as readUint64 does, whose test for an overflow misses some."""
        value = 0
        for digit in digits:
            before, value = value, 10 * value + digit - ord("0")
            if value >= 2**64:
                value %= 2**64
                self.has_wrapped = True
                if value < before:
                    raise RefusedError("overflow")
        return value

    def skip(self) -> None:
        token = self.token()
        if token == b'"':
            self.at -= 1
            self.string()
        elif token in (b"n", b"t", b"f"):
            self.word({b"n": b"ull", b"t": b"rue", b"f": b"alse"}[token])
        elif token == b"[":
            self.skip_items(b"]", self.skip)
        elif token == b"{":
            self.skip_items(b"}", self.skip_field)
        else:
            self.at -= 1
            self.skip_number()

    def skip_items(self, end: bytes, skip: Any) -> None:
        if self.token() == end:
            return
        self.at -= 1
        skip()
        while (token := self.token()) == b",":
            skip()
        if token != end:
            raise RefusedError("end of array or object")

    def skip_field(self) -> None:
        self.string()
        if self.token() != b":":
            raise RefusedError("colon")
        self.skip()

    def skip_number(self) -> None:
        # Behind a minus sign jsoniter leaves it to Go's parser of floats, which takes more.
        found = re.compile(
            rb"(?:-\+?(?:\.[0-9]+|[0-9]+(?:\.[0-9]+)?)|[0-9]+(?:\.[0-9]+)?)([eE][+-]?[0-9]+)?"
        ).match(self.data, self.at)
        if found is None or re.match(rb"0[0-9]", found[0]):
            raise RefusedError("number")
        self.at = found.end()
        try:
            value = float(found[0].lstrip(b"-+"))
            if found[0].startswith(b"0"):
                struct.pack("<f", value)
        except OverflowError:
            raise RefusedError("number") from None
        if math.isinf(value) and found[1]:
            raise RefusedError("number")


def rune(code: int) -> bytes:
    """UTF-8 as strings.Builder.WriteRune writes it."""
    return b"\xef\xbf\xbd" if 0xD800 <= code < 0xE000 else chr(code).encode()


def lower(name: bytes) -> bytes:
    """strings.ToLower; a name that is not ASCII then matches no field."""
    simple = {"\u212a": "k", "\u0130": "i"}
    text = name.decode("utf-8", "replace")
    return "".join(simple.get(char, char.lower()) for char in text).encode("utf-8", "replace")


def is_time(text: bytes) -> bool:
    """time.Parse(time.RFC3339, text), by parts."""
    found = re.fullmatch(
        rb"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)([.,]\d+)?(Z|[+-](\d\d):(\d\d))", text
    )
    if found is None:
        return False
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    try:
        date(year or 400, month, day)  # Go's year 0 is a leap year, and Python has none
    except ValueError:
        return False
    zone_ok = found[9] is None or (int(found[9]) <= 24 and int(found[10]) <= 60)
    return hour < 24 and minute < 60 and second < 60 and zone_ok


def is_digest(text: bytes) -> bool:
    """digest.Parse."""
    lengths = {b"sha256": 64, b"sha384": 96, b"sha512": 128}
    algorithm, _, encoded = text.partition(b":")
    return len(encoded) == lengths.get(algorithm, -1) and not encoded.strip(b"0123456789abcdef")


def new_entry() -> Entry:
    """An entry with no fields in the document."""
    return {**dict.fromkeys(TEXTS, b""), **dict.fromkeys(INTEGERS, 0), "xattrs": {}}


def unmarshal(data: bytes) -> dict[str, Any]:
    """unmarshalToc: the document's entries, version and tar-split digest."""
    reader = Reader(data)
    toc: dict[str, Any] = {"version": 0, "tarsplitdigest": None, "entries": []}
    for name in map(lower, reader.fields()):
        if name == b"version":
            toc["version"] = reader.integer()
        elif name == b"entries":
            while reader.array():
                toc["entries"].append(read_entry(reader))
        elif name == b"tarsplitdigest":
            toc["tarsplitdigest"] = reader.string()
            if not is_digest(toc["tarsplitdigest"]):
                raise RefusedError("tarSplitDigest")
        else:
            reader.skip()
    if data[reader.at :].strip(SPACE) or reader.at > len(data):
        raise RefusedError("data after the document")
    toc["has_wrapped"] = reader.has_wrapped
    return toc


def read_entry(reader: Reader) -> Entry:
    """One element of `entries`."""
    entry = new_entry()
    for name in (lower(field).decode() for field in reader.fields()):
        if name in TEXTS:
            entry[name] = reader.string()
        elif name in INTEGERS:
            entry[name] = reader.integer()
        elif name in TIMES:
            if not is_time(reader.string()):
                raise RefusedError("time")
        elif name == "xattrs":
            entry["xattrs"] = {}
            for key in reader.fields():
                entry["xattrs"][key] = reader.string()
        else:
            reader.skip()
    if entry["type"] == b"reg" and entry["size"] == 0 and not entry["digest"]:
        entry["digest"] = EMPTY
    return entry


def retained(entries: list[Entry], layout: str) -> list[tuple[int, bytes]]:
    """prepareCacheFile: row and name of the entries that the cache retains."""
    if layout == "flat":
        return flat(entries, list(range(len(entries))))
    rows = []
    seen = set()
    for row, entry in enumerate(entries):
        if entry["digest"]:
            rows.append((row, entry["name"]))
        elif entry["chunkdigest"] and entry["chunkdigest"] not in seen:
            seen.add(entry["chunkdigest"])
            rows.append((row, entry["name"]))
    return rows


def flat(entries: list[Entry], rows: list[int]) -> list[tuple[int, bytes]]:
    """makeEntriesFlat."""
    found = []
    seen = set()
    for row in rows:
        entry = entries[row]
        if entry["type"] != b"reg":
            continue
        if not entry["digest"].startswith(b"sha256:") or not is_digest(entry["digest"]):
            raise RefusedError(f"digest of entry {row}")
        name = entry["digest"][7:9] + b"/" + entry["digest"][9:]
        if name not in seen:
            seen.add(name)
            found.append((row, name))
    return found


def fingerprint(entry: Entry) -> bytes:
    """calculateHardLinkFingerprint."""
    message = entry["digest"]
    message += b"%d:%d:%s" % (entry["uid"], entry["gid"], format(entry["mode"], "o").encode())
    for key in sorted(entry["xattrs"]):
        message += key + entry["xattrs"][key]
    return hashlib.sha256(message).digest()


def wrap(value: int) -> int:
    """Arithmetic of int64."""
    return (value + 2**63) % 2**64 - 2**63


def merge(entries: list[Entry], *, estargz: bool, toc_offset: int) -> list[dict[str, Any]]:
    """mergeTocEntries: files, each with its chunks."""

    def is_skipped(entry: Entry) -> bool:
        return estargz and entry["name"] in LANDMARKS

    files = []
    row = 0
    while row < len(entries):
        entry = entries[row]
        if is_skipped(entry):
            row += 1
            continue
        if entry["type"] == b"chunk":
            raise RefusedError(f"chunk without a file: {row}")
        file = {"row": row, "name": entry["name"], "offset": entry["offset"], "chunks": []}
        file["end"] = entry["endoffset"]
        if entry["type"] == b"reg":
            last = row
            while last + 1 < len(entries) and entries[last + 1]["type"] == b"chunk":
                last += 1
            file["chunks"] = [{"row": i} for i in range(row, last + 1)]
            file["end"] = entries[last]["endoffset"]
            row = last
        files.append(file)
        row += 1
    last_offset = toc_offset
    for file in reversed(files):
        if file["end"] == 0:
            file["end"] = last_offset
        if file["offset"] != 0:
            last_offset = file["offset"]
        last_chunk_offset = file["end"]
        for chunk in reversed(file["chunks"]):
            chunk["end"] = last_chunk_offset
            last_chunk_offset = entries[chunk["row"]]["offset"]
        remaining = entries[file["row"]]["size"]
        for chunk in file["chunks"]:
            chunk_size = entries[chunk["row"]]["chunksize"]
            chunk["size"] = chunk_size if chunk_size > 0 else remaining
            remaining = wrap(remaining - chunk["size"])
    return files


def flat_files(entries: list[Entry], files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """makeEntriesFlat on merged entries."""
    by_row = {file["row"]: file for file in files}
    return [
        {**by_row[row], "name": name}
        for row, name in flat(entries, [file["row"] for file in files])
    ]
