"""What goes, what stays and what it costs: equal to the slow model, and the sums add up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS, content
from vecache.errors import LayerNotFoundError
from vecache.sharing.removal import what_if

if TYPE_CHECKING:
    from tests.sharing.conftest import Golden
    from vecache.sharing.removal import Removal


def toc_of(*numbers: int) -> bytes:
    files = []
    for number in numbers:
        digest, size = content(number)
        files.append({"type": "reg", "name": f"f{number}", "digest": digest, "size": size})
    return json.dumps({"version": 1, "entries": files}).encode()


def check_bytes(found: Removal, tocs: list[bytes]) -> None:
    """Compare the figures with sets, given which layers and images go."""
    rows = [oracle.grains(toc)[0] for toc in tocs]
    ids = [layer.id for layer in found.contents.layers]
    gone = [row for layer, row in zip(ids, rows, strict=True) if layer in found.layer_ids]
    stays = [row for layer, row in zip(ids, rows, strict=True) if layer not in found.layer_ids]
    remaining = oracle.union([oracle.held(row) for row in stays])
    lost = {d: n for row in gone for d, n in row if d not in remaining}
    assert found.stored_bytes == sum(n for row in gone for _, n in row) == found.layer_bytes.sum()
    assert found.freed_bytes == sum(lost.values())
    here = dict(remaining)
    for place, image in enumerate(found.images):
        needed = oracle.union(
            [oracle.held(r) for layer, r in zip(ids, rows, strict=True) if layer in image.layer_ids]
        )
        alone = sum(n for d, n in needed.items() if d in lost)
        assert found.pull_bytes[place] == alone
        assert found.in_turn_bytes[place] == sum(n for d, n in needed.items() if d not in here)
        here |= needed
    assert found.in_turn_bytes.sum() + found.orphaned_bytes == found.freed_bytes


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[bytes], list[int | None], list[int]]:
    tocs = draw(LAYERS.filter(bool))
    parents = [draw(st.none() | st.integers(0, n - 1)) if n else None for n in range(len(tocs))]
    tops = draw(st.lists(st.integers(0, len(tocs) - 1), min_size=1, max_size=4))
    return tocs, parents, tops


@given(stores(), st.data())
def test_figures_are_the_oracles(
    store: tuple[list[bytes], list[int | None], list[int]], data: st.DataObject
) -> None:
    tocs, parents, tops = store
    contents = contents_of(tocs, parents=parents, tops=tops)
    names = [*(layer.id for layer in contents.layers), *(i.label for i in contents.images)]
    chosen = data.draw(st.sets(st.sampled_from(names)))
    found = what_if(contents, chosen)
    check_bytes(found, tocs)
    gone = set(found.layer_ids)
    going = {image.label for image in found.images}
    assert chosen <= gone | going
    for layer in contents.layers:  # nothing that stays stands on a layer that goes
        assert layer.id in gone or layer.record.parent not in gone
    for image in contents.images:  # no image that stays has lost a layer
        assert image.label in going or gone.isdisjoint(image.layer_ids)
    for image in found.images:  # what a named image had goes, or is kept for a reason
        if image.label in chosen:
            assert set(image.layer_ids) <= gone | {each.layer_id for each in found.kept}


def test_golden_images_are_removed_as_podman_would(golden: Golden) -> None:
    ids = [layer.id for layer in golden.contents.layers]
    app2 = next(image for image in golden.contents.images if "app2" in image.label)
    found = what_if(golden.contents, [app2.label])
    assert found.layer_ids == (ids[4],)
    assert [each.layer_id for each in found.kept] == [ids[2], ids[3]]
    assert "other" in found.kept[0].reason or "dirs" in found.kept[0].reason
    check_bytes(found, golden.tocs)
    table = found.to_arrow().to_pylist()
    assert [row["is_removed"] for row in table] == [False, False, False, False, True]
    assert [row["pull_bytes"] for row in table] == [0, 0, 0, 0, found.pull_bytes[0]]
    everything = what_if(golden.contents, [image.label for image in golden.contents.images])
    assert everything.layer_ids == tuple(ids)
    check_bytes(everything, golden.tocs)


def test_a_layer_takes_along_what_stands_on_it_and_nothing_below(golden: Golden) -> None:
    ids = [layer.id for layer in golden.contents.layers]
    found = what_if(golden.contents, [ids[3][:12]])
    assert found.layer_ids == (ids[3], ids[4])
    assert [image.label.split("/")[-1] for image in found.images] == ["dirs:latest", "app2:latest"]
    assert found.kept == ()


def test_a_layer_of_a_container_keeps_the_image_below() -> None:
    contents = contents_of([toc_of(1), toc_of(2), toc_of(3)], parents=[None, 0, 1], tops=[1])
    found = what_if(contents, ["image0"])
    assert found.layer_ids == ()
    assert [each.reason for each in found.kept] == [
        "layer layer1 stands on it",
        "layer layer2 stands on it",
    ]
    assert found.freed_bytes == found.stored_bytes == 0


def test_copies_count_as_stored_and_not_as_freed() -> None:
    contents = contents_of([toc_of(1, 2), toc_of(2, 2, 3)], tops=[1])
    found = what_if(contents, ["image0"])
    assert found.freed_bytes == content(3)[1]
    assert found.stored_bytes == 2 * content(2)[1] + content(3)[1]
    assert repr(found) == "<Removal: 1 layers and 1 images go, 112 of 262 bytes are nowhere else>"
    assert "localhost/image0:latest" in found._repr_html_()


def test_a_name_that_is_nothing_is_not_found(golden: Golden) -> None:
    with pytest.raises(LayerNotFoundError, match="nor is it a layer's id"):
        what_if(golden.contents, ["nothing-like-it"])
    with pytest.raises(TypeError, match="several names"):
        what_if(golden.contents, "app2")
