"""Write the index of a store to disk, or refresh it, and show what is there.

The index has the digests of all tags in order. With one, look-ups and plans on a large store start
at once. A store of more than two million tags gets one by itself; this verb writes one for any.

It lies in the user's cache folder, in files of about 72 bytes a tag. Each says of which cache files
it is: layers that are new are added in a file of their own, and those that are gone are masked,
until half of a file is. What is not as it was written is never used, but written again.

Exit code: 0 the index is there; 3 it cannot be written, or some layers could not be read, unless
--incomplete-ok.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vecache.cli.options import (
    add_output,
    add_store,
    load_layers,
    show,
    warn_of_unread,
)
from vecache.cli.values import parse_size
from vecache.report.output import Report
from vecache.report.terminal import Column, count, human_bytes, render_table
from vecache.text import printable

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vecache.index.disk_folder import IndexFolder, Selection
    from vecache.report.terminal import Screen
    from vecache.store.graphroot import Store

_COLUMNS = (
    Column("WRITTEN"),
    Column("LAYERS", "right"),
    Column("TAGS", "right"),
    Column("MASKED", "right"),
    Column("BYTES", "right"),
    Column("FILE", truncate="start"),
)


_COUNTS = ("n_layers", "n_tags", "masked_layers", "masked_tags", "n_bytes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rebuild", action="store_true", help="write all of it anew")
    what.add_argument("--remove", action="store_true", help="remove the index of this store")
    parser.add_argument(
        "--cache-size",
        metavar="SIZE",
        type=parse_size,
        help="most that the indexes of all stores may take, such as 500MB; those that were not "
        "used for longest are removed (default: 4GiB)",
    )
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.report.excluded import unread_documents
    from vecache.store.open import open_store

    if args.remove:
        store = open_store(args.store)
        folder = _folder(store, args.cache_size)
        n_files = folder.remove()
        _show(args, store, folder, [], removed=n_files)
        return 0
    store, cache = load_layers(args.store)
    folder = _folder(store, args.cache_size)
    if args.cache_size is not None:
        folder.sweep()
    found = folder.refresh(cache.layers, always=True, anew=args.rebuild)
    _show(args, store, folder, _runs(found), excluded=unread_documents(cache.excluded))
    return warn_of_unread(args, cache.excluded, len(cache.records), "the index lacks them")


def _folder(store: Store, cache_size: int | None) -> IndexFolder:
    from vecache.files import cache_folder
    from vecache.index.disk_folder import FOLDER_NAME, MAX_INDEX_BYTES, IndexFolder

    max_bytes = MAX_INDEX_BYTES if cache_size is None else cache_size
    return IndexFolder(cache_folder(os.environ) / FOLDER_NAME, store.root, max_bytes)


def _runs(found: Selection) -> list[dict[str, Any]]:
    """Return what each file says of itself."""
    from datetime import UTC, datetime

    runs = []
    for run, layer_of in zip(found.runs, found.layer_of, strict=True):
        n_tags, is_masked = run.layers["n_tags"], layer_of < 0
        written = datetime.fromtimestamp(run.time_ns / 1e9, UTC)
        runs.append(
            {
                "path": run.path,
                "time": written.isoformat(timespec="seconds"),
                "n_layers": len(layer_of),
                "n_tags": int(n_tags.sum()),
                "masked_layers": int(is_masked.sum()),
                "masked_tags": int(n_tags[is_masked].sum()),
                "n_bytes": run.n_bytes,
            }
        )
    return runs


def _show(
    args: argparse.Namespace,
    store: Store,
    folder: IndexFolder,
    runs: list[dict[str, Any]],
    **more: Any,
) -> None:
    document = {
        "schema": "vecache.index/1",
        "store": str(store.path),
        "folder": str(folder.folder),
        **{name: sum(run[name] for run in runs) for name in _COUNTS},
        "runs": runs,
        **more,
    }
    show(
        Report(
            text=lambda screen: _text(document, screen),
            document=lambda: document,
            table=lambda: _table(runs),
        ),
        args,
    )


def _table(runs: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    texts = {name: pa.string() for name in ("path", "time")}
    schema = pa.schema({**texts, **{name: pa.int64() for name in _COUNTS}})
    return pa.Table.from_pylist(runs, schema)


def _text(document: dict[str, Any], screen: Screen) -> str:
    where = printable(document["store"])
    if not document["runs"]:
        removed = document.get("removed")
        why = "no layer has tags" if removed is None else f"{count(removed, 'file')} removed"
        return f"{where}: no index, {why}"
    rows = [
        (
            run["time"],
            run["n_layers"],
            run["n_tags"],
            run["masked_tags"],
            human_bytes(run["n_bytes"]),
            os.path.basename(run["path"]),
        )
        for run in document["runs"]
    ]
    summary = (
        f"{where}: {count(document['n_tags'] - document['masked_tags'], 'tag')} of "
        f"{count(document['n_layers'] - document['masked_layers'], 'layer')} in the index, "
        f"{human_bytes(document['n_bytes'])} in {printable(document['folder'])}"
    )
    return f"{summary}\n\n{render_table(_COLUMNS, rows, screen)}"
