"""Hypothesis profiles, and an environment in which no test can touch the user's own files."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator

from vecache.image.registry import registries
from vecache.report import output
from vecache.report.schema import SCHEMAS
from vecache.store import blob_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=100,
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
    monkeypatch.setattr(registries, "_ETC", home / "etc")
    monkeypatch.setattr(registries, "_ROOT_CACHE", home / "machine-cache")
    monkeypatch.setattr(blob_info, "_MACHINE_FOLDER", str(home / "machine-cache"))
    for variable in (
        "CONTAINERS_CONF_OVERRIDE",
        "CONTAINERS_REGISTRIES_CONF",
        "DOCKER_CONFIG",
        "FORCE_COLOR",
        "REGISTRY_AUTH_FILE",
        "STORAGE_DRIVER",
    ):
        monkeypatch.delenv(variable, raising=False)


@cache
def validator(name: str) -> Any:
    return Draft202012Validator(SCHEMAS[name], format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.fixture(autouse=True)
def described_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare every document that a verb prints or writes in a test with its JSON Schema."""
    write, write_document = output.json_text, output.Report.json_document

    def check(text: str) -> str:
        document = json.loads(text)
        if "schema" in document:
            name, _, version = document["schema"].removeprefix("vecache.").partition("/")
            assert version == "1"
            validator(name).validate(document)
        return text

    def write_checked(document: Any, *, indent: int | None = None) -> str:
        return check(write(document, indent=indent))

    def write_named(report: output.Report, **options: int | None) -> Iterator[str]:
        text = check("".join(write_document(report, **options)))
        assert '"schema": ' in text or not options  # a file that a test of files writes
        yield text

    monkeypatch.setattr(output, "json_text", write_checked)
    monkeypatch.setattr(output.Report, "json_document", write_named)
