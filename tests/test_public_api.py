"""The names that are promised, and what they must not cost or turn into."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vecache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_the_promised_names_are_these() -> None:
    assert vecache.__all__ == [
        "CacheFile",
        "Contents",
        "Cover",
        "Fleet",
        "FleetOverlap",
        "FleetPlan",
        "FleetRemoval",
        "History",
        "Image",
        "ImagePlan",
        "LayerPlan",
        "LayersCache",
        "LookupResult",
        "Matches",
        "OrderResult",
        "Overlap",
        "Removal",
        "RemovalOrder",
        "Shares",
        "Store",
        "Toc",
        "VecacheError",
        "__version__",
        "add_snapshot",
        "best_order",
        "build_cache",
        "explain",
        "export_dataset",
        "gather",
        "history",
        "open_dataset",
        "open_fleet",
        "open_image",
        "open_sample",
        "open_series",
        "open_store",
        "overlap",
        "overlap_fleet",
        "plan_fleet",
        "plan_image",
        "plan_images",
        "read_contents",
        "shares",
        "what_if",
        "what_if_fleet",
        "what_to_remove",
    ]
    assert dir(vecache) == sorted(vecache.__all__)


@pytest.mark.parametrize("name", sorted({*vecache.__all__} - {"__version__"}))
def test_each_name_can_be_called(name: str) -> None:
    assert callable(getattr(vecache, name))


def public_functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Each public function, and each public method of a public class of this package."""
    for name in sorted({*vecache.__all__} - {"__version__", "VecacheError"}):
        item = getattr(vecache, name)
        if inspect.isfunction(item):
            yield name, item
            continue
        for method, value in vars(item).items():
            function = getattr(value, "__func__", value)
            if inspect.isfunction(function) and not method.startswith("_"):
                yield f"{name}.{method}", function


def test_public_functions_are_documented_in_full() -> None:
    """Parameters with a type and a text each, and what is returned."""
    incomplete = []
    for name, function in public_functions():
        doc = inspect.getdoc(function) or ""
        signature = inspect.signature(function)
        wanted = [each for each in signature.parameters if each not in ("self", "cls")]
        if wanted and "Parameters\n-----" not in doc:
            incomplete.append(f"{name}: no section Parameters")
        if signature.return_annotation not in (None, "None") and "Returns\n-----" not in doc:
            incomplete.append(f"{name}: no section Returns")
    assert incomplete == []


def test_no_module_hides_a_name() -> None:
    """Importing a sub-package sets its name on the parent, and so could hide a function."""
    modules = {module.name for module in pkgutil.iter_modules(vecache.__path__)}
    assert not modules & set(vecache.__all__)


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert vecache.__version__ == project["project"]["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CacheFiles'"):
        _ = vecache.CacheFiles  # type: ignore[attr-defined]  # the mistake under test


def test_importing_vecache_does_not_import_numpy() -> None:
    code = "import sys, vecache; vecache.VecacheError; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
