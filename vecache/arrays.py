"""Names for the arrays that pass between rooms, and the array operations that all rooms share.

The aliases give the dtype, docstrings give the shape. `column` checks a column of a table and makes
it read-only. `slices_to_binary` gathers (start, length) slices of one buffer into an Arrow binary
array without a loop over rows: so names are read from a mapped file. `binary_buffers` views an
Arrow array as numpy.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vecache.errors import ColumnSizeError

__all__ = [
    "F64",
    "I32",
    "I64",
    "U8",
    "U32",
    "U64",
    "ArrowExport",
    "BinaryColumn",
    "Bool",
    "binary_buffers",
    "binary_to_text",
    "column",
    "disarm_formulas",
    "first_rows",
    "frozen",
    "gather_bytes",
    "masked_column",
    "ragged_arange",
    "require_column_size",
    "slices_to_binary",
]

Bool: TypeAlias = npt.NDArray[np.bool_]
I32: TypeAlias = npt.NDArray[np.int32]
U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
F64: TypeAlias = npt.NDArray[np.float64]
BinaryColumn: TypeAlias = Any
"""A `pyarrow.BinaryArray`: bytes of any length a row. pyarrow ships no types to name it with."""

_MAX_COLUMN_BYTES = 2**31 - 1  # an Arrow binary column counts its bytes in 32 bits
_BYTES_PER_BLOCK = 1 << 20
# What spreadsheets begin a formula with, in wide letters too; and the apostrophe itself.
_FORMULA = "\\A([=+\\-@\t\r\n'\uff1d\uff0b\uff0d\uff20])"
_TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


class ArrowExport:
    """Mixin: offers `to_arrow` as an Arrow C stream, which pandas, Polars and DuckDB read."""

    __slots__ = ()

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`."""
        raise NotImplementedError

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make an array read-only and return it."""
    array.flags.writeable = False
    return array


def column(name: str, array: object, dtype: npt.DTypeLike, n_rows: int) -> npt.NDArray[Any]:
    """Check one column of a table (type, then dtype, then shape) and make it read-only.

    Parameters
    ----------
    name : str
        Name of the column, for messages.
    array : object
        Must be a 1-D array of `dtype` with `n_rows` rows.
    dtype : dtype
        The exact dtype wanted.
    n_rows : int
        The length wanted.

    Returns
    -------
    (n_rows,) ndarray
        The same object, read-only.

    Raises
    ------
    TypeError
        If it is not an array of that dtype.
    ValueError
        If it has another shape.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: found {type(array).__name__}, wanted a numpy array")
    if array.dtype != np.dtype(dtype):
        raise TypeError(f"{name}: found dtype {array.dtype}, wanted {np.dtype(dtype)}")
    if array.shape != (n_rows,):
        raise ValueError(f"{name}: found shape {array.shape}, wanted {(n_rows,)}")
    return frozen(array)


def gather_bytes(data: U8, offsets: I64, n_bytes: int) -> U8:
    """Copy a fixed number of bytes from each offset.

    Parameters
    ----------
    data : (n_data,) uint8, C-contiguous
        Any memory; none but the rows is touched.
    offsets : (n,) int64
        Where to begin; `n_bytes` from there lie inside `data`.
    n_bytes : int
        Bytes a row.

    Returns
    -------
    (n, n_bytes) uint8, C-contiguous
        The rows.

    Examples
    --------
    >>> gather_bytes(np.arange(9, dtype=np.uint8), np.array([5, 0]), 2).tolist()
    [[5, 6], [0, 1]]
    """
    if not len(offsets):
        return np.empty((0, n_bytes), np.uint8)
    # Overlapping items, one at each byte: of any alignment, as they are of a type without one.
    n_items = len(data) - n_bytes + 1
    items: npt.NDArray[np.void] = np.ndarray((n_items,), f"V{n_bytes}", data, strides=(1,))
    rows: U8 = items[offsets].view(np.uint8).reshape(len(offsets), n_bytes)
    return rows


def ragged_arange(starts: I64, lengths: I64) -> I64:
    """Concatenate `arange(start, start + length)` for every pair.

    Parameters
    ----------
    starts : (n,) int64
        First value of each range.
    lengths : (n,) int64
        Length of each range, not negative.

    Returns
    -------
    (sum(lengths),) int64
        All ranges, one after another.

    Examples
    --------
    >>> ragged_arange(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    values: I64 = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return values


def slices_to_binary(
    data: U8, starts: I64, lengths: I64, valid: Bool | None = None
) -> BinaryColumn:
    """Gather slices of one buffer into an Arrow binary array.

    Parameters
    ----------
    data : (n_bytes,) uint8
        The buffer, a mapped file for instance.
    starts, lengths : (n,) int64
        Each slice; the caller has checked that it lies inside `data`.
    valid : (n,) bool, optional
        False where the result is null; the length of such a row must be 0.

    Returns
    -------
    pyarrow.BinaryArray of n rows
        A copy of the bytes: it does not refer to `data`.

    Raises
    ------
    ColumnSizeError
        If the slices have more than 2 GiB together; nothing is allocated for them.

    Examples
    --------
    >>> text = np.frombuffer(b"etc/hosts", np.uint8)
    >>> slices_to_binary(text, np.array([4, 0]), np.array([5, 3])).to_pylist()
    [b'hosts', b'etc']
    """
    require_column_size(int(lengths.sum()))
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    gathered = np.empty(int(offsets[-1]), np.uint8)
    row = 0
    while row < len(starts):
        stop = int(np.searchsorted(offsets, offsets[row] + _BYTES_PER_BLOCK, "right")) - 1
        stop = min(max(stop, row + 1), len(starts))
        place = gathered[offsets[row] : offsets[stop]]
        if stop == row + 1:
            place[:] = data[starts[row] : starts[row] + lengths[row]]
        else:  # the index takes 16 times the bytes
            place[:] = data[ragged_arange(starts[row:stop], lengths[row:stop])]
        row = stop
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.BinaryArray.from_buffers(
        pa.binary(),
        len(starts),
        [bitmap, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(gathered)],
    )


def masked_column(values: npt.NDArray[Any], is_null: Bool | None = None) -> Any:
    """Wrap numbers as an Arrow array, without a copy; null where the mask is True.

    Examples
    --------
    >>> masked_column(np.array([7, -1]), np.array([False, True])).to_pylist()
    [7, None]
    """
    # Not `pa.array`: that imports numpy.ma, which takes longer than most look-ups.
    bitmap = None
    if is_null is not None:
        bitmap = pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    buffers = [bitmap, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def require_column_size(n_bytes: int) -> None:
    """Refuse more bytes than one Arrow binary column can hold: 32-bit offsets would wrap."""
    if n_bytes > _MAX_COLUMN_BYTES:
        raise ColumnSizeError(
            f"found {n_bytes:,} bytes for one Arrow column, wanted at most {_MAX_COLUMN_BYTES:,}; "
            "ask for fewer rows at once"
        )


def binary_buffers(array: BinaryColumn) -> tuple[I64, I64, U8]:
    """View an Arrow string or binary array as numpy, without a copy of the bytes.

    Parameters
    ----------
    array : pyarrow.Array
        Of type string, large_string, binary or large_binary.

    Returns
    -------
    starts, lengths : (n,) int64
        Slice of `data` that holds each row; a null row has length 0.
    data : (n_bytes,) uint8
        The array's value buffer.
    """
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0 or offset_buffer is None:
        empty = np.zeros(len(array), np.int64)
        return empty, empty, np.empty(0, np.uint8)
    stored = np.frombuffer(offset_buffer, np.dtype("<i8" if wide else "<i4"))
    offsets: I64 = stored[array.offset : array.offset + len(array) + 1].astype(np.int64)
    lengths: I64 = np.diff(offsets)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = 0
    data = np.empty(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return offsets[:-1], lengths, data


def first_rows(texts: BinaryColumn) -> I64:
    """Find the first row of each distinct text.

    Parameters
    ----------
    texts : pyarrow.BinaryArray of n rows
        Without nulls.

    Returns
    -------
    (m,) int64
        Ascending; one for each distinct text.

    Examples
    --------
    >>> first_rows(pa.array([b"b", b"a", b"b", b"c"])).tolist()
    [0, 1, 3]
    """
    codes = texts.dictionary_encode().indices.to_numpy()  # numbered as they first appear
    newest = np.maximum.accumulate(np.concatenate([[-1], codes]))[:-1]
    return frozen(np.flatnonzero(codes > newest))


def binary_to_text(array: BinaryColumn) -> Any:
    r"""Convert a binary column to text; bytes that are not UTF-8 become escapes.

    Examples
    --------
    >>> binary_to_text(pa.array([b"caf\xc3\xa9", b"caf\xe9", None])).to_pylist()
    ['café', 'caf\\xe9', None]
    """
    text = array.view(pa.string())  # not a cast: that imports pyarrow.compute, 25 ms
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:  # rare, so row by row: names on Linux need not be UTF-8
        texts = [
            None if b is None else b.decode(errors="backslashreplace") for b in array.to_pylist()
        ]
        return pa.array(texts, pa.string())
    return text


def disarm_formulas(table: Any) -> Any:
    """Put an apostrophe before each text of a table that a spreadsheet would take as a formula.

    Names come from images, and a spreadsheet that opens a CSV file runs a cell such as
    `=HYPERLINK(...)`, quoted or not. The apostrophe, which a text of its own begins with gets too,
    so one is taken off to read the text back.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of text or bytes are looked at, all others are left as they are.

    Returns
    -------
    table : pyarrow.Table
        Of the same schema.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - 40 ms, and only needed here

    for number, field in enumerate(table.schema):  # columns, not rows
        if any(is_type(field.type) for is_type in _TEXT_TYPES):
            texts = table.column(number)
            if pc.any(pc.match_substring_regex(texts, _FORMULA)).as_py():
                texts = pc.replace_substring_regex(texts, _FORMULA, r"'\1")
                table = table.set_column(number, field, texts)
    return table
