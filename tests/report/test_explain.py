"""Protects explanations: each says why, and a wrong path gets similar ones suggested."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.sparse import digest_of, open_sparse, plan_with
from tests.plan.strategies import OPTIONS, StoredLayer, load_layers, stored_layers, tocs
from vecache.errors import PathNotFoundError
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.options import PlanOptions
from vecache.plan.pull import plan_image
from vecache.report.explain import explain
from vecache.store.open import open_store
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from vecache.plan.image_plan import ImagePlan

A, B = digest_of(b"a"), digest_of(b"b")


def plan_golden(store: str, image: str, n_present: int, **options: object) -> ImagePlan:
    present = layer_ids(store)[:n_present]
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / store), present=present)
    options = {"reflink": False, "parallel": 1, **options}
    return plan_image(open_image(f"oci:{GOLDEN_SMALL}/oci:{image}"), cache, **options)  # type: ignore[arg-type]


def plan_entries(
    upper: list[dict[str, object]], lower: list[dict[str, object]], **options: object
) -> ImagePlan:
    """Plan one layer of entries on top of another, which is pulled just before."""
    documents = (json.dumps({"version": 1, "entries": each}).encode() for each in (lower, upper))
    image = open_sparse(*((document, 1_000) for document in documents))
    return plan_image(image, LayersCache(), **{"parallel": 1, **options})  # type: ignore[arg-type]


def entry(name: str, digest: str = A, **more: object) -> dict[str, object]:
    fields = {"type": "reg", "name": name, "size": 5, "digest": digest, "endOffset": 50}
    return {**fields, **more}


@given(tocs(), stored_layers(sound=True), OPTIONS)
def test_every_path_of_any_layer_has_an_explanation(
    toc: tuple[bytes, int], layers: list[StoredLayer], options: PlanOptions
) -> None:
    plan = plan_with(open_sparse(toc), load_layers(layers), options)
    for name in Toc.parse(toc[0]).entries.name.to_pylist():
        sentences = explain(plan, name)
        assert sentences[0].startswith("Layer 1 of 1 (")
        assert all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize(
    "path", ["usr/lib/big.bin", "/usr/lib/big.bin", "./usr//lib/../lib/big.bin"]
)
def test_a_path_may_begin_in_any_way(path: str) -> None:
    sentences = explain(plan_golden("dir", "app1", 1, reflink=True), path)
    assert sentences[1:] == [
        "No layer has a file with its content.",
        "Chunks: 59, of them 58 reused (574,284 bytes), 1 fetched (26,276 bytes).",
        "They come with 1 of the request's 3 ranges: bytes 422,641-435,681 of the blob.",
    ]


def test_chunks_that_a_reflink_would_reuse_are_counted() -> None:
    sentences = explain(plan_golden("dir", "app1", 1), "usr/lib/big.bin")
    assert sentences[3] == (
        "Other layers have 58 of those fetched (574,284 bytes), but without reflinks no chunk is "
        "reused."
    )


@pytest.mark.parametrize(
    ("options", "how"),
    [({}, "copied"), ({"reflink": True}, "reflinked"), ({"hard_links": True}, "hard-linked")],
)
def test_a_reused_file_says_where_from_and_how(options: dict[str, object], how: str) -> None:
    plan = plan_entries([entry("b")], [entry("a")], **options)
    (lower,) = plan.cache_after.layers[:1]
    assert explain(plan, "b")[1:] == [f"Found in layer {lower.id[:12]} as a, and {how} from there."]


def test_a_file_of_another_mode_cannot_be_hard_linked() -> None:
    plan = plan_entries([entry("b", mode=0o755)], [entry("a")], hard_links=True)
    assert "as a, but with another owner, mode or extended attribute" in explain(plan, "b")[1]


def test_a_first_match_inside_a_file_hides_the_rest() -> None:
    lower = [
        entry("a", B, size=10, chunkSize=5, chunkOffset=0),
        {"type": "chunk", "name": "a", "chunkSize": 5, "chunkOffset": 5, "chunkDigest": A},
    ]
    plan = plan_entries([entry("b")], lower)
    assert "from byte 5 on: only a match at the start of a file counts" in explain(plan, "b")[1]


def test_a_chunk_without_a_size_cannot_be_checked() -> None:
    lower = [entry("a", B, chunkDigest=A, chunkSize=5)]
    plan = plan_entries([entry("b", digest_of(b"c"), chunkDigest=A)], lower, reflink=True)
    assert "the TOC gives no size to check them by" in explain(plan, "b")[3]


@pytest.mark.parametrize(
    ("fields", "what", "end"),
    [
        ({"type": "dir"}, "a directory", "It is created without data: nothing is fetched for it."),
        (
            {"type": "symlink", "linkName": "x"},
            "a symbolic link to x",
            "It is created without data: nothing is fetched for it.",
        ),
        (
            {"type": "hardlink", "linkName": "x"},
            "a hard link to x",
            "It is created without data: nothing is fetched for it.",
        ),
        (
            {"type": "reg", "size": 0},
            "a file of 0 bytes",
            "It is empty: nothing is fetched for it.",
        ),
    ],
)
def test_what_costs_nothing_is_explained_so(fields: dict[str, object], what: str, end: str) -> None:
    sentences = explain(plan_entries([{"name": "a", **fields}], []), "a")
    assert what in sentences[0]
    assert sentences[-1] == end


@pytest.mark.parametrize("plan", [None, "plan", {"layers": []}])
def test_what_is_not_a_plan_is_refused(plan: Any) -> None:
    with pytest.raises(TypeError, match=r"plan: found \w+, wanted an ImagePlan, from vecache.plan"):
        explain(plan, "etc")


def test_a_whiteout_explains_what_it_deletes() -> None:
    plan = plan_entries([{"type": "reg", "name": "d/.wh.a"}], [entry("d/a")])
    sentences = explain(plan, "d/a")
    assert sentences[-1] == "It deletes what lower layers have: nothing is fetched for it."
    assert sentences[0].startswith("Layer 1 of 2")


def test_the_flat_layout_has_one_file_per_content() -> None:
    plan = plan_entries([entry("b"), entry("c"), {"type": "dir", "name": "d"}], [], layout="flat")
    digits = A.partition(":")[2]
    stored = f"It is stored as {digits[:2]}/{digits[2:]}, once for all files of that content."
    assert explain(plan, "c")[1] == explain(plan, "b")[1] == stored
    assert explain(plan, "d")[1] == "It is not stored: nothing is fetched for it."


def test_a_layer_that_is_present_is_read_where_no_other_has_the_path() -> None:
    plan = plan_golden("dir", "app1", 5)
    assert explain(plan, "etc")[1] == "The store has this layer: nothing of it is pulled."
    whole = plan_golden("dir", "base", 0, partial=False)
    assert explain(whole, "etc")[1] == "The whole blob of this layer is fetched."


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("usr/lib/big.bim", "'usr/lib/big.bin'"),
        ("opt/big.bin", "'usr/lib/big.bin'"),
        ("/", None),
        ("no/such/thing", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_wrong_path_gets_similar_paths_suggested(path: str | bytes, near: str | None) -> None:
    plan = plan_golden("dir", "app1", 1)
    with pytest.raises(PathNotFoundError, match="no layer has") as caught:
        explain(plan, path)
    assert caught.value.exit_code == 1
    assert (near is None) or (near in str(caught.value))
    assert ("did you mean" in str(caught.value)) == (near is not None)


def test_layers_without_a_toc_may_have_the_path() -> None:
    plan = plan_with(open_sparse(None), LayersCache(), PlanOptions(layout=Layout.DIR))
    with pytest.raises(
        PathNotFoundError, match="1 without a TOC may have it, which only their blobs can show"
    ):
        explain(plan, "etc/hosts")
