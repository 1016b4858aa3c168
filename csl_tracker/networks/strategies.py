"""Builds networks from configurations."""

from __future__ import annotations

from csl_tracker.network_names import REGRESSING
from csl_tracker.networks.base import Network, NetworkConfig
from csl_tracker.networks.csl import CslNetwork
from csl_tracker.networks.forest import ForestNetwork
from csl_tracker.networks.regression import RegressionNetwork
from csl_tracker.networks.unet import EncoderUNet, UNet


def build_network(config: NetworkConfig) -> Network:
    """Build a network with random initialisation."""
    if config.strategy in REGRESSING:
        return RegressionNetwork(config)
    if config.strategy == "unet":
        return UNet(config) if config.encoder == "none" else EncoderUNet(config)
    if config.strategy == "forest":
        return ForestNetwork(config)
    return CslNetwork(config)
