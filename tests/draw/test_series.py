"""The picture of a series has all its labels, leaves out what is nothing, and stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.draw.samples import png_size, svg
from vecache.draw.series import series_curve

if TYPE_CHECKING:
    from vecache.draw.picture import Picture


def draw(n_members: int, names: list[str] | None = None) -> Picture:
    n_bytes = np.arange(n_members, dtype=np.int64) * 1_000_000
    nothing = np.zeros(n_members, np.int64)
    return series_curve(
        {"after nothing": n_bytes * 2, "after previous": n_bytes, "after first": n_bytes},
        {"best possible": n_bytes, "no_reflink": n_bytes // 2, "hard_links": nothing},
        {"present": nothing + 3, "partial": nothing + 1, "whole": nothing},
        names or [f"1.{number}" for number in range(n_members)],
        title="A series",
        note="Bytes.",
    )


def texts(picture: Picture) -> list[str]:
    root = ET.fromstring(svg(picture))
    found = root.iter("{http://www.w3.org/2000/svg}text")
    return [(element.text or "").strip() for element in found]


@pytest.mark.parametrize("n_members", [0, 1, 5, 200])
def test_a_series_of_any_length_has_a_picture_of_a_usable_size(n_members: int) -> None:
    assert svg(draw(n_members)) == svg(draw(n_members))
    width, height = png_size(draw(n_members))
    assert 800 <= width <= 6_000  # two dots a pixel
    assert 800 <= height <= 6_000


def test_members_and_what_is_not_zero_are_named() -> None:
    found = texts(draw(5))
    assert [text for text in found if text.startswith("1.")] == [f"1.{n}" for n in range(5)]
    assert {"A series", "after previous", "best possible", "no reflink", "partial"} <= set(found)
    assert not {"hard links", "whole"} & set(found)


def test_untrusted_names_are_neither_formulas_nor_markup() -> None:
    found = texts(draw(3, ["$a$", "<b>&", "\x1b[2J"]))
    assert {"$a$", "<b>&", "\\x1b[2J"} <= set(found)
