"""Render posed tools with Mitsuba: colour, alpha, and at the pixels' centres depth, part and tool.

The camera looks along +z, with x to the right and y down. Mitsuba is an extra, ``csl_tracker[render]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, FloatArray, Image
from csl_tracker.datasets.rendered.renderer import Lights, camera, endoscope_lights, mitsuba, principled, rgb
from csl_tracker.datasets.rendered.tool import Mesh, Tool
from csl_tracker.pixels import Size

NEAR_M = 0.002
_LONGEST_PATH = 3  # light, surface, surface, camera: metal reflects lit tissue


@dataclass(frozen=True)
class View:
    """A pinhole camera with square pixels and its principal point in the middle of the image.

    Attributes:
        size: (height, width), px.
        focal_px: Focal length, px.
    """

    size: Size
    focal_px: float

    def project(self, points: FloatArray) -> FloatArray:
        """Pixel positions of points in the camera's frame, float64 (n, 3), m; NaN for those behind the near plane."""
        h, w = self.size
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.focal_px * points[:, :2] / points[:, 2:] + (np.array([w, h]) - 1) / 2
        return np.where(points[:, 2:] > NEAR_M, found, np.nan)


@dataclass(frozen=True)
class PosedTool:
    """A tool in front of the camera.

    Attributes:
        tool: The tool.
        links: Pose of each link in the camera's frame, float64 (4, 4), m.
        finishes: Properties of Mitsuba's principled material, by the finish of the parts.
    """

    tool: Tool
    links: Mapping[str, FloatArray]
    finishes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Layers:
    """What the camera sees.

    Attributes:
        color: Linear light, premultiplied by alpha, float32 (h, w, 3).
        alpha: Coverage by tools and surroundings with a surface, float32 (h, w), 0..1.
        labels: uint8 (h, w), parts as in :mod:`csl_tracker.datasets.rendered.tool`, 0 none.
        instances: uint8 (h, w), k for the k-th tool, 0 none.
        depth: z of the first surface, float32 (h, w), m; 0 without one.
    """

    color: Float32Array
    alpha: Float32Array
    labels: Image
    instances: Image
    depth: Float32Array


def render_layers(
    view: View,
    tools: Sequence[PosedTool],
    lights: Lights,
    environment: Float32Array,
    samples: int,
    seed: int,
    surroundings: Mapping[str, Any] | None = None,
) -> Layers:
    """Render tools.

    Args:
        view: The camera.
        tools: At most 255.
        lights: Beside the lens; visible in reflections only.
        environment: Light from all directions, float32 (h, 2 h, 3), linear; the lower half of the rows is below the camera.
        samples: Paths per pixel.
        seed: Of the paths.
        surroundings: More shapes of the scene, as Mitsuba's dictionaries; label and instance 0.
    """
    mi = mitsuba()
    shapes: dict[str, Any] = dict(surroundings or {})
    codes: dict[str, tuple[int, int]] = {}
    for k, posed in enumerate(tools):
        materials = {finish: _material(mi, values) for finish, values in posed.finishes.items()}
        for j, part in enumerate(posed.tool.parts):
            name = f"tool{k}part{j}"
            shapes[name] = _shape(mi, name, part.mesh, posed.links[part.link], materials[part.finish])
            codes[name] = (part.label, k + 1)
    scene: dict[str, Any] = {
        "type": "scene",
        "env": {"type": "envmap", "bitmap": mi.Bitmap(environment)},
        **shapes,
        **endoscope_lights(lights),
    }
    loaded = mi.load_dict(scene)
    integrator = mi.load_dict({"type": "path", "max_depth": _LONGEST_PATH, "hide_emitters": True})
    sensor = mi.load_dict(camera(view.size, view.focal_px, samples, "rgba"))
    picture = np.array(mi.render(loaded, sensor=sensor, integrator=integrator, seed=seed))
    # Without its jitter, the stratified sampler looks through the centre of each pixel.
    sampler = {"type": "stratified", "sample_count": 1, "jitter": False}
    centers = mi.load_dict({**camera(view.size, view.focal_px, 1), "sampler": sampler})
    first = mi.load_dict({"type": "aov", "aovs": "at:position,of:shape_index"})
    hits = np.array(mi.render(loaded, sensor=centers, integrator=first, seed=0))
    depth = np.nan_to_num(hits[..., 2])
    index = np.rint(np.nan_to_num(hits[..., 3])).astype(np.int64)
    lookup = np.zeros((len(loaded.shapes()) + 1, 2), np.uint8)
    for number, shape in enumerate(loaded.shapes(), start=1):  # 0 is nothing
        lookup[number] = codes.get(shape.id(), (0, 0))
    labels, instances = np.moveaxis(lookup[index], -1, 0)
    return Layers(
        np.nan_to_num(picture[..., :3]).astype(np.float32),
        np.clip(np.nan_to_num(picture[..., 3]), 0, 1).astype(np.float32),
        np.ascontiguousarray(labels),
        np.ascontiguousarray(instances),
        depth.astype(np.float32),
    )


def _material(mi: Any, values: Mapping[str, Any]) -> Any:
    return mi.load_dict(principled(**{**values, "base_color": rgb(values["base_color"])}))


def _shape(mi: Any, name: str, mesh: Mesh, pose: FloatArray, material: Any) -> Any:
    properties = mi.Properties()
    properties["mesh_bsdf"] = material
    count = len(mesh.vertices)
    shape = mi.Mesh(name, count, count // 3, has_vertex_normals=mesh.normals is not None, props=properties)
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = _flat(mesh.vertices @ pose[:3, :3].T + pose[:3, 3])
    if mesh.normals is not None:
        parameters["vertex_normals"] = _flat(mesh.normals @ pose[:3, :3].T)
    parameters["faces"] = np.arange(count, dtype=np.uint32)
    parameters.update()
    return shape


def _flat(values: FloatArray) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32).ravel()
