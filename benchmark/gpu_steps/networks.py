"""The networks that are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmark.bench import peers
from benchmark.gpu_steps.context import Part
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.pixels import Size
from csl_tracker.weights import Model, ModelDescription, Preprocessing, find_weights, load_weights, shipped_weights

PAPER = "CSL, ResNet-50"
PAPER_SIZE = (480, 480)
SHIPPED = shipped_weights()
SETTINGS = {
    "csl_lite0": {"strategy": "csl"},
    PAPER: {"strategy": "csl", "encoder": "resnet50", "decoder": "up_projection"},
}
"""Networks that are trained, as a training's configuration names them."""
TINY = {"strategy": "unet", "encoder": "none", "decoder": "none", "width": 2}
"""Stands for all of them in a dry run."""


@dataclass(frozen=True)
class Candidate:
    """A network to measure.

    Attributes:
        name: In tables.
        build: Makes the model.
        trained: Its weights were trained, so that its landmarks mean something.
    """

    name: str
    build: Callable[[], Model]
    trained: bool


def candidates(dry: bool) -> list[Candidate]:
    """The networks by worth: the paper's with random weights, since latency does not depend on them, and the shipped ones."""
    paper = Candidate(PAPER, lambda: tiny(PAPER) if dry else _paper(), trained=False)

    def shipped(name: str) -> Candidate:
        return Candidate(name, lambda: tiny(name) if dry else load_weights(find_weights(name)), trained=not dry)

    return [paper, *(shipped(name) for name in (SHIPPED[:1] if dry else SHIPPED))]


def build(candidate: Candidate, part: Part) -> Model:
    """Make a model, and note its hash beside the figures."""
    model = candidate.build()
    part.note(models_sha256={**part.data.get("models_sha256", {}), candidate.name: model.sha256})
    return model


def _paper() -> Model:
    return peers.random_model(peers.Peer(PAPER, lambda: build_network(peers.RESNET_CONFIG), PAPER_SIZE))


def tiny(name: str, size: Size = (32, 64)) -> Model:
    """A network of a few hundred weights, random, whose heatmaps have peaks."""
    torch.manual_seed(0)
    config = NetworkConfig("unet", "none", "none", width=int(TINY["width"]))
    network = build_network(config).eval()
    torch.nn.init.normal_(network.heatmap_head.weight, std=2.0)  # type: ignore[union-attr,arg-type]
    pre = Preprocessing(network.normalization.mean, network.normalization.std, size, "stretch")
    description = ModelDescription(name, config, ENDOVIS, HeatmapSpec(3.5, 1.0), pre, confidence_threshold=0.05)
    return Model(network, description, hashlib.sha256(f"tiny {name} {size}".encode()).hexdigest())
