"""Results of runs, with numbers that can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from csl_tracker import metrics

Result = dict[str, Any]


def landmark(
    errors: Sequence[float | None],
    boxes: Sequence[float | None] | float | None = 100.0,
    frames: Sequence[int] | None = None,
    slots: Sequence[int] | None = None,
    missed: Sequence[int] | None = None,
) -> dict[str, list[Any]]:
    """One landmark of ``details``."""
    count = len(errors)
    return {
        "frame": list(range(count) if frames is None else frames),
        "slot": list(slots or [0] * count),
        "error_px": list(errors),
        "box_px": list(boxes) if isinstance(boxes, Sequence) else [boxes] * count,
        "missed": list(missed or [0] * count),
    }


def sequence(
    landmarks: Mapping[str, Mapping[str, list[Any]]],
    dice: Sequence[float] | None = (0.9, 0.8),
    absent: int = 0,
    false_positive_rate: float | None = None,
    reference_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One sequence of a result: its details, and the figures of its report that are not in them."""
    errors = [e for part in landmarks.values() for e in part["error_px"]]
    shares = None if dice is None else list(dice)
    of_class = dict.fromkeys(("dice", "precision", "recall"), shares and shares[0])
    return {
        "frames": max((max(part["frame"], default=0) for part in landmarks.values()), default=0) + 1,
        "reference_size": reference_size,
        "classes": {"shaft": of_class, "manipulator": of_class},
        "landmark_error_px": metrics.summary([e for e in errors if e is not None]),
        "absent": absent,
        "false_positive_rate": false_positive_rate,
        "landmarks": {name: {"absent": absent, "false_positive_rate": false_positive_rate} for name in landmarks},
        "details": {"dice": shares, "precision": shares, "recall": shares, "landmarks": landmarks},
    }


def make(
    model: str, sequences: Mapping[str, Any], seed: int = 0, fold: str = "all", protocol: str = "synthetic", **more: Any
) -> Result:
    """One ``result.json``."""
    return {
        "format": "csl_tracker/run/1",
        "protocol": protocol,
        "fold": fold,
        "model": model,
        "seed": seed,
        "network": {
            "strategy": model.partition("@")[0],
            "encoder": "efficientnet_lite0",
            "decoder": "separable",
            "bottleneck_relu": False,
        },
        "preset": "modern",
        "steps": 400,
        "batch_size": 8,
        "input_size": [64, 96],
        "initialisation": "ImageNet",
        "seconds": 12.5,
        "command": "csl-tracker experiment synthetic --root data --out out",
        "date": "2026-01-02",
        "machine": {"cpu": "a CPU", "cores": 2, "gpu": None, "system": "Linux x86_64"},
        "versions": {"csl_tracker": "0.1.0", "torch": "2.13.0"},
        "input_sha256": "ab" * 32,
        "weights": {"name": model, "sha256": "cd" * 32, "confidence_threshold": 0.3, "engine": "torch", "device": "cpu"},
        "curve": {
            "step": [100, 200, 300, 400],
            "loss": [1.0, 0.5, 0.3, 0.29],
            "validation_step": [100, 200, 300, 400],
            "validation": {"loss": [1.1, 0.6, 0.4, 0.4]},
        },
        "sequences": dict(sequences),
        **more,
    }


@pytest.fixture(name="landmark", scope="session")
def landmark_fixture() -> Callable[..., dict[str, list[Any]]]:
    return landmark


@pytest.fixture(name="sequence", scope="session")
def sequence_fixture() -> Callable[..., dict[str, Any]]:
    return sequence


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Result]:
    """The function :func:`make`."""
    return make
