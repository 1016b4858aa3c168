"""A synthetic scene seen by a stereo endoscope, with exact positions in space.

Each instrument is flat: drawn on a plane through its shaft's axis and projected by each camera point by point, so that
outlines, landmarks and foreshortening are those of the plane in perspective, through the lens distortion. What a flat drawing
lacks is parallax within the instrument (the two sides of a thick shaft) and between light and surface: highlights stick to
the surface. Two instruments hide each other by depth. The tissue is a plane behind them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, FloatArray
from csl_tracker.camera import CameraModel
from csl_tracker.datasets.synthetic.instrument import Part, Pose, Shape, parts_and_landmarks, random_shape
from csl_tracker.datasets.synthetic.scene import Scene
from csl_tracker.datasets.synthetic.tissue import light
from csl_tracker.instruments import ENDOVIS
from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult
from csl_tracker.stereo.rig import StereoRig

SHAFT_WIDTH = 0.008
"""Diameter of an instrument, m."""

DEPTHS = (0.05, 0.15)
"""Depths of the shaft's end, m."""

_MAX_TILT = math.radians(25)
_MARGIN_PX = 96
"""Around the rectified image, so that the lens's corners have something to show."""

_NEAREST = 0.3
"""Of an instrument's depth: where its shaft is cut off on its way past the camera."""

_ASIDE = {"left": -0.15, "right": 0.15, "bottom": 0.0, "top": 0.0}
"""Where one of two instruments is, by the side from which it comes, image widths."""

_TISSUE = 1.3
"""Depth of the tissue, as a multiple of the farthest instrument's."""


def endoscope_rig(baseline: float = 0.005, size: Size = (720, 1280)) -> StereoRig:
    """A stereo endoscope like that of a da Vinci: 5 mm apart, half a degree of convergence, some distortion.

    Args:
        baseline: m.
        size: (height, width) of both images, px; the focal length goes with it.
    """
    scale = size[1] / 1280
    matrices = [
        np.array([[f * scale, 0, (cx + 0.5) * scale - 0.5], [0, 1.002 * f * scale, (cy + 0.5) * scale - 0.5], [0, 0, 1]])
        for f, cx, cy in ((1052.0, 655.0, 351.0), (1058.0, 621.0, 368.0))
    ]
    distortions = [
        np.array([-0.24, 0.19, 0.0008, -0.0005, -0.05]),
        np.array([-0.22, 0.15, -0.0006, 0.0009, -0.02]),
    ]
    rotation, _ = cv2.Rodrigues(np.array([0.002, 0.009, -0.003]))
    shift = -rotation @ np.array([baseline, 0.00003, -0.00005])
    shape = (size[1], size[0])
    r1, r2, p1, p2, *_ = cv2.stereoRectify(
        matrices[0],
        distortions[0],
        matrices[1],
        distortions[1],
        shape,
        rotation,
        shift,
        flags=cv2.CALIB_ZERO_DISPARITY,
        alpha=0,
    )
    left, right = (
        CameraModel(width=size[1], height=size[0], k=k, d=d, model="plumb_bob", r=np.asarray(r), p=np.asarray(p))
        for k, d, r, p in zip(matrices, distortions, (r1, r2), (p1, p2), strict=True)
    )
    return StereoRig.from_cameras(left, right)


@dataclass(frozen=True)
class Placement:
    """A flat instrument in space, in the left camera's rectified frame.

    Attributes:
        shape: Its proportions.
        pose: On its own plane: m from the shaft's end, x along the shaft, y across.
        origin: float64 (3,), the shaft's end, m.
        along: float64 (3,), unit: the shaft's direction towards the tip.
        across: float64 (3,), unit: the other direction of the plane, parallel to the image.
    """

    shape: Shape
    pose: Pose
    origin: FloatArray
    along: FloatArray
    across: FloatArray

    def positions(self, points: npt.ArrayLike) -> FloatArray:
        """(..., 3) in space of (..., 2) on the plane."""
        flat = np.asarray(points, np.float64)
        return self.origin + flat[..., :1] * self.along + flat[..., 1:] * self.across


def random_placement(
    rng: np.random.Generator, rig: StereoRig, shape: Shape | None = None, angle: float | None = None, aside: float = 0.0
) -> Placement:
    """A random instrument at a depth of 5 to 15 cm, visible in both cameras.

    Args:
        rng: Random generator.
        rig: The cameras.
        shape: Its proportions; random if None.
        angle: Direction of the shaft in the image, rad; random if None.
        aside: Offset from the image centre to the right, image widths.
    """
    drawn = random_shape(rng) if shape is None else shape
    turn = float(rng.uniform(-math.pi, math.pi) if angle is None else angle)
    tilt = float(rng.uniform(0.0, _MAX_TILT))
    depth = float(rng.uniform(*DEPTHS))
    geometry = rig.geometry
    # Centre of the common field of view, in the left image.
    middle = np.array([rig.left.width / 2 + geometry.disparity_px(depth) / 2, rig.left.height / 2])
    place = rng.uniform(-0.15, 0.15, 2) + np.array([aside, 0.0])
    point = (middle + np.array([rig.left.width, rig.left.height]) * place - geometry.left_center) / geometry.focal
    pose = Pose(
        x=0.0,
        y=0.0,
        angle=0.0,
        bend=float(rng.normal(0, 0.3)),
        yaw=float(rng.normal(0, 0.25)),
        opening=float(rng.uniform(0.1, 0.9)),
        width=SHAFT_WIDTH,
        reach=float(rng.uniform(0.8, 1.0)),
    )
    return Placement(
        shape=drawn,
        pose=pose,
        origin=depth * np.array([*point, 1.0]),
        along=np.array([math.cos(turn) * math.cos(tilt), math.sin(turn) * math.cos(tilt), math.sin(tilt)]),
        across=np.array([-math.sin(turn), math.cos(turn), 0.0]),
    )


@dataclass(frozen=True)
class StereoFrame:
    """A stereo image pair with ground truth.

    Attributes:
        images: Left and right, uint8 (h, w, 3), RGB, with lens distortion.
        positions: float64 (instruments, landmarks, 3), m, in the left camera's rectified frame.
        landmarks: Left and right, float64 (instruments, landmarks, 2), px of the images.
    """

    images: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    positions: FloatArray
    landmarks: tuple[FloatArray, FloatArray]


class StereoScene(Scene):
    """A static scene seen by two cameras.

    Args:
        seed: Seed of the scene.
        rig: The cameras.
        sides: Sides from which the instruments come.
        lenses: :func:`lens_maps` of the rig, which scenes can share; None computes them.
    """

    def __init__(
        self,
        seed: int,
        rig: StereoRig,
        sides: tuple[str, ...] = ("left",),
        lenses: tuple[Float32Array, Float32Array] | None = None,
    ) -> None:
        super().__init__(seed, (rig.left.height + 2 * _MARGIN_PX, rig.left.width + 2 * _MARGIN_PX), sides=sides)
        self.rig = rig
        self.lenses = lens_maps(rig) if lenses is None else lenses
        # Disable the black borders, which are defined for the image without the margin.
        self.border, self.round_border = 0.0, False
        rng = np.random.default_rng((seed, 7))
        self.placements = [
            random_placement(rng, rig, tool.shape, float(tool.path.center[2]), _ASIDE[tool.side] if len(sides) > 1 else 0.0)
            for tool in self.tools
        ]
        self.order = sorted(range(len(self.tools)), key=lambda k: -float(self.placements[k].origin[2]))

    def render_pair(self) -> StereoFrame:
        """Render both images, with independent noise."""
        flat = [
            parts_and_landmarks(tool.shape, tool.look, place.pose)
            for tool, place in zip(self.tools, self.placements, strict=True)
        ]
        positions = np.array([place.positions(points) for place, (_, points) in zip(self.placements, flat, strict=True)])
        images = tuple(self._view(side, [parts for parts, _ in flat]) for side in (0, 1))
        return StereoFrame((images[0], images[1]), positions, project(self.rig, positions))

    def _view(self, side: int, drawn: Sequence[list[Part]]) -> npt.NDArray[np.uint8]:
        h, w = self.size
        image = light(
            np.random.default_rng((self.seed, 3)), self.color, self.height, self.wetness, self.gloss_seed, np.zeros(2)
        )
        if side == 1:
            tissue = _TISSUE * max((float(place.origin[2]) for place in self.placements), default=DEPTHS[1])
            matrix = np.array([[1.0, 0, -self.rig.geometry.disparity_px(tissue)], [0, 1.0, 0]])
            moved = cv2.warpAffine(image, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            image = np.asarray(moved, np.float32)
        labels, instances = np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
        ambient = image.mean(axis=(0, 1)) / max(1.0, float(image.mean()))
        for k in self.order:
            parts = [self._project(side, self.placements[k], part) for part in drawn[k]]
            image = self._draw(image, labels, instances, k + 1, parts, ambient)
        seen = self._camera(image, np.random.default_rng((self.seed, 2, side)), 0.0)
        return self._distort(side, seen)

    def _project(self, side: int, place: Placement, part: Part) -> Part:
        """Project a planar part into the rectified image of a camera, including the margin."""
        outline = part.outline.copy()
        depth, rise = float(place.origin[2]), float(place.along[2])
        if rise > 0:
            outline[:, 0] = np.maximum(outline[:, 0], -(1.0 - _NEAREST) * depth / rise)

        def pixels(points: FloatArray) -> FloatArray:
            return np.asarray(self.rig.geometry.project(place.positions(points))[side] + _MARGIN_PX, np.float64)

        # Map the texture by the first-order approximation at the centre of the part.
        middle = outline.mean(axis=0)
        step = 1e-3 * SHAFT_WIDTH
        ahead = pixels(middle + step * np.eye(2))
        behind = pixels(middle - step * np.eye(2))
        jacobian = (ahead - behind).T / (2 * step)
        frame = np.column_stack((jacobian @ part.frame[:, :2], jacobian @ (part.frame[:, 2] - middle) + pixels(middle)))
        return Part(pixels(outline), part.label, part.texture, frame)

    def _distort(self, side: int, rectified: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Distort a rectified image."""
        lens = self.lenses[side] + np.float32(_MARGIN_PX)
        image = cv2.remap(rectified, lens[..., 0], lens[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(image, np.uint8)


def lens_maps(rig: StereoRig) -> tuple[Float32Array, Float32Array]:
    """Rectified position of each raw pixel of the left and right image, float32 (h, w, 2)."""
    maps = []
    for camera in (rig.left, rig.right):
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        grid = np.stack((columns, rows), axis=-1).astype(np.float64)
        maps.append(camera.rectify_points(grid).astype(np.float32))
    return maps[0], maps[1]


def project(rig: StereoRig, positions: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Project positions (..., 3) in the left rectified frame, m, to px of the distorted images, float64 (..., 2)."""
    left, right = rig.geometry.project(positions)
    return (
        rig.left.unrectify_points(left.reshape(-1, 2)).reshape(left.shape),
        rig.right.unrectify_points(right.reshape(-1, 2)).reshape(right.shape),
    )


def as_result(
    landmarks: npt.ArrayLike, size: Size, sigma_px: float = 0.0, slots: Sequence[str] = ("left", "right")
) -> TrackingResult:
    """Convert landmarks to a tracking result; finite landmarks are visible.

    Args:
        landmarks: (instruments, landmarks of EndoVis, 2), px.
        size: (height, width) of the image, px.
        sigma_px: Standard deviation of each coordinate, px.
        slots: Names of the instruments.
    """
    covariance = sigma_px**2 * np.eye(2)
    instruments = []
    for index, points in enumerate(np.asarray(landmarks, np.float64)):
        marks = tuple(
            LandmarkEstimate(name, float(x), float(y), covariance, 1.0, bool(np.isfinite(x + y)))
            for name, (x, y) in zip(ENDOVIS.landmarks, points, strict=True)
        )
        instruments.append(InstrumentEstimate(index + 1, slots[index], marks, 1.0, math.nan, (0, 0, 0, 0)))
    return TrackingResult(tuple(instruments), None, size, 0.0)
