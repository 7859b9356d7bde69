"""Each picture of a result says what it shows, and of which members."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import pytest

from tests.golden import GOLDEN_SMALL
from vecache.sharing.exclusive import shares
from vecache.sharing.matrix import overlap
from vecache.sharing.sources import read_contents
from vecache.text import short_labels

if TYPE_CHECKING:
    from vecache.draw.picture import Picture
    from vecache.sharing.contents import By, Contents, Grain


@pytest.fixture(scope="module")
def contents() -> Contents:
    return read_contents(GOLDEN_SMALL / "stores" / "dir")


def drawn(picture: Picture) -> str:
    file = io.BytesIO()
    picture.write(file, "svg")
    return file.getvalue().decode()


@pytest.mark.parametrize("by", ["layer", "image"])
@pytest.mark.parametrize("grain", ["file", "chunk"])
def test_a_heat_map_says_what_its_colours_mean(contents: Contents, by: By, grain: Grain) -> None:
    over = overlap(contents, by, grain)
    alike, inside = drawn(over.plot()), drawn(over.plot("containment"))
    assert f"What is shared among 5 {by}s" in alike
    assert f"of the bytes of {grain}s that either has" in alike
    assert f"of the row's bytes of {grain}s" in inside
    assert alike != inside
    assert all(name in alike for name in short_labels(over.labels))


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("treemap", "Who owns the bytes of 5 images"),
        ("upset", "Who shares what among 5 images"),
        ("curve", "Unique bytes of 5 images"),
    ],
)
def test_shares_have_three_pictures(
    contents: Contents, kind: Literal["treemap", "upset", "curve"], title: str
) -> None:
    picture = shares(contents, by="image").plot(kind)
    assert picture.title == title
    assert title in drawn(picture)


def test_unknown_pictures_are_refused(contents: Contents) -> None:
    with pytest.raises(ValueError, match="wanted 'jaccard' or 'containment'"):
        overlap(contents).plot("files")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wanted 'treemap', 'upset' or 'curve'"):
        shares(contents).plot("pie")  # type: ignore[arg-type]
