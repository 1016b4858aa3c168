"""Surfaces of instruments, as properties of Mitsuba's principled material, and the light around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array

Finish = Mapping[str, Any]

_SURROUNDINGS = np.array(
    [[0.45, 0.13, 0.10], [0.55, 0.25, 0.20], [0.5, 0.32, 0.18], [0.35, 0.08, 0.07], [0.6, 0.4, 0.35], [0.4, 0.4, 0.4]],
    np.float32,
)


def draw_finishes(rng: np.random.Generator) -> dict[str, Finish]:
    """Draw the surfaces of one tool: mostly dark shafts and bright metal; some are matt, or of other colours."""
    tone, metallic, rough = rng.uniform(0.45, 0.9), rng.uniform(0.7, 1.0), rng.uniform(0.18, 0.55)
    if rng.random() < 0.2:  # chalky with dried fluid
        metallic, rough = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.7)
    steel = tone * np.array([1.0, 0.985, 0.96]) * np.exp(rng.normal(0, 0.02, 3))
    if rng.random() < 0.06:  # titanium nitride, or anodised
        steel = tone * np.array([[0.95, 0.75, 0.4], [0.5, 0.5, 0.55], [0.35, 0.45, 0.7]])[rng.integers(3)]
    return {
        "shaft": _shaft(rng),
        "metal": _principled(steel, metallic, rough),
        "sleeve": _principled(steel * rng.uniform(0.85, 1.15), metallic, rough * rng.uniform(0.8, 1.5)),
        "rope": _principled(np.full(3, rng.uniform(0.05, 0.35)), 0.9, 0.4),
        "amber": _principled(np.array([0.55, 0.36, 0.06]) * rng.uniform(0.6, 1.3, 3), 0.0, rng.uniform(0.15, 0.35)),
        "plastic": _principled(_plastic(rng), 0.0, rng.uniform(0.2, 0.6)),
    }


def _shaft(rng: np.random.Generator) -> Finish:
    kind = rng.choice(["dark", "grey", "steel", "coloured"], p=[0.78, 0.08, 0.08, 0.06])
    if kind == "steel":
        return _principled(np.full(3, rng.uniform(0.4, 0.8)), 1.0, rng.uniform(0.15, 0.4))
    if kind == "grey":
        return _principled(np.full(3, rng.uniform(0.1, 0.35)), 0.0, rng.uniform(0.3, 0.6))
    if kind == "coloured":
        return _principled(_plastic(rng), 0.0, rng.uniform(0.2, 0.6))
    dark = math.exp(rng.uniform(math.log(0.005), math.log(0.06)))
    color = dark * np.array([1.0, 1.0, 1.06]) * np.exp(rng.normal(0, 0.06, 3))
    return _principled(color, rng.choice([0.0, 0.5], p=[0.8, 0.2]), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.5))


def _plastic(rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    colors = np.array(
        [[0.7, 0.7, 0.68], [0.05, 0.15, 0.5], [0.1, 0.4, 0.2], [0.6, 0.45, 0.05], [0.02, 0.02, 0.02], [0.3, 0.3, 0.32]]
    )
    return np.asarray(np.clip(colors[rng.integers(len(colors))] * np.exp(rng.normal(0, 0.15, 3)), 0, 0.95), np.float64)


def _principled(color: Any, metallic: float, roughness: float, specular: float = 0.5) -> Finish:
    return {
        "base_color": [float(value) for value in np.clip(color, 0, 0.98)],
        "metallic": float(min(1.0, metallic)),
        "roughness": float(np.clip(roughness, 0.08, 0.9)),
        "specular": float(specular),
    }


def draw_environment(rng: np.random.Generator) -> Float32Array:
    """Draw what the metal reflects: blotches in the colour of tissue before the camera, and darkness behind it.

    Returns:
        float32 (32, 64, 3), linear; see :func:`csl_tracker.datasets.rendered.mesh_scene.render_layers`.
    """
    h, w = 32, 64
    color = _SURROUNDINGS[rng.integers(len(_SURROUNDINGS))] * np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    color += np.float32(rng.uniform(0.2, 0.9)) * (color.mean() - color)  # light between tissue and metal loses its colour
    blotches = cv2.GaussianBlur(rng.standard_normal((h, w)).astype(np.float32), (0, 0), rng.uniform(1, 3))
    blotches = blotches / np.float32(blotches.std() + 1e-6)
    light = color[None, None] * np.clip(1 + 0.5 * blotches, 0.05, None)[..., None] * np.float32(rng.uniform(0.05, 0.4))
    polar, around = (np.arange(h) + 0.5) / h * math.pi, (np.arange(w) + 0.5) / w * 2 * math.pi
    ahead = -np.sin(polar)[:, None] * np.cos(around)[None] > 0
    if rng.random() < 0.8:
        light = light * np.where(ahead, 1.0, 0.15)[..., None]
    return np.ascontiguousarray(light, np.float32)
