"""Fused convolutions, computed by torch's plain operations in place of cuDNN's."""

import pytest
import torch
from torch.nn import functional

from csl_tracker.engines.folding import fold_batch_norms
from csl_tracker.engines.fused import fuse_activations
from csl_tracker.networks import NetworkConfig, build_network


class Plain:
    """What cuDNN's operations are defined to compute; counts its calls."""

    def __init__(self):
        self.calls = 0

    def relu(self, convolution, x):
        self.calls += 1
        return functional.relu(convolution(x))

    def add_relu(self, convolution, x, summand):
        self.calls += 1
        return functional.relu(convolution(x) + summand)


@pytest.mark.parametrize(
    ("encoder", "decoder", "count"),
    [
        ("resnet50", "up_projection", 1 + 3 * 16 + 4),
        ("efficientnet_lite0", "up_projection", 4),
        ("efficientnet_lite0", "separable", 0),
    ],
)
def test_fused_networks_say_the_same(encoder, decoder, count):
    network = build_network(NetworkConfig(encoder=encoder, decoder=decoder)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    plain = Plain()
    folded = fold_batch_norms(network)
    fused, found = fuse_activations(folded, plain)
    assert found == count
    with torch.inference_mode():
        image = torch.randn(1, 3, 64, 96)
        expected, given = folded(image), fused(image)
    assert plain.calls == count
    torch.testing.assert_close(given.heatmaps, expected.heatmaps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given.scores, expected.scores, rtol=1e-4, atol=1e-5)


def test_what_was_not_folded_is_left_as_it_is():
    network = build_network(NetworkConfig(encoder="resnet50", decoder="up_projection")).eval()
    assert fuse_activations(network, Plain())[1] == 0
