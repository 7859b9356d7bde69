"""Write figures of a store in the text format of Prometheus.

A file of it is for the textfile collector of node_exporter, which reads `*.prom` of one folder. The
metrics are gauges; each has the path of the store as a label. The dedup ratio is read from all
TOCs, as `vecache overlap` reads them.

Source: prometheus.io docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vecache.sharing.exclusive import shares

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vecache.index.layers_cache import LayersCache

__all__ = ["prometheus_text"]

_STATES = ("mapped", "cached", "built", "unused", "none")
_NOT_IN_STORE = ("cached", "built")  # states of caches that the store should have
_HELP = {
    "layers": "Layers, by where their cache is from: mapped is a good cache file of the store.",
    "caches_missing": "Layers with a TOC for which the store has no good cache file.",
    "layers_unread": "Layers that could not be read.",
    "tags": "Tags of all caches.",
    "file_bytes": "Uncompressed bytes in the files of all layers.",
    "cache_bytes": "Bytes of all caches.",
    "logical_bytes": "Bytes of contents, each as often as it is there.",
    "unique_bytes": "Bytes of contents, each once.",
    "dedup_ratio": "Logical by unique bytes.",
}


def prometheus_text(path: str, cache: LayersCache, rows: list[dict[str, Any]]) -> str:
    """Write the metrics of a store; `rows` are those of `layers_table`."""
    store = {"store": path}
    states = Counter(row["cache"] for row in rows)
    samples: dict[str, list[tuple[dict[str, str], float]]] = {
        "layers": [({**store, "cache": state}, states[state]) for state in _STATES],
        "caches_missing": [(store, sum(states[state] for state in _NOT_IN_STORE))],
        "layers_unread": [(store, sum(each.is_unread for each in cache.excluded))],
    }
    for column in ("n_tags", "file_bytes", "cache_bytes"):
        samples[column.removeprefix("n_")] = [(store, sum(row[column] or 0 for row in rows))]
    dedup = [({**store, "grain": each.grain}, each) for each in shares(cache).dedup]
    samples["logical_bytes"] = [(labels, each.logical_bytes) for labels, each in dedup]
    samples["unique_bytes"] = [(labels, each.unique_bytes) for labels, each in dedup]
    samples["dedup_ratio"] = [(labels, each.ratio) for labels, each in dedup]
    return "".join(f"{line}\n" for line in _lines(samples))


def _lines(samples: Mapping[str, list[tuple[dict[str, str], float]]]) -> Iterator[str]:
    for name, values in samples.items():
        yield f"# HELP vecache_{name} {_HELP[name]}"
        yield f"# TYPE vecache_{name} gauge"
        for labels, value in values:
            text = ",".join(f'{label}="{_escape(each)}"' for label, each in labels.items())
            yield f"vecache_{name}{{{text}}} {value!r}"


def _escape(text: str) -> str:
    text = text.encode(errors="surrogateescape").decode(errors="replace")
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
