"""Protects screens: untrusted text never acts on a terminal and is never markup in a notebook."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.draw.picture import contrast
from vecache.text import (
    MAX_LABEL_CHARACTERS,
    html_table,
    printable,
    quoted,
    short_command,
    short_labels,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),  # sets the window's title
        ("a\nvecache: error: no", r"a\nvecache: error: no"),  # forges a message of this program
        ("\x9b31m", r"\x9b31m"),  # the one-byte escape sequence
        ("gpj.\u202eexe", r"gpj.\u202eexe"),  # writes from right to left
        (b"\xff\xfe", r"\xff\xfe"),
        ("\udcff", r"\xff"),
        ("a\\x2db 日本語 é", "a\\x2db 日本語 é"),
    ],
)
def test_printable_escapes_what_a_terminal_would_act_on(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


@given(st.one_of(st.text(), st.binary()))
def test_printable_gives_one_printable_line(text: str | bytes) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown


@given(st.binary(max_size=150))
def test_a_quoted_text_is_one_short_printable_line(text: bytes) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 4 * 100 + 2


def test_everything_in_an_html_table_is_escaped() -> None:
    html = html_table("<i>", ["<th>"], [["<script>\x1b", b"&\xff"], [1234, None, 0.125]])
    assert "<script>" not in html
    assert "<i>" not in html
    assert r"&lt;script&gt;\x1b" in html
    assert r"&amp;\xff" in html
    assert ">1,234</td><td></td>" in html
    assert ">12.5%</td>" in html


def test_shortened_text_has_the_whole_as_a_tip() -> None:
    html = html_table("", ["ab"], [["ab", "cd", "e"]], tips={"ab": '"ab"c\x1b', "e": "e"})
    assert r'<th title="&quot;ab&quot;c\x1b">ab</th>' in html
    digest = "sha256:" + "ab" * 32
    assert f'<td title="web: {digest}">web: abababababab</td>' in html_table(
        "", [], [["web: " + digest]]
    )
    assert f'<td title="{digest}">abababababab</td>' in html_table("", [], [[digest]])
    assert r'<td title="&quot;ab&quot;c\x1b">ab</td><td>cd</td><td>e</td>' in html


def test_shades_are_legible_in_a_light_and_in_a_dark_theme() -> None:
    html = html_table("", [], [[0.0, 0.5, 1.0, 7.5, 3]], is_shaded=True)
    shades = re.findall(r"background: rgba\((\d+), (\d+), (\d+), ([\d.]+)\)", html)
    assert [shade[3] for shade in shades] == ["0.00", "0.25", "0.50", "0.50"]
    for ink, paper in (("#222222", 1.0), ("#dddddd", 0.07)):
        for *rgb, alpha in shades:
            mixed = [float(alpha) * int(c) / 255 + (1 - float(alpha)) * paper for c in rgb]
            assert contrast(ink, mixed) >= 4.5


def test_a_long_table_shows_its_start_and_says_so() -> None:
    html = html_table("all", ["n"], ([n] for n in range(100)), n_rows=100, n_shown=3)
    assert "all (the first 3 of 100 rows)" in html
    assert html.count("<tr>") == 4
    assert html_table("facts", (), [("name", 1)]).count("<tr>") == 1


@given(st.lists(st.text(max_size=60)))
def test_labels_stay_distinct_short_and_printable(labels: list[str]) -> None:
    short = short_labels(labels)
    assert len(set(short)) == len(labels)
    assert all(text.isprintable() for text in short)
    assert all(len(text) <= MAX_LABEL_CHARACTERS + len(f" ({len(labels)})") for text in short)


def test_labels_that_would_be_equal_are_numbered() -> None:
    assert short_labels(["a" * 64, "a" * 63 + "b"]) == ["a" * 12, "a" * 12 + " (2)"]


def test_folders_that_all_labels_share_are_dropped() -> None:
    assert short_labels(["localhost/x/a", "localhost/x/b/c"]) == ["a", "b/c"]
    assert short_labels(["localhost/x/a"]) == ["localhost/x/a"]


def test_without_a_limit_labels_keep_all_their_characters() -> None:
    assert short_labels(["x/" + "y" * 99, "x/b"], max_characters=None) == ["y" * 99, "b"]


@pytest.mark.parametrize(
    ("created_by", "wanted"),
    [
        ("/bin/sh -c #(nop) ADD file:" + "a1" * 32 + " in / ", "ADD file in /"),
        ("/bin/sh -c #(nop) COPY multi:" + "a1" * 32 + " in /app/ ", "COPY multi in /app/"),
        (
            "/bin/sh -c apt-get update \t&&  apt-get -y upgrade",
            "RUN apt-get update && apt-get -y upgrade",
        ),
        ("RUN /bin/sh -c npm ci # buildkit", "RUN npm ci"),
        ("RUN |2 A=1 B=c d /bin/sh -c make B=1 # buildkit", "RUN make B=1"),
        ("|1 A=1 /bin/bash -o -c make", "|1 A=1 /bin/bash -o -c make"),
        (
            "RUN /bin/bash -ec set -eux; set -o pipefail; dnf -y install gcc",
            "RUN dnf -y install gcc",
        ),
        ("COPY --chown=1 --link /src /dst # buildkit", "COPY /src /dst"),
        ("RUN --mount=type=cache,target=/x /bin/sh -c make # buildkit", "RUN make"),
        (
            "# debian.sh --arch 'amd64' out/ 'bookworm'",
            "# debian.sh --arch 'amd64' out/ 'bookworm'",
        ),
        ("bazel build ...", "bazel build ..."),
        ("RUN set a " * 100_000, f"{'RUN set a ' * 409}RUN se"),  # in one pass, and cut
        ("/bin/sh", ""),
        ("/bin/sh -c #(nop) ", ""),
        ("", ""),
    ],
)
def test_commands_are_shortened_to_instructions(created_by: str, wanted: str) -> None:
    assert short_command(created_by) == wanted
