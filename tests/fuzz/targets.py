"""What is fuzzed: each target takes any bytes, and has sound inputs to start from.

A target raises nothing but a VecacheError; it asserts what else must hold, such as that the two TOC
parsers agree. What carries a checksum (nodes, indexes, compressed files) is tried as it is, and
with the sum or the compression put right, or no input would come far.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tests import oracle
from tests.fuzz import configs, documents, files, http, replies, trees
from tests.golden import GOLDEN_SMALL, golden_cache, golden_toc, small_layers
from tests.test_corruption import query_everything
from tests.toc.compare import entry_rows, outcome
from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import DigestError, TocError
from vecache.toc.columns import build_entries
from vecache.toc.exact import parse_exact
from vecache.toc.fast import parse_fast
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vecache.toc.columns import ParsedToc


_MAX_COMPARED_BYTES = 1 << 17  # the oracle takes a second for it
_TREES = ("image", "snapshot-tree", "fleet-tree")  # of whose bytes most changes end the JSON
_STORES = [GOLDEN_SMALL / "stores" / name for name in ("dir", "estargz")]
_LARGE_BYTES = 4 << 20


class OnDisk(Protocol):
    """A target that reads files."""

    seeds: list[bytes]

    def read(self, data: bytes) -> None:
        """Write the files, and read them."""


@dataclass(frozen=True)
class Target:
    """One reader of outside bytes."""

    seeds: Sequence[bytes]
    run: Callable[[bytes], object]
    json_share: float = 0.5  # of the inputs that are changed as JSON
    large: bytes = b""  # a sound input of some size, for the pace
    name: str = "any"


def read_cache(data: bytes) -> None:
    """Parse, validate, find and locate all tags."""
    query_everything(CacheFile.parse(data))


def read_toc(data: bytes) -> None:
    """Check that the fast parser agrees with the exact one, then parse as the package does."""

    def content(parsed: ParsedToc) -> tuple[object, ...]:
        return parsed.version, parsed.tar_split_digests[-1:], entry_rows(build_entries(parsed))

    fast = parse_fast(data) if len(data) < _MAX_COMPARED_BYTES else None
    if fast is not None:
        exact = outcome(lambda: content(parse_exact(data)), TocError)
        assert outcome(lambda: content(fast), TocError) == exact, "the TOC parsers differ"
    Toc.parse(data)


def build(data: bytes) -> None:
    """Build the caches of a TOC: they can be read, and are what the slow writer writes."""
    toc = Toc.parse(data)
    for layout in Layout:
        with suppress(TocError, DigestError):
            packed = pack_cache(toc.entries, layout)
            query_everything(CacheFile.parse(packed))
            if len(data) < _MAX_COMPARED_BYTES:
                assert packed == oracle.write_cache(data, layout), "the oracle writes another cache"


def make_target(name: str, folder: Path) -> Target:
    """Return one of the targets in `NAMES`; what it writes goes to the folder."""
    make: dict[str, Callable[[], Target | OnDisk]] = {
        "cache": lambda: Target(_small(golden_cache), read_cache),
        "toc": lambda: Target(tocs := _small(golden_toc), read_toc, large=_large(tocs[-1])),
        "build": lambda: Target(tocs := _small(golden_toc), build, large=_large(tocs[-1])),
        "blob": lambda: files.Blobs(folder),
        "archive": lambda: files.Archives(folder),
        "records": lambda: files.Records(folder, _STORES),
        "snapshot": lambda: files.Snapshots(folder, _STORES[0]),
        "node": lambda: files.Nodes(folder, _STORES[0]),
        "index": lambda: files.Indexes(folder, _small(golden_cache)[:4]),
        "image": lambda: trees.Images(folder),
        "snapshot-tree": lambda: trees.SnapshotTrees(folder),
        "fleet-tree": lambda: trees.FleetTrees(folder / "fleet"),
        "config": lambda: configs.ConfigFiles(folder),
        "auth": lambda: configs.AuthFiles(folder),
        "blob-info": lambda: configs.BlobInfoFiles(folder),
        "http": http.Registries,
        "manifest": lambda: Target(documents.manifests(), documents.read_manifest),
        "tags": lambda: Target(replies.TAG_LISTS, replies.read_tags),
        "login": lambda: Target(replies.CHALLENGES, replies.read_login),
    }
    made = make[name]()
    if not isinstance(made, Target):
        made = Target(made.seeds, made.read, 0.9 if name in _TREES else 0.5)
    return replace(made, name=name)


def _small(read: Callable[[str, str], bytes]) -> list[bytes]:
    return sorted({read(*row) for row in small_layers()}, key=len)[:6]


def _large(toc: bytes) -> bytes:
    """Return a TOC with the entries of another, many times."""
    document = json.loads(toc)
    document["entries"] *= _LARGE_BYTES // len(toc) + 1
    return json.dumps(document, separators=(",", ":")).encode()
