"""Convert between the text and the packed form of digests, a whole column at a time.

A digest is written `algorithm:hex`; a cache file packs it as the algorithm's name, a colon and the
raw bytes. `Digests` holds one column: the algorithm of each row, and the 32 raw bytes of the sha256
rows, which are nearly all of them. Other algorithms keep their text and are packed on demand.

33 bytes a row, and the text where it was given. Hex becomes bytes through one table of all pairs of
digits: `bytes.fromhex` skips white space and accepts capitals, and so accepts invalid digests.

`is_digest`, `require_digest` and `check_digest` handle one text: everything in an image is named by
its digest, and is hashed before it is parsed.

Source: github.com/opencontainers/go-digest digest.go Validate, algorithm.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_buffers, frozen, require_column_size
from vecache.errors import ColumnSizeError, DigestError
from vecache.text import count, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vecache.arrays import I64, U8, BinaryColumn, Bool

__all__ = [
    "EMPTY_SHA256",
    "PREFIX_BYTES",
    "RAW_BYTES",
    "WANTED_DIGEST",
    "Algorithm",
    "Digests",
    "check_digest",
    "format_digests",
    "has_digest",
    "is_digest",
    "parse_digests",
    "require_digest",
]

EMPTY_SHA256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The digest of the empty input (upstream: digestSha256Empty)."""


class Algorithm(IntEnum):
    """The algorithm that a digest's text names. Rows of NONE and INVALID do not hold a digest."""

    NONE = 0
    SHA256 = 1
    SHA384 = 2
    SHA512 = 3
    INVALID = 255

    @property
    def prefix(self) -> U8:
        """(7,) uint8: the name and the colon that texts and packed digests begin with."""
        return np.frombuffer(f"{self.name.lower()}:".encode(), np.uint8)


RAW_BYTES = {Algorithm.SHA256: 32, Algorithm.SHA384: 48, Algorithm.SHA512: 64}
"""Raw bytes of one digest. A packed one is 7 more: all three names are six letters long."""

PREFIX_BYTES = 7

WANTED_DIGEST = "wanted sha256:, sha384: or sha512: and lower-case hex of the full length"
"""The end of messages about a text that is not a digest."""

_HEX = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), np.uint16)
_ROWS_PER_BLOCK = 1 << 16
_BAD = 0x100
_BYTE = np.full(1 << 16, _BAD, np.uint16)  # two ASCII digits read as one uint16 -> byte or _BAD
_BYTE[_HEX] = np.arange(256)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


class Digests:
    """One column of digests, or some rows of one.

    Parameters
    ----------
    algorithm : (n,) uint8
        `Algorithm` of each row: NONE for an empty text or a null, INVALID for a text that is not a
        digest.
    raw : (n, 32) uint8, C-contiguous
        Raw bytes of the sha256 rows; zeros in all others.
    text : pyarrow.BinaryArray of n rows, optional
        The text as it was given; None where the column was given as raw bytes.

    Attributes
    ----------
    algorithm : (n,) uint8
        As given.
    source : tuple of (Digests, (n,) int64), or None
        The column that these rows were taken from, and which rows they are; None for a column.
    """

    __slots__ = ("_raw", "_text", "algorithm", "source")

    def __init__(self, algorithm: U8, raw: U8 | None, text: BinaryColumn | None = None) -> None:
        self.algorithm = algorithm
        self._raw, self._text = raw, text
        self.source: tuple[Digests, I64] | None = None

    @property
    def raw(self) -> U8:
        """(n, 32) uint8, C-contiguous: raw bytes of the sha256 rows; zeros in all others."""
        if self._raw is None:  # of rows that were taken: copied when they are first read
            column, rows = self.source or (self, np.empty(0, np.int64))
            self._raw = frozen(column.raw[rows])
        return self._raw

    @property
    def text(self) -> BinaryColumn | None:
        """pyarrow.BinaryArray of n rows: the text as it was given; None for raw bytes."""
        if self._text is None and self.source is not None:
            column, rows = self.source
            self._text = None if column.text is None else column.text.take(pa.array(rows))
        return self._text

    @classmethod
    def from_raw(cls, raw: object) -> Digests:
        """Wrap the raw bytes of sha256 digests.

        Parameters
        ----------
        raw : (n, 32) uint8
            Copied only where it is not C-contiguous.

        Returns
        -------
        Digests
            n rows, all of them SHA256.

        Raises
        ------
        TypeError
            If it is not an array of uint8.
        ValueError
            If it has another shape.
        """
        if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8:
            raise TypeError("packed digests: wanted a uint8 array of shape (n, 32)")
        if raw.ndim != 2 or raw.shape[1] != RAW_BYTES[Algorithm.SHA256]:
            raise ValueError(f"packed digests: found shape {raw.shape}, wanted (n, 32)")
        view = np.ascontiguousarray(raw).view()
        return cls(frozen(np.full(len(raw), Algorithm.SHA256, np.uint8)), frozen(view))

    @property
    def is_sha256(self) -> Bool:
        """(n,) bool: rows with a sha256 digest."""
        mask: Bool = self.algorithm == Algorithm.SHA256
        return mask

    @property
    def is_present(self) -> Bool:
        """(n,) bool: rows with any text, a digest or not."""
        mask: Bool = self.algorithm != Algorithm.NONE
        return mask

    def take(self, rows: I64 | Bool) -> Digests:
        """Select rows, by (m,) int64 row numbers or (n,) bool mask, as `ndarray[rows]` does."""
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64, copy=False)
        taken = Digests(frozen(self.algorithm[numbers]), None)
        taken.source = self, numbers
        if self.source is not None:
            taken.source = self.source[0], self.source[1][numbers]
        return taken

    def packed(self, algorithm: Algorithm) -> tuple[I64, U8]:
        """Pack the rows of one algorithm as a cache file holds them.

        Parameters
        ----------
        algorithm : Algorithm
            SHA256, SHA384 or SHA512.

        Returns
        -------
        rows : (m,) int64
            The rows of that algorithm.
        packed : (m, 7 + RAW_BYTES[algorithm]) uint8
            Name, colon, raw bytes.
        """
        rows = np.flatnonzero(self.algorithm == algorithm)
        packed = np.empty((len(rows), PREFIX_BYTES + RAW_BYTES[algorithm]), np.uint8)
        packed[:, :PREFIX_BYTES] = algorithm.prefix
        is_given = algorithm is Algorithm.SHA256
        packed[:, PREFIX_BYTES:] = self.raw[rows] if is_given else self._decode(rows, algorithm)
        return rows, packed

    def to_text(self) -> BinaryColumn:
        """Return the column as an Arrow binary array of texts."""
        if self.text is not None:
            return self.text
        return format_digests(self.raw).cast(pa.binary())

    def require_valid(self, what: str) -> None:
        """Raise a `DigestError` that names the first row whose text is not a digest."""
        bad = np.flatnonzero(self.algorithm == Algorithm.INVALID)
        if len(bad) and self.text is not None:
            raise DigestError(
                f"{what}, row {bad[0]}: {quoted(self.text[int(bad[0])].as_py())} is not a digest; "
                f"{WANTED_DIGEST}"
            )

    def _decode(self, rows: I64, algorithm: Algorithm) -> U8:
        if not len(rows):
            return np.empty((0, RAW_BYTES[algorithm]), np.uint8)
        assert self.text is not None  # only sha256 digests are given as raw bytes
        starts, _, data = binary_buffers(self.text)
        n_text = PREFIX_BYTES + 2 * RAW_BYTES[algorithm]
        return _read_hex(_fixed_width(data, starts[rows], n_text)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.algorithm)

    def __repr__(self) -> str:
        return f"<Digests: {count(len(self), 'row')}, {int(self.is_sha256.sum()):,} sha256>"


def parse_digests(texts: Sequence[str | bytes | None] | BinaryColumn) -> Digests:
    """Parse a column of digest texts; null counts as empty, and what is not a digest as INVALID.

    Examples
    --------
    >>> parse_digests([EMPTY_SHA256, "", "sha256:E3"]).algorithm.tolist()
    [1, 0, 255]
    """
    array = _as_binary(texts)
    starts, lengths, data = binary_buffers(array)
    algorithm = np.where(lengths == 0, Algorithm.NONE, Algorithm.INVALID).astype(np.uint8)
    raw = np.zeros((len(array), RAW_BYTES[Algorithm.SHA256]), np.uint8)
    for which, n_raw in RAW_BYTES.items():  # three algorithms, not rows
        n_text = PREFIX_BYTES + 2 * n_raw
        of_length = np.flatnonzero(lengths == n_text)
        for first in range(0, len(of_length), _ROWS_PER_BLOCK):  # a row takes 300 bytes meanwhile
            rows = of_length[first : first + _ROWS_PER_BLOCK]
            text = _fixed_width(data, starts[rows], n_text)
            values = _read_hex(text)
            if values.max() >= _BAD or (text[:, :PREFIX_BYTES] != which.prefix).any():
                is_good = (values < _BAD).all(axis=1)
                is_good &= (text[:, :PREFIX_BYTES] == which.prefix).all(axis=1)
                rows, values = rows[is_good], values[is_good]
            algorithm[rows] = which
            if which is Algorithm.SHA256:
                raw[rows] = values
    return Digests(frozen(algorithm), frozen(raw), array)


def format_digests(raw: U8, algorithm: Algorithm = Algorithm.SHA256) -> BinaryColumn:
    """Format digests of one algorithm as text.

    Parameters
    ----------
    raw : (n, n_raw) uint8
        Raw bytes: 32 of sha256.
    algorithm : Algorithm
        What the text begins with.

    Returns
    -------
    pyarrow.StringArray
        n rows, such as `sha256:` and 64 hex digits.

    Raises
    ------
    ColumnSizeError
        If there are more than 30,246,248 rows of sha256: their text is over 2 GiB. Nothing is
        allocated.
    """
    n_hex = 2 * RAW_BYTES[algorithm]
    require_column_size(len(raw) * (PREFIX_BYTES + n_hex))
    text = np.empty((len(raw), PREFIX_BYTES + n_hex), np.uint8)
    text[:, :PREFIX_BYTES] = algorithm.prefix
    text[:, PREFIX_BYTES:] = _HEX[raw].view(np.uint8).reshape(len(raw), n_hex)
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * np.int32(text.shape[1])
    return pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(text))


def _as_binary(texts: Any) -> BinaryColumn:
    found = type(texts).__name__
    if isinstance(texts, (str, bytes)):  # each letter would be a query
        raise TypeError(f"digests: found one {found}, wanted a list: [digest]")
    if isinstance(texts, Mapping) or hasattr(texts, "columns"):  # each name would be one
        raise TypeError(f"digests: found {found}, wanted one column of it")
    if not isinstance(texts, Iterable):
        raise TypeError(f"digests: found {found}, wanted a list of text")
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        texts = _from_objects(texts)
    if isinstance(texts.type, pa.DictionaryType):
        texts = texts.cast(texts.type.value_type)
    kinds = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary(), pa.null())
    if texts.type not in kinds:
        raise TypeError(f"digests: found Arrow type {texts.type}, wanted string or binary")
    try:
        if texts.type == pa.string() and isinstance(texts, pa.Array):
            return texts.view(pa.binary())  # not a cast: that imports pyarrow.compute, 25 ms
        if texts.type != pa.binary():
            texts = texts.cast(pa.binary())
        return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    except pa.ArrowInvalid:  # raised for nothing else here
        raise ColumnSizeError(
            "digests: found more than 2 GiB of text, wanted less; ask for fewer rows at once"
        ) from None


def _from_objects(texts: Iterable[Any]) -> Any:
    """Convert a list, or an array of numpy, pandas or Polars, to an Arrow array."""
    try:
        if hasattr(texts, "dtype"):
            return pa.array(texts, from_pandas=True)  # NaN is null
        return pa.array([t.encode() if isinstance(t, str) else t for t in texts], pa.binary())
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise TypeError(f"digests: {error}; wanted text") from None


def _read_hex(text: U8) -> npt.NDArray[np.uint16]:
    """(n, n_raw) uint16: the bytes that the hex after the prefix stands for, _BAD where not hex."""
    digits = np.ascontiguousarray(text[:, PREFIX_BYTES:]).view(np.uint16)
    values: npt.NDArray[np.uint16] = _BYTE.take(digits)  # half the time of indexing
    return values


def _fixed_width(data: U8, starts: I64, width: int) -> U8:
    """(n, width) uint8: slices of one width; a view where they are adjacent."""
    if not len(starts):
        return np.empty((0, width), np.uint8)
    first = int(starts[0])
    if int(starts[-1]) - first == (len(starts) - 1) * width and (np.diff(starts) == width).all():
        return data[first : first + len(starts) * width].reshape(len(starts), width)
    windows = np.lib.stride_tricks.sliding_window_view(data, width)
    return np.ascontiguousarray(windows[starts])


def is_digest(text: str) -> bool:
    """Return whether a text is a digest of a known algorithm.

    Examples
    --------
    >>> is_digest("sha256:" + "0" * 64), is_digest("sha256:" + "A" * 64)
    (True, False)
    """
    return _DIGEST.fullmatch(text) is not None


def require_digest(text: str, where: str) -> str:
    """Return the text if it is a digest; it is then also safe in a file name or a URL."""
    if not is_digest(text):
        raise DigestError(f"{where}: {text[:100]!r} is not a digest; {WANTED_DIGEST}")
    return text


def check_digest(
    data: bytes, digest: str, where: str, error: type[Exception] = DigestError
) -> None:
    """Hash bytes and raise `error` if they do not have a (valid) digest."""
    found = _hash(data, digest)
    if found != digest:
        raise error(
            f"{where}: found {len(data):,} bytes with the digest {found}, wanted {digest}; "
            "the copy is damaged or was changed, fetch it again"
        )


def has_digest(data: bytes, digest: str) -> bool:
    """Hash bytes and return whether they have a (valid) digest."""
    return _hash(data, digest) == digest


def _hash(data: bytes, digest: str) -> str:
    """Return the digest of bytes, of the algorithm of another digest."""
    import hashlib  # noqa: PLC0415 - 2 ms that look-ups do not need

    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
