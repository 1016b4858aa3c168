"""A bank of flat bars in place of rendered instruments, for tests without a renderer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.rendered.bank import write_shard
from csl_tracker.datasets.rendered.build import Plan, prepare
from csl_tracker.datasets.rendered.mesh_scene import View
from csl_tracker.datasets.rendered.parametric import PARAMETRIC
from csl_tracker.datasets.rendered.sprites import Sprite, ToolState
from csl_tracker.datasets.rendered.tissue import TissuePicture
from csl_tracker.datasets.rendered.transforms import facing, transform


def a_sprite(family: str) -> Sprite:
    tools = (make(np.random.default_rng(1)) for make in PARAMETRIC.values())
    tool = next(tool for tool in tools if tool.family == family)
    pose = transform(facing(np.array([1.0, 0, 0]), 0.4), np.array([0.0, 0.0, 0.05]))
    state = ToolState.of(tool, {name: pose @ link for name, link in tool.links({"jaw": 0.4}).items()}, {"jaw": 0.4})
    labels = np.full((24, 150), 1, np.uint8)
    rgba = np.full((24, 150, 4), 255, np.uint8)
    return Sprite(rgba, labels, np.full((24, 150), 0.05, np.float32), (0, 88), View((200, 200), 150.0), state)


@pytest.fixture
def make_bank(tmp_path: Path) -> Callable[..., str]:
    """A function that makes a bank with an instrument of each of some families, and returns its folder."""

    def make(*families: str) -> str:
        folder = tmp_path / f"bank-{len(list(tmp_path.iterdir()))}"
        prepare(Plan(1, "", 200, 1, {}), folder)
        if families:
            write_shard(folder, "sprites", 0, [a_sprite(family) for family in families])
        write_shard(folder, "tissue", 0, [TissuePicture(np.full((100, 130, 3), (150, 60, 50), np.uint8), "liver", ("liver",))])
        return str(folder)

    return make
