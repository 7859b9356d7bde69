"""What goes, what remains and what it costs equals the slow model, and the sums add up."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS, content
from vecache.errors import LayerNotFoundError
from vecache.sharing import removal
from vecache.sharing.removal import what_if

if TYPE_CHECKING:
    from types import FrameType

    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import Contents
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
    others = [row for layer, row in zip(ids, rows, strict=True) if layer not in found.layer_ids]
    remaining = oracle.union([oracle.held(row) for row in others])
    lost = {d: n for row in gone for d, n in row if d not in remaining}
    assert found.stored_bytes == sum(n for row in gone for _, n in row) == found.layer_bytes.sum()
    assert found.freed_bytes == sum(lost.values())
    here = dict(remaining)
    for number, image in enumerate(found.images):
        needed = oracle.union(
            [oracle.held(r) for layer, r in zip(ids, rows, strict=True) if layer in image.layer_ids]
        )
        alone = sum(n for d, n in needed.items() if d in lost)
        assert found.pull_bytes[number] == alone
        assert found.in_turn_bytes[number] == sum(n for d, n in needed.items() if d not in here)
        here |= needed
    assert found.in_turn_bytes.sum() + found.orphaned_bytes == found.freed_bytes


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[bytes], list[int | None], list[int]]:
    tocs = draw(LAYERS.filter(bool))
    parents = [draw(st.none() | st.integers(0, n - 1)) if n else None for n in range(len(tocs))]
    tops = draw(st.lists(st.integers(0, len(tocs) - 1), min_size=1, max_size=4))
    return tocs, parents, tops


@given(stores(), st.data())
def test_figures_equal_the_slow_model(
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
    for layer in contents.layers:  # no layer remains above one that goes
        assert layer.id in gone or layer.record.parent not in gone
    for image in contents.images:  # no image that remains has lost a layer
        assert image.label in going or gone.isdisjoint(image.layer_ids)
    for image in found.images:  # each layer of a named image goes, or remains for a reason
        if image.label in chosen:
            assert set(image.layer_ids) <= gone | found.remaining.keys()


def test_golden_images_are_removed_as_podman_would(golden: Golden) -> None:
    ids = [layer.id for layer in golden.contents.layers]
    app2 = next(image for image in golden.contents.images if "app2" in image.label)
    found = what_if(golden.contents, [app2.label])
    assert found.layer_ids == (ids[4],)
    assert list(found.remaining) == [ids[2], ids[3]]
    assert re.search("image .*(other|dirs).* needs it", found.remaining[ids[2]])
    check_bytes(found, golden.tocs)
    table = found.to_arrow().to_pylist()
    assert [row["is_removed"] for row in table] == [False, False, False, False, True]
    assert [row["pull_bytes"] for row in table] == [0, 0, 0, 0, found.pull_bytes[0]]
    everything = what_if(golden.contents, [image.label for image in golden.contents.images])
    assert everything.layer_ids == tuple(ids)
    check_bytes(everything, golden.tocs)


def test_a_layer_goes_with_those_above_it_and_none_below(golden: Golden) -> None:
    ids = [layer.id for layer in golden.contents.layers]
    found = what_if(golden.contents, [ids[3][:12]])
    assert found.layer_ids == (ids[3], ids[4])
    assert [image.label.split("/")[-1] for image in found.images] == ["dirs:latest", "app2:latest"]
    assert found.remaining == {}


def test_the_layer_of_a_container_retains_the_layers_below() -> None:
    contents = contents_of([toc_of(1), toc_of(2), toc_of(3)], parents=[None, 0, 1], tops=[1])
    found = what_if(contents, ["image0"])
    assert found.layer_ids == ()
    assert found.remaining == {
        "layer0": "layer layer1 is above it",
        "layer1": "layer layer2 is above it",
    }
    assert found.freed_bytes == found.stored_bytes == 0


def test_copies_count_as_stored_and_not_as_freed() -> None:
    contents = contents_of([toc_of(1, 2), toc_of(2, 2, 3)], tops=[1])
    found = what_if(contents, ["image0"])
    assert found.freed_bytes == content(3)[1]
    assert found.stored_bytes == 2 * content(2)[1] + content(3)[1]
    assert repr(found) == "<Removal: 1 layer, 1 image, 262 bytes stored, 112 bytes freed>"
    assert "localhost/image0:latest" in found._repr_html_()


def test_an_unknown_name_is_not_found(golden: Golden) -> None:
    with pytest.raises(LayerNotFoundError, match=r"layers? has this id, digest or name"):
        what_if(golden.contents, ["nothing-like-it"])


@pytest.mark.parametrize("names", ["app2", None, 3, [3], ["app2", None], [b"app2"]])
def test_what_is_not_a_list_of_names_is_refused(names: Any) -> None:
    with pytest.raises(TypeError, match=r"remove: found .*, wanted (a list of names|names or ids)"):
        what_if(contents_of([]), names)


def n_steps(contents: Contents, remove: list[str]) -> int:
    """How many lines of `removal.py` run, each turn of a loop counted."""
    n_lines = 0

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal n_lines
        n_lines += event == "line"
        return count if frame.f_code.co_filename == removal.__file__ else None

    tracer = sys.gettrace()
    sys.settrace(count)
    try:
        what_if(contents, remove)
    finally:
        sys.settrace(tracer)
    return n_lines


def test_the_work_is_linear_in_the_number_of_layers() -> None:
    """Of a tall image, once with all layers to go and once with all to remain."""
    for remove, tops in (("image0", [-1]), ("image0", [-1, -1])):
        small, large = (
            n_steps(
                contents_of(
                    [toc_of(1)] * n, parents=[None, *range(n - 1)], tops=[n + top for top in tops]
                ),
                [remove],
            )
            for n in (100, 400)
        )
        assert small > 100
        assert large < 4.5 * small


def test_a_layer_above_itself_is_never_removed_with_an_image() -> None:
    contents = contents_of([toc_of(1), toc_of(2)], parents=[1, 0], tops=[1])
    found = what_if(contents, ["image0"])
    assert found.layer_ids == ()
    assert found.remaining == {
        "layer0": "layer layer1 is above it",
        "layer1": "layer layer0 is above it",
    }
    assert what_if(contents, ["layer0"]).layer_ids == ("layer0", "layer1")


def test_other_libraries_take_the_result_as_a_table() -> None:
    found = what_if(contents_of([toc_of(1)], tops=[0]), ["image0"])
    assert pa.table(found).equals(found.to_arrow())
