"""Find the fields of entries in compact JSON, whole columns at a time.

In JSON without white space, what stands between two texts says what both are. In
`{"name":"a","size":5},{"name":"b"}` it is one of six kinds of gap:

1. `:` between the name and the text of a field.
2. `,` between a text and the next name.
3. `:5,` the number of a field.
4. `:{` before extended attributes, and `:{},` for none.
5. `},` behind them.
6. `},{` between entries, also behind a number (`:5},{`) or extended attributes (`}},{`).

So `scan_entries` finds all quotes, classifies the gaps between them by their first and last bytes,
and then knows where each name and each value is. It accepts only what these gaps make valid JSON,
with known names, each once an entry, and values of the right kind. It returns None for all else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.arrays import ragged_arange
from vecache.errors import TocError
from vecache.toc.columns import INTEGERS, TEXTS, TIMES
from vecache.toc.json_reader import unescape

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import I64, U8, U64, Bool

__all__ = ["FIELDS", "PAD_BYTES", "Fields", "find_quotes", "parse_integers", "scan_entries"]

PAD_BYTES = 16
"""Bytes that a buffer has before and behind what is scanned: words are read across its ends."""

# The last two texts and the last integer are eStargz's, and Go skips them.
_ALL_TEXTS = (*TEXTS, *TIMES, "userName", "groupName")
_ALL_INTEGERS = (*INTEGERS, "innerOffset")
FIELDS = (*_ALL_TEXTS, *_ALL_INTEGERS, "xattrs")
"""Names of all fields, in the order of their codes."""

_TEXT, _INTEGER, _XATTRS = range(3)
_KIND = np.repeat(np.arange(3, dtype=np.uint8), [len(_ALL_TEXTS), len(_ALL_INTEGERS), 1])

_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE, _BACKSLASH, _ZERO, _MINUS = b'",:{}\\0-'
_FIRST_PRINTED = 0x20
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a piece of a document, sorted by code and then by entry.

    A value is the bytes from `start` to before `end` in the buffer: of a text what is between its
    quotes, of an integer its digits.
    """

    n_entries: int
    first: I64  # (len(FIELDS) + 1,): rows first[c] to before first[c + 1] have code c
    entry: I64
    start: I64
    end: I64
    # One row an attribute in the order of the document; starts and ends of names and of values.
    xattr_entry: I64
    xattr_name: tuple[I64, I64]
    xattr_value: tuple[I64, I64]


@dataclass(frozen=True, slots=True)
class _Gaps:
    """What stands behind each of n texts."""

    start: I64
    number_end: I64  # where a number in the gap ends
    is_name: Bool  # the gap begins with a colon
    kind: U8  # of the value behind a name
    last: I64  # (n_entries,) the last text of each entry
    opens: I64  # the texts before the first name of extended attributes
    closes: I64  # the last text of them


def scan_entries(buffer: U8, begin: int, end: int) -> Fields | None:
    """Find the fields of entries in compact JSON; None where `exact` must read it.

    Parameters
    ----------
    buffer : (n_bytes,) uint8, C-contiguous, writable
        Texts with escapes are unescaped in place: that never makes them longer.
    begin, end : int
        The piece to scan: `{...},{...},{"`, entries and the first two bytes of another one.

    Returns
    -------
    Fields or None
        Positions in `buffer`.

    Notes
    -----
    1.5 ms a megabyte, in some sixty passes over arrays of one number a text, which take about ten
    times the memory of the piece.
    """
    piece = buffer[begin:end]
    quotes, escapes = (positions + begin for positions in find_quotes(piece))
    if len(quotes) < 3 or len(quotes) % 2 == 0 or piece.min() < _FIRST_PRINTED:
        return None
    # `take` from contiguous arrays is nearly twice as fast as indexing, here and below.
    opening, closing = quotes[:-1:2].copy(), quotes[1::2].copy()
    gaps = _find_gaps(buffer, closing + 1, quotes[2::2])
    if gaps is None or buffer[begin] != _OPEN or opening[0] != begin + 1:
        return None
    if len(escapes) and not _unescape(buffer, opening, closing, escapes):
        return None
    return _sort_fields(buffer, opening + 1, closing, gaps)


def find_quotes(piece: U8) -> tuple[I64, I64]:
    """Find the quotes around texts, and all backslashes."""
    is_quote, is_escape = piece == _QUOTE, piece == _BACKSLASH
    escapes = np.flatnonzero(is_escape) if is_escape.any() else np.empty(0, np.int64)
    if len(escapes):
        is_first = np.diff(escapes, prepend=-2) != 1
        lengths = np.diff(np.append(np.flatnonzero(is_first), len(escapes)))
        behind = (escapes[is_first] + lengths)[lengths % 2 == 1]
        is_quote[behind[behind < len(piece)]] = False
    return np.flatnonzero(is_quote), escapes


def _find_gaps(buffer: U8, start: I64, end: I64) -> _Gaps | None:
    """Classify the gaps, of which the last one must be behind an entry."""
    head = buffer.take(start)  # a quote where the gap is empty
    is_name = head == _COLON
    is_short = end - start == 1
    is_colon = is_name & is_short
    if not (is_name | (head == _COMMA) | ~is_short).all():
        return None
    # A text behind a colon is a value, and any other one is a name.
    if not is_name[0] or is_short[-1] or (is_name[1:] == is_colon[:-1]).any():
        return None
    return _classify(buffer, start, end, is_name, np.flatnonzero(~is_short))


def _classify(buffer: U8, start: I64, end: I64, is_name: Bool, rows: I64) -> _Gaps | None:
    """Classify the gaps in `rows`, which are not of one byte."""
    first, stop, is_before_value = start.take(rows), end.take(rows), is_name.take(rows)
    words = _words(buffer, np.uint32)
    head, tail = words[first], words[stop - 4]
    is_last = tail >> np.uint32(8) == _word(b"},{")
    n_body = stop - first - 1  # bytes before `,` or `},{`
    n_body -= 2 * is_last
    is_object = is_before_value & (head >> np.uint32(8) & np.uint32(0xFF) == _OPEN)
    is_number = is_before_value & ~is_object & (n_body >= 2)
    is_none = (n_body == 3) & (head & np.uint32(0xFFFFFF) == _word(b":{}"))
    is_open = is_object & (n_body == 1)
    is_close = (n_body == 1) & (head & np.uint32(0xFF) == _CLOSE)
    is_ended = is_last | (tail >> np.uint32(24) == _COMMA)
    is_good = is_ended & (is_number | is_none | is_close | (n_body == 0)) | is_open
    # Between the begin of extended attributes and their end all gaps are of one byte.
    if not is_good.all() or is_close[0] or (is_open[:-1] != is_close[1:]).any() or not is_last[-1]:
        return None
    kind = np.zeros(len(start), np.uint8)
    kind[rows] = is_number * np.uint8(_INTEGER) + (is_open | is_none) * np.uint8(_XATTRS)
    number_end, last = end - 1, rows.take(np.flatnonzero(is_last))
    number_end[last] -= 2
    return _Gaps(start, number_end, is_name, kind, last, rows[is_open], rows[is_close])


def _unescape(buffer: U8, opening: I64, closing: I64, escapes: I64) -> bool:
    """Unescape texts in place and move their ends; return whether all their escapes are valid."""
    rows = np.unique(np.searchsorted(opening, escapes) - 1)
    starts, ends = opening[rows] + 1, closing[rows]
    slices = list(zip(starts.tolist(), ends.tolist(), strict=True))
    try:
        texts = unescape([buffer[start:end].tobytes() for start, end in slices])
    except TocError:
        return False
    for (start, _), text in zip(slices, texts, strict=True):  # few texts have escapes
        buffer[start : start + len(text)] = np.frombuffer(text, np.uint8)
    closing[rows] = starts + [len(text) for text in texts]
    return True


def _sort_fields(buffer: U8, start: I64, end: I64, gaps: _Gaps) -> Fields | None:
    entry = np.repeat(np.arange(len(gaps.last)), np.diff(gaps.last, prepend=-1))
    inside = ragged_arange(gaps.opens + 1, gaps.closes - gaps.opens)
    xattrs = inside[gaps.is_name[inside]]
    is_field = gaps.is_name.copy()
    is_field[inside] = False
    names = np.flatnonzero(is_field)
    code = _find_codes(buffer, start.take(names), end.take(names))
    if code is None or (gaps.kind.take(names) != _KIND.take(code)).any():
        return None
    order = np.argsort(code, kind="stable")
    names, code = names.take(order), code.take(order)
    entry_of_field = entry.take(names)
    is_repeated = (code[1:] == code[:-1]) & (entry_of_field[1:] == entry_of_field[:-1])
    if is_repeated.any() or (start[xattrs] == end[xattrs]).any():
        return None
    first = np.searchsorted(code, np.arange(len(FIELDS) + 1))
    texts, others = np.split(names, first[[len(_ALL_TEXTS)]])
    return Fields(
        n_entries=len(gaps.last),
        first=first,
        entry=entry_of_field,
        start=np.concatenate([start.take(texts + 1), gaps.start.take(others) + 1]),
        end=np.concatenate([end.take(texts + 1), gaps.number_end.take(others)]),
        xattr_entry=entry[xattrs],
        xattr_name=(start[xattrs], end[xattrs]),
        xattr_value=(start[xattrs + 1], end[xattrs + 1]),
    )


def _words(buffer: U8, dtype: type[np.unsignedinteger[Any]] = np.uint64) -> npt.NDArray[Any]:
    """View the bytes from each position on as a number, the first byte the lowest."""
    kind = np.dtype(dtype).newbyteorder("<")
    return np.ndarray((len(buffer) - kind.itemsize + 1,), kind, buffer, strides=(1,))


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


# A name is known by its first 8 bytes, into the last of which the length of the name is mixed. That
# is all of a name of up to 7 bytes. Of others, which are at most 16, the last 8 are compared too.
_NAMES = [name.encode() for name in FIELDS]
_LENGTH = np.array([len(name) for name in _NAMES])
_FIRST_WORD = np.array([_word(name[:8]) ^ len(name) << 56 for name in _NAMES], np.uint64)
_LAST_WORD = np.array([_word(name[-8:]) for name in _NAMES], np.uint64)
_MULTIPLIER = np.uint64(0x6583D61435BB5C11)  # gives each name a slot of its own
_SLOT_SHIFT = np.uint64(64 - 6)
_SLOT_CODE = np.zeros(1 << 6, np.uint8)
_SLOT_CODE[_FIRST_WORD * _MULTIPLIER >> _SLOT_SHIFT] = np.arange(len(FIELDS))
_SLOT_WORD = _FIRST_WORD[_SLOT_CODE]


def _find_codes(buffer: U8, start: I64, end: I64) -> U8 | None:
    """(n,) uint8: the code of each name; None if there is another name."""
    words = _words(buffer)
    length = end - start
    unused = (_WORD_BYTES * (_WORD_BYTES - np.minimum(length, _WORD_BYTES))).view(np.uint64)
    word = words[start] << unused >> unused ^ length.view(np.uint64) << np.uint64(56)
    slot = (word * _MULTIPLIER >> _SLOT_SHIFT).view(np.int64)
    if not length.all() or (_SLOT_WORD.take(slot) != word).any():
        return None
    code: U8 = _SLOT_CODE.take(slot)
    long = np.flatnonzero(length >= _WORD_BYTES)
    code_of_long = code.take(long)
    is_known = _LENGTH.take(code_of_long) == length.take(long)
    is_known &= _LAST_WORD.take(code_of_long) == words[end.take(long) - _WORD_BYTES]
    return code if is_known.all() else None


def parse_integers(buffer: U8, start: I64, end: I64) -> I64 | None:
    """Parse integers of at most 16 digits.

    Parameters
    ----------
    buffer : (n_bytes,) uint8, C-contiguous
        With `PAD_BYTES` before the first number.
    start, end : (n,) int64
        Byte range of each.

    Returns
    -------
    (n,) int64, or None
        None if one is not a JSON integer, or is longer.

    Notes
    -----
    Eight digits are added up in three multiplications of one word, as simdjson does.

    Examples
    --------
    >>> buffer = np.frombuffer(b"-" * 16 + b"493,-7", np.uint8)
    >>> parse_integers(buffer, np.array([16, 20]), np.array([19, 22])).tolist()
    [493, -7]
    """
    is_negative = buffer.take(start) == _MINUS
    start = start + is_negative
    n_digits = end - start
    if ((n_digits < 1) | (n_digits > 2 * _WORD_BYTES)).any():
        return None
    if ((buffer.take(start) == _ZERO) & (n_digits > 1)).any():
        return None
    words = _words(buffer)
    low = _parse_word(words[end - _WORD_BYTES], np.minimum(n_digits, _WORD_BYTES))
    rows = np.flatnonzero(n_digits > _WORD_BYTES)
    high = _parse_word(words[end[rows] - 2 * _WORD_BYTES], n_digits[rows] - _WORD_BYTES)
    if low is None or high is None:
        return None
    low[rows] += high * 10**_WORD_BYTES
    np.negative(low, out=low, where=is_negative)
    return low


def _parse_word(word: U64, n_digits: I64) -> I64 | None:
    """Parse the last digits of words of eight bytes."""
    unused = (_WORD_BYTES * (_WORD_BYTES - n_digits)).astype(np.uint64)  # bits
    digits = (word ^ _each(ord("0"))) >> unused << unused
    if ((((digits & _each(0x7F)) + _each(0x76)) | digits) & _each(0x80)).any():  # one is above 9
        return None
    pairs = digits * np.uint64(1 + (10 << 8)) >> np.uint64(8) & np.uint64(0x00FF00FF00FF00FF)
    fours = pairs * np.uint64(1 + (100 << 16)) >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)
    return (fours * np.uint64(1 + (10_000 << 32)) >> np.uint64(32)).view(np.int64)


def _each(byte: int) -> np.uint64:
    """Return a word of eight equal bytes."""
    return np.uint64(byte * 0x0101010101010101)
