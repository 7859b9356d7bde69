"""What people do wrong is answered in words that say what to do, and the same in Python and shell.

Each row is a mistake that somebody has made, with what the answer must say.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import vecache
from tests.golden import GOLDEN_SMALL, golden_cache, golden_toc, small_layers
from vecache.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

pd: Any = pytest.importorskip("pandas")  # it has no types
PACKAGE = Path(vecache.__file__).parent
SAMPLE = PACKAGE / "sample" / "store"
LAYOUT = GOLDEN_SMALL / "oci"
STORE, LAYER = small_layers()[0]
TOC, CACHE = golden_toc(STORE, LAYER), golden_cache(STORE, LAYER)
PACKED_TOC = pa.compress(TOC, "zstd", asbytes=True)


@pytest.fixture(scope="module")
def cache() -> vecache.LayersCache:
    return vecache.LayersCache.load(SAMPLE)


def open_app() -> vecache.Image:
    return vecache.open_image(f"oci:{LAYOUT}:app2")


MISTAKES: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "a path as a set of layers": (
        lambda _: vecache.LayersCache(str(SAMPLE)),  # type: ignore[arg-type]
        TypeError,
        r"LayersCache\.load\(STORE\) loads a store",
    ),
    "members in the plural": (
        lambda cache: vecache.overlap(cache, by="images"),  # type: ignore[arg-type]
        ValueError,
        "found 'images', wanted 'layer', 'image'",
    ),
    "a layout of another tool": (
        lambda cache: vecache.plan_image(open_app(), cache, layout="erofs"),  # type: ignore[arg-type]
        ValueError,
        "layout: found 'erofs', wanted 'dir' or 'flat'",
    ),
    "a number as text": (
        lambda cache: vecache.plan_image(open_app(), cache, parallel="6"),  # type: ignore[arg-type]
        TypeError,
        "parallel: found '6', wanted a whole number",
    ),
    "one image where a list is wanted": (
        lambda _: vecache.history(open_app()),  # type: ignore[arg-type]
        TypeError,
        r"images: found one Image, wanted a list: \[image\]",
    ),
    "tags as a list": (
        lambda _: vecache.open_series(f"oci:{LAYOUT}", ["base", "app1"]),  # type: ignore[arg-type]
        TypeError,
        r"tags: found list, wanted text such as 'latest,1\.2\.\.1\.3'",
    ),
    "the same for a fleet": (
        lambda _: vecache.plan_fleet("oci:images:app", "fleet"),
        TypeError,
        r"images: found one str, wanted a list: \[image\]",
    ),
    "a table of digests": (
        lambda cache: cache.lookup(pd.DataFrame({"digest": ["sha256:00"]})),
        TypeError,
        "digests: found DataFrame, wanted one column of it",
    ),
    "nothing to look up": (
        lambda cache: cache.lookup(None),
        TypeError,
        "digests: found NoneType, wanted a list of text",
    ),
    "numbers to look up": (
        lambda cache: cache.lookup([1, 2]),
        TypeError,
        "digests: .*'int'.*; wanted text",
    ),
    "a compressed TOC": (
        lambda _: vecache.Toc.parse(PACKED_TOC),
        vecache.VecacheError,
        "not a TOC: compressed with zstd; `zstd -d` unpacks it",
    ),
    "a cache file as a TOC": (
        lambda _: vecache.build_cache(CACHE),
        vecache.VecacheError,
        "not a TOC: a cache file",
    ),
    "the path of a TOC": (
        lambda _: vecache.build_cache("toc.json"),  # type: ignore[arg-type]
        TypeError,
        "a TOC: found str, wanted the bytes of its JSON",
    ),
    "a TOC as a cache file": (
        lambda _: vecache.CacheFile.parse(TOC),
        vecache.VecacheError,
        "not a cache file: JSON, as a TOC is",
    ),
    "a compressed cache file": (
        lambda _: vecache.CacheFile.parse(pa.compress(CACHE, "gzip", asbytes=True)),
        vecache.VecacheError,
        "not a cache file: compressed with gzip; `gzip -d` unpacks it",
    ),
    "the path of a cache file": (
        lambda _: vecache.CacheFile.parse("cache"),  # type: ignore[arg-type]
        TypeError,
        r"a cache file: found str, wanted bytes; CacheFile\.open opens one",
    ),
    "an OCI layout as a store": (
        lambda _: vecache.open_store(LAYOUT),
        vecache.VecacheError,
        r"it is an OCI layout, images of which are named oci:.*:TAG",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_python_says_what_to_do(mistake: str, cache: vecache.LayersCache) -> None:
    call, error, words = MISTAKES[mistake]
    with pytest.raises(error, match=words):
        call(cache)


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (["build", "packed-cache", "-o", "out"], 3, "not a TOC: a cache file"),
        (["inspect", "cut.zst"], 3, "cut.zst: damaged zstd: "),
        (["layers", "--store", "toc.zst"], 3, "nor a snapshot: JSON, as a TOC is; "),
        (["overlap", "--store", str(LAYOUT)], 3, "it is an OCI layout, images of which are named"),
        (["help", "plam"], 2, "no verb `plam`; did you mean `plan`?"),
        (["layers", "--store", "containers"], 3, "it has no overlay-layers/; /"),
        (["fleet", "add", "fleet", str(SAMPLE)], 2, "--store PATH adds a graph root"),
        (["inspect", "no/such"], 3, "no/such: there is no folder no"),
        (["index", "--store", "no"], 3, "wanted a graph root, which Podman makes with its first"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_the_shell_says_what_to_do(
    words: list[str],
    code: int,
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toc.zst").write_bytes(PACKED_TOC)
    Path("cut.zst").write_bytes(PACKED_TOC[:-8])
    Path("packed-cache").write_bytes(pa.compress(CACHE, "zstd", asbytes=True))
    Path("containers/storage/overlay-layers").mkdir(parents=True)
    assert main(words) == code
    assert wanted in capsys.readouterr().err


def test_a_compressed_toc_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toc.zst").write_bytes(PACKED_TOC)
    assert main(["build", str(tmp_path / "toc.zst"), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == vecache.build_cache(TOC)
    assert main(["inspect", str(tmp_path / "toc.zst")]) == 0
    assert f"{len(TOC) / 1000:.1f} kB" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make",
    [
        pd.Series,
        lambda texts: pd.Series(texts, dtype=object),
        lambda texts: pd.Series(texts).astype("category"),
        pd.Index,
        pl.Series,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        lambda texts: np.array([text.encode() for text in texts]),
        lambda texts: pa.array(texts).dictionary_encode(),
    ],
)
def test_columns_of_other_libraries_are_looked_up(
    make: Callable[[list[str]], Any], cache: vecache.LayersCache
) -> None:
    texts = vecache.Toc.parse(TOC).entries.digest.to_text().to_pylist()
    texts = [*[text.decode() for text in texts if text][:5], "sha256:" + "0" * 64]
    wanted, found = cache.lookup(texts), cache.lookup(make(texts))
    assert wanted.is_found.any()
    np.testing.assert_array_equal(found.state, wanted.state)
    np.testing.assert_array_equal(found.offset, wanted.offset)
    missing = cache.lookup(make([*texts, None])) if make is pd.Series else None
    assert missing is None or missing.state[-1] == 0


def test_what_is_no_digest_is_counted(cache: vecache.LayersCache) -> None:
    assert "1 not a digest" in repr(cache.lookup(["0" * 64, "sha256:" + "0" * 64]))


def _messages(path: Path) -> list[str]:
    """All texts of a module but its docstrings; what is in back-ticks is a whole command."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    left_out = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    left_out |= {
        id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values
    }
    texts = [
        ast.unparse(node)
        for node in nodes
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in left_out
    ]
    return [re.sub(r"`[^`]*`|\(--[^)]*\)", "", text) for text in texts]


def test_the_library_does_not_speak_of_options() -> None:
    """Who calls it from Python has none; where an option has another name, it is in brackets."""
    rooms = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "report"]
    found = {
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in rooms
        if "cli" not in path.parts
        for text in _messages(path)
        if re.search(r"(?<![\w-])--[a-z]", text)
    }
    assert found == set()
