"""What the keys of JSON documents mean: each key once, so that it means the same in all of them.

The first table has the keys of numbers, texts and flags, with their types; units are in the names.
The second has those of objects and arrays, which `schema.py` writes out for each document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BOUNDS",
    "COUNT",
    "TEXT",
    "Schema",
    "array_of",
    "choice_of",
    "matrix_of",
    "null_or",
    "object_of",
    "objects_of",
]

Schema: TypeAlias = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_FLAG: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_DIGEST: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]+:[0-9a-f]+$"}


def array_of(items: Schema) -> Schema:
    """Describe an array."""
    return {"type": "array", "items": items}


def choice_of(words: str) -> Schema:
    """Describe a text that is one of these words."""
    return {"enum": words.split()}


def null_or(schema: Schema) -> Schema:
    """Describe what may be null too."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "type": [schema["type"], "null"]}


BOUNDS: Final[Schema] = {**array_of(COUNT), "minItems": 2, "maxItems": 2}
_RANGE: Final[Schema] = {**BOUNDS, "description": "first and last byte, inclusive"}

_KEYS: Final[dict[str, tuple[Schema, str]]] = {
    # what there is
    "store": (TEXT, "path of the store, snapshot or data set; FLEET#NODE for a node"),
    "fleet": (TEXT, "path of the fleet's folder"),
    "node": (TEXT, "name of a node"),
    "host": (TEXT, "name of a machine: of a snapshot's, or of one of several stores"),
    "time": (_TIME, "when it was written"),
    "image": (TEXT, "name of an image, as it was given or as the store has it"),
    "read_from": (TEXT, "full name of the image in the registry or mirror that sent it"),
    "image_id": (TEXT, "full id of an image of the store"),
    "layer": (TEXT, "full id of a layer of the store"),
    "index": (COUNT, "place of a layer among those with a cache, in store order, from 0"),
    "parent": (TEXT, "full id of the layer below"),
    "blob": (_DIGEST, "digest of a layer's blob, compressed"),
    "diff_id": (_DIGEST, "digest of a layer's tar, from the config of the image"),
    "diff_digest": (_DIGEST, "digest of the layer's tar, which is its diff-id"),
    "compressed_diff_digest": (_DIGEST, "digest of the blob that was pulled"),
    "toc_digest": (_DIGEST, "digest of the layer's TOC"),
    "tar_split_digest": (_DIGEST, "digest of the tar-split, from the TOC"),
    "digest": (TEXT, "digest that was looked up, or that of a file"),
    "image_names": (array_of(TEXT), "images that have the layer, the smallest first"),
    "created_by": (TEXT, "what made the layer, from the history in the image's config"),
    "target": (TEXT, "folder of the layer's files"),
    "path": (TEXT, "path of a file: in its layer, or on this machine"),
    "file": (TEXT, "the file, as it was named"),
    "folder": (TEXT, "the folder of the index"),
    "root": (TEXT, "graph root, on the machine of the snapshot"),
    "labels": (array_of(TEXT), "full ids of layers or names of images, one for each row"),
    "hosts": (array_of(TEXT), "host of each row; where there are several stores"),
    "is_read_only": (_FLAG, "whether the layer is one that is only read"),
    "is_unread": (_FLAG, "whether it could not be read, though it should have a TOC"),
    "is_removed": (_FLAG, "whether the image would be removed"),
    "is_done": (_FLAG, "whether it was done"),
    # how it is asked
    "by": (choice_of("layer image host"), "what is compared"),
    "grain": (choice_of("file chunk"), "whether whole files count, or chunks"),
    "reflink": (_FLAG, "whether the file system has reflinks"),
    "hard_links": (_FLAG, "whether files are reused by hard link"),
    "layout": (choice_of("dir flat"), "how layers are stored; flat is composefs"),
    "parallel": ({"type": "integer", "minimum": 1}, "layers copied at a time"),
    "partial": (_FLAG, "whether layers are pulled in part"),
    "estargz": (_FLAG, "whether eStargz layers are pulled in part"),
    "convert": (_FLAG, "whether layers without a TOC get one in the pull"),
    "after": (TEXT, "the image that the node has; null where it has none"),
    "step": (COUNT, "number of the step, from 1"),
    # why it is so
    "reason": (TEXT, "why"),
    "error": (TEXT, "why it could not be done"),
    "explanation": (array_of(TEXT), "where a path comes from, in sentences"),
    "rule": (COUNT, "number of the rule, as `vecache doctor` shows it"),
    "found": (TEXT, "what was found"),
    "wanted": (TEXT, "what a sound store has"),
    "advice": (TEXT, "what to do"),
    "remedy": (choice_of("build list remove"), "what --fix does"),
    "severity": (choice_of("wrong hint"), "a hint is set right by Podman"),
    "section": (TEXT, "section of the cache file"),
    # bytes of pulls
    "total_bytes": (COUNT, "all, uncompressed: of a pull what it could reuse or fetch"),
    "missing_bytes": (COUNT, "uncompressed, what no local layer has, as Podman logs it"),
    "fetch_bytes": (COUNT, "data over the wire"),
    "slack_bytes": (COUNT, "the part of it that merged gaps add"),
    "toc_bytes": (COUNT, "TOCs over the wire; of a file its size"),
    "wire_bytes": (COUNT, "data and TOCs over the wire"),
    "header_bytes": (COUNT, "headers of the parts of an answer"),
    "whole_bytes": (COUNT, "blobs that are fetched whole"),
    "whole_layers": (COUNT, "layers that are fetched whole, in no other sum"),
    "reflink_missing_bytes": (COUNT, "`missing_bytes` if the node had reflinks"),
    "missing_bounds": (BOUNDS, "least and most `missing_bytes`, whatever the timing"),
    "fetch_bounds": (BOUNDS, "least and most `fetch_bytes`, whatever the timing"),
    "requests": (COUNT, "requests to the registry"),
    "ranges": (array_of(_RANGE), "ranges of the blob that are fetched, as in HTTP"),
    "max_ranges": (COUNT, "ranges that one request may have"),
    "gap_bytes": (COUNT, "gaps up to this size are fetched too"),
    "seconds": (_NUMBER, "estimate of the time"),
    "saved": (_NUMBER, "share of the data that a node without any image fetches"),
    # contents
    "offset": (COUNT, "byte position in the file"),
    "length": (COUNT, "bytes from there"),
    "size": (COUNT, "bytes of one file"),
    "file_bytes": (COUNT, "uncompressed files"),
    "cache_bytes": (COUNT, "the cache file"),
    "layer_bytes": (COUNT, "layers; in `dedup` each layer once"),
    "n_bytes": (COUNT, "the file on disk"),
    "bloom_fill": (_SHARE, "share of the bloom filter's bits that are set"),
    "false_positive_rate": (_SHARE, "of the bloom filter, measured"),
    "masked_layers": (COUNT, "layers of the index that are gone"),
    "masked_tags": (COUNT, "their tags"),
    "version": (COUNT, "version of the format"),
    "tag_len": (COUNT, "bytes of a tag"),
    "digest_len": (COUNT, "bytes of a digest's text"),
    "tags_bytes": (COUNT, "section of the tags"),
    "vdata_bytes": (COUNT, "section of the locations"),
    "fnames_bytes": (COUNT, "section of the names"),
    "removed": (COUNT, "files of the index that were removed"),
    # what is shared
    "exclusive_bytes": (COUNT, "bytes that no other has"),
    "logical_bytes": (COUNT, "all contents, each as often as it is there"),
    "unique_bytes": (COUNT, "each content once"),
    "ratio": (_NUMBER, "`logical_bytes` by `unique_bytes`"),
    "repeated_bytes": (COUNT, "all copies but one"),
    "added_bytes": (COUNT, "what this one adds to those before it"),
    "left_bytes": (COUNT, "what no layer up to this one has"),
    "covered_bytes": (COUNT, "what some local layer has"),
    "uncovered_bytes": (COUNT, "what no local layer has"),
    "n_at_least": (COUNT, "no fewer layers can hold as much"),
    "shared_bytes": (COUNT, "layers that another node has too"),
    "distinct_bytes": (COUNT, "each distinct layer once"),
    "stored_bytes": (COUNT, "all files of the layers; of a fleet, its folder"),
    "freed_bytes": (COUNT, "contents that no remaining layer has; of steps, freed up to this one"),
    "alone_bytes": (COUNT, "what the removal of this image alone frees"),
    "freed_now_bytes": (COUNT, "what this store frees: one of the two, by how it shares"),
    "orphaned_bytes": (COUNT, "contents that only layers that go have, in several of them"),
    "unknown_bytes": (COUNT, "tars of layers whose content is not known"),
    "pull_bytes": (COUNT, "what a new pull of the image alone no longer finds"),
    "in_turn_bytes": (COUNT, "the same after the images above it were pulled"),
}


_HOLDERS: Final = {
    "stores": "path of each store by its host, where there are several",
    "options": "how layers are pulled, by the store's settings and the command line",
    "settings": "how the machine of the snapshot pulls",
    "snapshot": "where the snapshot is from; null for a store of this machine",
    "images": "images, in the order in which they were named or are in the store",
    "layers": "layers, from the bottom up or in the order of the store",
    "nodes": "nodes of the fleet, in the order of their names",
    "classes": "nodes that are equal, by index in `nodes`",
    "excluded": "layers of the store that are in no figure, and why",
    "excluded_of_image": "layers of the image that are in no figure, and why",
    "additional_layers": "those of them that are in an additional store",
    "unknown_layers": "layers that go, of which no content is known",
    "kept_layers": "layers of what is removed that remain, and why",
    "unread_nodes": "nodes that could not be read, and why",
    "errors": "what could not be opened or planned, and is in no figure",
    "best": "the least that any client could miss, given the same layers",
    "gap": "bytes above that, by cause",
    "warnings": "what is wrong with the layer, though Podman's pull of it goes on",
    "unread": "layers of which only the cache counts there",
    "states": "number of layers, by state",
    "steps": "one for each image, in the order of the series, or in which they would be removed",
    "wanted_bytes": "what was asked for, to be freed",
    "is_enough": "whether the steps free as much",
    "in_use": "images of containers, which are left out; null where the store lists none",
    "nothing": "the pull by a node that has no image",
    "previous": "the pull by a node that has the image before",
    "first": "the pull by a node that has the first image",
    "between": "figures of the pulls by nodes that have another image, one each",
    "by_ranges": "bytes against the ranges that one request may have",
    "by_gap": "bytes against the gaps that are fetched too",
    "bytes": "bytes in common; on the diagonal those of the row",
    "files": "files: in common, or by what becomes of them",
    "chunks": "chunks: in common, or by what becomes of them",
    "dedup": "what would be left without repeats, by grain",
    "lost_bytes": "contents that no node has any more, by grain",
    "repeated_files": "files whose copies take most bytes",
    "sums": "over all nodes, one for each image",
    "cheapest": "the node that fetches least, by index; one for each image",
    "dearest": "the node that fetches most for all images, by index",
    "new_bytes": "contents that no row before has, one for each row",
    "cumulative_bytes": "contents of the rows up to this one, one for each row",
    "findings": "rules that are broken, and where",
    "actions": "what --fix did, or would do",
    "problems": "what is wrong with it",
    "runs": "files of the index",
    "entries": "number of entries, by their kind",
    "cache_bytes_by_layout": "size of the cache file, by layout; null where there can be none",
    "digests": "one for each digest, in the order in which they were given",
    "versions": "of the programs that wrote it",
}
"""What the keys of objects, arrays and matrices mean."""


def object_of(words: str, holders: Mapping[str, Schema] | None = None) -> Schema:
    """Describe an object by its keys: those of `KEYS`, and others with their schemas.

    `KEY?` need not be there, and `KEY|null` may be null. There are no other keys.
    """
    schemas = {word: _schema_of(_name(word)) for word in words.split()}
    for word, schema in (holders or {}).items():
        meaning = _HOLDERS.get(_name(word))
        schemas[word] = {"description": meaning, **schema} if meaning else schema
    return {
        "type": "object",
        "properties": {
            _name(word): null_or(schema) if "|null" in word else schema
            for word, schema in schemas.items()
        },
        "required": [_name(word) for word in schemas if not word.endswith("?")],
        "additionalProperties": False,
    }


def _name(word: str) -> str:
    return word.removesuffix("?").removesuffix("|null")


def _schema_of(name: str) -> Schema:
    if name.startswith("n_"):
        return {"description": f"number of {name[2:].replace('_', ' ')}", **COUNT}
    schema, meaning = _KEYS[name]
    return {"description": meaning, **schema}


def objects_of(words: str, holders: Mapping[str, Schema] | None = None) -> Schema:
    """Describe an array of such objects."""
    return array_of(object_of(words, holders))


def matrix_of(cells: Schema) -> Schema:
    """Describe an array of rows."""
    return array_of(array_of(cells))
