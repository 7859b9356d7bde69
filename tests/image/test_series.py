"""Protects the opening of several tags at once: one list, one login, the images that were named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from tests.image.samples import (
    layout_files,
    make_image,
    make_index,
    write_archive,
    write_layout,
    zstd_layer,
)
from vecache.errors import ImageNameError, ImageNotFoundError, VecacheError
from vecache.image.open import open_image
from vecache.image.registry.access import Access
from vecache.image.series import find_series, open_series

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = {
    tag: make_image([zstd_layer(data=tag.encode())]) for tag in ("1.9", "1.10", "1.8", "1.9.1", "")
}
DIGESTS = {tag: sample.digest for tag, sample in SAMPLES.items()}


def test_tags_of_a_layout_are_opened_in_order(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci", SAMPLES)
    images = open_series(f"oci:{layout}", "1.8..1.10")
    assert [image.reference for image in images] == [
        f"oci:{layout}:{tag}" for tag in ("1.8", "1.9", "1.10")
    ]
    assert [image.digest for image in images] == [DIGESTS[tag] for tag in ("1.8", "1.9", "1.10")]
    for image in images:
        assert open_image(image.reference).digest == image.digest


def test_tags_of_an_archive_are_opened(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar", layout_files(SAMPLES))
    images = open_series(f"oci-archive:{archive}", "1.9.1,1.8")
    assert [image.digest for image in images] == [DIGESTS["1.9.1"], DIGESTS["1.8"]]
    assert images[0].layers[0].toc.n_bytes > 0


def test_what_was_listed_and_skipped_is_known(tmp_path: Path) -> None:
    series = find_series(f"oci:{write_layout(tmp_path / 'oci', SAMPLES)}", "1.8..1.10", Access())
    assert (series.n_listed, series.skipped) == (4, ("1.9.1",))
    calls: list[int] = []
    series.open(progress=lambda: calls.append(1))
    assert len(calls) == 3


def test_the_platform_is_chosen_in_each_image(tmp_path: Path) -> None:
    ours, other = make_image([zstd_layer()]), make_image([])
    platforms = ({"os": "linux", "architecture": "s390x"}, {"os": "linux", "architecture": "arm"})
    both = make_index(
        [
            (sample, {"platform": each})
            for sample, each in zip((other, ours), platforms, strict=True)
        ]
    )
    layout = write_layout(tmp_path / "oci", {"a": both, "b": both})
    images = open_series(f"oci:{layout}", "a,b", platform="linux/arm")
    assert [image.digest for image in images] == [ours.digest] * 2
    with pytest.raises(ValueError, match="wanted OS/ARCHITECTURE"):
        open_series(f"oci:{layout}", "a,b", platform="linux")


@pytest.mark.parametrize(
    ("reference", "tags", "error", "message"),
    [
        (f"oci:{GOLDEN_SMALL}/oci:app1", "a,b", ImageNameError, "found a tag or digest"),
        ("docker://localhost/a:1", "a,b", ImageNameError, "found a tag or digest"),
        (
            "docker://localhost/a@sha256:" + "ab" * 32,
            "a,b",
            ImageNameError,
            "found a tag or digest",
        ),
        ("docker://localhost:5000", "a,b", ImageNameError, "found a tag or digest"),
        ("docker://localhost/a", "a b", ImageNameError, "'a b' is not a tag"),
        ("docker://localhost/a", "a..-b", ImageNameError, "'-b' is not a tag"),
        ("dir:x", "a,b", ImageNameError, "has no tags to choose, wanted docker://HOST/NAME"),
        ("containers-storage:x", "a,b", ImageNameError, "has no tags to choose"),
        ("nothing", "a,b", ImageNameError, "no transport"),
        (f"oci:{GOLDEN_SMALL}/oci", "", ImageNameError, "wanted tags and ranges"),
        (f"oci:{GOLDEN_SMALL}/oci", "app1,none", ImageNotFoundError, "no image 'none'"),
        (f"oci:{GOLDEN_SMALL}/oci", "app1..app3", ImageNotFoundError, "tags there: 'app1', 'app2'"),
    ],
)
def test_refusals(reference: str, tags: str, error: type[VecacheError], message: str) -> None:
    with pytest.raises(error, match=message):
        open_series(reference, tags)
