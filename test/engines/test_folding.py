import pytest
import torch
from torch import nn

from csl_tracker.engines.folding import as_subpixel_convolutions, fold_batch_norms
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.networks.decoders import UpProjection

CONFIGS = [
    NetworkConfig(),
    NetworkConfig("csl_no_skip", "efficientnet_lite0", "up_projection"),
    NetworkConfig("unet", "none", "none", width=8),
    NetworkConfig("l", "resnet50", input_size=(64, 96)),
    NetworkConfig("sl", "efficientnet_lite0", "up_projection", input_size=(64, 96)),
]


def live_up(network: nn.Module) -> nn.Module:
    """Batch norms as training leaves them: those of a new network change next to nothing."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
    return network.eval()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.strategy}-{config.encoder}-{config.decoder}")
def test_a_folded_network_says_the_same_without_a_batch_norm(config: NetworkConfig) -> None:
    network = live_up(build_network(config))
    image = torch.randn(1, 3, *(config.input_size or (75, 101)))
    folded = fold_batch_norms(network)
    subpixel = as_subpixel_convolutions(folded)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()), "the network itself stays as it was"
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in subpixel.modules()) == (4 if config.strategy == "unet" else 0)
    with torch.inference_mode():
        for expected, *found in zip(network(image), folded(image), subpixel(image), strict=True):
            for tensor in found:
                assert (tensor is None) == (expected is None)
                if expected is not None:
                    torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


class Preceded(nn.Module):
    """A batch norm behind something that is no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.config = NetworkConfig()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return (self.norm(torch.relu(self.conv(x))),)


def test_a_norm_that_follows_no_convolution_stays() -> None:
    network = live_up(Preceded())
    image = torch.randn(1, 3, 9, 9)
    folded = fold_batch_norms(network)
    assert isinstance(folded.norm, nn.BatchNorm2d)
    torch.testing.assert_close(folded(image), network(image))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_subpixel_convolutions_are_the_up_projection(bias: bool, size: tuple[int, int]) -> None:
    block = live_up(UpProjection(6, 4))
    if bias:
        block.up = nn.ConvTranspose2d(6, 8, 5, stride=2, padding=2, output_padding=1)
    x = torch.randn(2, 6, *size, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(as_subpixel_convolutions(nn.Sequential(block))(x), block(x), rtol=1e-5, atol=1e-5)
