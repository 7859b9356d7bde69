"""A registry on loopback, and a clock that does not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.image.registry.cases import SAMPLE
from tests.image.registry.clock import FakeTime
from tests.image.registry.server import Registry, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve(Registry(SAMPLE)) as running:
        yield running


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()
