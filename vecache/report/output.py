"""Write a result to a file or to another program, in the format that the file's name ends with.

A `Report` is one result in all its forms, each made only when it is asked for. Files are replaced
by rename (`vecache.atomic.replace_file`), so a full disk leaves the old one. Pipes and devices are
written to as they are.

JSON is pure ASCII, so untrusted names reach no terminal unescaped. Bytes that are not UTF-8 become
lone surrogates, as `os.fsdecode` makes them; Arrow and Parquet have them as they are. In CSV
text that a spreadsheet would run has an apostrophe before it (`arrays.disarm_formulas`).
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from vecache.atomic import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vecache.report.terminal import Screen

__all__ = [
    "PICTURE_ENDINGS",
    "TABLE_ENDINGS",
    "Report",
    "json_rows",
    "json_text",
    "replacing",
    "write_report",
]

TABLE_ENDINGS = (".parquet", ".arrow", ".csv", ".json", ".jsonl")
_BLOCK_ROWS = 1 << 14
_TABLE = "\0 a table"  # stands for one that is written in pieces; no name or path has a NUL
PICTURE_ENDINGS = (".svg", ".png")


@dataclass(frozen=True, slots=True)
class Report:
    """One result in each of its forms."""

    text: Callable[[Screen], str]  # lines for people, without the last line break
    # what `--json` prints: dicts, lists, texts and numbers; a large array may be a table
    document: Callable[[], dict[str, Any]]
    table: Callable[[], Any]  # A `pyarrow.Table`
    # the documents that `--jsonl` prints, one a line; the rows of the table by default
    lines: Callable[[], Iterable[Any]] | None = None
    # draws it, where there is something to draw
    picture: Callable[[BinaryIO, str], None] | None = None

    def json_lines(self) -> Iterator[str]:
        """Write the result as JSON lines."""
        if self.lines is not None:
            yield from map(json_text, self.lines())
            return
        for rows in _row_blocks(json_rows(self.table())):
            yield from map(json_text, rows)

    def json_document(self, *, indent: int | None = None) -> Iterator[str]:
        """Write the result as one JSON document, in pieces: a table in it is its rows."""
        document = self.document()
        tables = {name: each for name, each in document.items() if hasattr(each, "to_batches")}
        rest = _dump({**document, **dict.fromkeys(tables, _TABLE)}, indent)
        for table in tables.values():
            before, _, rest = rest.partition(_dump(_TABLE))
            yield before
            yield from _json_array(table, indent)
        yield rest


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write a result to a file."""
    ending = os.path.splitext(path)[1].lower()
    if ending in PICTURE_ENDINGS and report.picture is not None:
        with replacing(path) as file:
            report.picture(file, ending[1:])
    elif ending == ".json":
        with replacing(path) as file:
            file.writelines(part.encode() for part in report.json_document())
            file.write(b"\n")
    elif ending == ".jsonl":
        with replacing(path) as file:
            file.writelines(line.encode() + b"\n" for line in report.json_lines())
    elif ending in TABLE_ENDINGS:
        table = report.table()
        with replacing(path) as file:
            _write_table(table, file, ending)
    else:
        raise ValueError(f"{os.fspath(path)}: found ending {ending!r}, wanted {TABLE_ENDINGS}")


def json_rows(table: Any) -> Any:
    """Name the columns of a table as JSON documents do: `layer` is an id there, not a place."""
    if "layer_id" not in table.column_names:
        return table
    names = {"layer": "index", "layer_id": "layer"}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _row_blocks(table: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a table as objects, some thousand at a time, which bounds the memory."""
    import pyarrow as pa  # noqa: PLC0415 - this module is imported before it is known to be needed

    for batch in table.to_batches(max_chunksize=_BLOCK_ROWS):
        columns = [
            # ten times as fast as `to_pylist` of a dictionary
            (each.dictionary_decode() if pa.types.is_dictionary(each.type) else each).to_pylist()
            for each in batch.columns
        ]
        yield [
            dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)
        ]


def _json_array(table: Any, indent: int | None) -> Iterator[str]:
    """Write the rows of a table as an array that is a value of the outermost object."""
    separator = "["
    for rows in _row_blocks(table):
        text = _dump(rows, indent)[1:-1].rstrip("\n")
        margin = " " * (indent or 0)
        yield separator + text.replace("\n", f"\n{margin}")
        separator = ", " if indent is None else ","
    end = "" if indent is None or not table.num_rows else f"\n{' ' * indent}"
    yield f"{end}]" if table.num_rows else "[]"


def json_text(document: Any, *, indent: int | None = None) -> str:
    r"""Write a document as JSON.

    Examples
    --------
    >>> print(json_text({"name": b"caf\xc3\xa9 \xff"}))
    {"name": "caf\u00e9 \udcff"}
    """
    return _dump(document, indent)


def _dump(document: Any, indent: int | None = None) -> str:
    return json.dumps(document, indent=indent, default=_plain, allow_nan=False)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when it is complete."""
    try:
        try:
            old = os.stat(path)
        except FileNotFoundError:
            old = None
        if old is not None and not stat.S_ISREG(old.st_mode):
            with open(path, "wb") as file:  # a pipe or a device: a rename would replace it
                yield file
        else:
            mode = None if old is None else stat.S_IMODE(old.st_mode)
            with replace_file(os.path.realpath(path), mode=mode) as file:
                yield file
    except OSError as error:
        if error.errno is not None:
            error.filename = os.fspath(path)
        raise


def _write_table(table: Any, file: BinaryIO, ending: str) -> None:
    if ending == ".parquet":
        from pyarrow import parquet  # noqa: PLC0415 - 30 ms, and only needed here

        parquet.write_table(table, file, compression="zstd")
    elif ending == ".arrow":
        from pyarrow import ipc  # noqa: PLC0415 - as above

        with ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        from pyarrow import csv  # noqa: PLC0415 - as above

        from vecache.arrays import disarm_formulas  # noqa: PLC0415 - as above

        csv.write_csv(disarm_formulas(_flat(table)), file)


def _flat(table: Any) -> Any:
    """Columns as CSV can hold them: bytes as they are, lists and structs as JSON."""
    import pyarrow as pa  # noqa: PLC0415 - this module is imported before it is known to be needed

    for number, name in enumerate(table.column_names):  # columns, not rows
        column = table.column(number)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
            table = table.set_column(number, name, column)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            table = table.set_column(number, name, column.cast(pa.string(), safe=False))
        elif pa.types.is_nested(column.type):
            values = [None if v is None else json_text(v) for v in column.to_pylist()]
            table = table.set_column(number, name, pa.array(values, pa.string()))
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy, which this module need not import to know
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
