"""Protects the answers: a batch over all layers finds what one look-up at a time would find."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import (
    STORES,
    debian_cache,
    debian_layers,
    golden_cache,
    layer_ids,
    needs_debian,
)
from tests.oracle import find, find_all, locate, pack_rows, read_cache, read_name
from tests.strategies import as_text, cache_files, queries
from vecache import threads
from vecache.cache.reader import CacheFile
from vecache.digest import Digests, parse_digests
from vecache.index import lookup
from vecache.index import run as run_module
from vecache.index import tags as tags_module
from vecache.index.lookup import LayerIndex
from vecache.index.result import LookupResult, LookupState
from vecache.index.run import build_run, fan_out

if TYPE_CHECKING:
    from collections.abc import Sequence


def look_up(index: LayerIndex, texts: Sequence[str]) -> LookupResult:
    digests = parse_digests(texts)
    return LookupResult(digests, *index.find_first(digests), index.tags, [])


def check_against_oracle(
    datas: Sequence[bytes], packed: Sequence[bytes], n_appended: int = 0
) -> None:
    index = LayerIndex.build([CacheFile.parse(data) for data in datas[: len(datas) - n_appended]])
    for data in datas[len(datas) - n_appended :]:
        index = index.append(CacheFile.parse(data))
    slow = [read_cache(data) for data in datas]
    texts = [as_text(query) for query in packed]
    hits = look_up(index, texts)
    paths = hits.paths().to_pylist()
    everything = index.find_all(parse_digests(texts))
    matches = list(zip(*(column.tolist() for column in everything), strict=True))
    wanted_matches = []
    for row, query in enumerate(packed):
        layer, tag = find(slow, query)
        assert (hits.layer[row], hits.tag[row]) == (layer, tag), texts[row]
        location = locate(slow[layer], tag) if layer >= 0 else None
        found = (paths[row], hits.offset[row], hits.length[row])
        if location is None:
            assert found == (None, -1, -1)
            wanted = LookupState.CORRUPT if layer >= 0 else LookupState.ABSENT
            assert hits.state[row] == wanted
        else:
            assert found == (read_name(slow[layer].fnames, location[0]), *location[1:])
            assert hits.state[row] == LookupState.FOUND
        wanted_matches += [(row, *match) for match in find_all(slow, query)]
    assert matches == wanted_matches


@given(st.lists(cache_files(), max_size=6), queries(), st.integers(0, 3))
def test_a_look_up_in_any_layers_equals_the_oracle(
    datas: list[bytes], packed: list[bytes], n_appended: int
) -> None:
    check_against_oracle(datas, packed, min(n_appended, len(datas)))


@given(st.lists(cache_files(sound=True), min_size=1, max_size=6), queries())
def test_a_look_up_in_sound_layers_equals_the_oracle(
    datas: list[bytes], packed: list[bytes]
) -> None:
    assert all(CacheFile.parse(data).is_sound() for data in datas)
    check_against_oracle(datas, packed)


@pytest.mark.parametrize("store", STORES)
def test_a_look_up_in_golden_stores_equals_the_oracle(store: str) -> None:
    datas = [golden_cache(store, layer) for layer in layer_ids(store)]
    packed = {tag[:39] for data in datas for tag in read_cache(data).tags}
    check_against_oracle(datas, [*sorted(packed)[::3], b"sha256:" + bytes(32)])


@needs_debian
def test_a_look_up_in_debian_layers_equals_a_dict() -> None:
    datas = [debian_cache(layer) for layer in debian_layers()]
    first: dict[bytes, tuple[int, int]] = {}
    for layer, data in enumerate(datas):
        for row, tag in enumerate(read_cache(data).tags):
            first.setdefault(tag[7:39], (layer, row))
    raw = np.frombuffer(b"".join(first), np.uint8).reshape(-1, 32)
    index = LayerIndex.build([CacheFile.parse(data) for data in datas])
    layer_no, tag_row = index.find_first(Digests.from_raw(raw))
    assert list(zip(layer_no.tolist(), tag_row.tolist(), strict=True)) == list(first.values())


def stuffed(n_tags: int, n_layers: int) -> list[bytes]:
    """Layers whose digests all share their first 8 bytes: the worst case for the keys."""
    digests = [b"sha256:" + bytes(8) + row.to_bytes(24, "big") for row in range(n_tags)]
    return [
        pack_rows([(digest, b"x", 0, row) for row, digest in enumerate(digests[i::n_layers])])
        for i in range(n_layers)
    ]


def test_digests_that_share_one_prefix_are_found() -> None:
    datas = stuffed(600, 3)
    packed = [b"sha256:" + bytes(8) + row.to_bytes(24, "big") for row in range(0, 700, 7)]
    check_against_oracle(datas, packed)
    check_against_oracle(datas, packed, n_appended=2)


@given(st.lists(cache_files(sound=True), max_size=6), st.integers(0, 6), st.integers(0, 3))
def test_appended_runs_equal_a_run_that_was_built_at_once(
    datas: list[bytes], n_built: int, tags_per_block: int
) -> None:
    files = [CacheFile.parse(data) for data in datas]
    before, run_module._TAGS_PER_BLOCK = run_module._TAGS_PER_BLOCK, tags_per_block + 1
    try:
        built = LayerIndex.build(files)
        appended = LayerIndex.build(files[:n_built])
        for file in files[n_built:]:
            appended = appended.append(file)
    finally:
        run_module._TAGS_PER_BLOCK = before
    run = built.runs[0] if built.runs else build_run([], np.arange(0))
    assert (run.prefixes[1:] >= run.prefixes[:-1]).all()
    assert len(run) == sum(file.n_tags for file in files)
    assert run_rows(built) == run_rows(appended)
    starts = run.bucket_start
    shift = 65 - (len(starts) - 1).bit_length()
    wanted = [sum(int(prefix) >> shift < b for prefix in run.prefixes) for b in range(len(starts))]
    assert starts.tolist() == wanted


def run_rows(index: LayerIndex) -> list[tuple[int, ...]]:
    """Prefix, layer, tag row and the rest of the digest of all tags, in order."""
    return sorted(
        (
            int(prefix),
            int(run.layer_of[int(row[0]) >> 32]),
            int(row[0]) & 2**32 - 1,
            *row[1:].tolist(),
        )
        for run in index.runs
        for prefix, row in zip(run.prefixes, run.rows, strict=True)
    )


def test_many_appended_layers_share_few_runs() -> None:
    datas = stuffed(300, 60)
    files = [CacheFile.parse(data) for data in datas]
    index = LayerIndex.build(files[:2])
    for file in files[2:]:
        before = [(run.prefixes.tolist(), run.layer_of.tolist()) for run in index.runs]
        longer = index.append(file)
        assert before == [(run.prefixes.tolist(), run.layer_of.tolist()) for run in index.runs]
        index = longer
        assert len(index.runs) <= 9  # each is more than twice as long as the next
    assert sum(len(run) for run in index.runs) == 300
    digests = parse_digests(
        [as_text(digest) for data in datas for digest in read_cache(data).digests()]
    )
    at_once = LayerIndex.build(files).find_first(digests)
    for found, wanted in zip(index.find_first(digests), at_once, strict=True):
        assert found.tolist() == wanted.tolist()


def test_a_layer_that_is_gone_answers_nothing_and_hides_nothing() -> None:
    rng = np.random.default_rng(4)
    datas = stuffed(40, 4) + stuffed(40, 4)[::-1]
    files = [CacheFile.parse(data) for data in datas]
    digests = parse_digests(
        [as_text(digest) for data in datas[:4] for digest in read_cache(data).digests()]
    )
    for _ in range(20):
        kept = np.flatnonzero(rng.integers(0, 2, len(files)))
        layer_of = np.full(len(files), -1)
        layer_of[kept] = np.arange(len(kept))
        run = replace(build_run(files, np.arange(len(files))), layer_of=layer_of)
        index = LayerIndex([files[i] for i in kept], [run], np.ones(len(kept), np.bool_))
        wanted = LayerIndex.build([files[i] for i in kept])
        for found, expected in (
            (index.find_first(digests), wanted.find_first(digests)),
            (index.find_all(digests), wanted.find_all(digests)),
        ):
            assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@pytest.mark.parametrize("n_sha512", [0, 5])
def test_the_number_of_threads_changes_no_answer(
    n_sha512: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "_QUERIES_PER_BLOCK", 7)
    monkeypatch.setattr(tags_module, "_ROWS_PER_BLOCK", 5)
    monkeypatch.setattr(threads, "thread_count", lambda threads: threads or 2)
    files = [CacheFile.parse(data) for data in stuffed(200, 3)]
    raw = np.array([(bytes(8) + row.to_bytes(24, "big")) for row in range(0, 400, 2)], "V32")
    texts = Digests.from_raw(raw.view(np.uint8).reshape(-1, 32)).to_text().to_pylist()
    digests = parse_digests([*texts, *["sha512:" + "0" * 128] * n_sha512, *texts])
    answers = []
    for n_threads in (1, 2, 8):
        index = LayerIndex.build(files)
        hits = LookupResult(
            digests, *index.find_first(digests, n_threads), index.tags, [], n_threads
        )
        columns = (hits.layer, hits.tag, hits.offset, hits.length)
        answers.append([column.tolist() for column in columns])
    assert answers[0] == answers[1] == answers[2]
    assert sum(layer >= 0 for layer in answers[0][0]) == 200


def test_an_index_takes_at_most_48_bytes_a_tag() -> None:
    rng = np.random.default_rng(1)
    for n_tags in (1, 2, 3, 1000, 65_535, 65_536, 100_000):
        prefixes = np.sort(rng.integers(0, 2**64, n_tags, np.uint64))
        # the table's closing entry, which shows below some tens of tags
        assert 40 * n_tags + fan_out(prefixes).nbytes <= 48 * n_tags + 4


def test_no_layers_or_no_queries_give_empty_answers() -> None:
    assert look_up(LayerIndex.build([]), [as_text(b"sha256:" + bytes(32))]).state.tolist() == [0]
    assert len(look_up(LayerIndex.build([CacheFile.parse(stuffed(5, 1)[0])]), [])) == 0


def test_a_text_that_is_not_a_digest_is_marked_invalid() -> None:
    hits = look_up(LayerIndex.build([]), ["", "sha256:zz", "md5:00", "nonsense"])
    assert hits.state.tolist() == [
        LookupState.ABSENT,
        LookupState.INVALID,
        LookupState.INVALID,
        LookupState.INVALID,
    ]
