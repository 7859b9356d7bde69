"""Hypothesis profiles, and an environment in which no test can touch the user's own files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from vecache.store import blob_info

if TYPE_CHECKING:
    from pathlib import Path

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every folder that vecache may look for at the test's own."""
    home = tmp_path / "home"
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(home / variable.lower()))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    conf = home / "storage.conf"
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    home.mkdir()
    conf.write_text('[storage]\ndriver = "overlay"\n')
    monkeypatch.setenv("CONTAINERS_CONF", "/dev/null")
    monkeypatch.setattr(blob_info, "_MACHINE_FOLDER", str(home / "machine-cache"))
    for variable in (
        "CONTAINERS_CONF_OVERRIDE",
        "DOCKER_CONFIG",
        "REGISTRY_AUTH_FILE",
        "STORAGE_DRIVER",
    ):
        monkeypatch.delenv(variable, raising=False)
