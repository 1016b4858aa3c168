import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn import functional

from csl_tracker.engines.base import ForegroundOfScores, probability_of_tool
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.labels import LabelUpsampler, upsample_labels
from csl_tracker.engines.parallel import Pair
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.pixels import resize_image
from csl_tracker.weights import load_weights


def plain_labels(scores, size):
    """Bilinear interpolation and the highest class, pixel by pixel in float64."""
    found = np.zeros(size, np.uint8)
    for row in range(size[0]):
        for column in range(size[1]):
            y = min(max((row + 0.5) * scores.shape[1] / size[0] - 0.5, 0), scores.shape[1] - 1)
            x = min(max((column + 0.5) * scores.shape[2] / size[1] - 0.5, 0), scores.shape[2] - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, scores.shape[1] - 1), min(left + 1, scores.shape[2] - 1)
            upper = scores[:, top, left] * (1 - (x - left)) + scores[:, top, right] * (x - left)
            lower = scores[:, below, left] * (1 - (x - left)) + scores[:, below, right] * (x - left)
            found[row, column] = (upper * (1 - (y - top)) + lower * (y - top)).argmax()
    return found


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (37, 51), (60, 40)])
def test_labels_are_the_highest_interpolated_class(classes, size):
    scores = np.random.default_rng(0).normal(size=(classes, 12, 15)).astype(np.float32)
    found = upsample_labels(scores, size)
    assert found.dtype == np.uint8
    assert (found != plain_labels(scores.astype(np.float64), size)).mean() < 1e-3


def test_the_labels_of_one_image_stay_when_the_next_one_comes():
    upsampler = LabelUpsampler()
    first = upsampler(np.ones((2, 4, 4), np.float32), (8, 8))
    upsampler(-np.ones((2, 4, 4), np.float32), (8, 8))
    assert (first == 1).all()
    assert (upsampler(np.ones((1, 4, 4), np.float32), (6, 9)) == 1).all()


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_the_probability_of_a_tool_is_that_of_the_softmax(scale):
    scores = scale * np.random.default_rng(0).normal(size=(4, 9, 11)).astype(np.float32)
    expected = 1 - torch.softmax(torch.from_numpy(scores).double(), dim=0)[0]
    np.testing.assert_allclose(probability_of_tool(scores), expected, rtol=1e-5, atol=1e-7)


def test_the_foreground_is_computed_where_it_is_asked_for():
    scores = np.random.default_rng(0).normal(size=(3, 9, 11)).astype(np.float32)
    foreground = ForegroundOfScores(scores)
    rows, columns = np.array([[0, 8], [3, 3]]), np.array([[10, 0], [4, 5]])
    assert foreground.shape == (9, 11)
    np.testing.assert_array_equal(foreground[rows, columns], probability_of_tool(scores)[rows, columns])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((576, 720), (256, 320)),
        ((1080, 1920), (224, 384)),
        ((601, 720), (256, 320)),
        ((480, 640), (480, 640)),
        ((90, 70), (96, 96)),
    ],
)
def test_an_image_in_halves_is_resized_as_the_whole(random_weights, source, target):
    image = np.random.default_rng(0).integers(0, 256, (*source, 3), np.uint8)
    found = np.zeros((*target, 3), np.uint8)
    CpuEngine(load_weights(random_weights))._resize(image, found)
    np.testing.assert_array_equal(found, resize_image(image, target))


def test_an_error_of_either_half_is_raised():
    def fail():
        raise ValueError("half")

    for work in ((fail, dict), (dict, fail)):
        with pytest.raises(ValueError, match="half"):
            Pair().run(*work)


class Still(CpuEngine):
    """An engine whose network costs nothing, to see what is around it."""

    def __init__(self, model):
        super().__init__(model)
        self.found = TorchCpuEngine(model).infer(np.zeros((128, 160, 3), np.uint8))

    def infer(self, image):
        return self.found


@pytest.mark.parametrize("segmentation", [False, True])
def test_nothing_is_allocated_but_what_is_handed_out(random_weights, segmentation):
    engine = Still(load_weights(random_weights))
    image = np.random.default_rng(0).integers(0, 256, (576, 720, 3), np.uint8)
    engine.warm_up((576, 720))
    tracemalloc.start()
    try:
        output = engine.run(image, segmentation)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    handed = sum(a.nbytes for a in (output.heatmaps, output.foreground, output.label_map) if a is not None)
    assert (output.label_map is not None) == segmentation
    assert peak - handed < 64_000, f"{peak} B at the most, {handed} B handed out"


def test_two_images_do_not_share_memory(random_weights):
    engine = Still(load_weights(random_weights))
    one, other = (engine.run(np.zeros((64, 80, 3), np.uint8), True) for _ in range(2))
    for name in ("heatmaps", "foreground", "label_map"):
        assert not np.shares_memory(getattr(one, name), getattr(other, name))


def test_labels_do_not_depend_on_a_shift_of_all_scores():
    scores = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(scores)[None], (31, 29), mode="bilinear").argmax(dim=1)[0].numpy()
    assert (upsample_labels(scores + np.float32(7.0), (31, 29)) != expected).mean() < 2e-3
