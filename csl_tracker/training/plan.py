"""The plan of an experiment: all combinations of models, folds and seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.protocol_models import Fold, Part
from csl_tracker.evaluation.protocols import Protocol
from csl_tracker.network_names import COMPARED, REGRESSING, STRATEGIES, WITHOUT_DECODER
from csl_tracker.pixels import Size
from csl_tracker.training.config import TrainConfig, check_preset, check_settings, layered, parse_config
from csl_tracker.training.presets import PRESETS
from csl_tracker.yaml_files import YamlError, parse_yaml, read_yaml, text_keys

ROOT_VARIABLE = "CSL_TRACKER_EXPERIMENT_ROOT"
"""Environment variable for the data folder in run configurations, which makes them independent of the machine."""

FIXED = ("name", "output", "validation", "seed", "devices", "accelerator")
"""Settings that the experiment defines for each run."""
_SAFE = " @=,+[]"
"""Characters allowed in folder names besides letters, digits and ``_.-~``; others become ``%XX``."""


@dataclass(frozen=True)
class Model:
    """A model of an experiment.

    Attributes:
        name: A strategy, ``STRATEGY@key=value,key=value``, or ``STRATEGY@VARIANT``.
        strategy: Its strategy.
        settings: Its training settings, as plain data.
    """

    name: str
    strategy: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """Settings that override the preset, in ascending priority.

    Attributes:
        preset: Name of a training preset; a preset in the settings below has priority.
        file: Settings of ``--config``.
        overrides: Settings of ``key=value``.
    """

    preset: str = "modern"
    file: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One planned run.

    Attributes:
        fold: The split.
        model: The model.
        seed: Random seed.
        preset: Name of the training preset.
        folder: Output folder.
        config: Training configuration.
    """

    fold: Fold
    model: Model
    seed: int
    preset: str
    folder: Path
    config: TrainConfig

    @property
    def title(self) -> str:
        """Title for messages."""
        return f"{self.model.name}, {self.fold.name}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment in execution order.

    Attributes:
        protocol: The splits.
        out: Folder of the experiment.
        runs: Ordered by seed, fold, model, so that partial results are comparable.
        reference_size: (height, width) of the reference image for distances in px; None for the source image.
    """

    protocol: Protocol
    out: Path
    runs: tuple[PlannedRun, ...]
    reference_size: Size | None = None


def parse_model(name: str, variants: Mapping[str, Any] | None = None) -> Model:
    """Parse the name of a model.

    Args:
        name: A strategy, optionally followed by ``@`` and comma-separated settings or variant names.
        variants: Name of a variant -> its settings.

    Raises:
        ConfigError: The strategy or the variant is unknown, or a setting is not ``key=value``.
    """
    strategy, at, rest = name.partition("@")
    if strategy not in STRATEGIES:
        raise ConfigError(f"The model {name!r} is of no known strategy; choose one of {', '.join(STRATEGIES)}.")
    if at and not rest:
        raise ConfigError(f"The model {name!r} has nothing behind the @; write for example {strategy}@encoder_weights=.")
    words = re.split(r",(?![^\[{]*[\]}])", rest) if rest else []
    settings: dict[str, Any] = {}
    for word in words:
        settings = layered(settings, _variant(name, word, variants or {}) if "=" not in word else parse_overrides([word]))
    return Model(name, strategy, settings)


def _variant(model: str, name: str, variants: Mapping[str, Any]) -> Mapping[str, Any]:
    if name not in variants:
        known = (
            f"the file of variants has {', '.join(variants)}" if variants else "variants with names come from --variants FILE"
        )
        raise ConfigError(f"The model {model!r} names the variant {name!r}; {known}. A setting is written key=value.")
    settings = variants[name]
    _check_variant(name, settings, f"The variant {name!r}")
    return settings or {}


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Parse ``a.b=value`` into nested settings; values are YAML.

    Raises:
        ConfigError: A word is not ``key=value``.
    """
    settings: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key or any(not step for step in key.split(".")):
            raise ConfigError(
                f"The setting {word!r} is not key=value; write for example steps=500 or network.encoder=resnet50."
            )
        try:
            value = parse_yaml(text) if text else ""
        except YamlError as error:
            raise ConfigError(f"The value of the setting {word!r} is not readable YAML: {error}.") from error
        *sections, last = key.split(".")
        branch: dict[str, Any] = {last: value}
        for section in reversed(sections):
            branch = {section: branch}
        settings = layered(settings, branch)
    return settings


def read_settings(path: Path) -> dict[str, Any]:
    """Read a file of settings that override preset and protocol.

    Raises:
        ConfigError: The file is missing or not a YAML mapping, or a setting is invalid.
    """
    data = _read_mapping(path)
    check_layer(data, str(path))
    return data


def read_variants(path: Path) -> dict[str, Any]:
    """Read a file of variants: name -> settings or None.

    Raises:
        ConfigError: The file is missing or not a YAML mapping, or a setting is invalid.
    """
    variants = _read_mapping(path)
    for name, settings in variants.items():
        _check_variant(name, settings, f"{path}: the variant {name!r}")
    return variants


def _read_mapping(path: Path) -> dict[str, Any]:
    data = read_yaml(path, "The settings file")
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__} and not a mapping of settings.")
    return text_keys(data or {}, str(path))


def check_layer(data: Mapping[str, Any], where: str) -> None:
    """Validate the settings of an experiment.

    Args:
        data: Some settings by name.
        where: Name of the data in messages.

    Raises:
        ConfigError: A setting is invalid, or is defined by the experiment itself.
    """
    fixed = [key for key in data if key in FIXED]
    if fixed:
        raise ConfigError(f"{where}: an experiment sets {fixed[0]!r} itself, for every run; leave it out of the settings.")
    check_settings(data, where)


def _check_protocol(protocol: Protocol) -> None:
    """Validate the settings of a protocol, including those of all presets."""
    where = f"The protocol {protocol.name}"
    check_layer(protocol.settings, f"{where}, settings")
    for preset, settings in protocol.preset_settings.items():
        check_preset(preset, f"{where}, preset_settings,")
        check_layer(settings, f"{where}, preset_settings.{preset}")


def _check_variant(name: str, settings: Any, where: str) -> None:
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"The variant {name!r} is a {type(settings).__name__} and not a mapping of settings.")
    check_layer(settings or {}, where)


def make_plan(
    protocol: Protocol,
    out: Path,
    models: Sequence[str] = COMPARED,
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    reference_size: Size | None = None,
    accelerator: str = "auto",
    variants: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan all runs, without file access.

    Args:
        protocol: The splits.
        out: Folder of the experiment.
        models: Names of the models.
        seeds: Random seeds.
        settings: Settings for all trainings.
        reference_size: (height, width) of the reference image for distances in px; None for the source image.
        accelerator: ``auto``, ``cpu`` or ``gpu``; each run uses one device.
        variants: Name of a variant -> its settings, for models named ``STRATEGY@VARIANT``.

    Raises:
        ConfigError: A model or a setting is invalid.
    """
    layers = settings or Settings()
    protocol = protocol.with_groups(None)  # raises if the groups are missing
    _check_protocol(protocol)
    if not models or len(set(models)) != len(models):
        raise ConfigError(f"The models {', '.join(models)} name one twice; name each once.")
    contenders = [(model, *_layers(protocol, model, layers)) for model in (parse_model(name, variants) for name in models)]
    runs = []
    for seed in seeds:
        for fold in protocol.folds:
            for model, preset, common in contenders:
                folder = run_folder(out, fold.name, model.name, seed)
                data = common | {
                    "name": f"{protocol.name}/{fold.name}/{model.name}/seed{seed}",
                    "output": str(folder),
                    "cache": common.get("cache", str(out / "cache")),
                    "train": [*_sources(protocol, fold.train), *common.get("train", ())],
                    "validation": _sources(protocol, fold.validation),
                    "seed": seed,
                    "devices": "1",
                    "accelerator": accelerator,
                }
                config = parse_config(data, f"The configuration of {model.name}, fold {fold.name},")
                runs.append(PlannedRun(fold, model, seed, preset, folder, config))
    return Plan(protocol, out, tuple(runs), reference_size)


def run_folder(out: Path, fold: str, model: str, seed: int) -> Path:
    """Folder of a run."""
    return out / "runs" / quote(fold, safe=_SAFE) / quote(model, safe=_SAFE) / f"seed{seed}"


def _layers(protocol: Protocol, model: Model, settings: Settings) -> tuple[str, dict[str, Any]]:
    """Name of the preset, and the merged settings that are common to all runs of a model."""
    given = {
        "The settings of --config": settings.file or {},
        "The settings of the command line": settings.overrides or {},
        f"The model {model.name!r}": model.settings,
    }
    preset = next((layer["preset"] for layer in reversed(given.values()) if "preset" in layer), settings.preset)
    check_preset(preset, "The experiment")
    for where, layer in given.items():
        check_layer(layer, where)
    data: dict[str, Any] = {}
    for layer in (protocol.settings, protocol.preset_settings.get(preset, {}), *given.values()):
        data = layered(data, layer)
    if any(item.get("root") for item in data.get("train", ())):
        raise ConfigError(
            "Only synthetic frames that are drawn on the fly can be added to the training sequences of a fold; write under"
            " 'train' for example [{dataset: synthetic, seed: 1, share: 0.25}]."
        )
    data["preset"] = preset
    data["network"] = {**data.get("network", {}), "strategy": model.strategy}
    if model.strategy in WITHOUT_DECODER:
        # A U-Net has an encoder only where its own name gives it one: the experiment's is that of the other strategies.
        encoder = model.settings.get("network", {}).get("encoder", "none")
        data["network"] |= {"encoder": encoder, "decoder": "none", "decoder_width": 1.0}
    if model.strategy in REGRESSING:
        # Regression has a fixed input size: use the crop size of the other strategies.
        crop = layered(PRESETS[preset], data).get("crop", TrainConfig.crop)
        data |= {"input_size": list(crop), "crop": list(crop)}
    return preset, data


def _sources(protocol: Protocol, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Sources of parts, with approximately equal probability per frame."""
    weights = [len(part.sequences) * (part.last - part.first) for part in parts]
    return [
        {
            "dataset": protocol.dataset,
            "root": f"${{{ROOT_VARIABLE}}}",
            "sequences": list(part.sequences),
            "share": weight / sum(weights),
            "skip_first": part.first,
            "skip_last": round(1 - part.last, 9),
        }
        for part, weight in zip(parts, weights, strict=True)
    ]
