"""The JSON schemas for editors: up to date, complete, and named by the shipped files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.cli.main import main
from csl_tracker.training.schemas import SCHEMAS, schema_text

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "schema"
FOLDERS = ("config/train", "config/experiment", "config/recipe", "csl_tracker/evaluation/protocols")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_shipped_schemas_are_up_to_date(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--schema"] if kind == "train" else ["experiment", "--schema", kind]
    assert main(command) == 0
    printed = capsys.readouterr().out
    file = SHIPPED / f"{kind}.schema.json"
    assert printed == file.read_text(encoding="utf-8"), f"write it again: csl-tracker {' '.join(command)} > {file}"


def test_no_other_schema_is_shipped() -> None:
    assert {path.name for path in SHIPPED.iterdir()} == {f"{kind}.schema.json" for kind in SCHEMAS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_files_name_their_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found is not None
    schema = (path.parent / found[1]).resolve()
    assert schema.parent == SHIPPED
    kinds = {"train": "train", "experiment": "settings", "protocols": "protocol"}
    recipes = {"settings": "settings", "endovis_inner": "protocol"}
    kind = kinds.get(path.parent.name) or recipes.get(path.stem, "variants")
    assert schema.name == f"{kind}.schema.json"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_setting_is_described_and_no_other_is_allowed(kind: str) -> None:
    schema = json.loads(schema_text(kind))
    for section in [schema, *schema["$defs"].values()]:
        for name, setting in section.get("properties", {}).items():
            assert setting.get("description"), name
        assert section["additionalProperties"] is False or kind == "variants"
    assert _references(schema) <= set(schema["$defs"])


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"].removeprefix("#/$defs/")} if "$ref" in value else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def test_ranges_are_in_the_schema() -> None:
    settings = json.loads(schema_text("train"))["properties"]
    assert (settings["steps"]["type"], settings["steps"]["minimum"]) == ("integer", 1)
    assert (settings["ema_decay"]["minimum"], settings["ema_decay"]["exclusiveMaximum"]) == (0, 1)
    assert settings["learning_rate"]["exclusiveMinimum"] == 0
    assert [side["multipleOf"] for side in settings["crop"]["prefixItems"]] == [32, 32]


def test_what_an_experiment_sets_itself_is_no_setting_of_it() -> None:
    assert not {"name", "seed", "validation"} & set(json.loads(schema_text("settings"))["properties"])
