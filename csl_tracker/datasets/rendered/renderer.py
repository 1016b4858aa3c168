"""Mitsuba 3: variant, meshes, materials, camera, endoscope lights.

The camera frame is optical: x right, y down, z forward, metres. The camera is at the origin. Integer pixel coordinates are
pixel centres, so the principal point of a (height, width) picture is ((width - 1) / 2, (height - 1) / 2).

Mitsuba is imported on first use only; it comes with ``csl_tracker[render]``.
"""

from __future__ import annotations

import glob
import importlib
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array
from csl_tracker.errors import EngineError

_LLVM_PATHS = ("/usr/lib/*/libLLVM*.so*", "/usr/lib/llvm-*/lib/libLLVM*.so*", "/opt/homebrew/opt/llvm/lib/libLLVM*.dylib")
_LLVM_VERSION = re.compile(r"libLLVM(?:-|\.so\.|\.)(\d+)")
_MIN_LLVM = 16


def find_llvm() -> str | None:
    """Path of an LLVM library for Dr.Jit: the user's ``DRJIT_LIBLLVM_PATH``, or the newest in the usual places.

    Returns:
        None without one; version 15 and older ones are not taken, since Dr.Jit 1.5 crashes with them.
    """
    chosen = os.environ.get("DRJIT_LIBLLVM_PATH")
    if chosen:
        return chosen if os.path.exists(chosen) else None
    found = [path for pattern in _LLVM_PATHS for path in glob.glob(pattern)]
    versions = {path: int(number[1]) for path in found if (number := _LLVM_VERSION.search(path))}
    usable = [path for path, version in versions.items() if version >= _MIN_LLVM]
    return max(usable, key=versions.__getitem__) if usable else None


@lru_cache(maxsize=1)
def mitsuba() -> ModuleType:
    """Mitsuba with its variant set: ``llvm_ad_rgb`` with an LLVM library (faster), else ``scalar_rgb``.

    It renders with one thread: several threads add up samples in any order, and a few pixels of a picture change from run to
    run. Render in several processes, or call :func:`use_threads`.

    Raises:
        EngineError: Mitsuba is not installed.
    """
    try:
        module = importlib.import_module("mitsuba")
    except ImportError as error:
        raise EngineError("Rendering needs Mitsuba: pip install 'csl_tracker[render]'.") from error
    llvm = find_llvm()
    if llvm is not None:
        os.environ["DRJIT_LIBLLVM_PATH"] = llvm
    for variant in ("llvm_ad_rgb", "scalar_rgb") if llvm is not None else ("scalar_rgb",):
        if variant in module.variants() and _works(module, variant):
            break
    use_threads(1)
    return module


def _works(module: ModuleType, variant: str) -> bool:
    try:
        module.set_variant(variant)
        return bool(np.asarray(module.Float(1) + module.Float(1)).item() == 2)
    except (ImportError, RuntimeError):
        return False


def use_threads(count: int) -> None:
    """Set the number of rendering threads of this process, after the first call of :func:`mitsuba`."""
    importlib.import_module("drjit").set_thread_count(count)


@dataclass(frozen=True)
class Lights:
    """One or two small spheres beside the lens, as an endoscope's light guides.

    Attributes:
        angle: Direction from the lens to the first light, rad from the image x axis.
        offset: Distance of each light from the lens, m.
        radius: Radius of each light, m.
        color: Radiance, relative, linear RGB; only its ratios matter to a picture that is exposed afterwards.
        balance: Share of the first light, 0.5 to 1; 1 for a single light.
    """

    angle: float = 0.0
    offset: float = 0.005
    radius: float = 0.0016
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    balance: float = 0.5


def draw_lights(rng: np.random.Generator) -> Lights:
    """Draw one or two lights, with a colour temperature between warm halogen and cold xenon."""
    warm = max(-0.06, float(rng.normal(0.02, 0.06)))
    return Lights(
        angle=float(rng.uniform(0, 2 * math.pi)),
        offset=float(rng.uniform(0.003, 0.009)),
        radius=float(rng.uniform(0.0010, 0.0022)),
        color=(math.exp(warm), 1.0, math.exp(-warm + float(rng.normal(0, 0.04)))),
        balance=1.0 if rng.random() < 0.3 else float(rng.uniform(0.5, 0.75)),
    )


def endoscope_lights(lights: Lights) -> dict[str, Any]:
    """Mitsuba emitters for the lights, to be merged into a scene dictionary."""
    scene: dict[str, Any] = {}
    for number, share in enumerate((lights.balance, 1.0 - lights.balance)):
        if share <= 0:
            continue
        angle = lights.angle + number * math.pi
        power = 600.0 * share * (0.0016 / lights.radius) ** 2
        scene[f"light_{number}"] = {
            "type": "sphere",
            "center": [lights.offset * math.cos(angle), lights.offset * math.sin(angle), -0.001],
            "radius": lights.radius,
            "emitter": {"type": "area", "radiance": rgb(np.asarray(lights.color) * power)},
        }
    return scene


def rgb(color: npt.ArrayLike) -> dict[str, Any]:
    """Linear RGB as a Mitsuba value."""
    return {"type": "rgb", "value": [float(value) for value in np.broadcast_to(np.asarray(color, float), 3)]}


def vertex_attribute(name: str) -> dict[str, Any]:
    """Texture that reads an attribute of a mesh, such as ``vertex_color``."""
    return {"type": "mesh_attribute", "name": name}


def principled(**values: Any) -> dict[str, Any]:
    """Two-sided principled BSDF from ``base_color``, ``roughness``, ``metallic``, ``specular``, ``clearcoat`` and so on."""
    return {"type": "twosided", "bsdf": {"type": "principled", **values}}


def mesh(
    name: str,
    vertices: Float32Array,
    faces: npt.NDArray[np.uint32],
    bsdf: dict[str, Any],
    normals: Float32Array | None = None,
    attributes: dict[str, Float32Array] | None = None,
) -> Any:
    """Build a Mitsuba mesh; without normals it is shaded smoothly.

    Args:
        name: Name of the mesh.
        vertices: float32 (n, 3), m, camera frame.
        faces: uint32 (m, 3), indices into the vertices.
        bsdf: Mitsuba dictionary of the material.
        normals: float32 (n, 3), unit vectors, or None to compute them.
        attributes: Values per vertex by name (``vertex_...``), float32 (n,) or (n, channels).
    """
    mi = mitsuba()
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(bsdf)
    result = mi.Mesh(name, len(vertices), len(faces), has_vertex_normals=True, props=properties)
    for key, values in (attributes or {}).items():
        channels = 1 if values.ndim == 1 else values.shape[1]
        result.add_attribute(key, channels, np.ascontiguousarray(values, np.float32).ravel())
    parameters = mi.traverse(result)
    parameters["vertex_positions"] = np.ascontiguousarray(vertices, np.float32).ravel()
    parameters["faces"] = np.ascontiguousarray(faces, np.uint32).ravel()
    if normals is not None:
        parameters["vertex_normals"] = np.ascontiguousarray(normals, np.float32).ravel()
    parameters.update()
    if normals is None:
        result.recompute_vertex_normals()
    return result


def camera(size: tuple[int, int], focal: float, samples: int, pixel_format: str = "rgb") -> dict[str, Any]:
    """Pinhole camera at the origin.

    Args:
        size: (height, width), px.
        focal: Focal length, px.
        samples: Samples per pixel.
        pixel_format: ``rgb``, or ``rgba`` for coverage.
    """
    mi = mitsuba()
    return {
        "type": "perspective",
        "fov_axis": "x",
        "fov": math.degrees(2 * math.atan(size[1] / 2 / focal)),
        "to_world": mi.ScalarTransform4f().look_at(origin=[0, 0, 0], target=[0, 0, 1], up=[0, -1, 0]),
        "near_clip": 0.002,
        "far_clip": 3.0,
        "film": {
            "type": "hdrfilm",
            "height": size[0],
            "width": size[1],
            "pixel_format": pixel_format,
            "component_format": "float32",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "independent", "sample_count": samples},
    }


def render(objects: dict[str, Any], sensor: dict[str, Any], seed: int, max_depth: int | None = 3) -> Float32Array:
    """Path-trace a scene.

    Args:
        objects: Shapes and emitters by name.
        sensor: From :func:`camera`.
        seed: Seed of the samples, below 2**31.
        max_depth: Longest path; None samples the lights' direct light only, which is three times as fast but shows no
            reflections of other surfaces.

    Returns:
        Linear radiance, float32 (height, width, channels).
    """
    mi = mitsuba()
    integrator: dict[str, Any] = {"type": "path", "max_depth": max_depth, "hide_emitters": True}
    if max_depth is None:
        integrator = {"type": "direct", "emitter_samples": 1, "bsdf_samples": 0, "hide_emitters": True}
    scene = mi.load_dict({"type": "scene", "integrator": integrator, "sensor": sensor, **objects})
    return np.asarray(mi.render(scene, seed=seed), np.float32)
