"""Show which layer, path and offset hold each digest.

Layers are searched in the order of the store, and the first one that holds a digest answers, as
in a pull. A digest is that of a file or a chunk, or a hard-link fingerprint. OFFSET and LENGTH are
the position and size of the content in the uncompressed file.

Exit code: 0 all found, 1 some not found, 3 some not digests, a damaged cache file, or layers that
could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from vecache.cli.options import (
    UsageError,
    add_output,
    add_store,
    load_layers,
    note,
    read_input,
    show,
    warn_of_unread,
)
from vecache.errors import VecacheError
from vecache.report.output import Report, json_rows
from vecache.report.terminal import Column, render_table
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from typing import Any

    from vecache.index.result import LookupResult
    from vecache.store.graphroot import Store

_MAX_STDIN_BYTES = 1 << 27
_MAX_LINE_BYTES = 4096
_MAX_NOTED = 16
_MAX_STDIN_LINES = 1_000_000  # with all that is made of them some 900 bytes each

_COLUMNS = (
    Column("DIGEST", truncate="end"),
    Column("STATE", styles={"found": "green", "corrupt": "red", "invalid": "red"}),
    Column("LAYER"),
    Column("OFFSET", "right"),
    Column("LENGTH", "right"),
    Column("PATH", truncate="start"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument(
        "digests",
        metavar="DIGEST",
        nargs="*",
        help="sha256:... (or sha384, sha512); `-` reads one per line from standard input",
    )
    add_store(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    if not args.digests:
        raise UsageError("lookup: no digest given; name some, or `-` to read them from a pipe")
    if args.digests.count("-") > 1:
        raise UsageError("lookup: found `-` twice; standard input can be read once")
    from vecache.report.excluded import unread_documents

    digests = _collect(args.digests)
    store, cache = load_layers(args.store)
    hits = cache.lookup(digests)
    table = _table(digests, hits)
    del digests  # they are in the table
    show(
        Report(
            text=lambda screen: render_table(_COLUMNS, _text_rows(table), screen),
            document=lambda: {
                "schema": "vecache.lookup/1",
                "store": str(store.path),
                "digests": json_rows(table),
                "excluded": unread_documents(cache.excluded),
            },
            table=lambda: table,
        ),
        args,
    )
    effect = "a digest may be in one of them, even before the layer that was found"
    code = warn_of_unread(args, cache.excluded, len(cache.records), effect)
    _note_layers(args.digests, hits, store)
    hits.require_sound()
    return code or (0 if hits.is_found.all() else 1)


def _note_layers(names: Sequence[str], hits: LookupResult, store: Store) -> None:
    """Say which of a few names that were not found are ids of layers, not digests in them."""
    if "-" in names or len(names) > _MAX_NOTED or hits.is_found.all():
        return
    from vecache.store.find import find_layers

    layers, images = store.layers(), store.images()
    for name, is_found in zip(names, hits.is_found.tolist(), strict=True):
        with suppress(VecacheError):
            if not is_found:
                layer = find_layers(layers, name, images)[0]
                what = "`vecache lookup` finds the files and chunks that layers hold"
                note(f"{printable(name)} is the layer {layer.id[:12]}; {what}")


def _collect(arguments: Sequence[str]) -> list[bytes]:
    digests: list[bytes] = []
    for argument in arguments:
        if argument == "-":
            digests += filter(None, map(bytes.strip, _read_lines()))
        else:
            digests.append(os.fsencode(argument))
    return digests


def _read_lines() -> list[bytes]:
    """Return the lines of standard input."""
    data = read_input("-", _MAX_STDIN_BYTES)
    n_ends = max(data.count(b"\n"), data.count(b"\r"))  # lines may end in both
    if len(data) > _MAX_STDIN_BYTES or n_ends > _MAX_STDIN_LINES:
        raise VecacheError(
            f"standard input: found more than {_MAX_STDIN_BYTES:,} bytes or "
            f"{_MAX_STDIN_LINES:,} lines; look up fewer digests at a time, or from Python"
        )
    lines = data.splitlines()
    if max(map(len, lines), default=0) > _MAX_LINE_BYTES:
        raise VecacheError(
            f"standard input: found a line of more than {_MAX_LINE_BYTES:,} bytes, "
            "wanted one digest in each"
        )
    return lines


def _table(digests: list[bytes], hits: LookupResult) -> Any:
    import pyarrow as pa

    from vecache.arrays import binary_to_text

    return hits.to_arrow().add_column(0, "digest", binary_to_text(pa.array(digests, pa.binary())))


def _values(column: Any) -> list[Any]:
    """Return a column as Python objects: ten times as fast as `to_pylist` for a dictionary."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    values: list[Any] = []
    for chunk in column.chunks:
        known = chunk.dictionary.to_pylist()
        values += [None if i is None else known[i] for i in chunk.indices.to_pylist()]
    return values


def _text_rows(table: Any) -> Iterator[tuple[Any, ...]]:
    names = ("digest", "state", "layer_id", "offset", "length", "path")
    columns = {name: _values(table.column(name)) for name in names}
    short = {each: each and each[:12] for each in set(columns["layer_id"])}
    columns["layer_id"] = list(map(short.__getitem__, columns["layer_id"]))
    yield from zip(*columns.values(), strict=True)
