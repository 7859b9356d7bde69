"""Copies of the golden stores that a test may change, and stores made by hand."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.golden import GOLDEN_SMALL

if TYPE_CHECKING:
    from pathlib import Path


class MakeStore(Protocol):
    def __call__(self, layers: Any, images: Any = ..., *, name: str = ...) -> Path: ...


@pytest.fixture
def golden_copy(tmp_path: Path) -> Path:
    """A copy of the golden store `dir`: five layers, the last one without a cache."""
    return shutil.copytree(GOLDEN_SMALL / "stores" / "dir", tmp_path / "store")


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Make a graph root of given records; a text is written as it stands."""

    def make(layers: Any, images: Any = (), *, name: str = "made") -> Path:
        root = tmp_path / name
        for folder, file, records in (
            ("overlay-layers", "layers.json", layers),
            ("overlay-images", "images.json", images),
        ):
            (root / folder).mkdir(parents=True)
            text = records if isinstance(records, str) else json.dumps(list(records))
            (root / folder / file).write_text(text)
        (root / "overlay-layers" / "layers.lock").touch()
        return root

    return make
