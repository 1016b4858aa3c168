"""Whole scenes: tools over tissue, rendered at once, so that shadows, reflections and occlusions are right."""

from __future__ import annotations

import math

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.rendered.bank import WholeScene
from csl_tracker.datasets.rendered.denoise import denoise
from csl_tracker.datasets.rendered.finishes import draw_finishes
from csl_tracker.datasets.rendered.mesh_scene import PosedTool, View, render_layers
from csl_tracker.datasets.rendered.sprites import SIDE_SHARES, SIDES, ToolShelf, ToolState, draw_angles
from csl_tracker.datasets.rendered.tissue import TissueSpec, develop, draw_tissue, tissue_mesh
from csl_tracker.datasets.rendered.transforms import facing, transform
from csl_tracker.pixels import Size

_COUNT_SHARES = (0.04, 0.26, 0.44, 0.18, 0.08)  # of scenes with 0, 1, 2, ... tools
_APART = 0.16  # image widths between the wrists of two tools
_TRIES = 12
_REACH = 0.02  # m from the shaft's end to the tip, about
_GLOOM = 0.01  # radiance from outside the view


def draw_scene(rng: np.random.Generator, shelf: ToolShelf, size: Size, samples: int) -> WholeScene:
    """Draw and render a scene.

    Args:
        rng: Random generator.
        shelf: The tools.
        size: (height, width), px.
        samples: Paths per pixel.
    """
    aspect = size[0] / size[1]
    spec = draw_tissue(rng, None, aspect)
    view = View(size, spec.view.focal(size[1]))
    surface = tissue_mesh(spec, aspect)
    count = int(rng.choice(len(_COUNT_SHARES), p=_COUNT_SHARES))
    sides = rng.choice(len(SIDES), count, replace=False, p=SIDE_SHARES)
    tools: list[PosedTool] = []
    states: list[ToolState] = []
    taken: list[FloatArray] = []
    finishes = draw_finishes(rng)
    for side in sides:
        tool = shelf.draw(rng)
        angles = draw_angles(rng, tool)
        pixel = _free_pixel(rng, view, taken)
        taken.append(pixel)
        pose = _pose_over(rng, spec, view, pixel, SIDES[int(side)])
        links = {name: pose @ link for name, link in tool.links(angles).items()}
        finishes = finishes if rng.random() < 0.6 else draw_finishes(rng)  # mostly of one make
        tools.append(PosedTool(tool, links, finishes))
        states.append(ToolState.of(tool, links, angles))
    gloom = np.full((8, 16, 3), _GLOOM, np.float32)
    layers = render_layers(view, tools, spec.lights, gloom, samples, int(rng.integers(2**31)), {"tissue": surface.shape()})
    return WholeScene(
        denoise(develop(layers.color, spec)),
        layers.labels,
        layers.instances,
        layers.depth,
        view,
        tuple(states),
        spec.family,
        spec.materials,
    )


def _free_pixel(rng: np.random.Generator, view: View, taken: list[FloatArray]) -> FloatArray:
    """Draw where a tip points to, away from the other tools if possible."""
    h, w = view.size
    for _ in range(_TRIES):
        pixel = np.array([w, h]) * (0.5 + rng.normal(0, 0.17, 2))
        if all(np.linalg.norm(pixel - other) > _APART * w for other in taken):
            break
    return np.asarray(pixel, np.float64)


def _pose_over(rng: np.random.Generator, spec: TissueSpec, view: View, pixel: FloatArray, side: float) -> FloatArray:
    """Pose of the shaft's end so that the tool's tip is above the tissue at a pixel, or touches it; float64 (4, 4), m."""
    h, w = view.size
    ray = np.array([*((pixel - (np.array([w, h]) - 1) / 2) / view.focal_px), 1.0])
    plane = spec.view.distance / max(0.4, 1 - spec.view.tilt[0] * ray[0] - spec.view.tilt[1] * ray[1])
    above = rng.choice([rng.uniform(-0.003, 0.004), rng.uniform(0.0, 0.4) * plane], p=[0.4, 0.6])
    tip = ray * max(0.03, plane - above)
    angle = side + rng.normal(0, 0.4)
    elevation = float(np.clip(rng.normal(0.5, 0.35), -0.2, 1.2))
    direction = np.array([math.cos(angle) * math.cos(elevation), math.sin(angle) * math.cos(elevation), math.sin(elevation)])
    return transform(facing(direction, rng.uniform(0, 2 * math.pi)), tip - _REACH * direction)
