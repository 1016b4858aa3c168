"""Training presets, without data and network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PAPER_SIGMA = 7.0
"""Sigma for EndoVis, px of a 320x240 heatmap."""

_MEAN_OVER_PIXELS = 1.0 / (240 * 240)
"""``lambda_H`` that converts the sum over heatmap pixels (480x480 crops) to a mean, like the segmentation loss."""

_LITERAL: Mapping[str, Any] = {
    "network": {"encoder": "resnet50", "decoder": "up_projection"},
    "encoder_weights": "imagenet",
    "resize": "stretch",
    "input_size": [480, 640],
    "crop": [480, 480],
    "augmentation": "paper",
    "optimizer": "sgd",
    "learning_rate": 1e-7,
    "schedule": "constant",
    "warmup": 0.0,
    "encoder_rate": 1.0,
    "weight_decay": 0.0,
    "heatmap_weight": 1.0,
    "regression_weight": 1.0,
    "heatmap": {"sigma": _PAPER_SIGMA, "peak": 0.0},
    "new_layers_std": 0.1,
    "ema_decay": 0.0,
    "clip": 0.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper_literal": _LITERAL,
    "paper": {
        **_LITERAL,
        "learning_rate": 3e-3,
        "heatmap": {"sigma": _PAPER_SIGMA, "peak": 1.0},
        "heatmap_weight": _MEAN_OVER_PIXELS,
    },
    "modern": {
        "resize": "stretch",
        "augmentation": "strong",
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "encoder_rate": 0.5,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": 0.05,
        "heatmap": {"sigma": 3.5, "peak": 1.0},
        "heatmap_weight": 0.05,
        "regression_weight": 10.0,
        "ema_decay": 0.995,
        "clip": 5.0,
    },
}
"""Preset name -> settings of :class:`csl_tracker.training.config.TrainConfig`.

``paper_literal`` has the network and numbers of Laina et al. 2017, section 3, as printed; ``paper`` rescales learning rate,
``lambda_H`` and target height; the bundled weights use ``modern`` plus the left/right task (docs/training.md).
"""
