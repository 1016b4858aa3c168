"""From heatmaps to serialised messages: a change of a digest is a change of what controllers receive.

No network runs here, and the heatmaps are exact in float32. Numbers are rounded to 1e-7 before they are hashed: far below
any meaning, and above what processors differ by. tools/same_poses.py compares bit for bit.
"""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.engines.base import EngineOutput, PixelMap
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.messages.poses import bag_types, make_header, make_pose_array
from csl_tracker.messages.types import typestore
from csl_tracker.networks import NetworkConfig
from csl_tracker.tracker import Tracker
from csl_tracker.weights import Model, ModelDescription, Preprocessing

SHAPE = (72, 90)
FRAMES = 12


def bumps(centers, height):
    """A smooth bump around each (x, y), whose values are fractions with a power of two below: float32 holds them exactly."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    total = np.zeros(SHAPE, np.float32)
    for x, y in centers:
        distance = np.minimum((columns - x) ** 2 + (rows - y) ** 2, 1024)
        total = np.maximum(total, np.float32(height) * ((1024 - distance) ** 2 / np.float32(1 << 20)).astype(np.float32))
    return total


class Played:
    """An engine that plays heatmaps: one to three instruments that move, cross and leave."""

    name, device, reason = "played", "cpu", ""

    def __init__(self, instruments):
        self.instruments, self.frame = instruments, 0

    def localize(self, image, segmentation, count=1):
        heatmaps = []
        for landmark in range(ENDOVIS.num_landmarks):
            centers = []
            for one in range(self.instruments):
                if one == 2 and self.frame in (4, 5):
                    continue
                x = 10 + 7 * landmark + (3 * self.frame if one == 0 else 33 - 3 * self.frame if one == 1 else 0)
                centers.append((x, 12 + 22 * one + 2 * landmark * (1 - 2 * (one % 2)) + self.frame))
            heatmaps.append(bumps(centers, 1 - landmark / 16))
        self.frame += 1
        stack = np.stack(heatmaps)
        return EngineOutput(stack, np.minimum(stack.max(0), 1), None, PixelMap((576, 720), (144, 180))), None


def rounded(result):
    """The result with its numbers rounded; adding 0 makes a negative zero a positive one."""
    instruments = tuple(
        replace(
            one,
            confidence=round(one.confidence, 7) + 0.0,
            shaft_angle=round(one.shaft_angle, 7) + 0.0,
            landmarks=tuple(
                replace(mark, x=round(mark.x, 7) + 0.0, y=round(mark.y, 7) + 0.0, covariance=np.round(mark.covariance, 7) + 0.0)
                for mark in one.landmarks
            ),
        )
        for one in result.instruments
    )
    return replace(result, instruments=instruments)


@pytest.mark.parametrize(
    ("instruments", "most", "digest"),
    [
        (1, 1, "20bf9e64d50426c1"),
        (2, 2, "76715652add416b6"),
        (3, 4, "9c28959db96f2e17"),
    ],
)
def test_from_heatmaps_to_messages(instruments, most, digest):
    description = ModelDescription(
        "played", NetworkConfig(), ENDOVIS, HeatmapSpec(3.5), Preprocessing((0.0,) * 3, (1.0,) * 3, (144, 192)), 0.3
    )
    tracker = Tracker(Model(None, description, "0" * 64), Played(instruments), most)
    types, store, sha = bag_types(), typestore(), hashlib.sha256()
    for index in range(FRAMES):
        found, _ = tracker.localize(np.zeros((576, 720, 3), np.uint8), index * 0.04)
        array = make_pose_array(types, make_header(types, index * 40_000_000, "camera"), rounded(found), "played@00000000")
        array.processing_time = types.duration(sec=0, nanosec=0)
        assert len(found.instruments) == (instruments - (index in (4, 5)) if instruments == 3 else instruments)
        sha.update(bytes(store.serialize_cdr(array, array.__msgtype__)))
    assert sha.hexdigest()[:16] == digest
