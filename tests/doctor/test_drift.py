"""`--deep` finds each file that is not as the TOC says, and none that is."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from tests.doctor.damage import LAYER, whole_store
from tests.doctor.trees import unpack_layers
from tests.golden import STORES, golden_toc, layer_ids
from tests.stores import nobody, readable_folder, toc_path
from vecache.doctor import drift
from vecache.doctor.check import check_contents, diagnose
from vecache.doctor.drift import check_files
from vecache.doctor.rules import Finding, Rule
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.store.conftest import MakeStore

ENTRIES: list[dict[str, Any]] = json.loads(golden_toc("dir", LAYER))["entries"]
# A file of several chunks, in a folder.
FILE = next(
    first["name"]
    for first, second in itertools.pairwise(ENTRIES)
    if second["type"] == "chunk" and "/" in first["name"]
)
SIZE = next(entry["size"] for entry in ENTRIES if entry["name"] == FILE)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = whole_store(tmp_path)
    unpack_layers(root, "dir")
    return root


def deep(root: Path, layer: str = LAYER) -> list[Finding]:
    record = next(each for each in open_store(root).layers() if each.id == layer)
    return check_files(record).findings


@pytest.mark.parametrize("name", STORES)
def test_the_files_of_podmans_layers_have_not_changed(name: str, tmp_path: Path) -> None:
    root = whole_store(tmp_path, name)
    unpack_layers(root, name)
    store = open_store(root)
    result = diagnose(store, tmp_path / "user")
    n_read = 0

    def progress(n_bytes: int) -> None:
        nonlocal n_read
        n_read += n_bytes

    check_contents(result, progress)
    assert result.wrong == []
    assert all(finding.rule < Rule.FILE_MISSING for finding in result.hints)
    files = [
        (layer, entry["digest"] if name == "flat" else entry["name"], entry["size"])
        for layer in layer_ids(name)
        for entry in json.loads(golden_toc(name, layer))["entries"]
        if entry["type"] == "reg" and entry.get("size", 0)
    ]
    assert (result.n_files, n_read) == (len(set(files)), sum(size for *_, size in set(files)))
    assert result.n_file_bytes == n_read


def rewrite(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    target = path.with_name("as-good")
    path.rename(target)
    path.symlink_to(target.name)


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def link_folder(path: Path) -> None:
    move_folder(path)
    path.parent.symlink_to("elsewhere")


DRIFT: dict[str, tuple[Rule, str, Callable[[Path], object]]] = {
    "removed": (Rule.FILE_MISSING, "it is missing", lambda path: path.unlink()),
    "cut": (
        Rule.FILE_SIZE,
        f"{SIZE - 1:,} bytes, wanted {SIZE:,}",
        lambda path: os.truncate(path, SIZE - 1),
    ),
    "longer": (Rule.FILE_SIZE, "bytes, wanted", lambda path: os.truncate(path, SIZE + 1)),
    "first byte": (Rule.FILE_DIGEST, "sha256:", lambda path: rewrite(path, 0)),
    "last byte": (Rule.FILE_DIGEST, "sha256:", lambda path: rewrite(path, SIZE - 1)),
    "a fifo": (Rule.FILE_MISSING, "no regular file", replace_by_fifo),
    "a link": (Rule.FILE_MISSING, "it is a symbolic link", replace_by_link),
    "a folder": (Rule.FILE_MISSING, "no regular file", replace_by_folder),
}


@pytest.mark.parametrize("name", DRIFT)
def test_a_file_that_changed_is_found(name: str, store: Path) -> None:
    rule, text, change = DRIFT[name]
    path = store / "overlay" / LAYER / "diff" / FILE
    change(path)
    (finding,) = deep(store)
    assert (finding.rule, finding.path, finding.layer) == (rule, str(path), LAYER)
    assert finding.found.startswith(f"{FILE}: ")
    assert text in finding.found


def test_files_of_a_folder_that_is_gone_are_all_found(store: Path) -> None:
    path = store / "overlay" / LAYER / "diff" / FILE
    move_folder(path)
    findings = deep(store)
    there = [e for e in ENTRIES if e["type"] == "reg" and e.get("size", 0)]
    names = [e["name"] for e in there if os.path.dirname(e["name"]) == os.path.dirname(FILE)]
    assert sorted(finding.found for finding in findings) == sorted(
        f"{name}: it is missing" for name in names
    )


def test_a_folder_that_became_a_link_is_not_followed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store / "overlay" / LAYER / "diff" / FILE
    link_folder(path)
    monkeypatch.setattr(drift, "_MOST_SHOWN", 1)
    first, rest = deep(store)
    assert {first.rule, rest.rule} == {Rule.FILE_LINK}
    assert "on its path is a symbolic link" in first.found
    assert rest.found.startswith("and ")
    assert rest.rule.is_hint


@pytest.mark.parametrize("part", ["overlay", f"overlay/{LAYER}", f"overlay/{LAYER}/diff"])
def test_only_the_graph_root_is_reached_through_links(
    part: str, store: Path, tmp_path: Path
) -> None:
    (store / part).rename(tmp_path / "outside")
    (store / part).symlink_to(tmp_path / "outside")
    (finding,) = deep(store)
    assert finding.rule is Rule.FILE_LINK
    (store / part).unlink()
    (tmp_path / "outside").rename(store / part)
    link = tmp_path / "link"
    link.symlink_to(store)
    assert deep(link) == []


def test_no_name_leads_out_of_the_layer(make_store: MakeStore, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    digest = f"sha256:{hashlib.sha256(b'secret').hexdigest()}"
    names = ["../../../../secret", "/../secret", "a/../../secret", str(outside), "x\0y", "..", "b"]
    root, diff = store_of(make_store, [(name, 6, digest) for name in names])
    (diff / "b").symlink_to(outside)
    findings = deep(root)
    assert len(findings) == len(names)
    assert {finding.rule for finding in findings} == {Rule.FILE_MISSING}
    assert not any(digest in finding.found for finding in findings)


def store_of(
    make_store: MakeStore, files: list[tuple[str, int, str]], **more: Any
) -> tuple[Path, Path]:
    """A store with one layer, of which only the TOC is written."""
    root = make_store([{"id": LAYER, "big-data-names": ["zstd-chunked-manifest"]}])
    entries = [
        {"type": "reg", "name": name, "size": size, "digest": digest, **more}
        for name, size, digest in files
    ]
    diff = root / "overlay" / LAYER / "diff"
    diff.mkdir(parents=True)
    toc_path(root, LAYER).parent.mkdir()
    toc_path(root, LAYER).write_text(json.dumps({"version": 1, "entries": entries}))
    return root, diff


def test_a_chunk_alone_can_differ(make_store: MakeStore) -> None:
    data = bytes(range(256)) * 8_192
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    other = f"sha256:{'0' * 64}"
    root, diff = store_of(
        make_store, [("a", len(data), digest)], chunkDigest=other, chunkSize=100, chunkOffset=7
    )
    (diff / "a").write_bytes(data)
    (finding,) = deep(root)
    assert finding.rule is Rule.FILE_DIGEST
    part = hashlib.sha256(data[7:107]).hexdigest()
    assert finding.found == f"a: its chunk of bytes 7 to 106 is sha256:{part}"


@pytest.mark.parametrize("span", [(0, 2**40), (2**62, 2**62), (-5, 100), (5, 2_097_150)])
def test_chunks_that_do_not_fit_are_not_hashed(
    make_store: MakeStore, span: tuple[int, int]
) -> None:
    data = bytes(2_097_152)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    root, diff = store_of(
        make_store,
        [("a", len(data), digest)],
        chunkDigest=digest,
        chunkOffset=span[0],
        chunkSize=span[1],
    )
    (diff / "a").write_bytes(data)
    assert deep(root) == []


def test_large_files_take_little_memory(make_store: MakeStore) -> None:
    n_bytes = 64 << 20
    digest = hashlib.sha256()
    for _ in range(64):
        digest.update(bytes(1 << 20))
    root, diff = store_of(make_store, [("a", n_bytes, f"sha256:{digest.hexdigest()}")])
    (diff / "a").touch()
    os.truncate(diff / "a", n_bytes)
    deep(root)
    tracemalloc.start()
    assert deep(root) == []
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_path_that_is_listed_often_is_read_once(make_store: MakeStore) -> None:
    digest = f"sha256:{hashlib.sha256(b'data').hexdigest()}"
    root, diff = store_of(make_store, [("a", 4, digest)] * 1_000)
    (diff / "a").write_bytes(b"data")
    (record,) = open_store(root).layers()
    assert check_files(record) == ([], 1, 4)


def test_whiteouts_and_empty_files_are_not_asked_for(make_store: MakeStore) -> None:
    digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    root, _ = store_of(make_store, [(".wh.a", 1, digest), ("b/.wh..wh..opq", 1, digest)])
    assert deep(root) == []


def test_what_cannot_be_hashed_is_found_otherwise(store: Path) -> None:
    toc_path(store, LAYER).write_bytes(b"{")
    assert deep(store) == []
    toc_path(store, LAYER).unlink()
    assert deep(store) == []


def test_files_of_another_user_are_named(tmp_path: Path) -> None:
    with readable_folder() as folder:
        root = whole_store(folder)
        unpack_layers(root, "dir")
        path = root / "overlay" / LAYER / "diff" / FILE
        path.chmod(0)
        with nobody():
            (finding,) = deep(root)
            assert (finding.rule, finding.found) == (
                Rule.FILE_MISSING,
                f"{FILE}: Permission denied",
            )
        (root / "overlay" / LAYER).chmod(0)
        with nobody():
            (finding,) = deep(root)
            assert "run as the owner of the store" in finding.found
        (root / "overlay" / LAYER).chmod(0o700)


def test_an_interrupt_ends_all_threads(store: Path) -> None:
    record = next(iter(open_store(store).layers()))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_files(record, interrupt)
