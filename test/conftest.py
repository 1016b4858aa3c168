"""What many tests share: weights of a small random network, and a disk that is full."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.weights import ModelDescription, Preprocessing, save_weights


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file grows beyond ``room`` bytes: writes fail with an ``OSError``, as on a full disk, but for its number."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(name="full_disk")
def full_disk_fixture() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """The function :func:`full_disk`."""
    return full_disk


# A shell that starts the tests in the background lets them ignore SIGINT, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same random tensors in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes random weights and returns their path; keywords change the description."""

    def make(**changes: object) -> Path:
        torch.manual_seed(0)
        config = NetworkConfig()
        network = build_network(config)
        torch.nn.init.normal_(network.heatmap_head[-1].weight, std=0.2)  # type: ignore[index,arg-type]
        norm = network.encoder.normalization
        settings: dict[str, object] = {
            "name": "random",
            "network": config,
            "instruments": ENDOVIS,
            "heatmap": HeatmapSpec(3.5),
            "preprocessing": Preprocessing(norm.mean, norm.std, (128, 160)),
            "confidence_threshold": 0.3,
            "provenance": {"initialisation": "random"},
        }
        path = tmp_path_factory.mktemp("weights") / "random.safetensors"
        save_weights(path, network, ModelDescription(**{**settings, **changes}))  # type: ignore[arg-type]
        return path

    return make


@pytest.fixture(scope="session")
def random_weights(make_weights: Callable[..., Path]) -> Path:
    """Weights of a small random network with the EndoVis landmarks, input 128x160."""
    return make_weights()
