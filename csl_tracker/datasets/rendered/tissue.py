"""Path-traced pictures of wet tissue, lit from beside the lens.

The surface is a depth map seen from the camera: maps of colour and height are painted on a plane
(:mod:`~csl_tracker.datasets.rendered.tissue_families`), the plane is tilted, and each ray of a grid over the view ends at
the plane's depth minus the height. So the whole view is always covered, and steep heights hide what lies behind them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.rendered import srgb, tissue_families
from csl_tracker.datasets.rendered.renderer import (
    Lights,
    camera,
    draw_lights,
    endoscope_lights,
    mesh,
    principled,
    render,
    vertex_attribute,
)
from csl_tracker.datasets.rendered.tissue_parts import log_uniform

FAMILIES: tuple[str, ...] = tuple(tissue_families.RECIPES)
"""Names of the kinds of tissue; pictures of one can be held out."""

_MARGIN = 1.12
"""The surface reaches beyond the picture by this factor."""
_GRID = (384, 480)
"""Vertices of the surface: rows and columns."""
_MAP_CELLS = 240_000


@dataclass(frozen=True)
class View:
    """Camera and plane: the plane is ``z = distance + tilt_x x + tilt_y y``.

    Attributes:
        distance: Depth of the plane on the optical axis, m.
        tilt: Slopes of the plane along x and y.
        width_angle: Horizontal field of view, rad.
    """

    distance: float
    tilt: tuple[float, float]
    width_angle: float

    def focal(self, width: int) -> float:
        """Focal length in px of a picture of this width."""
        return 0.5 * width / math.tan(0.5 * self.width_angle)


@dataclass(frozen=True)
class Exposure:
    """From radiance to 8 bits.

    Attributes:
        level: Linear value that the median of the picture gets.
        vignette: Loss of light at the picture's corner, 0..1.
        scatter: Width of the light's spread under the surface, mm.
        saturation: 1 keeps the colours.
        balance: Factors of red, green and blue.
        gamma: Exponent after sRGB; 1 keeps it.
    """

    level: float
    vignette: float
    scatter: float
    saturation: float
    balance: tuple[float, float, float]
    gamma: float


@dataclass(frozen=True, eq=False)
class TissueSpec:
    """One piece of tissue: everything that a rendering needs.

    Attributes:
        family: One of :data:`FAMILIES`.
        color: Linear albedo on the plane, float32 (h, w, 3), 0..1.
        height: Height towards the camera, mm, float32 (h, w).
        roughness: Roughness under the wet film, float32 (h, w), 0..1.
        origin: Position (x, y) on the plane of the centre of the first cell of the maps, m.
        cell: Size of a cell of the maps, m.
        view: Camera and plane.
        specular: Strength of the surface's own reflection, 0..1.
        clearcoat: Strength of the wet film, 0..1.
        gloss: Smoothness of the wet film, 0..1.
        lights: Lights beside the lens.
        exposure: From radiance to 8 bits.
        materials: What was painted, sorted; neighbouring organs belong to it.
    """

    family: str
    color: Float32Array
    height: Float32Array
    roughness: Float32Array
    origin: tuple[float, float]
    cell: float
    view: View
    specular: float
    clearcoat: float
    gloss: float
    lights: Lights
    exposure: Exposure
    materials: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TissueMesh:
    """The surface as triangles.

    Attributes:
        vertices: float32 (n, 3), m, camera frame.
        faces: uint32 (m, 3).
        colors: Linear albedo per vertex, float32 (n, 3).
        roughness: float32 (n,).
        bsdf: Mitsuba material that reads ``vertex_color`` and ``vertex_roughness``.
        grid: (rows, columns) of the vertices; row-major, from the top left of the view to its bottom right.
    """

    vertices: Float32Array
    faces: npt.NDArray[np.uint32]
    colors: Float32Array
    roughness: Float32Array
    bsdf: dict[str, Any]
    grid: tuple[int, int]

    def shape(self) -> Any:
        """Mitsuba's mesh, to put into a scene."""
        attributes = {"vertex_color": self.colors, "vertex_roughness": self.roughness}
        return mesh("tissue", self.vertices, self.faces, self.bsdf, attributes=attributes)


@dataclass(frozen=True, eq=False)
class TissuePicture:
    """A picture without instruments.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        family: One of :data:`FAMILIES`.
        materials: What is in it, also beside the family's own tissue: a fat picture may show liver. Sorted.
    """

    image: Image
    family: str
    materials: tuple[str, ...]


def draw_tissue(rng: np.random.Generator, family: str | None = None, aspect: float = 0.8) -> TissueSpec:
    """Draw a piece of tissue, with its view, lights and exposure.

    Args:
        rng: Random generator; the same state gives the same tissue.
        family: One of :data:`FAMILIES`; None draws one.
        aspect: Height over width of the pictures to come.

    Raises:
        ValueError: Unknown family.
    """
    if family is None:
        family = FAMILIES[int(rng.integers(len(FAMILIES)))]
    if family not in FAMILIES:
        raise ValueError(f"Unknown tissue family '{family}'; known: {', '.join(FAMILIES)}.")
    view = _draw_view(rng)
    points = _plane_points(view, aspect, (24, 30))[..., :2]
    low, high = points.reshape(-1, 2).min(axis=0), points.reshape(-1, 2).max(axis=0)
    cell = float(np.sqrt(np.prod(high - low) / _MAP_CELLS))
    columns, rows = (int(side) + 2 for side in (high - low) / cell)
    canvas = tissue_families.paint(rng, family, (rows, columns), 0.001 / cell)
    dry = family == "phantom" and rng.random() < 0.7
    return TissueSpec(
        family,
        np.clip(canvas.color, 0.002, 0.92),
        canvas.height,
        np.clip(canvas.rough, 0.08, 0.9),
        (float(low[0]), float(low[1])),
        cell,
        view,
        specular=float(rng.uniform(0.25, 0.7)),
        clearcoat=float(rng.uniform(0.0, 0.5) if dry else rng.uniform(0.5, 1.0)),
        gloss=float(rng.uniform(0.3, 0.9) if dry else rng.uniform(0.88, 0.995)),
        lights=draw_lights(rng),
        exposure=_draw_exposure(rng),
        materials=tuple(sorted(canvas.materials)),
    )


def _draw_view(rng: np.random.Generator) -> View:
    tilt = np.clip(rng.normal(0, 0.45, 2), -1.0, 1.0)
    return View(log_uniform(rng, 0.040, 0.150), (float(tilt[0]), float(tilt[1])), math.radians(float(rng.uniform(42, 72))))


def _draw_exposure(rng: np.random.Generator) -> Exposure:
    kind = rng.random()
    if kind < 0.10:
        level = log_uniform(rng, 0.008, 0.03)
    elif kind < 0.20:
        level = log_uniform(rng, 0.30, 0.55)
    else:
        level = log_uniform(rng, 0.06, 0.28)
    balance = np.exp(rng.normal((0.02, -0.01, 0), (0.03, 0.01, 0.04)))
    return Exposure(
        level,
        float(rng.uniform(0, 0.5)),
        float(rng.uniform(0.3, 1.2)),
        float(rng.uniform(0.75, 1.2)),
        (float(balance[0]), float(balance[1]), float(balance[2])),
        float(rng.uniform(0.85, 1.15)),
    )


def _rays(view: View, aspect: float, grid: tuple[int, int]) -> tuple[Float32Array, Float32Array]:
    """X / z and y / z of a grid of rays over the view and its margin."""
    reach = math.tan(0.5 * view.width_angle) * _MARGIN
    u = np.linspace(-reach, reach, grid[1], dtype=np.float32)
    v = np.linspace(-reach * aspect, reach * aspect, grid[0], dtype=np.float32)
    return np.broadcast_to(u[None], grid), np.broadcast_to(v[:, None], grid)


def _plane_points(view: View, aspect: float, grid: tuple[int, int]) -> Float32Array:
    """Positions on the plane (x, y), m, and depth, m, where a grid of rays meets it; float32 (rows, columns, 3)."""
    u, v = _rays(view, aspect, grid)
    slope_x, slope_y = view.tilt
    z = np.float32(view.distance) / np.maximum(1 - np.float32(slope_x) * u - np.float32(slope_y) * v, np.float32(0.4))
    return np.stack([u * z * np.float32(math.hypot(1, slope_x)), v * z * np.float32(math.hypot(1, slope_y)), z], -1)


def tissue_mesh(spec: TissueSpec, aspect: float = 0.8, grid: tuple[int, int] = _GRID) -> TissueMesh:
    """The surface in the camera frame.

    Args:
        spec: The tissue.
        aspect: Height over width of the picture.
        grid: Rows and columns of vertices.
    """
    points = _plane_points(spec.view, aspect, grid)
    columns = np.ascontiguousarray((points[..., 0] - np.float32(spec.origin[0])) / np.float32(spec.cell))
    rows = np.ascontiguousarray((points[..., 1] - np.float32(spec.origin[1])) / np.float32(spec.cell))

    def sample(plane: Float32Array) -> Float32Array:
        return np.asarray(cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)

    depth = points[..., 2] - np.float32(0.001) * sample(spec.height)
    nearest = np.float32(0.4 * spec.view.distance)
    depth = np.where(depth < nearest, nearest * np.exp(depth / nearest - 1), depth)
    u, v = _rays(spec.view, aspect, grid)
    vertices = np.stack([u * depth, v * depth, depth], -1).reshape(-1, 3).astype(np.float32)
    return TissueMesh(
        vertices,
        _triangles(grid),
        sample(spec.color).reshape(-1, 3),
        sample(spec.roughness).ravel(),
        principled(
            base_color=vertex_attribute("vertex_color"),
            roughness=vertex_attribute("vertex_roughness"),
            specular=spec.specular,
            clearcoat=spec.clearcoat,
            clearcoat_gloss=spec.gloss,
        ),
        grid,
    )


def _triangles(grid: tuple[int, int]) -> npt.NDArray[np.uint32]:
    index = np.arange(grid[0] * grid[1], dtype=np.uint32).reshape(grid)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def develop(radiance: Float32Array, spec: TissueSpec) -> Image:
    """Expose a rendering of a scene on this tissue: scatter, vignette, level, colours, sRGB.

    Args:
        radiance: Linear, float32 (h, w, 3).
        spec: Gives the exposure and the view.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    h, w = radiance.shape[:2]
    look = spec.exposure
    y = (np.arange(h, dtype=np.float32) - np.float32((h - 1) / 2))[:, None]
    x = (np.arange(w, dtype=np.float32) - np.float32((w - 1) / 2))[None]
    falloff = 1 - np.float32(look.vignette) * (x * x + y * y) / np.float32((h * h + w * w) / 4)
    linear = radiance * falloff[..., None]
    linear *= np.float32(look.level) / max(float(np.median(linear[..., :3].mean(axis=-1))), 1e-6)
    linear *= np.asarray(look.balance, np.float32)
    linear = _scatter(linear, look.scatter * 0.001 * spec.view.focal(w) / spec.view.distance)
    grey = linear.mean(axis=-1, keepdims=True)
    linear = np.maximum(grey + np.float32(look.saturation) * (linear - grey), 0)
    over = np.maximum(linear.max(axis=-1, keepdims=True) - np.float32(0.8), 0)  # saturated colours wash out
    linear += np.float32(0.35) * over
    knee = np.float32(0.7)
    linear = np.where(linear < knee, linear, 1 - (1 - knee) * np.exp(-(linear - knee) / (1 - knee)))
    coded = np.power(srgb.encode(linear), np.float32(look.gamma))
    image: Image = np.rint(255 * np.clip(coded * np.float32(1.02), 0, 1)).astype(np.uint8)
    return image


def _scatter(linear: Float32Array, sigma: float) -> Float32Array:
    """Spread of light under the surface: red travels farthest."""
    capped = np.minimum(linear, np.float32(1))
    spread = cv2.GaussianBlur(capped, (0, 0), max(sigma, 0.3)) - capped
    return np.asarray(linear + spread * np.array([0.55, 0.3, 0.25], np.float32), np.float32)


def _bounced(direct: Float32Array) -> Float32Array:
    """Add the light that the tissue throws on itself, estimated from the picture: it fills shadows with the tissue's colour."""
    h, w = direct.shape[:2]
    capped = np.minimum(direct, np.float32(3 * max(float(np.median(direct)), 1e-6)))
    small = cv2.resize(capped, (max(1, w // 8), max(1, h // 8)), interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.GaussianBlur(small, (0, 0), max(w / 64, 0.5)), (w, h), interpolation=cv2.INTER_LINEAR)
    color = around / (around.max(axis=-1, keepdims=True) + np.float32(1e-6))
    return np.asarray(direct + np.float32(0.10) * around * color, np.float32)


def render_tissue_picture(
    rng: np.random.Generator, size: tuple[int, int] = (512, 640), samples: int = 16, family: str | None = None
) -> TissuePicture:
    """Draw and path-trace a picture of tissue.

    Args:
        rng: Random generator; the same state gives the same picture.
        size: (height, width), px.
        samples: Samples per pixel.
        family: One of :data:`FAMILIES`; None draws one.

    Raises:
        EngineError: Mitsuba is not installed.
        ValueError: Unknown family.
    """
    aspect = size[0] / size[1]
    spec = draw_tissue(rng, family, aspect)
    seed = int(rng.integers(2**31))
    density = min(1.0, 2 * size[1] / _GRID[1])
    grid = (max(8, int(_GRID[1] * density * aspect)), max(8, int(_GRID[1] * density)))
    objects = {"tissue": tissue_mesh(spec, aspect, grid).shape(), **endoscope_lights(spec.lights)}
    radiance = render(objects, camera(size, spec.view.focal(size[1]), samples), seed, max_depth=None)
    return TissuePicture(develop(_bounced(radiance), spec), spec.family, spec.materials)
