"""Names and limits of networks, for checking a configuration without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STRATEGIES: Mapping[str, str] = {
    "l": "localisation alone: the encoder and a regression of the landmarks' coordinates",
    "sl": "one encoder for two separate heads: regressed coordinates, and a segmentation decoder without skips",
    "sl_skip": "sl, whose segmentation decoder has the long skips of csl; not in the paper",
    "csl_no_skip": "concurrent segmentation and heatmaps without the sums of encoder features over long skips",
    "csl": "concurrent segmentation and heatmaps: the segmentation's scores feed the heatmaps",
    "unet": "a U-Net of its own architecture, trained with the losses of csl",
    "forest": "a classical baseline: colour and gradient features and a random forest",
}
"""The strategies of Laina et al. 2017, section 2.2, a variant of one, and two baselines; the order of tables and legends."""

COMPARED = ("l", "sl", "csl_no_skip", "csl", "unet", "forest")
"""The strategies of an experiment that names none."""

REGRESSING = ("l", "sl", "sl_skip")
"""Strategies that regress coordinates; these have a fixed input size."""

ASSOCIATING = ("csl_no_skip", "csl")
"""Strategies that can predict to which instrument a pixel belongs."""

WITHOUT_DECODER = ("unet", "forest")
"""Strategies without a configurable decoder, which is ``none``; so is their encoder, unless a U-Net is given one."""

DECODERS = ("up_projection", "separable")

MAX_SLOTS = 64
MAX_WIDTH = 1024
MAX_TREES = 10_000
MAX_NODES = 10_000_000
"""Upper limits of a network's size, far above practical values."""


def upgraded(network: Mapping[str, Any]) -> dict[str, Any]:
    """A network's stored settings in today's terms.

    Networks stored without ``bottleneck_relu`` come from before that setting: their up-projection decoders have the ReLU, and
    the segmentation decoder of their ``sl`` has skips, which is ``sl_skip`` now.

    Args:
        network: Settings by name, from a weights file's header, a checkpoint or a result.
    """
    if "bottleneck_relu" in network:
        return dict(network)
    strategy = "sl_skip" if network.get("strategy") == "sl" else network.get("strategy", "csl")
    return {**network, "strategy": strategy, "bottleneck_relu": network.get("decoder") == "up_projection"}
