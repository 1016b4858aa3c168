import math

import numpy as np
import pytest
import torch

from csl_tracker.engines.base import EngineOutput, PixelMap
from csl_tracker.engines.comparison import Comparison, compare
from csl_tracker.heatmaps import HeatmapSpec, encode
from csl_tracker.instruments import InstrumentSet
from csl_tracker.networks import NetworkConfig
from csl_tracker.weights import Model, ModelDescription, Preprocessing

SPEC = HeatmapSpec(3.0)
MODEL = Model(
    None,  # type: ignore[arg-type]
    ModelDescription(
        "two",
        NetworkConfig(num_landmarks=2, num_classes=2),
        InstrumentSet(("a", "b"), ("background", "tool")),
        SPEC,
        Preprocessing((0.0,) * 3, (1.0,) * 3, (96, 128)),
        0.3,
    ),
    "",
)
IMAGE = np.zeros((192, 256, 3), np.uint8)


class Drawn:
    """An engine that says where it was told to."""

    name, device, reason = "drawn", "cpu", ""

    def __init__(self, points, tool_columns):
        self.points, self.tool_columns = points, tool_columns

    def run(self, image, segmentation):
        maps = encode(torch.tensor([self.points], dtype=torch.float32), (48, 64), SPEC).numpy()
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[:, : self.tool_columns] = 1
        return EngineOutput(maps, maps[0], labels, PixelMap((192, 256), (96, 128)))


def test_shifts_are_in_px_of_the_source_and_dice_between_and_against_the_truth():
    """The heatmap has a quarter of the source's px; half a px there are two of the source."""
    truth = np.zeros((192, 256), np.uint8)
    truth[:, :100] = 1
    reference = Drawn([(20.0, 15.0), (40.0, 30.0)], 100)
    engine = Drawn([(20.5, 15.0), (40.0, 30.0)], 50)
    found = compare(engine, reference, MODEL, [(IMAGE, truth), (IMAGE, None)])
    assert (found.frames, found.keypoints, found.lost) == (2, 4, 0)
    assert found.largest_shift_px == pytest.approx(2.0, abs=0.05)
    assert found.median_shift_px == pytest.approx(1.0, abs=0.05)
    assert found.dice_between == pytest.approx(2 * 50 / 150)
    assert found.dice_change == pytest.approx(2 * 50 / 150 - 1)
    assert found.moves_keypoints
    same = compare(reference, reference, MODEL, [(IMAGE, truth)])
    assert (same.median_shift_px, same.largest_shift_px, same.dice_between, same.dice_change) == (0.0, 0.0, 1.0, 0.0)
    assert not same.moves_keypoints


def test_a_landmark_that_is_gone_is_lost_and_not_a_shift():
    reference = Drawn([(20.0, 15.0), (40.0, 30.0)], 0)
    engine = Drawn([(20.0, 15.0), (math.nan, math.nan)], 0)
    found = compare(engine, reference, MODEL, [(IMAGE, None)])
    assert (found.keypoints, found.lost, found.largest_shift_px) == (2, 1, 0.0)
    assert (found.dice_between, found.dice_change) == (None, None)
    assert found.moves_keypoints


def test_without_frames_nothing_is_claimed():
    assert compare(Drawn([], 0), Drawn([], 0), MODEL, []) == Comparison(0, 0, 0, None, None, None, None)
