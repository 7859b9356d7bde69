"""Podman's cache of uncompressed digests is read where it can be, and is never an error."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.store import blob_info as blob_info_module
from vecache.store.blob_info import BlobInfo, blob_info_path, read_blob_info
from vecache.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.store.conftest import MakeStore

BLOB, TAR, TOC, OTHER = ("sha256:" + digit * 64 for digit in "abcd")
TABLE = "CREATE TABLE {}({} TEXT PRIMARY KEY NOT NULL, uncompressedDigest TEXT NOT NULL)"
SCHEMA = (  # upstream: ensureDBHasCurrentSchema
    TABLE.format("DigestUncompressedPairs", "anyDigest"),
    TABLE.format("DigestTOCUncompressedPairs", "tocDigest"),
)
ROWS = (
    f"INSERT INTO DigestUncompressedPairs VALUES ('{BLOB}', '{TAR}')",
    f"INSERT INTO DigestTOCUncompressedPairs VALUES ('{TOC}', '{TAR}')",
)


def write(path: Path, statements: Iterable[str] = (*SCHEMA, *ROWS)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "odd name?#%41" / "cache.sqlite")


def test_blobs_and_tocs_lead_to_uncompressed_digests(file: Path) -> None:
    info = read_blob_info(file)
    assert info.uncompressed(BLOB) == TAR
    assert info.uncompressed(TAR) == TAR, "known to be uncompressed"
    assert info.uncompressed(OTHER) is None
    assert info.uncompressed(TOC) is None
    assert info.uncompressed_for_toc(TOC) == TAR
    assert info.uncompressed_for_toc(BLOB) is None
    assert info.uncompressed_for_toc(TAR) is None


def test_a_row_comes_before_the_guess_that_a_blob_is_uncompressed(tmp_path: Path) -> None:
    rows = [
        f"INSERT INTO DigestUncompressedPairs VALUES ('{BLOB}', '{TAR}')",
        f"INSERT INTO DigestUncompressedPairs VALUES ('{TAR}', '{OTHER}')",
        f"INSERT INTO DigestUncompressedPairs VALUES ('{OTHER}', 'sha256:no')",
        f"INSERT INTO DigestUncompressedPairs VALUES ('{TOC}', x'ff')",
    ]
    info = read_blob_info(write(tmp_path / "file", [*SCHEMA, *rows]))
    assert info.uncompressed(TAR) == OTHER
    assert info.uncompressed(OTHER) is None, "its row holds no digest"
    assert info.uncompressed(TOC) is None


def test_reading_changes_nothing_beside_the_file(file: Path) -> None:
    before = (file.read_bytes(), os.listdir(file.parent))
    read_blob_info(file)
    assert (file.read_bytes(), os.listdir(file.parent)) == before


def test_a_missing_file_is_empty_and_stays_missing(tmp_path: Path) -> None:
    assert read_blob_info(tmp_path / "none") == read_blob_info(None) == BlobInfo()
    assert not (tmp_path / "none").exists()


def test_what_is_not_such_a_database_is_empty(tmp_path: Path, file: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello" * 1000)
    (tmp_path / "cut").write_bytes(file.read_bytes()[:6000])
    write(tmp_path / "one_table", SCHEMA[:1])
    write(tmp_path / "columns", ["CREATE TABLE DigestUncompressedPairs(a, b)", SCHEMA[1]])
    write(tmp_path / "wal", ["PRAGMA journal_mode=WAL", *SCHEMA, *ROWS])
    for name in ("", "pipe", "empty", "text", "cut", "one_table", "columns", "wal", "text/below"):
        assert read_blob_info(tmp_path / name) == BlobInfo(), name
    assert not list(tmp_path.glob("wal-*"))


def test_a_file_above_the_limit_is_empty(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_info_module, "_MAX_BYTES", 1000)
    assert read_blob_info(file) == BlobInfo()


def test_a_writer_that_holds_the_lock_is_not_waited_for(file: Path) -> None:
    writer = sqlite3.connect(file)
    writer.execute("BEGIN EXCLUSIVE")
    start = time.monotonic()
    assert read_blob_info(file) == BlobInfo()
    assert time.monotonic() - start < 2
    writer.rollback()
    writer.close()
    assert read_blob_info(file).uncompressed(BLOB) == TAR


def test_a_journal_that_a_crash_left_is_not_rolled_back(file: Path) -> None:
    writer = sqlite3.connect(file)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("PRAGMA cache_spill = 1")
    for i in range(2000):
        writer.execute(f"INSERT INTO DigestUncompressedPairs VALUES ('{i}', '{TAR}')")
    copy = file.parent / "crashed"
    journal = Path(f"{file}-journal")
    assert journal.exists()
    copy.write_bytes(file.read_bytes())
    Path(f"{copy}-journal").write_bytes(journal.read_bytes())
    writer.rollback()
    writer.close()
    before = copy.read_bytes()
    assert read_blob_info(copy) == BlobInfo()
    assert copy.read_bytes() == before


def test_a_view_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_info_module, "_READ_SECONDS", 0.2)
    view = (
        "CREATE VIEW DigestUncompressedPairs(anyDigest, uncompressedDigest) AS "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n"
    )
    start = time.monotonic()
    assert read_blob_info(write(tmp_path / "file", [view, SCHEMA[1]])) == BlobInfo()
    assert time.monotonic() - start < 2


@pytest.fixture(scope="module")
def database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (*SCHEMA, *ROWS):
            connection.execute(statement)
        connection.commit()
        return connection.serialize()


@given(offset=st.integers(0, 1 << 20), data=st.binary(min_size=1, max_size=40))
def test_a_damaged_file_is_never_an_error(
    offset: int, data: bytes, database: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file"
    whole = bytearray(database)
    offset %= len(whole)
    whole[offset : offset + len(data)] = data
    path.write_bytes(whole)
    assert read_blob_info(path).uncompressed(OTHER) in (None, OTHER, TAR)


def test_the_file_is_where_podman_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_info_module, "_MACHINE_FOLDER", "/var/lib/containers/cache")
    name = "blob-info-cache-v1.sqlite"
    everything = {"XDG_DATA_HOME": "/data", "HOME": "/home/ann"}
    assert blob_info_path(everything, 0) == Path("/var/lib/containers/cache", name)
    assert blob_info_path(everything, 1000) == Path("/data/containers/cache", name)
    home = {"HOME": "/home/ann"}
    assert blob_info_path(home, 1000) == Path("/home/ann/.local/share/containers/cache", name)
    assert blob_info_path({}, 1000) is None


def test_only_the_machines_own_store_has_blob_info(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = make_store([]), make_store([], name="other")
    Path(os.environ["CONTAINERS_STORAGE_CONF"]).write_text(f"[storage]\ngraphroot = '{root}'\n")
    monkeypatch.setenv("_CONTAINERS_ROOTLESS_UID", "1000")
    path = blob_info_path(os.environ, 1000)
    assert path is not None
    assert open_store().blob_info() == BlobInfo()
    write(path)
    assert open_store().blob_info().uncompressed(BLOB) == TAR
    assert open_store(other).blob_info() == BlobInfo()
