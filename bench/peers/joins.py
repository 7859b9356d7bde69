"""The peers that hold all digests in a table or a hash map of their own.

The table has a row a tag: the 32 bytes, and the tag's number. A join gives every match; the lowest
number is the first in layer order. That minimum is taken in numpy, which is faster than grouping.
Each join is written the way round, and on the type, that is fastest in that peer.
"""

from __future__ import annotations

from importlib import import_module
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from bench.peers.case import Case
    from vecache.arrays import I64, U8, U64

__all__ = ["Dict", "DuckDB", "Pandas", "Polars", "PyArrow"]


class _Join:
    """What the joins share: the table of tags, queries as a table, and the minimum."""

    def __init__(self, case: Case, threads: int) -> None:
        self.tags = _table(case.digests(), "tag")

    def prepare(self, raw: U8) -> Any:
        return _table(raw, "query")

    def positions(self, answers: I64) -> I64:
        return answers


class DuckDB(_Join):
    """An in-memory table of blobs."""

    def __init__(self, case: Case, threads: int) -> None:
        import duckdb  # noqa: PLC0415 - each peer's process imports its own package

        super().__init__(case, threads)
        self.connection = duckdb.connect(config={"threads": threads})
        self.n_sets = 0

    def prepare(self, raw: U8) -> tuple[str, int]:
        name = f"queries{self.n_sets}"
        self.n_sets += 1
        self._create(name, super().prepare(raw))
        return name, len(raw)

    def build(self) -> None:
        self._create("tags", self.tags)

    def _create(self, name: str, table: Any) -> None:
        self.connection.register("arrow_table", table)
        self.connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow_table")
        self.connection.unregister("arrow_table")

    def ask(self, prepared: tuple[str, int]) -> I64:
        name, n_queries = prepared
        found = self.connection.sql(f"SELECT query, tag FROM {name} JOIN tags USING (digest)")
        return _lowest(n_queries, found.to_arrow_table())


class Polars(_Join):
    """A data frame of binary values. `run.py` sets POLARS_MAX_THREADS."""

    def __init__(self, case: Case, threads: int) -> None:
        import polars as pl  # noqa: PLC0415

        super().__init__(case, threads)
        self.polars = pl

    def prepare(self, raw: U8) -> Any:
        return self.polars.from_arrow(super().prepare(raw))

    def build(self) -> None:
        self.frame: Any = self.polars.from_arrow(self.tags)

    def ask(self, prepared: Any) -> I64:
        return _lowest(len(prepared), self.frame.join(prepared, on="digest", how="inner"))


class PyArrow(_Join):
    """Acero's hash join, which hashes the queries and goes through all tags: nothing to build."""

    def build(self) -> None:
        """Nothing."""

    def ask(self, prepared: Any) -> I64:
        return _lowest(len(prepared), self.tags.join(prepared, "digest", join_type="inner"))


class Pandas:
    """`Index.get_indexer` on the first 8 bytes as numbers, and then all 32 compared.

    The index needs distinct numbers: the first tag of each is kept, and a digest that shares its 8
    bytes with another would be an error here.
    """

    def __init__(self, case: Case, threads: int) -> None:
        self.pandas, self.raw = import_module("pandas"), case.digests()  # it has no types

    def prepare(self, raw: U8) -> U8:
        return raw

    def build(self) -> None:
        prefix, self.first = np.unique(_prefix(self.raw), return_index=True)
        self.index = self.pandas.Index(prefix)
        self.index.get_indexer(prefix[:1])  # builds the hash table

    def ask(self, prepared: U8) -> I64:
        row = self.index.get_indexer(_prefix(prepared))
        query = np.flatnonzero(row >= 0)
        tag = self.first[row[query]]
        is_equal = (_words(self.raw)[tag] == _words(prepared)[query]).all(1)
        if not is_equal.all():
            raise ValueError("found digests that begin with the same 8 bytes, wanted none")
        position = np.full(len(prepared), -1, np.int64)
        position[query] = tag
        return position

    def positions(self, answers: I64) -> I64:
        return answers


class Dict:
    """A dict of 32 bytes to the first tag; the queries are `bytes` already."""

    def __init__(self, case: Case, threads: int) -> None:
        self.raw = case.digests()

    def prepare(self, raw: U8) -> list[bytes]:
        queries: list[bytes] = raw.view("V32")[:, 0].tolist()
        return queries

    def build(self) -> None:
        keys = self.raw[::-1].copy().view("V32")[:, 0].tolist()
        self.tags = dict(zip(keys, range(len(keys) - 1, -1, -1), strict=True))  # the first stays

    def ask(self, prepared: list[bytes]) -> I64:
        return np.fromiter(map(self.tags.get, prepared, repeat(-1)), np.int64, len(prepared))

    def positions(self, answers: I64) -> I64:
        return answers


def _table(raw: U8, number: str) -> Any:
    digest = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(raw), [None, pa.py_buffer(raw)]
    )
    return pa.table({"digest": digest, number: np.arange(len(raw))})


def _lowest(n_queries: int, found: Any) -> I64:
    """(n_queries,) int64: the lowest tag of each query, -1 where it has none."""
    none = np.iinfo(np.int64).max
    position = np.full(n_queries, none)
    np.minimum.at(position, found["query"].to_numpy(), found["tag"].to_numpy())
    position[position == none] = -1
    return position


def _prefix(raw: U8) -> U64:
    return np.ascontiguousarray(_words(raw)[:, 0])


def _words(raw: U8) -> U64:
    words: U64 = raw.view(np.uint64)
    return words
