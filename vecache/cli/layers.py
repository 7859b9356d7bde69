"""Show what each layer of a store holds, and why one has no cache.

Layers are listed in the order of the store, in which a pull searches them. Where the store has no
good cache file for a layer with a TOC, the cache is built in memory; nothing is written into the
store. FALSE+ is the measured false-positive rate of the bloom filter. Of a snapshot it says whose
store it was made of, and how old it is.

IMAGES is the smallest image that has the layer, and how many others have it; CREATED BY is what
made it, as the image's config says. --json has all names, and in full.

--prometheus prints layers, bytes, caches that are missing and the dedup ratio as metrics; with
-o FILE.prom they go to a file, by rename, for the textfile collector of node_exporter.

Unused are the caches of additional stores: pulls only look whether a layer is there.

Exit code: 0 all layers were read, 3 some could not be read, unless --incomplete-ok.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, add_output, add_store, load_layers, show, warn_of_unread
from vecache.report.excluded import reason_notes
from vecache.report.output import TABLE_ENDINGS, Report
from vecache.report.terminal import (
    Column,
    human_age,
    human_bytes,
    human_share,
    render_facts,
)
from vecache.text import count, printable

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from vecache.index.layers_cache import LayersCache
    from vecache.report.terminal import Screen
    from vecache.store.graphroot import Store

_COLUMNS = (
    Column("LAYER"),
    Column("CACHE", styles={"mapped": "green", "unused": "yellow", "none": "yellow"}),
    Column("TAGS", "right"),
    Column("FILES", "right"),
    Column("BYTES", "right"),
    Column("CACHE BYTES", "right"),
    Column("BLOOM", "right"),
    Column("FALSE+", "right"),
)


_METRICS_ENDING = ".prom"
_OPTIONAL = ("CACHE BYTES", "FALSE+", "BLOOM")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_store(parser)
    parser.add_argument(
        "--prometheus", action="store_true", help="print metrics in the text format of Prometheus"
    )
    add_output(parser, (*TABLE_ENDINGS, _METRICS_ENDING))


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.report.figures import layers_table

    is_file = args.output is not None and args.output.lower().endswith(_METRICS_ENDING)
    if args.prometheus and (args.json or args.jsonl or not (is_file or args.output is None)):
        raise UsageError(f"--prometheus: wanted no other form, or -o FILE{_METRICS_ENDING}")
    store, cache = load_layers(args.store)
    table = layers_table(cache)
    if args.prometheus or is_file:
        _write_metrics(str(store.path), cache, table, args.output)
    else:
        _show(args, store, cache, table)
    effect = "what they hold is unknown, and the figures of plans are upper bounds"
    return warn_of_unread(args, cache.excluded, len(cache.records), effect)


def _write_metrics(path: str, cache: LayersCache, table: Any, output: str | None) -> None:
    from vecache.report.output import replacing
    from vecache.report.prometheus import prometheus_text

    text = prometheus_text(path, cache, table.to_pylist())
    if output is None:
        print(text, end="")
        return
    with replacing(output) as file:
        file.write(text.encode())


def _show(args: argparse.Namespace, store: Store, cache: LayersCache, table: Any) -> None:
    from vecache.report.excluded import unread_documents
    from vecache.report.output import json_rows

    show(
        Report(
            text=lambda screen: _text(_title(store), table.to_pylist(), screen),
            document=lambda: {
                "schema": "vecache.layers/1",
                "store": str(store.path),
                "snapshot": _snapshot_document(store),
                "layers": json_rows(table).to_pylist(),
                "excluded": unread_documents(cache.excluded),
            },
            table=lambda: table,
        ),
        args,
    )


def _title(store: Store) -> str:
    """Return the path; of a snapshot also whose it is, and how old."""
    if store.snapshot is None:
        return store.title
    snapshot = store.snapshot
    age = human_age((datetime.now(UTC) - snapshot.time).total_seconds())
    whose = f"{snapshot.roots[0].path} on {snapshot.host}"
    return f"{snapshot.path} (snapshot of {whose}, {age} old)"


def _snapshot_document(store: Store) -> dict[str, Any] | None:
    if store.snapshot is None:
        return None
    snapshot = store.snapshot
    return {
        "host": snapshot.host,
        "time": snapshot.time.isoformat(),
        "root": str(snapshot.roots[0].path),
        "versions": dict(snapshot.versions),
        "settings": asdict(snapshot.settings),
    }


def _text(title: str, layers: list[dict[str, Any]], screen: Screen) -> str:
    from vecache.report.layer_names import name_columns, render_named, row_names

    rows = [
        (
            layer["layer_id"][:12],
            layer["cache"],
            layer["n_tags"],
            layer["n_files"],
            human_bytes(layer["file_bytes"]),
            human_bytes(layer["cache_bytes"]),
            human_share(layer["bloom_fill"]),
            human_share(layer["false_positive_rate"]),
        )
        for layer in layers
    ]
    notes = reason_notes(
        (layer["layer_id"], layer["reason"]) for layer in layers if layer["reason"]
    )
    parts = [_summary(title, layers)]
    if rows:
        names = name_columns(row_names(layers))
        parts.append(render_named(_COLUMNS, rows, names, screen, optional=_OPTIONAL))
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def _summary(title: str, layers: list[dict[str, Any]]) -> str:
    n_cached = sum(layer["cache"] != "none" for layer in layers)
    n_tags = sum(layer["n_tags"] or 0 for layer in layers)
    n_bytes = sum(layer["file_bytes"] or 0 for layer in layers)
    return (
        f"{printable(title)}: {count(len(layers), 'layer')}, {n_cached:,} with a cache, "
        f"{count(n_tags, 'tag')}, {human_bytes(n_bytes)} in files"
    )
