"""Show what a cache file or a TOC holds, and what is wrong with it.

The content decides which of the two it is: a TOC is JSON. What is compressed with zstd is unpacked,
and pipes work too.

Exit code: 0 no problems, 3 problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.options import UsageError, add_output, read_input, show
from vecache.report.output import Report
from vecache.report.terminal import count, human_bytes, human_share, render_facts
from vecache.text import describe_content, printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from vecache.report.terminal import Cell, Screen

_OTHERS = {
    "a tar archive": "`vecache layers --store FILE` takes that of `vecache snapshot`",
    "a Parquet file": "`vecache overlap --store FILE` takes that of `vecache export`",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("file", metavar="FILE", help="the file; `-` reads standard input")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    document = {"file": args.file, **_describe(args.file)}
    show(
        Report(
            text=lambda screen: _text(document, screen),
            document=lambda: {"schema": "vecache.inspect/1", **document},
            table=lambda: _table(document),
        ),
        args,
    )
    return 3 if document["problems"] else 0


def _describe(path: str) -> dict[str, Any]:
    from vecache.cache.reader import CacheFile
    from vecache.errors import VecacheError
    from vecache.report.figures import describe_cache, describe_toc
    from vecache.toc.parse import MAX_TOC_BYTES, Toc

    data = read_input(path, MAX_TOC_BYTES)
    found = describe_content(data[:512])
    if found in _OTHERS:
        raise VecacheError(f"{path}: found {found}, wanted a cache file or a TOC; {_OTHERS[found]}")
    if data[:64].lstrip()[:1] == b"{":
        return describe_toc(Toc.parse(data, path=path))
    if len(data) <= MAX_TOC_BYTES:
        return describe_cache(CacheFile.parse(data, path=path))
    if path == "-":
        raise UsageError(f"inspect: a pipe can hold {MAX_TOC_BYTES:,} bytes at most; name the file")
    return describe_cache(CacheFile.open(path))


def _table(document: dict[str, Any]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist([document])


def _text(document: dict[str, Any], screen: Screen) -> str:
    facts = _cache_facts(document) if document["kind"] == "cache" else _toc_facts(document)
    lines = [render_facts([("File", document["file"]), *facts], screen), ""]
    problems = [_problem_line(problem) for problem in document["problems"]]
    style = "red" if problems else "green"
    n_problems = count(len(problems), "problem")
    lines.append(screen.paint(f"{n_problems}:" if problems else "No problems.", style))
    return "\n".join([*lines, *problems])


def _cache_facts(document: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "Kind", f"cache file, version {document['version']}"
    yield "Size", human_bytes(document["cache_bytes"])
    yield "Tags", document["n_tags"]
    yield "Digests", document["algorithm"]
    yield "Files", document["n_files"]
    yield "Bytes in files", human_bytes(document["file_bytes"])
    yield (
        "Bloom filter",
        (f"{count(document['n_words'], 'word')}, {count(document['n_hashes'], 'hash', 'hashes')}"),
    )
    yield "Bloom fill", human_share(document["bloom_fill"])
    yield "False positives", f"{human_share(document['false_positive_rate'])}, measured"


def _toc_facts(document: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "Kind", f"TOC, version {document['version']}"
    yield "Size", human_bytes(document["toc_bytes"])
    yield "Entries", document["n_entries"]
    for kind, n_entries in document["entries"].items():
        yield f"  {kind}", n_entries
    yield "Bytes in files", human_bytes(document["file_bytes"])
    yield "Chunks", f"{document['n_chunks']:,}, {document['n_holes']:,} of them holes"
    yield "Xattrs", document["n_xattrs"]
    yield "Tar-split", document["tar_split_digest"]
    for layout, n_bytes in document["cache_bytes_by_layout"].items():
        yield f"Cache, {layout}", human_bytes(n_bytes)


def _problem_line(problem: dict[str, Any]) -> str:
    where = f"{problem['section']} at byte {problem['offset']}: " if "section" in problem else ""
    rows = f" ({count(problem['n_rows'], 'tag')})" if problem.get("n_rows") else ""
    return printable(f"{where}{problem['reason']}{rows}")
