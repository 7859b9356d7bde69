"""Shared files, chunks and bytes are those that the oracle finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from vecache.sharing.exclusive import shares
from vecache.sharing.gather import gather
from vecache.sharing.intersections import Intersections
from vecache.sharing.matrix import overlap
from vecache.sharing.pairs import PairSums
from vecache.sharing.repeated import repeated_files

if TYPE_CHECKING:
    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import By, Grain
both_ways = pytest.mark.parametrize("by", ["layer", "image"])
both_grains = pytest.mark.parametrize("grain", ["file", "chunk"])


@both_ways
@both_grains
def test_golden_stores_share_what_the_oracle_finds(golden: Golden, by: By, grain: Grain) -> None:
    found = overlap(golden.contents, by, grain)
    files, _ = oracle.matrices(golden.members(by, "file"))
    chunks, _ = oracle.matrices(golden.members(by, "chunk"))
    _, n_bytes = oracle.matrices(golden.members(by, grain))
    assert found.files.tolist() == files
    assert found.chunks.tolist() == chunks
    assert found.bytes.tolist() == n_bytes
    if by == "image":
        assert found.labels == tuple(golden.images)


@both_grains
@given(tocs=LAYERS)
def test_random_layers_share_what_the_oracle_finds(tocs: list[bytes], grain: Grain) -> None:
    found = overlap(contents_of(tocs), grain=grain)
    number = ("file", "chunk").index(grain)
    counts, n_bytes = oracle.matrices([oracle.held(oracle.grains(toc)[number]) for toc in tocs])
    assert (found.files if grain == "file" else found.chunks).tolist() == counts
    assert found.bytes.tolist() == n_bytes


@given(tocs=LAYERS, data=st.data())
def test_random_images_are_unions_of_layers(tocs: list[bytes], data: st.DataObject) -> None:
    parents = [
        data.draw(st.none() | st.integers(0, number - 1)) if number else None
        for number in range(len(tocs))
    ]
    tops = data.draw(st.lists(st.integers(0, len(tocs) - 1), max_size=4)) if tocs else []
    contents = contents_of(tocs, parents=parents, tops=tops)
    layers = [oracle.held(oracle.grains(toc)[0]) for toc in tocs]
    chains = [[int(name[5:]) for name in image.layer_ids] for image in contents.images]
    members = [oracle.union([layers[number] for number in chain]) for chain in chains]
    assert overlap(contents, by="image").bytes.tolist() == oracle.matrices(members)[1]


@given(
    st.lists(st.sets(st.integers(0, 39), min_size=1, max_size=40), max_size=30),
    st.integers(1, 1000),
    st.sampled_from([0, 7, 30]),
)
def test_pairs_and_products_give_equal_sums(
    members: list[set[int]], seed: int, count_bits: int
) -> None:
    """Of 40 members small sets are expanded into pairs, and large ones multiplied.

    The sums of some have more bits together than one number.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 2**40, len(members))
    n_contents = rng.integers(1, 2**count_bits + 1, len(members))
    sets = Intersections(
        40,
        np.cumsum([0, *map(len, members)]),
        np.array([member for each in members for member in sorted(each)], np.int64),
        n_contents,
        sizes,
    )
    sums = PairSums(40, int(n_contents.sum()), int(sizes.sum()))
    sums.add(sets)
    counts, n_bytes = sums.matrices()
    member = np.array([[member in each for member in range(40)] for each in members]).reshape(
        -1, 40
    )
    as_numbers = member.astype(np.int64)
    assert (counts == as_numbers.T @ (as_numbers * n_contents[:, None])).all()
    assert (n_bytes == as_numbers.T @ (as_numbers * sizes[:, None])).all()


def test_containment_is_of_one_member_and_jaccard_of_both(golden: Golden) -> None:
    found = overlap(golden.contents)
    contained, alike = found.containment("files"), found.jaccard("files")
    for i, one in enumerate(golden.members("layer", "file")):
        for j, other in enumerate(golden.members("layer", "file")):
            n_shared = len(set(one) & set(other))
            assert contained[i, j] == (n_shared / len(one) if one else 0)
            assert alike[i, j] == (n_shared / len(set(one) | set(other)) if one or other else 0)


def test_the_table_has_each_sharing_pair_once(golden: Golden) -> None:
    found = overlap(golden.contents, grain="chunk")
    rows = found.to_arrow().to_pylist()
    pairs = [(found.labels.index(row["a"]), found.labels.index(row["b"])) for row in rows]
    assert len(set(pairs)) == len(pairs)
    assert all(a <= b for a, b in pairs)
    assert {(i, i) for i in range(len(found))} <= set(pairs)
    assert [row["bytes"] for row in rows] == [found.bytes[pair] for pair in pairs]
    is_there = np.zeros_like(found.bytes, np.bool_)
    is_there[tuple(np.transpose(pairs))] = True
    assert not (found.bytes[~(is_there | is_there.T)]).any()


def test_unknown_options_are_refused(golden: Golden) -> None:
    with pytest.raises(ValueError, match="tag"):
        overlap(golden.contents, by="tag")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="byte"):
        overlap(golden.contents, grain="byte")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wanted 'bytes', 'files' or 'chunks'"):
        overlap(golden.contents).jaccard("tags")  # type: ignore[arg-type]


def test_bytes_of_many_images_beyond_int64_are_summed_exactly() -> None:
    toc = b'{"version":1,"entries":[{"type":"reg","name":"a","size":%d,"digest":"sha256:%s"}]}'
    contents = contents_of([toc % (2**53, b"ab" * 32)], tops=[0] * 1024)
    assert repr(overlap(contents, "image")).endswith(f"{2**63:,} bytes>")


def test_results_are_exported_through_the_arrow_c_stream(golden: Golden) -> None:
    contents = golden.contents
    for result in (
        overlap(contents),
        shares(contents),
        repeated_files(contents),
        gather(contents, contents),
    ):
        assert pa.table(result) == result.to_arrow()


def test_no_layers_are_an_empty_matrix() -> None:
    found = overlap(contents_of([]))
    assert found.bytes.shape == (0, 0)
    assert found.to_arrow().num_rows == 0
    assert repr(found) == "<Overlap: 0 layers by file, 0 pairs share, 0 bytes>"


def test_repr_and_html_name_the_members(golden: Golden) -> None:
    found = overlap(golden.contents, by="image")
    assert "5 images by file" in repr(found)
    assert next(iter(golden.images)) in found._repr_html_()
    by_layer = overlap(golden.contents)
    first = by_layer.labels[0]
    assert f'<th title="{first}">{first[:12]}</th>' in by_layer._repr_html_()
    assert f'<td title="{first}">{first[:12]}</td>' in by_layer._repr_html_()
