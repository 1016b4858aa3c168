"""Training configurations: a YAML file and ``key=value`` overrides into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from csl_tracker.datasets.augment import AUGMENTATIONS
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import find_instruments
from csl_tracker.names import check_model_name
from csl_tracker.networks.base import REGRESSING
from csl_tracker.output import JSON_DECIMALS
from csl_tracker.paths import user_path
from csl_tracker.training.presets import PRESETS
from csl_tracker.yaml_files import YamlError, as_bool, parse_yaml, read_yaml, spelled

T = TypeVar("T")

_WRITTEN = 10.0**-JSON_DECIMALS
"""Numbers that went through a report differ by this much."""
MAY_CHANGE = ("name", "output", "workers", "threads", "precision", "accelerator", "devices", "cache", "half")
"""Settings that may differ when a run is taken up."""
PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed")


@dataclass(frozen=True)
class SourceConfig:
    """One source of frames.

    Attributes:
        dataset: Name of a dataset, one of :data:`csl_tracker.datasets.registry.DATASETS`.
        root: Folder of a dataset on disk; ``${NAME}`` stands for an environment variable. Synthetic frames are drawn on the fly
            where there is none.
        sequences: Names on disk; empty means all.
        share: Relative share of the training frames that come from here.
        seed: Of synthetic frames.
        frames: Synthetic validation frames.
        skip_first: Share of each sequence's frames, from its start, that is left out.
        skip_last: The same from its end.
        clutter: Probability of clutter in synthetic frames that are drawn on the fly: pale bands, gauze, threads, tubes.
        partial: The dataset may lack landmarks and classes of the instruments: what it lacks is not trained on in its frames.
            Without this a dataset with other names is refused; one without any masks never is. See
            :mod:`csl_tracker.datasets.mapping`.
        landmarks: Names as ``THEIRS=OURS``: the dataset's landmark is the one that the instruments call so.
        classes: The same for classes; ``THEIRS=ignore`` leaves the pixels of one out.
    """

    dataset: str
    root: str = ""
    sequences: tuple[str, ...] = ()
    share: float = 1.0
    seed: int = 0
    frames: int = 64
    skip_first: float = 0.0
    skip_last: float = 0.0
    clutter: float = 0.0
    partial: bool = False
    landmarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkSection:
    """Which network; see :class:`csl_tracker.networks.NetworkConfig`."""

    strategy: str = "csl"
    encoder: str = "efficientnet_lite0"
    decoder: str = "separable"
    slots: int = 2
    width: int = 64
    decoder_width: float = 1.0
    trees: int = 0
    nodes: int = 0


@dataclass(frozen=True)
class HeatmapSection:
    """Shape of the targets; see :class:`csl_tracker.heatmaps.HeatmapSpec`."""

    sigma: float = 3.5
    peak: float = 1.0


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        name: Of the model.
        output: Folder of checkpoints, logs and weights; ``~`` at the start of a path is the home folder, here and below.
        network: Which network.
        instruments: Name of an instrument set, or a YAML file of one; see :func:`csl_tracker.instruments.find_instruments`.
        heatmap: Shape of the targets.
        encoder_weights: ``imagenet``, a path, or empty for random initialisation.
        init_weights: Weights to start from, a file or the name of a shipped model; overrides ``encoder_weights``.
        input_size: (height, width) that the network is trained for.
        resize: ``keep_aspect`` or ``stretch``.
        crop: (height, width) of the training crops.
        train: Sources of training frames.
        validation: Sources of held-out frames.
        augmentation: Name of a preset.
        heatmap_weight: ``lambda_H``.
        regression_weight: ``lambda_L``.
        side_weight: Weight of the second task that tells left from right landmarks apart; 0 turns it off. It needs a decoder.
        new_layers_std: Standard deviation of the normal distribution from which the weights behind the encoder are drawn; 0 for
            the layers' own initialisation.
        optimizer: ``adamw`` or ``sgd`` (momentum 0.9).
        learning_rate: Highest rate.
        encoder_rate: Factor on the encoder's learning rate.
        weight_decay: Of AdamW.
        warmup: Share of the steps over which the rate rises; afterwards it falls as a cosine.
        schedule: ``cosine`` or ``constant``.
        batch_size: Frames a step.
        steps: Optimiser steps.
        steps_per_epoch: Steps between checkpoints: what a kill can cost.
        validate_every: Epochs between validations.
        ema_decay: Decay of the averaged weights, which are what is validated and kept; 0 turns averaging off.
        clip: Largest norm of the gradient; 0 turns clipping off.
        seed: Of everything random.
        workers: Processes that make frames.
        threads: Torch threads; 0 leaves them.
        precision: ``auto`` (mixed on a GPU, 32 bit on a CPU), ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: Number of devices, or ``auto``.
        cache: Folder for decoded frames.
        half: Store the tensors of the weights files in half precision, at half the size.
    """

    name: str = "model"
    output: str = "output/train"
    network: NetworkSection = field(default_factory=NetworkSection)
    instruments: str = "endovis"
    heatmap: HeatmapSection = field(default_factory=HeatmapSection)
    encoder_weights: str = "imagenet"
    init_weights: str = ""
    input_size: tuple[int, int] = (256, 320)
    resize: str = "keep_aspect"
    crop: tuple[int, int] = (256, 256)
    train: tuple[SourceConfig, ...] = (SourceConfig("synthetic"),)
    validation: tuple[SourceConfig, ...] = (SourceConfig("synthetic", seed=9_000_000),)
    augmentation: str = "paper"
    heatmap_weight: float = 0.05
    regression_weight: float = 10.0
    side_weight: float = 0.0
    new_layers_std: float = 0.0
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    encoder_rate: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.05
    schedule: str = "cosine"
    batch_size: int = 8
    steps: int = 2000
    steps_per_epoch: int = 100
    validate_every: int = 1
    ema_decay: float = 0.998
    clip: float = 5.0
    seed: int = 0
    workers: int = 2
    threads: int = 0
    precision: str = "auto"
    accelerator: str = "auto"
    devices: str = "auto"
    cache: str = "output/cache"
    half: bool = False

    def __post_init__(self) -> None:
        """Reject impossible values.

        Raises:
            ConfigError: A value is unknown or out of range.
        """
        choices = {
            "augmentation": tuple(AUGMENTATIONS),
            "optimizer": ("adamw", "sgd"),
            "schedule": ("cosine", "constant"),
            "resize": ("keep_aspect", "stretch"),
        }
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise ConfigError(f"The training's {key} {getattr(self, key)!r} is unknown; choose one of {', '.join(known)}.")
        check_model_name(self.name)
        find_instruments(self.instruments)
        for key in ("batch_size", "steps", "steps_per_epoch", "validate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(f"The training's {key} is {getattr(self, key)}; give at least 1.")
        for key in ("learning_rate", "heatmap.sigma", "heatmap.peak"):
            section, _, name = key.rpartition(".")
            value = getattr(getattr(self, section) if section else self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"The training's {key} is {value}; give a positive number.")
        if any(not source.share > 0 for source in self.train):
            raise ConfigError("The training's sources need a share above 0 each; leave a source out rather than give it none.")
        if not (self.devices == "auto" or (self.devices.isdigit() and int(self.devices) > 0)):
            raise ConfigError(f"The training's devices is {self.devices!r}; give a number from 1, or auto.")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"The training's precision {self.precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
        if any(side < 32 or side % 32 for side in self.crop):
            raise ConfigError(f"The training's crop is {self.crop}; give height and width as multiples of 32.")
        if self.network.strategy in REGRESSING and (self.resize != "stretch" or self.crop != self.input_size):
            raise ConfigError(
                f"The strategy {self.network.strategy!r} regresses coordinates, which hold for one input size alone: set resize"
                f" to stretch and crop to the input_size {list(self.input_size)}; they are {self.resize} and {list(self.crop)}."
            )
        if not self.train or not self.validation:
            raise ConfigError("A training needs at least one source under 'train' and one under 'validation'.")


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration and apply overrides.

    ``key=value`` replaces a setting, ``a.b=value`` reaches into sections and ``train.0.seed=3`` into lists.

    Raises:
        ConfigError: The file is missing or no YAML, or a key or value is unknown.
    """
    path = user_path(path)
    if not path.is_file():
        raise ConfigError(f"There is no configuration file {path}; the shipped ones lie in config/train.")
    data = read_yaml(path, "The configuration") or {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__} and no mapping of settings.")
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise ConfigError(
                f"The override {override!r} is no key=value; write for example steps=500 or network.encoder=resnet50."
            )
        try:
            _assign(data, key.split("."), parse_yaml(text))
        except YamlError as error:
            raise ConfigError(f"The value of the override {override!r} is no readable YAML: {error}.") from error
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ConfigError(f"The override {override!r} cannot be applied to {path}: there is no {key!r} in it.") from error
    return parse_config(data, str(path))


def parse_config(data: Mapping[str, Any], where: str) -> TrainConfig:
    """Build a configuration from plain data.

    ``preset`` names one of :data:`csl_tracker.training.presets.PRESETS`, over whose settings the others are laid.

    Args:
        data: Settings by name, as YAML gives them.
        where: What to call the data in messages.

    Raises:
        ConfigError: A key or a value is unknown.
    """
    settings = dict(data)
    preset = settings.pop("preset", None)
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ConfigError(f"{where} names the preset {preset!r}, which is unknown; choose one of {', '.join(PRESETS)}.")
        settings = layered(PRESETS[preset], settings)
    config = _build(TrainConfig, settings, where)
    return dataclasses.replace(config, output=str(user_path(config.output)), cache=str(user_path(config.cache)))


def layered(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over settings: sections are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = layered(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def differing_setting(before: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting in which two configurations differ, as plain data: its dotted name and both values.

    A setting that was not yet known when the first one was written is held to have had its default.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name, value in now.items():
            path = f"{key}.{name}" if key else name
            known = before[name] if name in before else _default(path)
            if (found := differing_setting(known, value, path)) is not None:
                return found
        return None
    if isinstance(before, list | tuple) and isinstance(now, list | tuple) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return next((found for i, (a, b) in pairs if (found := differing_setting(a, b, f"{key}.{i}")) is not None), None)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, now))
    same = abs(before - now) <= _WRITTEN if numbers else before == now
    return None if same else (key, before, now)


def _default(path: str) -> Any:
    """What a setting has when nobody sets it, by its dotted name; None where there is no default."""
    section, _, name = path.rpartition(".")
    if re.fullmatch(r"(train|validation)\.\d+", section):
        return SourceConfig.__dataclass_fields__[name].default
    value: Any = dataclasses.asdict(TrainConfig())
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _assign(data: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data[int(key)] if isinstance(data, list) else data.setdefault(key, {})
    if isinstance(data, list):
        data[int(keys[-1])] = value
    else:
        data[keys[-1]] = value


def _build(cls: type[T], data: Any, where: str) -> T:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} holds {data!r} where a section with settings belongs.")
    hints = typing.get_type_hints(cls)
    unknown = [key for key in data if key not in hints]  # also of another type
    if unknown:
        raise ConfigError(f"{where} has the unknown setting {unknown[0]!r}; known are {', '.join(hints)}.")
    try:
        return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in data.items()})
    except TypeError as error:
        raise ConfigError(f"{where} lacks a setting ({error}).") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}; give a list.")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(arguments) != len(value):
            raise ConfigError(f"{where} is {value!r}; give {len(arguments)} values.")
        return tuple(_convert(a, item, where) for a, item in zip(arguments, value, strict=True))
    if hint is str:
        return spelled(value, where)
    if hint is bool:
        return as_bool(value, where)
    return _number(hint, value, where)


def _number(hint: type[int] | type[float], value: Any, where: str) -> int | float:
    """A number of a type; also from a text, since YAML knows other ways to write one than Python."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = hint(value)
        if not math.isfinite(number) or (hint is int and isinstance(value, float) and number != value):
            raise ValueError
    except (ValueError, OverflowError) as error:
        kind = "a whole number" if hint is int else "a finite number"
        raise ConfigError(f"{where} is {value!r}; give {kind}.") from error
    return number
