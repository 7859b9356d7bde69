"""A name that looks like markup must stay a name."""

from __future__ import annotations

from vecache.report.html import html_table


def test_everything_is_escaped() -> None:
    html = html_table("<i>", ["<th>"], [["<script>\x1b", b"&\xff"], [1234, None]], n_rows=2)
    assert "<script>" not in html
    assert "<i>" not in html
    assert r"&lt;script&gt;\x1b" in html
    assert r"&amp;\xff" in html
    assert ">1,234</td><td></td>" in html


def test_a_long_table_shows_its_start_and_says_so() -> None:
    html = html_table("all", ["n"], ([n] for n in range(100)), n_rows=100, n_shown=3)
    assert "all (the first 3 of 100 rows)" in html
    assert html.count("<tr>") == 4
