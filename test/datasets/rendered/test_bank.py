import dataclasses
import json
import zipfile

import numpy as np
import pytest

from csl_tracker.datasets.rendered.bank import SETTINGS, WholeScene, open_bank, shard_path, write_shard
from csl_tracker.datasets.rendered.build import PER_SHARD, Plan, missing, prepare
from csl_tracker.datasets.rendered.mesh_scene import View
from csl_tracker.datasets.rendered.parametric import PARAMETRIC
from csl_tracker.datasets.rendered.sprites import Sprite, ToolState
from csl_tracker.datasets.rendered.tissue import TissuePicture
from csl_tracker.datasets.rendered.transforms import transform
from csl_tracker.errors import ConfigError, DatasetError

PLAN = Plan(seed=3, model="", size=100, samples=2, counts={"sprites": 60, "tissue": 30})


def a_tool(kind: str) -> ToolState:
    tool = PARAMETRIC[kind](np.random.default_rng(1))
    pose = transform(translation=np.array([0.0, 0.0, 0.1]))
    return ToolState.of(tool, {name: pose @ link for name, link in tool.links({}).items()}, {"jaw": 0.25})


def a_sprite(kind: str = "grasper") -> Sprite:
    rng = np.random.default_rng(2)
    rgba = np.full((30, 20, 4), 255, np.uint8)
    rgba[..., :3] = (200, 40, 10)
    rgba[:5, :, 3] = 0
    depth = rng.uniform(0.03, 0.2, (30, 20)).astype(np.float32)
    return Sprite(rgba, rng.integers(0, 5, (30, 20)).astype(np.uint8), depth, (7, 9), View((100, 100), 75.0), a_tool(kind))


def a_scene() -> WholeScene:
    plane = np.arange(80 * 100).reshape(80, 100)
    image = np.full((80, 100, 3), (30, 90, 200), np.uint8)
    return WholeScene(
        image,
        (plane % 5).astype(np.uint8),
        (plane % 3).astype(np.uint8),
        (plane * 1e-5).astype(np.float32),
        View((80, 100), 75.0),
        (a_tool("hook"), a_tool("grasper")),
        "liver",
        ("liver", "fat"),
    )


def write_bank(folder):
    prepare(PLAN, folder)
    write_shard(folder, "sprites", 0, [a_sprite("grasper"), a_sprite("hook"), a_sprite("grasper")])
    write_shard(folder, "sprites", 1, [a_sprite("needle_driver")])
    write_shard(
        folder,
        "tissue",
        0,
        [TissuePicture(np.full((8, 10, 3), k, np.uint8), f, (f,)) for k, f in ((10, "fat"), (200, "liver"))],
    )
    write_shard(folder, "scenes", 0, [a_scene()])
    return folder


def test_what_is_no_bank_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(DatasetError, match="make a bank with csl-tracker render --out"):
        open_bank(tmp_path)
    (tmp_path / SETTINGS).write_text('{"format": 99}')
    with pytest.raises(DatasetError, match="no bank of format 1"):
        open_bank(tmp_path)
    (tmp_path / SETTINGS).unlink()
    prepare(PLAN, tmp_path)
    with pytest.raises(DatasetError, match="has no items"):
        open_bank(tmp_path)


@pytest.mark.parametrize(("hold_out", "only"), [(["grosper"], []), ([], ["bone"])])
def test_an_unknown_family_is_refused_with_the_known_ones(tmp_path, hold_out, only):
    with pytest.raises(
        ConfigError, match=r"has no family '(grosper|bone)'; it has fat, hand-held grasper, hand-held hook, liver"
    ):
        open_bank(write_bank(tmp_path), hold_out, only)


def test_a_broken_shard_is_refused_when_it_is_read(tmp_path):
    bank = open_bank(write_bank(tmp_path))
    shard = shard_path(tmp_path, "sprites", 0)
    content = shard.read_bytes()
    shard.write_bytes(content[:200])
    with pytest.raises(DatasetError, match=r"delete it and its \.json, and render again"):
        bank.sprite(0)
    with zipfile.ZipFile(shard, "w") as archive:
        archive.writestr("0000.webp", b"no picture")
        archive.writestr(
            "0000.json", json.dumps({"corner": [0, 0], "size": [9, 9], "focal_px": 1, "tools": [a_tool("hook").to_json()]})
        )
    with pytest.raises(DatasetError, match="broken picture"):
        bank.sprite(0)


def test_items_come_back_as_they_were(tmp_path):
    bank = open_bank(write_bank(tmp_path))
    assert (len(bank.sprites), len(bank.tissue), len(bank.scenes)) == (4, 2, 1)
    sprite, expected = bank.sprite(1), a_sprite("hook")
    np.testing.assert_array_equal(sprite.labels, expected.labels)
    np.testing.assert_allclose(sprite.depth, expected.depth, atol=6e-6)
    np.testing.assert_array_equal(sprite.rgba[..., 3], expected.rgba[..., 3])
    seen = sprite.rgba[8:, :, :3].astype(int) - (200, 40, 10)  # red stays red
    assert np.abs(seen).max() < 8
    assert (sprite.corner, sprite.view) == (expected.corner, expected.view)
    np.testing.assert_array_equal(sprite.tool.endovis_points(), expected.tool.endovis_points())
    assert sprite.tool.angles == {"jaw": 0.25}
    assert bank.tissue_picture(1).family == "liver"
    scene = bank.scene(0)
    np.testing.assert_array_equal(scene.instances, a_scene().instances)
    np.testing.assert_allclose(scene.depth, a_scene().depth, atol=6e-6)
    assert [tool.name for tool in scene.tools] == ["hook", "grasper"]


@pytest.mark.parametrize(
    ("hold_out", "only", "counts"),
    [
        ([], [], (4, 2, 1)),
        (["hand-held grasper"], [], (2, 2, 0)),
        (["liver"], [], (4, 1, 0)),
        ([], ["hand-held hook"], (1, 2, 1)),
        (["fat"], [], (4, 1, 0)),
        ([], ["fat"], (4, 1, 1)),
    ],
)
def test_families_are_held_out_or_chosen(tmp_path, hold_out, only, counts):
    bank = open_bank(write_bank(tmp_path), hold_out, only)
    assert (len(bank.sprites), len(bank.tissue), len(bank.scenes)) == counts


def test_the_same_items_give_the_same_hash(tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path / name, "sprites", 0, [a_sprite()])
    hashes = [json.loads((tmp_path / name / "sprites-00000.json").read_text())["sha256"] for name in ("a", "b")]
    assert hashes[0] == hashes[1]


def test_a_plan_has_each_item_once_and_the_kinds_take_turns(tmp_path):
    shards = PLAN.shards()
    assert sorted(shards) == [("sprites", 0, 25), ("sprites", 1, 25), ("sprites", 2, 10), ("tissue", 0, 25), ("tissue", 1, 5)]
    assert [kind for kind, _, _ in shards] == ["sprites", "tissue", "sprites", "tissue", "sprites"]
    prepare(PLAN, tmp_path)
    write_shard(tmp_path, "sprites", 1, [a_sprite()])
    shard_path(tmp_path, "sprites", 0).write_bytes(b"killed before its index was written")
    assert [entry[:2] for entry in missing(PLAN, tmp_path)] == [("sprites", 0), ("tissue", 0), ("tissue", 1), ("sprites", 2)]
    assert PER_SHARD == 25


@pytest.mark.parametrize(("key", "value"), [("seed", 4), ("size", 200), ("samples", 8), ("model", "somewhere")])
def test_a_bank_is_not_continued_with_other_settings(tmp_path, key, value):
    prepare(PLAN, tmp_path)
    (tmp_path / ".sprites-00000.zip.part17").touch()
    prepare(PLAN, tmp_path)
    assert not list(tmp_path.glob(".*part*"))
    with pytest.raises(ConfigError, match=f"was begun with {key} "):
        prepare(dataclasses.replace(PLAN, **{key: value}), tmp_path)
