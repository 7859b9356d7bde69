"""Check texts as Go's `time.Parse(time.RFC3339, text)` does.

Times are checked and then dropped. One expression describes what Go accepts; Arrow matches it with
the distinct texts of a column, which are few: hundreds for ten thousand entries.

Go accepts more than RFC 3339 in three ways: an hour may have one digit, a comma may stand before
the fraction, and a zone may be up to 24:60. It refuses leap seconds.

Source: go time/format.go parse, time/format_rfc3339.go parseRFC3339 (Go 1.20 and later: 1.19 also
accepts a fraction without seconds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vecache.arrays import BinaryColumn

__all__ = ["find_bad_time"]

_LEAP_YEAR = (
    r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])"  # divisible by 4, not a century
    r"|(?:[02468][048]|[13579][26])00)"  # divisible by 400
)
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"  # months of 31 days
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"  # months of 30 days
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)"
)
_CLOCK = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-4]):(?:[0-5][0-9]|60))"
_GO_TIME = rf"\A{_DATE}T{_CLOCK}{_ZONE}\z"


def find_bad_time(texts: BinaryColumn) -> int:
    """Return the first row whose text Go would not parse as a time, or -1.

    Examples
    --------
    >>> import pyarrow as pa
    >>> find_bad_time(pa.array([b"2024-02-29T07:00:00Z", b"2023-02-29T07:00:00Z"]))
    1
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only parsing needs it

    distinct = texts.unique()
    bad = distinct.filter(pc.invert(pc.match_substring_regex(distinct, _GO_TIME)))
    return texts.index(bad[0]).as_py() if len(bad) else -1
