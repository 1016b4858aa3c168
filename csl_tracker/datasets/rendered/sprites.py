"""Sprites: one tool before an empty background, with everything that its labels need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker.arrays import Float32Array, FloatArray, Image
from csl_tracker.datasets.rendered import srgb
from csl_tracker.datasets.rendered.denoise import denoise
from csl_tracker.datasets.rendered.dvrk_model import DvrkModel
from csl_tracker.datasets.rendered.finishes import draw_environment, draw_finishes
from csl_tracker.datasets.rendered.landmarks import ENDOVIS, JAWS, TIPS, Dimensions, landmark_positions
from csl_tracker.datasets.rendered.mesh_scene import Layers, PosedTool, View, render_layers
from csl_tracker.datasets.rendered.parametric import PARAMETRIC
from csl_tracker.datasets.rendered.renderer import draw_lights
from csl_tracker.datasets.rendered.tool import SHAFT, Tool
from csl_tracker.datasets.rendered.transforms import facing, moved, transform

FOCAL_RATIO = 0.75  # focal length over width: 67 degrees
SIDES = (0.0, math.pi, -math.pi / 2, math.pi / 2)  # image direction of a shaft that comes from left, right, bottom, top
SIDE_SHARES = (0.35, 0.35, 0.2, 0.1)
_MODEL_SHARE = 0.62  # of the dVRK's model, where it is given
_TIP_WEIGHTS = {
    "006": 6.0,
    "194": 1.5,
    "309": 1.5,
    "049": 1.5,
    "172": 1.5,
    "179": 1.5,
    "093": 1.2,
    "327": 1.2,
    "183": 1.0,
    "184": 1.0,
}
_PARAMETRIC_WEIGHTS = {
    "needle_driver": 2.0,
    "forceps": 2.0,
    "grasper": 2.5,
    "scissors": 1.2,
    "clip_applier": 0.8,
    "hook": 1.0,
    "suction": 0.8,
}
_MIN_PIXELS = 0.004  # share of the picture; a smaller tool is drawn again


@dataclass(frozen=True)
class ToolState:
    """What is stored of a posed tool, so that landmarks can be defined again without rendering.

    Attributes:
        name: The tool's name.
        family: Its family.
        links: Pose of each link in the camera's frame, float64 (4, 4), m.
        tips: Link and point of each clasper tip, m.
        landmarks: Link and point, m, of landmarks that lie elsewhere than on a da Vinci needle driver.
        angles: Joint angles, rad.
        shaft_radius: Radius of the shaft, m.
        cheek: Distance from the middle of the wrist to its outer face along the yaw axis, m.
    """

    name: str
    family: str
    links: Mapping[str, FloatArray]
    tips: tuple[tuple[str, FloatArray], ...]
    landmarks: Mapping[str, tuple[str, FloatArray]]
    angles: Mapping[str, float]
    shaft_radius: float
    cheek: float

    @classmethod
    def of(cls, tool: Tool, links: Mapping[str, FloatArray], angles: Mapping[str, float]) -> ToolState:
        """The state of a tool whose links have these poses in the camera's frame."""
        return cls(tool.name, tool.family, links, tool.tips, tool.landmarks, angles, tool.shaft_radius, tool.cheek)

    def endovis_points(self) -> FloatArray:
        """The landmarks of EndoVis 2015 in the camera's frame, float64 (5, 3), m; NaN where the tool has none."""
        dimensions = Dimensions(1e3 * self.shaft_radius, 1e3 * self.cheek)
        tips = {link: point for link, point in self.tips if link in JAWS}
        points = landmark_positions(ENDOVIS, self.links, {link: point.tolist() for link, point in tips.items()}, dimensions)
        if len(tips) < len(JAWS):
            points[[ENDOVIS.names.index(name) for name in TIPS]] = np.nan  # with one tip, neither is the left or the right one
        for name, (link, point) in self.landmarks.items():
            points[ENDOVIS.names.index(name)] = moved(self.links[link], point[None])[0]
        return points

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "name": self.name,
            "family": self.family,
            "links": {name: pose[:3].tolist() for name, pose in self.links.items()},
            "tips": [[link, point.tolist()] for link, point in self.tips],
            "landmarks": {name: [link, point.tolist()] for name, (link, point) in self.landmarks.items()},
            "angles": dict(self.angles),
            "shaft_radius": self.shaft_radius,
            "cheek": self.cheek,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolState:
        """Undo :meth:`to_json`."""
        return cls(
            str(data["name"]),
            str(data["family"]),
            {name: np.vstack([np.array(rows, float), [0, 0, 0, 1]]) for name, rows in data["links"].items()},
            tuple((str(link), np.array(point, float)) for link, point in data["tips"]),
            {name: (str(link), np.array(point, float)) for name, (link, point) in data["landmarks"].items()},
            {name: float(angle) for name, angle in data["angles"].items()},
            float(data["shaft_radius"]),
            float(data["cheek"]),
        )


@dataclass(frozen=True)
class Sprite:
    """A tool cut out along the box that contains it.

    Attributes:
        rgba: uint8 (h, w, 4), sRGB, not premultiplied.
        labels: uint8 (h, w), parts of :mod:`csl_tracker.datasets.rendered.tool`.
        depth: float32 (h, w), m; 0 outside.
        corner: Column and row of the box's first pixel in the full view, px.
        view: The full view.
        tool: The tool and its pose.
    """

    rgba: Image
    labels: Image
    depth: Float32Array
    corner: tuple[int, int]
    view: View
    tool: ToolState


class ToolShelf:
    """The tools to draw from: the parametric ones, and those of the dVRK's model where it is given.

    Args:
        model: The model; None for parametric tools only.
    """

    def __init__(self, model: DvrkModel | None) -> None:
        self._model = model
        self._tools: dict[str, Tool] = {}

    def draw(self, rng: np.random.Generator) -> Tool:
        """Draw a tool; shafts of the model vary in diameter."""
        if self._model is None or rng.random() >= _MODEL_SHARE:
            return PARAMETRIC[_weighted(rng, _PARAMETRIC_WEIGHTS)](rng)
        tip = _weighted(rng, {tip: _TIP_WEIGHTS.get(tip, 1.0) for tip in self._model.tips})
        if tip not in self._tools:
            self._tools[tip] = self._model.tool(tip)
        return self._tools[tip]


def _weighted(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    shares = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def draw_angles(rng: np.random.Generator, tool: Tool) -> dict[str, float]:
    """Draw joint angles within the tool's limits: wrists near straight more often, jaws closed, half open or wide open."""
    ranges = {
        "pitch": rng.normal(0, 0.5),
        "yaw": rng.normal(0, 0.4),
        "jaw": rng.choice([rng.uniform(0, 0.15), rng.uniform(0.1, 0.7), rng.uniform(0.5, 1.3)], p=[0.35, 0.4, 0.25]),
    }
    return {
        name: float(np.clip(angle, max(tool.limits[name][0], 0.0 if name == "jaw" else -9.0), tool.limits[name][1]))
        for name, angle in ranges.items()
        if name in tool.limits
    }


def draw_pose(rng: np.random.Generator, view: View) -> FloatArray:
    """Draw the pose of the shaft's end, float64 (4, 4), m: it comes from a side and points into the scene."""
    side = rng.choice(SIDES, p=SIDE_SHARES) + rng.normal(0, 0.45)
    elevation = float(np.clip(rng.normal(0.45, 0.35), -0.25, 1.15))
    flat = np.array([math.cos(side), math.sin(side)])
    direction = np.array([*(flat * math.cos(elevation)), math.sin(elevation)])
    z = math.exp(rng.uniform(math.log(0.035), math.log(0.13)))
    back = rng.uniform(-40, 110) * view.size[1] / 640
    pixel = rng.normal(0, 55, 2) * view.size[1] / 640 - 0.3 * back * flat
    return transform(facing(direction, rng.uniform(0, 2 * math.pi)), np.array([*(pixel * z / view.focal_px), z]))


def draw_sprite(rng: np.random.Generator, shelf: ToolShelf, size: int, samples: int) -> Sprite:
    """Draw and render a sprite.

    Args:
        rng: Random generator.
        shelf: The tools.
        size: Height and width of the view, px.
        samples: Paths per pixel.
    """
    view = View((size, size), FOCAL_RATIO * size)
    while True:
        tool = shelf.draw(rng)
        angles = draw_angles(rng, tool)
        pose = draw_pose(rng, view)
        links = {name: pose @ link for name, link in tool.links(angles).items()}
        layers = render_layers(
            view,
            [PosedTool(tool, links, draw_finishes(rng))],
            draw_lights(rng),
            draw_environment(rng),
            samples,
            int(rng.integers(2**31)),
        )
        if (layers.labels > 0).mean() > _MIN_PIXELS:
            return _cut(layers, view, exposure(rng, layers), ToolState.of(tool, links, angles))


def exposure(rng: np.random.Generator, layers: Layers) -> float:
    """Draw a gain so that the metal, or without any the tool, is well exposed, more or less."""
    light = layers.color.mean(axis=-1)
    metal = light[layers.labels > SHAFT]
    if metal.size < 60:
        metal = light[layers.labels > 0]
    return float(rng.uniform(0.3, 0.9) / max(1e-4, np.quantile(metal, 0.7)))


def _cut(layers: Layers, view: View, gain: float, tool: ToolState) -> Sprite:
    there = (layers.alpha > 0) | (layers.labels > 0)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = layers.alpha[box][..., None]
    color = srgb.encode(np.float32(gain) * layers.color[box] / np.maximum(alpha, np.float32(1 / 255)))
    clean = denoise(np.rint(255 * color).astype(np.uint8))
    return Sprite(
        np.dstack([clean, np.rint(255 * alpha).astype(np.uint8)]),
        layers.labels[box],
        layers.depth[box],
        (int(columns[0]), int(rows[0])),
        view,
        tool,
    )
