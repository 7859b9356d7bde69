"""What is fuzzed: each target takes any bytes, and has sound inputs to start from.

A target raises nothing but a VecacheError; it asserts what else must hold, such as that the two TOC
parsers agree. What carries a checksum (nodes, indexes, compressed files) is tried as it is, and
with the sum or the compression put right, or no input would come far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.fuzz import documents, files, replies
from tests.golden import GOLDEN_SMALL, golden_cache, golden_toc, small_layers
from tests.test_corruption import query_everything
from tests.toc.compare import entry_rows, outcome
from vecache.cache.reader import CacheFile
from vecache.errors import TocError
from vecache.toc.columns import build_entries
from vecache.toc.exact import parse_exact
from vecache.toc.fast import parse_fast
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vecache.toc.columns import ParsedToc


class OnDisk(Protocol):
    """A target that reads files."""

    seeds: list[bytes]

    def read(self, data: bytes) -> None:
        """Write the files, and read them."""


@dataclass(frozen=True)
class Target:
    """One reader of outside bytes."""

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes], object]


def read_cache(data: bytes) -> None:
    """Parse, validate, find and locate all tags."""
    query_everything(CacheFile.parse(data))


def read_toc(data: bytes) -> None:
    """Check that the fast parser agrees with the exact one, then parse as the package does."""

    def content(parsed: ParsedToc) -> tuple[object, ...]:
        return parsed.version, parsed.tar_split_digests[-1:], entry_rows(build_entries(parsed))

    fast = parse_fast(data)
    if fast is not None:
        exact = outcome(lambda: content(parse_exact(data)), TocError)
        assert outcome(lambda: content(fast), TocError) == exact, "the TOC parsers differ"
    Toc.parse(data)


def make_targets(folder: Path) -> dict[str, Target]:
    """Return all targets by name; those that read files write them into the folder."""
    caches = sorted({golden_cache(*row) for row in small_layers()}, key=len)
    tocs = sorted({golden_toc(*row) for row in small_layers()}, key=len)
    stores = [GOLDEN_SMALL / "stores" / name for name in ("dir", "estargz")]
    on_disk: dict[str, OnDisk] = {
        "blob": files.Blobs(folder / "blob"),
        "archive": files.Archives(folder / "archive"),
        "records": files.Records(folder / "records", stores),
        "snapshot": files.Snapshots(folder / "snapshot", stores[0]),
        "node": files.Nodes(folder / "fleet", stores[0]),
        "index": files.Indexes(folder / "index", caches[:4]),
    }
    targets = (
        Target("cache", caches[:6], read_cache),
        Target("toc", tocs[:6], read_toc),
        *(Target(name, each.seeds, each.read) for name, each in on_disk.items()),
        Target("manifest", documents.manifests(), documents.read_manifest),
        Target("tags", replies.TAG_LISTS, replies.read_tags),
        Target("login", replies.CHALLENGES, replies.read_login),
    )
    return {target.name: target for target in targets}
