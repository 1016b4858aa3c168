"""Names and limits of networks, for checking a configuration without importing torch."""

from __future__ import annotations

from collections.abc import Mapping

STRATEGIES: Mapping[str, str] = {
    "l": "localisation alone: the encoder and a regression of the landmarks' coordinates",
    "sl": "one encoder for two heads that do not see each other: regressed coordinates, and a segmentation decoder",
    "csl_no_skip": "concurrent segmentation and heatmaps without the sums of encoder features over long skips",
    "csl": "concurrent segmentation and heatmaps: the segmentation's scores feed the heatmaps",
    "unet": "a U-Net of its own architecture, trained with the losses of csl",
    "forest": "a classical baseline: colour and gradient features and a random forest",
}
"""The strategies of Laina et al. 2017, section 2, and two baselines."""

REGRESSING = ("l", "sl")
"""Strategies that regress coordinates; these have a fixed input size."""

WITHOUT_ENCODER = ("unet", "forest")
"""Strategies without a configurable encoder; encoder and decoder are ``none``."""

DECODERS = ("up_projection", "separable")

MAX_SLOTS = 64
MAX_WIDTH = 1024
MAX_TREES = 10_000
MAX_NODES = 10_000_000
"""Upper limits of a network's size, far above practical values."""
