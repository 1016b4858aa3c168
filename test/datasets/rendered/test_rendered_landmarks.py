"""Landmarks of rendered tools from the poses of their links."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.endovis2015_annotations import LANDMARKS
from csl_tracker.datasets.rendered.landmarks import (
    EARS_MM,
    ENDOVIS,
    JAWS,
    NEEDLE_DRIVER_TIPS,
    SLOT_MM,
    Dimensions,
    landmark_positions,
)

NAMES = ENDOVIS.names
TIPS = {"jaw_1": (-0.0005, 0.0096, 0.0), "jaw_2": (0.0005, 0.0096, 0.0)}
DEPTH = 0.08


def pose(x: FloatArray, y: FloatArray, origin: FloatArray) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, y, np.cross(x, y)], -1)
    matrix[:3, 3] = origin
    return matrix


def straight_tool(roll: float = 0.0, along: tuple[float, float, float] = (1.0, 0.0, 0.0)) -> dict[str, FloatArray]:
    """A straight needle driver before the camera; at roll 0 its pitch axis lies along the optical axis."""
    z = np.array(along) / np.linalg.norm(along)
    base = np.cross(z, (0.0, 1.0, 0.0))
    base /= np.linalg.norm(base)
    y = np.cos(roll) * base + np.sin(roll) * np.cross(z, base)
    x = np.cross(y, z)
    origin = np.array([0.0, 0.0, DEPTH])
    yaw = origin + 0.0091 * z
    jaw = pose(y, z, yaw)
    return {"roll": pose(x, y, origin), "pitch": pose(z, x, origin), "yaw": jaw, "jaw_1": jaw, "jaw_2": jaw}


def of(name: str, found: FloatArray) -> FloatArray:
    return found[NAMES.index(name)]


def test_names_are_those_of_the_dataset() -> None:
    assert NAMES == ("center", "shaft", "head", "left_clasper", "right_clasper")
    assert set(NAMES) <= set(LANDMARKS)


def test_every_definition_says_where_it_comes_from() -> None:
    for point in ENDOVIS.points:
        assert point.source.endswith(".")
        assert point.spread_mm > 0
    assert ENDOVIS.tip_source.endswith(".")


def test_the_constants_are_those_of_the_calibration() -> None:
    path = Path(__file__).resolve().parents[3] / "docs/results/landmarks.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    fitted, tool = report["positions"], report["tool"]
    center, shaft, head = ENDOVIS.points
    assert center.offset_mm[2] == pytest.approx(fitted["center_midpoint"]["value"], abs=0.051)
    assert shaft.offset_mm[2] == pytest.approx(fitted["shaft"]["value"], abs=0.051)
    assert head.offset_mm[0] == pytest.approx(fitted["head"]["value"], abs=0.051)
    assert tool["jaw_mm"] - ENDOVIS.tip_inset_mm == pytest.approx(fitted["tip"]["value"], abs=0.051)
    assert NEEDLE_DRIVER_TIPS["jaw_2"][0] == pytest.approx(1e-3 * fitted["tip_side"]["value"], abs=5.1e-5)
    assert Dimensions().shaft_radius_mm == pytest.approx(tool["radius_mm"], abs=0.01)
    assert Dimensions().cheek_mm == pytest.approx(tool["cheek_mm"], abs=0.01)
    assert pytest.approx((tool["slot_mm"], tool["ears_mm"]), abs=0.051) == (SLOT_MM, EARS_MM)


@pytest.mark.parametrize("roll", [0.0, 0.7, 2.0, -1.2])
def test_points_of_the_shaft_lie_on_its_surface_towards_the_camera(roll: float) -> None:
    found = landmark_positions(ENDOVIS, straight_tool(roll), TIPS)
    for name, z_mm in ((point.name, point.offset_mm[2]) for point in ENDOVIS.points[:2]):
        position = of(name, found)
        assert position[0] == pytest.approx(1e-3 * z_mm)
        assert np.hypot(position[1], position[2] - DEPTH) == pytest.approx(1e-3 * Dimensions().shaft_radius_mm)
        assert position[2] < DEPTH - 0.004


def test_a_shaft_that_points_away_shows_its_ring_nearer_to_the_tip() -> None:
    """The visible part of the ring lies on the near side, which the tilt moves towards the tip in the image."""
    tilted = straight_tool(along=(1.0, 0.0, 0.7))
    position = of("center", landmark_positions(ENDOVIS, tilted, TIPS))
    on_axis = tilted["roll"][:3, :3] @ (1e-3 * np.array(ENDOVIS.points[0].offset_mm)) + tilted["roll"][:3, 3]
    assert position[0] / position[2] > on_axis[0] / on_axis[2]
    assert position[2] < on_axis[2]


@pytest.mark.parametrize("roll", [np.pi / 2, -np.pi / 2])
def test_the_head_lies_on_the_cheek_that_faces_the_camera(roll: float) -> None:
    """The yaw axis lies along the optical axis, so one cheek faces the camera."""
    head = of("head", landmark_positions(ENDOVIS, straight_tool(roll), TIPS))
    assert head == pytest.approx([1e-3 * ENDOVIS.points[2].offset_mm[0], 0.0, DEPTH - 1e-3 * Dimensions().cheek_mm])


def test_a_thinner_tool_has_a_nearer_surface() -> None:
    found = landmark_positions(ENDOVIS, straight_tool(), TIPS, Dimensions(shaft_radius_mm=2.5, cheek_mm=2.0))
    assert of("center", found)[2] == pytest.approx(DEPTH - 0.0025, abs=1e-5)


def test_landmarks_without_a_surface_stay_on_the_axis() -> None:
    inner = replace(ENDOVIS, points=tuple(replace(point, surface=None) for point in ENDOVIS.points))
    found = landmark_positions(inner, straight_tool(), TIPS)
    assert found[:3, 1:] == pytest.approx(np.array([[0.0, DEPTH]] * 3))


@pytest.mark.parametrize(("roll", "swapped"), [(np.pi / 2, True), (-np.pi / 2, False)])
def test_the_right_tip_is_on_the_right_of_the_shaft_as_seen(roll: float, swapped: bool) -> None:
    """The shaft points along +x in the image, so its right-hand side is +y."""
    tool = straight_tool(roll)
    found = landmark_positions(ENDOVIS, tool, TIPS)
    left, right = of("left_clasper", found), of("right_clasper", found)
    assert left[1] < 0 < right[1]
    inset = np.array([0.0, 1e-3 * ENDOVIS.tip_inset_mm, 0.0])
    jaw = JAWS[0] if swapped else JAWS[1]
    expected = tool[jaw][:3, :3] @ (np.array(TIPS[jaw]) - inset) + tool[jaw][:3, 3]
    assert right == pytest.approx(expected)


def test_a_tool_with_one_tip_has_no_right_one() -> None:
    found = landmark_positions(ENDOVIS, straight_tool(), {"jaw_1": TIPS["jaw_1"]})
    assert np.isfinite(of("left_clasper", found)).all()
    assert np.isnan(of("right_clasper", found)).all()


def test_a_tool_without_a_wrist_has_landmarks_on_the_shaft_alone() -> None:
    found = landmark_positions(ENDOVIS, {"roll": straight_tool()["roll"]}, {})
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2:]).all()
