"""Exclusive bytes, histograms, curves, ratios and repeated files are those of the oracle."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from vecache.sharing.exclusive import Shares, shares
from vecache.sharing.repeated import repeated_files

if TYPE_CHECKING:
    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import By, Grain


def check(found: Shares, members: list[oracle.Held]) -> None:
    exclusive, by_others, new = oracle.sharing(members)
    assert found.bytes.tolist() == [sum(member.values()) for member in members]
    assert found.exclusive_bytes.tolist() == exclusive
    assert found.new_bytes.tolist() == new
    histograms = [[histogram[k] for k in range(len(members))] for histogram in by_others]
    assert found.by_others.tolist() == histograms
    for row, histogram in zip(found.to_arrow().to_pylist(), histograms, strict=True):
        listed = row["by_others"]
        assert listed == histogram[: len(listed)]
        assert not any(histogram[len(listed) :])


@pytest.mark.parametrize("by", ["layer", "image"])
@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_golden_stores_have_the_shares_that_the_oracle_finds(
    golden: Golden, by: By, grain: Grain
) -> None:
    found = shares(golden.contents, by, grain)
    check(found, golden.members(by, grain))
    assert found.cumulative_bytes[-1] == found.sets.n_bytes.sum()


@given(LAYERS)
def test_random_layers_have_the_shares_that_the_oracle_finds(tocs: list[bytes]) -> None:
    check(shares(contents_of(tocs)), [oracle.held(oracle.grains(toc)[0]) for toc in tocs])


def test_the_ratio_is_all_copies_by_unique_bytes(golden: Golden) -> None:
    for number, found in enumerate(shares(golden.contents).dedup):
        rows = [row for toc in golden.tocs for row in oracle.grains(toc)[number]]
        assert found.logical_bytes == sum(size for _, size in rows)
        assert found.unique_bytes == sum(dict(rows).values())
        assert found.ratio == found.logical_bytes / found.unique_bytes


def test_no_layers_have_no_shares_and_no_repeated_files() -> None:
    assert [each.ratio for each in shares(contents_of([])).dedup] == [1.0, 1.0]
    assert len(repeated_files(contents_of([]))) == 0


def test_repeated_files_are_the_costliest_first(golden: Golden) -> None:
    rows = [
        (digest, size, number)
        for number, toc in enumerate(golden.tocs)
        for digest, size in oracle.grains(toc)[0]
    ]
    copies = Counter(digest for digest, _, _ in rows)
    sizes = {digest: size for digest, size, _ in rows}
    layers = Counter(digest for digest, _ in {(digest, number) for digest, _, number in rows})
    expected = sorted(((copies[digest] - 1) * size, digest) for digest, size in sizes.items())
    found = repeated_files(golden.contents, 10)
    table = found.to_arrow().to_pylist()
    created_by = [each.created_by for each in golden.contents.layer_names.values()]
    assert [row["repeated_bytes"] for row in table] == [n for n, _ in expected[::-1]][:10]
    for row in table:
        having = [n for n, toc in enumerate(golden.tocs) if row["digest"].encode() in toc]
        assert row["created_by"] in (None, *created_by)
        names = [name for name, chain in golden.images.items() if set(chain) & set(having)]
        assert row["images"] == names
        assert row["n_copies"] == copies[row["digest"]]
        assert row["n_layers"] == layers[row["digest"]]
        assert row["size"] == sizes[row["digest"]]
        assert any(f'"{row["path"]}"'.encode() in toc for toc in golden.tocs)


def test_a_file_with_one_copy_is_not_repeated() -> None:
    toc = b'{"version":1,"entries":[{"type":"reg","name":"a","size":3,"digest":"sha256:%s"}]}'
    assert len(repeated_files(contents_of([toc % (b"ab" * 32)]))) == 0
    found = repeated_files(contents_of([toc % (b"ab" * 32)] * 2))
    assert found.path == ("a",)
    assert repr(found) == "<RepeatedFiles: 1 files, 3 bytes>"
    assert "<td>a</td>" in found._repr_html_()


def test_repr_and_html_name_the_members(golden: Golden) -> None:
    found = shares(golden.contents)
    assert "5 layers by file" in repr(found)
    assert golden.contents.layers[0].id in found._repr_html_()
