"""How many steps of a training fit into the time, and the settings of its probe and of the training itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.network_names import REGRESSING
from csl_tracker.training.config import SourceConfig, TrainConfig, load_config

FIXED = ("steps", "steps_per_epoch", "validate_every", "output", "cache", "accelerator", "devices")
"""Settings that the script decides."""
BATCH = 64
"""Frames of a step, before the memory is known to be too small."""
END_S = 8.0
"""For the last files."""
_EXPORT_S = 1.0
"""For the checkpoints and weights after a validation."""
_SAFETY = 0.95
_BETWEEN_S = 60.0  # validations
_MOST_VALIDATIONS = 10
_PROBE_FRAMES = 8  # share of a validation that the probe does: one of so many
_DRY_STEPS = 4
_DRY_CROP = (64, 64)
_DRY_BATCH = 2


@dataclass(frozen=True)
class Rate:
    """What the probe has measured.

    Attributes:
        step_s: Of a step, in the long run: data included.
        startup_s: To the end of the first step.
        validation_s: Of a whole validation.
    """

    step_s: float
    startup_s: float
    validation_s: float


@dataclass(frozen=True)
class Length:
    """How long to train.

    Attributes:
        steps: All steps.
        validations: How many, evenly; the last one is after the last step.
    """

    steps: int
    validations: int


def fit_length(rate: Rate, left_s: float) -> Length:
    """The longest training that ends in time, its validations and files included.

    Raises:
        ConfigError: There is not even time for one step.
    """
    usable = _SAFETY * (left_s - END_S - rate.startup_s)
    each = rate.validation_s + _EXPORT_S
    validations = max(1, min(_MOST_VALIDATIONS, int(usable / max(_BETWEEN_S, 4 * each))))
    steps = int((usable - validations * each) / rate.step_s)
    if steps < 1:
        raise ConfigError(
            f"{max(0.0, left_s):.0f} s are left after the probe, in which a step took {rate.step_s:.2f} s, the start"
            f" {rate.startup_s:.0f} s and a validation {rate.validation_s:.0f} s; give more --minutes."
        )
    validations = min(validations, steps)
    return Length(steps // validations * validations, validations)


def dry_length(length: Length) -> Length:
    """A dry run's: a few steps, two validations."""
    steps = min(_DRY_STEPS, length.steps)
    return Length(steps // 2 * 2, 2) if steps > 1 else Length(1, 1)


def base_config(path: Path, overrides: Sequence[str], weights: Path | None, cores: int, dry: bool) -> TrainConfig:
    """The configuration with the settings of a GPU machine; overrides win.

    Args:
        path: A configuration's file.
        overrides: ``KEY=VALUE``.
        weights: Initial weights that were carried along; None for the configuration's.
        cores: Of this machine.
        dry: Tiny, on the CPU.

    Raises:
        ConfigError: A setting is unknown, or decided by the script.
    """
    given = {override.partition("=")[0] for override in overrides}
    refused = next((key for key in FIXED if key in given), None)
    if refused is not None:
        raise ConfigError(f"{refused} cannot be set: the script decides {', '.join(FIXED)}.")
    config = load_config(path, overrides)
    defaults: dict[str, Any] = {"workers": cores, "batch_size": BATCH, "half": True}
    if weights is not None:
        defaults["init_weights"] = str(weights)
    if dry:
        defaults |= {"workers": 1, "batch_size": _DRY_BATCH}
        if config.network.strategy not in REGRESSING:
            defaults["crop"] = _DRY_CROP
        config = replace(config, validation=_fewer(config.validation, math.inf))
    config = replace(config, **{key: value for key, value in defaults.items() if key not in given})
    return replace(config, accelerator="cpu" if dry else "gpu", devices="1", validate_every=1)


def probe_config(config: TrainConfig, batch_size: int, folder: Path) -> TrainConfig:
    """A short training in which the rate is measured: a round of batches of all workers to start with, then two more."""
    steps = sum(probe_steps(config.workers))
    return replace(
        config,
        batch_size=batch_size,
        steps=steps,
        steps_per_epoch=steps,
        validation=_fewer(config.validation, _PROBE_FRAMES),
        **_folders(folder / "probe"),
    )


def probe_steps(workers: int) -> tuple[int, int]:
    """Untimed and timed steps of a probe. Workers make their first batches at the same time, one batch each."""
    return max(1, workers), 2 * max(1, workers)


def full_config(config: TrainConfig, batch_size: int, length: Length, folder: Path) -> TrainConfig:
    """The training itself."""
    return replace(
        config,
        batch_size=batch_size,
        steps=length.steps,
        steps_per_epoch=length.steps // length.validations,
        **_folders(folder / "training"),
    )


def validation_share(config: TrainConfig, probe: TrainConfig) -> float:
    """How many times longer a whole validation is than the probe's."""
    return sum(source.frames for source in config.validation) / sum(source.frames for source in probe.validation)


def _fewer(sources: Sequence[SourceConfig], divisor: float) -> tuple[SourceConfig, ...]:
    return tuple(replace(source, frames=min(source.frames, max(2, int(source.frames / divisor)))) for source in sources)


def _folders(folder: Path) -> dict[str, Any]:
    return {"output": str(folder), "cache": str(folder.parent / "cache")}
