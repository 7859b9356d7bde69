"""Each public name has an example, and what it shows is what comes out, on the sample."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest

import vecache

NAMES = sorted({*vecache.__all__} - {"__version__"})


@pytest.mark.parametrize("name", NAMES)
def test_the_example_shows_what_comes_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])  # an example opens an OCI layout of the tests
    item = getattr(vecache, name)
    examples = doctest.DocTestFinder(recurse=False).find(
        item, name, sys.modules[item.__module__], globs={}
    )
    assert sum(bool(each.want) for test in examples for each in test.examples) >= 1
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples:
        assert not any(each.options.get(doctest.SKIP) for each in test.examples)
        assert runner.run(test).failed == 0
