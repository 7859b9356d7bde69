"""The layers that cover an image: each step is the one that brute force finds, and bounds hold."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from hypothesis import given

from tests.golden import GOLDEN_SMALL
from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from vecache.image.open import open_image
from vecache.image.toc import read_toc
from vecache.sharing.contents import GRAINS
from vecache.sharing.gather import gather

if TYPE_CHECKING:
    from tests.sharing.conftest import Golden
    from vecache.sharing.gather import Cover


def steps(found: Cover) -> list[tuple[int, int]]:
    return list(zip(found.layer.tolist(), found.added_bytes.tolist(), strict=True))


@given(LAYERS, LAYERS)
def test_each_step_adds_most_bytes(image: list[bytes], local: list[bytes]) -> None:
    for number, grain in enumerate(GRAINS):
        target = oracle.union([oracle.held(oracle.grains(toc)[number]) for toc in image])
        layers = [oracle.held(oracle.grains(toc)[number]) for toc in local]
        found = gather(contents_of(image), contents_of(local), grain)
        expected, uncovered = oracle.greedy(target, layers)
        assert steps(found) == expected
        assert found.uncovered_bytes == uncovered
        assert found.total_bytes == sum(target.values())
        least = oracle.fewest(target, layers)
        assert found.n_at_least <= least <= len(found)
        if expected:
            assert len(found) <= least * (1 + log(expected[0][1]))


def test_golden_images_are_covered_by_golden_layers(golden: Golden) -> None:
    image = open_image(f"oci:{GOLDEN_SMALL / 'oci'}:app2")
    found = gather(image, golden.contents, "chunk")
    layers = golden.members("layer", "chunk")
    wanted = [oracle.grains(read_toc(layer.reader))[1] for layer in image.layers if layer.reader]
    target = oracle.union([oracle.held(rows) for rows in wanted])
    assert (steps(found), found.uncovered_bytes) == oracle.greedy(target, layers)
    table = found.to_arrow().to_pylist()
    assert [row["layer_id"] for row in table] == [found.layer_ids[row["layer"]] for row in table]
    assert table[-1]["left_bytes"] == found.uncovered_bytes


def test_without_layers_there_are_no_steps() -> None:
    found = gather(contents_of([]), contents_of([]))
    assert (len(found), found.n_at_least, found.total_bytes) == (0, 0, 0)
    assert repr(found) == "<Cover: 0 of 0 layers hold 0 of 0 bytes by file>"
    assert "step" in found._repr_html_()
