"""Where the landmarks of EndoVis 2015 lie on a rendered tool.

Annotators click what they see, so a landmark lies on the surface that faces the camera, not on the axis inside the tool. Each
definition names a link, a point in its frame, and how far and along what the surface lies from that point. Landmarks are
computed from the poses of the links, without rendering again.

Frames of the links, as in dvrk_model: ``roll`` has its origin on the pitch axis, z along the shaft to the tip and y along the
pitch axis; ``pitch`` has the same origin, x to the yaw axis and y along the yaw axis; ``yaw`` and the jaws ``jaw_1`` and
``jaw_2`` have their origin on the yaw axis and y to the tip.

``benchmark/calibrate_landmarks.py`` measured the constants; ``docs/results/landmarks.json`` holds the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from csl_tracker.arrays import FloatArray

SHAFT_LINKS = frozenset({"roll"})
"""Links of class ``shaft``: the tube, its metal sleeve and the sleeve's two ears. All other links are ``manipulator``."""
SLOT_MM = -3.0
"""Bottom of the slot between the ears along z of ``roll``: the border between shaft and manipulator on the axis."""
EARS_MM = 2.0
"""End of the ears along z of ``roll``: the border between shaft and manipulator beside the slot."""
JAWS = ("jaw_1", "jaw_2")
"""Links that carry a tip."""
NEEDLE_DRIVER_TIPS: Mapping[str, tuple[float, float, float]] = {"jaw_1": (-3e-4, 9.65e-3, 0.0), "jaw_2": (3e-4, 9.65e-3, 0.0)}
"""Ends of the Large Needle Driver's jaws in their frames, m. The length is the mesh's; the sideways offset is measured."""
TIPS = ("left_clasper", "right_clasper")
"""Landmarks of the tips. The right one is on the right-hand side of the shaft in the image, looking along it to the tip."""

_AXES: Mapping[str, int] = {"x": 0, "y": 1, "z": 2}
_MM = 1e-3


@dataclass(frozen=True)
class Dimensions:
    """Dimensions of a tool that decide where its surface lies; the defaults are the da Vinci Large Needle Driver's.

    Attributes:
        shaft_radius_mm: Radius of the shaft.
        cheek_mm: Distance from the middle of the pitch link to its outer face, along the yaw axis.
    """

    shaft_radius_mm: float = 4.37
    cheek_mm: float = 3.21


@dataclass(frozen=True)
class LandmarkDefinition:
    """A landmark on a link.

    Attributes:
        name: Landmark.
        link: Link that carries it.
        offset_mm: Point in the link's frame.
        surface: How the landmark lies on the visible surface: ``around`` an axis of the link through the point, at the shaft's
            radius; ``along`` an axis, at the distance of the cheek; or None for the point itself.
        axis: Axis of the link's frame that ``surface`` refers to.
        spread_mm: Uncertainty of the position along the tool: differences between instruments and between sequences.
        source: Where the position comes from.
    """

    name: str
    link: str
    offset_mm: tuple[float, float, float]
    surface: Literal["around", "along"] | None
    axis: Literal["x", "y", "z"]
    spread_mm: float
    source: str


@dataclass(frozen=True)
class LandmarkSet:
    """All landmarks of an annotation scheme.

    Attributes:
        points: Landmarks on the shaft and the wrist.
        tip_inset_mm: Distance of an annotated tip from the end of its jaw.
        tip_spread_mm: Its uncertainty.
        tip_source: Where that distance comes from.
    """

    points: tuple[LandmarkDefinition, ...]
    tip_inset_mm: float
    tip_spread_mm: float
    tip_source: str

    @property
    def names(self) -> tuple[str, ...]:
        """Landmarks in the order of :func:`landmark_positions`."""
        return (*(point.name for point in self.points), *TIPS)


ENDOVIS = LandmarkSet(
    points=(
        LandmarkDefinition(
            "center",
            "roll",
            (0.0, 0.0, -9.1),
            "around",
            "z",
            0.7,
            "Midpoint of the pose file's centre and the joint TrackedPoint; the ring between tube and sleeve is at -8.8 mm.",
        ),
        LandmarkDefinition(
            "shaft",
            "roll",
            (0.0, 0.0, -2.8),
            "around",
            "z",
            0.4,
            "Joint ShaftPoint; the bottom of the slot between the sleeve's ears is at -3.0 mm.",
        ),
        LandmarkDefinition(
            "head",
            "pitch",
            (5.9, 0.0, 0.0),
            "along",
            "y",
            0.6,
            "Joint HeadPoint, on the visible cheek of the pitch link; the yaw axis is at 9.1 mm.",
        ),
    ),
    tip_inset_mm=0.6,
    tip_spread_mm=0.4,
    tip_source="Joints LeftClasperPoint and RightClasperPoint.",
)
"""Landmarks of EndoVis 2015, calibrated on the first half of Dataset1."""


def landmark_positions(
    definitions: LandmarkSet,
    poses: Mapping[str, FloatArray],
    tips: Mapping[str, Sequence[float]],
    dimensions: Dimensions | None = None,
) -> FloatArray:
    """Positions of the landmarks in the camera's frame.

    Args:
        definitions: The landmarks.
        poses: Link -> its pose in the camera's frame, float64 (4, 4), m.
        tips: Jaw -> the end of the jaw in its frame, m. The annotated tip lies ``tip_inset_mm`` before it.
        dimensions: Dimensions of the tool; None for the defaults.

    Returns:
        float64 (landmarks, 3), m, in the order of ``definitions.names``; NaN for a landmark whose link the tool does not have.
        A tool with one tip has no ``right_clasper``.
    """
    size = dimensions or Dimensions()
    found = np.full((len(definitions.names), 3), np.nan)
    for row, point in enumerate(definitions.points):
        if point.link in poses:
            found[row] = _on_surface(point, poses[point.link], size)
    found[len(definitions.points) :] = _tips(definitions, poses, tips)
    return found


def _on_surface(point: LandmarkDefinition, pose: FloatArray, size: Dimensions) -> FloatArray:
    position: FloatArray = pose[:3, :3] @ (np.array(point.offset_mm) * _MM) + pose[:3, 3]
    axis = pose[:3, _AXES[point.axis]]
    if point.surface == "along":
        return position - size.cheek_mm * _MM * np.sign(position @ axis) * axis
    if point.surface == "around":
        across = (position @ axis) * axis - position  # towards the camera, perpendicular to the axis
        length = np.linalg.norm(across)
        return position + size.shaft_radius_mm * _MM * across / length if length > 0 else position
    return position


def _tips(definitions: LandmarkSet, poses: Mapping[str, FloatArray], tips: Mapping[str, Sequence[float]]) -> FloatArray:
    """Left and right tip, (2, 3); NaN where the tool has none."""
    inset = np.array([0.0, definitions.tip_inset_mm * _MM, 0.0])
    ends = [poses[jaw][:3, :3] @ (np.asarray(tips[jaw]) - inset) + poses[jaw][:3, 3] for jaw in JAWS if jaw in tips]
    found = np.full((2, 3), np.nan)
    found[: len(ends)] = np.array(ends).reshape(-1, 3)
    # Triple product of shaft, first to second tip, and line of sight: positive if the second is on the right in the image.
    if len(ends) == 2 and "roll" in poses:
        middle = (ends[0] + ends[1]) / 2
        if np.cross(poses["roll"][:3, 2], ends[1] - ends[0]) @ middle < 0:
            found = found[::-1]
    return found
