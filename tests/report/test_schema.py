"""Protects the JSON Schemas; tests/conftest.py compares every document of all tests with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.conftest import validator
from tests.golden import GOLDEN_SMALL, layer_ids
from vecache.cli.main import main
from vecache.report import schema_keys
from vecache.report.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = str(GOLDEN_SMALL / "stores" / "dir")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_and_names_itself(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == f"vecache.{name}/1"
    for document in schema.get("anyOf", [schema]):
        assert document["properties"]["schema"] == {"const": f"vecache.{name}/1"}
        assert document["required"][0] == "schema"


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield each schema of an object with named keys."""
    values = schema.values() if isinstance(schema, dict) else schema
    for value in values if isinstance(values, list) or isinstance(schema, dict) else ():
        if isinstance(value, dict | list):
            yield from objects(value)
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        yield schema


def test_no_object_has_other_keys_and_no_meaning_is_left_over() -> None:
    found = list(objects(list(SCHEMAS.values())))
    assert all(each["additionalProperties"] is False for each in found)
    used = {key for each in found for key in each["properties"]}
    described = {*schema_keys._KEYS, *schema_keys._HOLDERS}
    assert described <= used
    assert not schema_keys._KEYS.keys() & schema_keys._HOLDERS.keys()


def test_a_layer_is_the_same_in_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    def rows(key: str, *words: str) -> list[dict[str, Any]]:
        main([*words, "--store", STORE, "--json"])
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)[key]
        return found

    layers = {row["layer"]: row["index"] for row in rows("layers", "layers")}
    assert list(layers) == layer_ids("dir")
    image = "containers-storage:app2"
    gathered = rows("layers", "gather", image, "--reflink", "no")
    assert gathered
    assert all(layers[row["layer"]] == row["index"] for row in gathered)
    assert {row["layer"] for row in rows("layers", "rm", "app2")} <= layers.keys()


def test_a_key_that_is_not_described_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "--store", STORE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    validator("layers").validate(document)
    document["layers"][0]["other"] = 1
    with pytest.raises(ValidationError, match="'other' was unexpected"):
        validator("layers").validate(document)


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["plan"], "vecache.plan/1"),
        (["demo"], "vecache.plan/1"),
        (["fleet", "list"], "vecache.fleet-list/1"),
        (["plan-curve"], "vecache.plan-curve/1"),
    ],
)
def test_the_verb_prints_a_schema(
    words: list[str], title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", *words]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == title


def test_a_verb_without_a_document_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out.split() == list(SCHEMAS)
    assert main(["schema", "fleet", "add"]) == 2
    assert "fleet add: prints no JSON; these do: plan, " in capsys.readouterr().err
