import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from csl_tracker.errors import ConfigError
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.networks.decoders import SeparableDecoder, UpProjection, UpProjectionDecoder
from csl_tracker.networks.encoders import SameConv2d

MODELS = [
    ("csl", "efficientnet_lite0", "separable"),
    ("csl", "efficientnet_lite2", "separable"),
    ("csl_no_skip", "efficientnet_lite0", "separable"),
    ("csl", "efficientnet_lite0", "up_projection"),
    ("csl", "resnet50", "separable"),
    ("unet", "none", "none"),
    ("unet", "efficientnet_lite0", "none"),
]
REGRESSORS = [
    ("l", "efficientnet_lite0", "separable"),
    ("sl", "efficientnet_lite0", "separable"),
    ("sl", "efficientnet_lite0", "up_projection"),
    ("sl_skip", "efficientnet_lite0", "separable"),
    ("l", "resnet50", "up_projection"),
]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "magic"}, "strategy 'magic' is unknown"),
        ({"encoder": "vgg"}, "encoder 'vgg' is unknown"),
        ({"decoder": "mlp"}, "decoder 'mlp' is unknown"),
        ({"num_landmarks": 0}, "0 landmarks"),
        ({"num_classes": 1}, "1 classes"),
        ({"strategy": "unet"}, "decoder 'separable' is unknown; choose one of none"),
        ({"strategy": "forest", "decoder": "none"}, "encoder 'efficientnet_lite0' is unknown; choose one of none"),
        ({"strategy": "unet", "encoder": "none", "decoder": "none", "width": 0}, "width is 0"),
        ({"encoder": "none"}, "encoder 'none' is unknown"),
        ({"strategy": "l"}, "holds? for one input size alone; its input_size is None"),
        ({"strategy": "sl", "input_size": [16, 64]}, r"input_size is \(16, 64\)"),
        ({"strategy": "l", "input_size": [64, 64], "slots": 0}, "slots is 0"),
        ({"depth": 4}, "no setting 'depth'"),
        ({"decoder_width": 0.0}, "decoder_width is 0.0; give a share"),
        (
            {"decoder": "up_projection", "decoder_width": 2.0},
            "only the separable decoder has a width to choose, not 'up_projection'",
        ),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig.from_dict(settings)


@pytest.mark.parametrize(("strategy", "encoder", "decoder"), MODELS)
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 31), (1, 1)])
def test_any_input_size_gives_half_the_size(strategy: str, encoder: str, decoder: str, size: tuple[int, int]) -> None:
    network = build_network(NetworkConfig(strategy, encoder, decoder, 4, 3, width=4)).eval()
    with torch.inference_mode():
        output = network(torch.randn(1, 3, *size))
    half = (-(-size[0] // 2), -(-size[1] // 2))
    assert output.heatmaps.shape == (1, 4, *half)
    assert output.scores.shape == (1, 3, *half)


@pytest.mark.parametrize(("strategy", "encoder", "decoder"), REGRESSORS)
@pytest.mark.parametrize("size", [(96, 128), (65, 97), (480, 480)])
def test_regression_takes_its_own_size_alone(strategy: str, encoder: str, decoder: str, size: tuple[int, int]) -> None:
    config = NetworkConfig(strategy, encoder, decoder, 4, 3, input_size=size, slots=3)
    network = build_network(config).eval()
    with torch.inference_mode():
        output = network(torch.randn(1, 3, *size))
        with pytest.raises(ConfigError, match=f"takes {size[0]}x{size[1]} .* and no other, and was given 64x64"):
            network(torch.randn(1, 3, 64, 64))
    assert output.heatmaps is None
    assert output.points.shape == (1, 3, 4, 3)
    half = (-(-size[0] // 2), -(-size[1] // 2))
    assert (output.scores is None) if strategy == "l" else (output.scores.shape == (1, 3, *half))
    assert config.segments == (output.scores is not None)
    assert not config.localises_by_heatmaps
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_papers_regression_pools_8x8x2048() -> None:
    network = build_network(NetworkConfig("l", "resnet50", "up_projection", input_size=(480, 480)))
    seen: list[torch.Size] = []
    network.regression.pool.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    with torch.inference_mode():
        network.eval()(torch.randn(1, 3, 480, 480))
    assert seen == [(1, 2048, 8, 8)]


def test_the_unet_has_its_published_size() -> None:
    """Ronneberger et al. 2015 at a width of 64: 31.0 M parameters."""
    network = build_network(NetworkConfig("unet", "none", "none"))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(31.0e6, rel=0.005)


@pytest.mark.parametrize(("share", "channels"), [(1.0, [128, 96, 64, 48]), (0.5, [64, 48, 32, 24]), (0.1, [16, 8, 8, 8])])
@pytest.mark.parametrize("strategy", ["csl", "csl_no_skip", "sl"])
def test_the_separable_decoder_has_a_width(share: float, channels: list[int], strategy: str) -> None:
    network = build_network(NetworkConfig(strategy, input_size=(64, 64), decoder_width=share))
    decoder = network.decoder
    assert isinstance(decoder, SeparableDecoder)
    assert [up.project[0].out_channels for up in decoder.ups] == channels
    with torch.inference_mode():
        assert network.eval()(torch.randn(1, 3, 64, 64)).scores.shape == (1, 3, 32, 32)


def test_without_skips_no_early_feature_reaches_the_output() -> None:
    def early_gradient(strategy: str, decoder: str) -> float:
        size = (64, 64) if strategy.startswith("sl") else None
        network = build_network(NetworkConfig(strategy, decoder=decoder, input_size=size)).eval()
        features = [f.detach().requires_grad_() for f in network.encoder(torch.randn(1, 3, 64, 64))]
        network.decoder(features).sum().backward()
        return sum(float(f.grad.abs().sum()) for f in features[:-1] if f.grad is not None)

    for decoder in ("separable", "up_projection"):
        assert early_gradient("csl", decoder) > 0
        assert early_gradient("sl_skip", decoder) > 0
        assert early_gradient("csl_no_skip", decoder) == 0
        assert early_gradient("sl", decoder) == 0  # section 2.2: the skips come with CSL


@pytest.mark.parametrize(
    ("stored", "strategy", "relu"),
    [
        ({"strategy": "sl", "decoder": "separable"}, "sl_skip", False),
        ({"strategy": "sl", "decoder": "up_projection"}, "sl_skip", True),
        ({"strategy": "csl", "decoder": "up_projection"}, "csl", True),
        ({"strategy": "csl", "decoder": "separable"}, "csl", False),
        ({"strategy": "sl", "decoder": "up_projection", "bottleneck_relu": False}, "sl", False),
        ({"strategy": "csl", "decoder": "up_projection", "bottleneck_relu": True}, "csl", True),
    ],
)
def test_headers_of_the_first_release_keep_their_network(stored: dict[str, object], strategy: str, relu: bool) -> None:
    config = NetworkConfig.from_dict({**stored, "input_size": [64, 64] if stored["strategy"] == "sl" else None})
    assert (config.strategy, config.bottleneck_relu) == (strategy, relu)
    assert NetworkConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("relu", [False, True])
def test_the_bottleneck_of_the_up_projections_has_a_relu_only_in_old_weights(relu: bool) -> None:
    torch.manual_seed(0)
    decoder = UpProjectionDecoder((4, 4, 4, 4, 32), False, relu).eval()
    features = [torch.randn(1, c, 64 // 2**i, 64 // 2**i) for i, c in enumerate((4, 4, 4, 4, 32), start=1)]
    with torch.inference_mode():
        x = decoder.bottleneck(features[-1])
        assert (x < 0).any()
        x = torch.relu(x) if relu else x
        for up in decoder.ups:
            x = up(x)
        torch.testing.assert_close(decoder(features), x)


def test_padding_inside_is_padding_outside() -> None:
    """An image of an odd size and the same image padded by hand give the same numbers, pixel by pixel."""
    network = build_network(NetworkConfig()).eval()
    image = torch.randn(1, 3, 75, 101)
    with torch.inference_mode():
        odd = network(image)
        padded = network(functional.pad(image, (0, 27, 0, 21)))
    torch.testing.assert_close(odd.heatmaps, padded.heatmaps[..., :38, :51])
    torch.testing.assert_close(odd.scores, padded.scores[..., :38, :51])


def test_the_papers_network_has_its_size() -> None:
    """ResNet-50 without its classifier has 23.5 M parameters; Laina et al. 2016 state 63.6 M with the up-projections."""
    network = build_network(NetworkConfig("csl", "resnet50", "up_projection"))
    encoder = sum(p.numel() for p in network.encoder.parameters())
    assert encoder == 25_557_032 - (2048 * 1000 + 1000)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(64e6, rel=0.01)


def test_segmentation_scores_feed_the_heatmaps() -> None:
    network = build_network(NetworkConfig()).eval()
    nn.init.normal_(network.heatmap_head[-1].weight)  # type: ignore[index]
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(image)
        network.score_head.bias.add_(torch.tensor([1.0, -1.0, 0.5]))
        after = network(image)
    assert not torch.allclose(before.heatmaps, after.heatmaps)


def test_up_projection_is_unpooling_then_a_5x5_convolution() -> None:
    """Zero insertion and a 5x5 convolution, written down plainly, give what the transposed convolution gives."""
    torch.manual_seed(0)
    block = UpProjection(6, 4).eval()
    x = torch.randn(2, 6, 5, 7)
    unpooled = torch.zeros(2, 6, 10, 14)
    unpooled[..., ::2, ::2] = x
    kernel = block.up.weight.transpose(0, 1).flip(-1, -2)
    plain = functional.conv2d(unpooled, kernel, padding=2)
    with torch.inference_mode():
        torch.testing.assert_close(block.up(x), plain, rtol=1e-4, atol=1e-5)
        branch, shortcut = block.up_norm(plain).chunk(2, dim=1)
        expected = torch.relu(block.norm(block.conv(torch.relu(branch))) + shortcut)
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "before", "after"), [(3, 0, 1), (5, 1, 2)])
def test_same_padding_is_tensorflows(kernel: int, before: int, after: int) -> None:
    convolution = SameConv2d(2, 3, kernel, 2)
    x = torch.randn(1, 2, 16, 12)
    padded = functional.pad(x, (before, after, before, after))
    torch.testing.assert_close(convolution(x), functional.conv2d(padded, convolution.weight, stride=2))
