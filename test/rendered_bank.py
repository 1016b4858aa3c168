"""A bank of a few tiny made-up items, for tests that need no rendering."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from csl_tracker.datasets.rendered.bank import WholeScene, write_shard
from csl_tracker.datasets.rendered.build import Plan, prepare
from csl_tracker.datasets.rendered.mesh_scene import View
from csl_tracker.datasets.rendered.parametric import PARAMETRIC
from csl_tracker.datasets.rendered.sprites import Sprite, ToolState
from csl_tracker.datasets.rendered.tissue import TissuePicture
from csl_tracker.datasets.rendered.transforms import transform

VIEW = View((100, 100), 75.0)


def a_tool(kind: str) -> ToolState:
    tool = PARAMETRIC[kind](np.random.default_rng(1))
    pose = transform(translation=np.array([0.0, 0.0, 0.1]))
    return ToolState.of(tool, {name: pose @ link for name, link in tool.links({}).items()}, {"jaw": 0.25})


def a_sprite(kind: str = "grasper") -> Sprite:
    rng = np.random.default_rng(2)
    rgba = np.dstack([rng.integers(0, 256, (30, 20, 3)), np.full((30, 20), 255)]).astype(np.uint8)
    labels = np.full((30, 20), 3, np.uint8)
    return Sprite(rgba, labels, np.full((30, 20), 0.1, np.float32), (40, 35), VIEW, a_tool(kind))


def a_tissue(family: str = "fat") -> TissuePicture:
    return TissuePicture(np.random.default_rng(3).integers(0, 256, (80, 100, 3)).astype(np.uint8), family, (family,))


def a_scene(family: str = "liver") -> WholeScene:
    plane = np.arange(80 * 100).reshape(80, 100)
    planes = ((plane % 5).astype(np.uint8), (plane % 3).astype(np.uint8), (plane * 1e-5).astype(np.float32))
    tools = (a_tool("hook"), a_tool("grasper"))
    return WholeScene(np.full((80, 100, 3), (30, 90, 200), np.uint8), *planes, View((80, 100), 75.0), tools, family, (family,))


def write_bank(folder: Path) -> Path:
    """12 sprites of three families, mostly graspers, 3 tissue pictures of two, and a scene."""
    prepare(Plan(seed=3, model="", size=100, samples=2, counts={}), folder)
    sprites = [a_sprite(kind) for kind in (*["grasper"] * 8, "hook", "hook", "needle_driver", "needle_driver")]
    turned = [replace(sprite, rgba=np.roll(sprite.rgba, k, axis=0)) for k, sprite in enumerate(sprites)]
    write_shard(folder, "sprites", 0, turned[:7])
    write_shard(folder, "sprites", 1, turned[7:])
    write_shard(folder, "tissue", 0, [a_tissue("fat"), a_tissue("fat"), a_tissue("liver")])
    write_shard(folder, "scenes", 0, [a_scene()])
    return folder
