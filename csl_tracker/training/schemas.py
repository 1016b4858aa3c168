"""JSON schemas of the YAML files of training and experiments, for validation in editors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from csl_tracker.evaluation.protocol_models import ProtocolFile
from csl_tracker.training.config import TrainSettings
from csl_tracker.training.plan import FIXED
from csl_tracker.training.presets import PRESETS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _train() -> dict[str, Any]:
    schema = TypeAdapter(TrainSettings).json_schema()
    preset = {"description": "Settings below those of the file; see docs/training.md.", "enum": [*PRESETS]}
    properties = {"preset": preset, **schema["properties"]}
    return {**schema, "title": "Training", "description": "A training run.", "properties": properties}


def _settings() -> dict[str, Any]:
    schema = _train()
    properties = {key: value for key, value in schema["properties"].items() if key not in FIXED}
    text = "Settings of an experiment's trainings; they override preset and protocol."
    return {**schema, "title": "Settings", "description": text, "properties": properties}


def _variants() -> dict[str, Any]:
    settings = _settings()
    definitions = settings.pop("$defs")
    return {
        "title": "Variants",
        "description": "Name of a variant -> its settings.",
        "type": "object",
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Settings"}, {"type": "null"}]},
        "$defs": {**definitions, "Settings": settings},
    }


def _protocol() -> dict[str, Any]:
    schema = TypeAdapter(ProtocolFile).json_schema()
    settings = _settings()
    definitions = {**schema["$defs"], **settings.pop("$defs"), "Settings": settings}
    reference = {"$ref": "#/$defs/Settings"}
    schema["properties"]["settings"] |= reference
    schema["properties"]["preset_settings"] |= {"additionalProperties": reference, "propertyNames": {"enum": [*PRESETS]}}
    return {**schema, "title": "Protocol", "$defs": definitions}


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "train": _train,
    "settings": _settings,
    "variants": _variants,
    "protocol": _protocol,
}
"""File kind -> schema; generated copies are in config/schema."""


def schema_text(kind: str) -> str:
    """The JSON schema of a file kind, one of :data:`SCHEMAS`, with a final line feed."""
    return json.dumps({"$schema": _DIALECT, **SCHEMAS[kind]()}, indent=2) + "\n"
