"""JSON Schemas (draft 2020-12) of the documents that verbs print, which `vecache schema` shows.

A document has the keys that stand here and no others; what they mean is in `schema_keys.py`. Its
own `schema` names it, `vecache.NAME/VERSION`: keys may be added, and the version rises when one
goes or changes its meaning.

The lines of `--jsonl` are documents too for `plan` and `history`. For other verbs they are rows of
the table that `-o FILE.parquet` has, and have no schema of their own.
"""

from __future__ import annotations

from typing import Final

from vecache.report.schema_keys import (
    BOUNDS,
    COUNT,
    TEXT,
    Schema,
    array_of,
    choice_of,
    matrix_of,
    null_or,
    object_of,
    objects_of,
)

__all__ = ["SCHEMAS"]


def _counts(words: str) -> Schema:
    return object_of("", dict.fromkeys(words.split(), COUNT))


def _named(name: str, document: Schema) -> Schema:
    """Add the key by which a document names its schema."""
    names = {"schema": {"const": f"vecache.{name}/1"}, **document["properties"]}
    return {
        **document,
        "properties": names,
        "required": [*dict.fromkeys(("schema", *document["required"]))],
    }


_NAMES: Final = "image_names created_by|null"
_REASONS: Final = objects_of("layer reason")
_HOST_REASONS: Final = objects_of("host? layer reason")
_STORES: Final = {"stores?": {"type": "object", "additionalProperties": TEXT}}
_ERRORS: Final = objects_of("image error")
_OPTIONS: Final = object_of("reflink hard_links layout parallel")
_GAP: Final = _counts("no_reflink flat_layout hard_links first_match repeated parallel")
_STATE: Final = choice_of("present partial whole")
_PAIRS: Final = {name: matrix_of(COUNT) for name in ("files", "chunks", "bytes")}
_PROBLEM: Final = object_of("section? offset? reason n_rows? rule?")

_SUMS: Final = (
    "total_bytes missing_bytes fetch_bytes toc_bytes requests missing_bounds fetch_bounds "
    "whole_layers whole_bytes"
)
_PLAN_LAYER: Final = object_of(
    "blob diff_id|null created_by|null",
    {
        "toc|null": choice_of("zstd:chunked estargz"),
        "state": _STATE,
        **object_of(
            "total_bytes|null missing_bytes|null fetch_bytes slack_bytes toc_bytes ranges requests"
        )["properties"],
        "files": object_of("", {f"{key}|null": COUNT for key in ("reused", "fetched", "empty")}),
        "chunks": object_of("", {f"{key}|null": COUNT for key in ("reused", "fetched", "holes")}),
        "warnings": array_of(TEXT),
    },
)
_PLAN: Final = _named(
    "plan",
    object_of(
        f"image read_from|null store|null {_SUMS}",
        {
            "options": _OPTIONS,
            "excluded": _REASONS,
            "layers": array_of(_PLAN_LAYER),
            "best": object_of("missing_bytes", {"gap": _GAP, "unread": _REASONS}),
        },
    ),
)
_PLANS: Final = object_of(_SUMS, {"images": array_of(_PLAN), "errors": _ERRORS})
_EXPLANATION: Final = _named("plan-explain", object_of("image path explanation"))
_CURVE: Final = "n_ranges fetch_bytes slack_bytes header_bytes toc_bytes requests seconds?"

_PULL: Final = "fetch_bytes slack_bytes toc_bytes requests"
_PULL_BEST: Final = object_of("missing_bytes", {"gap": _GAP})
_HISTORY_LAYER: Final = object_of(
    f"blob total_bytes|null missing_bytes|null {_PULL}",
    {"state": _STATE, "best|null": _PULL_BEST},
)
_HISTORY_PULL: Final = object_of(
    f"after|null total_bytes missing_bytes {_PULL} missing_bounds fetch_bounds whole_bytes saved",
    {
        "states": _counts("present partial whole"),
        "best": _PULL_BEST,
        "layers": array_of(_HISTORY_LAYER),
    },
)
_BETWEEN: Final = ("missing_bytes", "fetch_bytes", "toc_bytes", "requests")
_HISTORY_STEP: Final = {
    **dict.fromkeys(("nothing", "previous", "first"), _HISTORY_PULL),
    "between?": object_of("", dict.fromkeys(_BETWEEN, array_of(COUNT))),
}

_FREED: Final = "freed_now_bytes stored_bytes freed_bytes unknown_bytes"
_FLEET_UNREAD: Final = {
    "excluded": objects_of("layer reason is_unread", {"nodes": array_of(TEXT)}),
    "unread_nodes": objects_of("node reason"),
}
_CELL: Final = null_or(COUNT)
_FLEET_FIGURES: Final = (
    *("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests"),
    *("whole_layers", "whole_bytes", "reflink_missing_bytes"),
)

_DOCUMENTS: Final[dict[str, list[Schema]]] = {
    "plan": [_PLAN, _PLANS, object_of("image error")],
    "plan-curve": [
        object_of(
            "image",
            {
                "by_ranges": objects_of(f"max_ranges {_CURVE}"),
                "by_gap": objects_of(f"gap_bytes {_CURVE}"),
            },
        )
    ],
    "plan-explain": [
        _EXPLANATION,
        object_of("", {"images": array_of(_EXPLANATION), "errors": _ERRORS}),
        object_of("image error"),
    ],
    "gather": [
        object_of(
            "image store? grain total_bytes covered_bytes uncovered_bytes n_at_least "
            "n_excluded_layers",
            {
                **_STORES,
                "layers": objects_of(f"step host? index layer added_bytes left_bytes {_NAMES}"),
                "excluded": _HOST_REASONS,
                "excluded_of_image": _REASONS,
            },
        )
    ],
    "history": [
        object_of(
            "",
            {
                "images": array_of(TEXT),
                "options": _OPTIONS,
                "steps": objects_of("image", _HISTORY_STEP),
            },
        ),
        object_of("image", _HISTORY_STEP),
    ],
    "layers": [
        object_of(
            "store",
            {
                "snapshot|null": object_of(
                    "host time root",
                    {
                        "versions": {"type": "object", "additionalProperties": TEXT},
                        "settings": object_of(
                            "reflink hard_links layout parallel partial estargz convert"
                        ),
                    },
                ),
                "layers": objects_of(
                    "index|null layer parent|null image_names created_by|null n_tags|null "
                    "n_files|null file_bytes|null cache_bytes|null bloom_fill|null "
                    "false_positive_rate|null reason|null diff_digest|null "
                    "compressed_diff_digest|null toc_digest|null target is_read_only",
                    {"cache": choice_of("mapped cached built unused none")},
                ),
                "excluded": _REASONS,
            },
        )
    ],
    "lookup": [
        object_of(
            "store",
            {
                "digests": objects_of(
                    "digest index|null layer|null target|null path|null offset|null length|null",
                    {"state": choice_of("found absent corrupt invalid")},
                ),
                "excluded": _REASONS,
            },
        )
    ],
    "overlap": [
        object_of(
            "store? by grain labels hosts?",
            {
                **_STORES,
                **_PAIRS,
                **dict.fromkeys(
                    ("exclusive_bytes", "new_bytes", "cumulative_bytes"), array_of(COUNT)
                ),
                "dedup": object_of(
                    "",
                    dict.fromkeys(("file", "chunk"), object_of("logical_bytes unique_bytes ratio")),
                ),
                "layers": objects_of(f"host? layer {_NAMES}"),
                "additional_layers": array_of(TEXT),
                "excluded": objects_of("host? layer reason is_unread"),
            },
        )
    ],
    "rm": [
        object_of(
            f"store grain {_FREED} orphaned_bytes",
            {
                "layers": objects_of(f"layer {_NAMES} stored_bytes freed_bytes"),
                "unknown_layers": array_of(TEXT),
                "kept_layers": _REASONS,
                "images": objects_of(
                    "image image_id is_removed pull_bytes in_turn_bytes fetch_bytes|null"
                ),
                "wanted_bytes?": COUNT,
                "is_enough?": {"type": "boolean"},
                "in_use?": {"type": ["array", "null"], "items": TEXT},
                "steps?": objects_of(
                    "step image image_id alone_bytes added_bytes freed_bytes pull_bytes "
                    "fetch_bytes|null"
                ),
                "excluded": _REASONS,
            },
        )
    ],
    "doctor": [
        object_of(
            "store n_layers n_tocs n_caches n_images n_files|null file_bytes|null n_wrong n_hints",
            {
                "findings": objects_of(
                    "rule severity layer|null image_id|null path|null found wanted advice "
                    "remedy|null",
                    {"name": TEXT},
                ),
                "actions": objects_of("remedy rule layer|null path is_done error|null"),
            },
        )
    ],
    "index": [
        object_of(
            "store folder n_layers n_tags masked_layers masked_tags n_bytes removed?",
            {
                "runs": objects_of("path time n_layers n_tags masked_layers masked_tags n_bytes"),
                "excluded?": _REASONS,
            },
        )
    ],
    "inspect": [
        object_of(
            "file version tag_len digest_len n_words n_hashes tags_bytes vdata_bytes fnames_bytes "
            "n_tags n_files file_bytes cache_bytes bloom_fill false_positive_rate",
            {
                "kind": {"const": "cache"},
                "algorithm|null": choice_of("sha256 sha384 sha512"),
                "problems": array_of(_PROBLEM),
            },
        ),
        object_of(
            "file version toc_bytes n_entries n_files file_bytes n_chunks n_holes n_xattrs "
            "tar_split_digest|null",
            {
                "kind": {"const": "toc"},
                "entries": {"type": "object", "additionalProperties": COUNT},
                "cache_bytes_by_layout": object_of("", {"dir|null": COUNT, "flat|null": COUNT}),
                "problems": array_of(_PROBLEM),
            },
        ),
    ],
    "fleet-list": [
        object_of(
            "fleet layer_bytes n_distinct_layers distinct_bytes stored_bytes",
            {
                "nodes": objects_of(
                    "node host time n_layers n_images n_unread layer_bytes shared_bytes"
                ),
                "errors": objects_of("node error"),
            },
        )
    ],
    "fleet-plan": [
        object_of(
            "fleet",
            {
                **dict.fromkeys(("nodes", "images"), array_of(TEXT)),
                "classes": matrix_of(COUNT),
                "options": array_of(
                    null_or(object_of("reflink hard_links layout parallel partial"))
                ),
                **{name: matrix_of(_CELL) for name in _FLEET_FIGURES},
                **{name: matrix_of(null_or(BOUNDS)) for name in ("missing_bounds", "fetch_bounds")},
                "sums": object_of("", dict.fromkeys((*_BETWEEN, "wire_bytes"), array_of(COUNT))),
                "cheapest": array_of(_CELL),
                "dearest|null": COUNT,
                "excluded": objects_of("layer reason", {"class": COUNT}),
                "errors": objects_of("node|null image|null error"),
            },
        )
    ],
    "fleet-overlap": [
        object_of(
            "fleet grain n_layers n_distinct_layers",
            {
                "nodes": array_of(TEXT),
                "classes": matrix_of(COUNT),
                **_PAIRS,
                "exclusive_bytes": array_of(COUNT),
                "dedup": object_of(
                    "",
                    dict.fromkeys(
                        ("file", "chunk"),
                        object_of("logical_bytes layer_bytes unique_bytes ratio"),
                    ),
                ),
                "repeated_files": objects_of(
                    "digest path size n_copies n_layers repeated_bytes n_nodes"
                ),
                **_FLEET_UNREAD,
            },
        )
    ],
    "fleet-rm": [
        object_of(
            f"fleet {_FREED}",
            {
                "lost_bytes": object_of("", {"file?": COUNT, "chunk?": COUNT}),
                "classes": objects_of(
                    f"grain {_FREED}",
                    {
                        **dict.fromkeys(
                            ("nodes", "layers", "unknown_layers", "images", "problems"),
                            array_of(TEXT),
                        ),
                        "kept_layers": _REASONS,
                    },
                ),
                **_FLEET_UNREAD,
            },
        )
    ],
}


def _schema(name: str, documents: list[Schema]) -> Schema:
    named = [_named(name, document) for document in documents]
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"vecache.{name}/1",
    }
    return {**head, **(named[0] if len(named) == 1 else {"anyOf": named})}


SCHEMAS: Final = {name: _schema(name, documents) for name, documents in _DOCUMENTS.items()}
"""Name of a document -> its schema."""
