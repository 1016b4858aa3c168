"""A step on the CPU: eased convolutions against torch's own in float64, through all that they are replaced in."""

import copy
import ctypes
import platform

import pytest
import torch
from torch import nn

from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.training.cpu import ease_convolutions, keep_freed_memory


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CONVOLUTIONS = [
    nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
    nn.Conv2d(51, 51, 5, padding=2, groups=51, bias=False),
    nn.Conv2d(6, 10, 1),
    nn.Conv2d(6, 10, 1, bias=False),
    nn.Conv2d(6, 10, 1, padding=1),
    nn.Conv2d(6, 6, 1, groups=6),
    nn.Conv2d(6, 6, 5, padding=2, groups=6),
    nn.Conv2d(6, 6, 5, padding=2, groups=6, stride=2, bias=False),
    nn.Conv2d(6, 6, 5, padding=4, groups=6, dilation=2, bias=False),
    nn.Conv2d(6, 6, 5, padding=2, groups=3, bias=False),
    nn.Conv2d(6, 6, 5, padding=1, groups=6, bias=False),
    nn.Conv2d(6, 6, 5, padding=2, padding_mode="reflect", groups=6, bias=False),
    nn.Conv2d(6, 6, 3, padding="same", groups=6, bias=False),
]


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
def test_gradients_are_those_of_float64(convolution: nn.Conv2d, layout: torch.memory_format) -> None:
    torch.manual_seed(3)
    image = torch.randn(3, convolution.in_channels, 9, 14)
    exact = copy.deepcopy(convolution).double()
    eased = copy.deepcopy(convolution).to(memory_format=layout)  # type: ignore[call-overload]
    ease_convolutions(eased)
    found, expected = [], []
    for module, tensors in ((eased, found), (exact, expected)):
        x = image.to(next(module.parameters()).dtype, memory_format=layout, copy=True).requires_grad_()
        y = module(x)
        (y * torch.sin(torch.arange(y.numel(), dtype=torch.float64).view_as(y)).to(y.dtype)).sum().backward()
        tensors += [y.detach(), x.grad, *(p.grad for p in module.parameters())]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-5)


@pytest.mark.usefixtures("_one_thread")
def test_a_network_is_as_exact_as_before_and_keeps_its_names() -> None:
    torch.manual_seed(0)
    plain = build_network(NetworkConfig()).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    eased, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    ease_convolutions(eased)
    again = copy.deepcopy(eased)  # averaging weights copies the module
    assert list(eased.state_dict()) == list(plain.state_dict())
    image = torch.randn(2, 3, 64, 96)
    gradients = []
    for network in (exact, plain, eased, again):
        heatmaps, scores, *_ = network(image.to(next(network.parameters()).dtype))
        (heatmaps.square().sum() + scores.square().mean()).backward()
        gradients.append(torch.cat([p.grad.flatten().double() for p in network.parameters()]))  # type: ignore[union-attr]
    truth, before, after, copied = gradients
    # Rounding that batch norms of a fresh network have magnified, the same with and without.
    assert (after - truth).norm() < 2 * (before - truth).norm() < 1e-2 * truth.norm()
    torch.testing.assert_close(copied, after, rtol=0, atol=0)


def test_without_gradients_it_is_torchs_own_convolution() -> None:
    convolution = nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)
    image = torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        expected = convolution(image)
        ease_convolutions(convolution)
        torch.testing.assert_close(convolution(image), expected, rtol=0, atol=0)
    frozen = convolution.requires_grad_(False)
    x = image.clone().requires_grad_()
    frozen(x).sum().backward()
    assert x.grad is not None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_glibc_takes_the_settings() -> None:
    """In this process: a freed block of 64 MB stays on the heap, and the next one of that size is the same."""
    assert keep_freed_memory()
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    places = []
    for _ in range(3):
        places.append(libc.malloc(ctypes.c_size_t(2**26)))
        libc.free(places[-1])
    assert len(set(places)) == 1
