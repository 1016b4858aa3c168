"""``benchmark/carry_bank.py``: the geometry of shrunk items, an even choice, and its budget."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rendered_bank import a_scene, a_sprite, a_tissue, write_bank

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmark import carry_bank  # noqa: E402
from benchmark.gpu_steps.shrink import exact_size, nearest, shrink  # noqa: E402
from csl_tracker.datasets.rendered.bank import KINDS, families_of, open_bank  # noqa: E402
from csl_tracker.datasets.rendered.mesh_scene import View  # noqa: E402
from csl_tracker.pixels import Resize  # noqa: E402

SIZE, SMALL = (160, 160), (100, 100)


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [
        ((640, 640), 400, (400, 400)),
        ((512, 640), 400, (320, 400)),
        ((512, 640), 403, (320, 400)),
        ((512, 640), 700, (512, 640)),
        ((81, 100), 60, (81, 100)),
    ],
)
def test_both_sides_shrink_by_the_same_factor(size: Any, width: int, expected: Any) -> None:
    assert exact_size(size, width) == expected


@pytest.mark.parametrize("pixel", [(31, 44), (60, 77), (129, 110)])
def test_a_landmark_stays_on_its_pixel(pixel: tuple[int, int]) -> None:
    """A dot is drawn where a point in space is seen; after shrinking, the camera still sees the point on the dot."""
    x, y = pixel
    view = View(SIZE, 123.0)
    point = np.array([[(x - 79.5) / 123.0, (y - 79.5) / 123.0, 1.0]]) * 0.1
    np.testing.assert_allclose(view.project(point)[0], pixel)
    corner = (27, 41)
    rgba = np.zeros((90, 110, 4), np.uint8)
    rgba[y - corner[1], x - corner[0]] = (200, 40, 10, 255)
    labels = np.zeros((90, 110), np.uint8)
    labels[y - corner[1] - 3 : y - corner[1] + 4, x - corner[0] - 3 : x - corner[0] + 4] = 3
    depth = np.where(labels > 0, np.float32(0.1), np.float32(0))
    found: Any = shrink(replace(a_sprite(), rgba=rgba, labels=labels, depth=depth, corner=corner, view=view), SMALL[1])
    assert found.view == View(SMALL, 123.0 * 100 / 160)
    expected = Resize(SIZE, SMALL).points([pixel])[0]
    np.testing.assert_allclose(found.view.project(point)[0], expected)
    weight = found.rgba[..., 3].astype(float)
    rows, columns = np.indices(weight.shape)
    centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum() + found.corner
    assert np.abs(centre - expected).max() < 0.5
    rows, columns = np.nonzero(found.labels)
    assert np.abs(np.array([columns.mean(), rows.mean()]) + found.corner - expected).max() <= 0.5
    np.testing.assert_array_equal(found.depth > 0, found.labels > 0)
    assert found.depth.max() == pytest.approx(0.1)
    seen = found.rgba[..., :3][found.rgba[..., 3] > 30]
    assert np.abs(seen.astype(int) - (200, 40, 10)).max() <= 3  # the empty surroundings do not darken the tool


def test_the_smaller_box_holds_the_whole_sprite() -> None:
    sprite = replace(a_sprite(), rgba=np.full((30, 20, 4), 255, np.uint8), labels=np.full((30, 20), 2, np.uint8))
    found: Any = shrink(replace(sprite, corner=(7, 9), view=View(SIZE, 75.0)), SMALL[1])
    assert found.rgba[..., 3].sum() / 255 == pytest.approx(30 * 20 * (100 / 160) ** 2, rel=0.01)
    assert found.corner == (4, 5)
    assert found.rgba.shape[:2] == found.labels.shape == found.depth.shape == (20, 13)
    assert shrink(sprite, 400) is sprite


def test_a_scene_shrinks_with_its_camera() -> None:
    scene: Any = a_scene()
    found: Any = shrink(scene, 50)
    assert found.view == View((40, 50), 37.5)
    assert found.image.shape == (40, 50, 3)
    for name in ("labels", "instances", "depth"):
        plane = getattr(found, name)
        np.testing.assert_allclose(plane, nearest(getattr(scene, name), (40, 50)), atol=1.01e-4)
        assert plane.dtype == getattr(scene, name).dtype
    points = scene.tools[0].endovis_points()
    np.testing.assert_allclose(
        found.view.project(points), Resize((80, 100), (40, 50)).points(scene.view.project(points)), equal_nan=True
    )


def test_families_take_turns() -> None:
    families = [["a"], ["a"], ["a"], ["b"], ["a", "c"], ["b"]]
    assert carry_bank.taking_turns(families) == [0, 3, 4, 1, 5, 2]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bank(tmp_path_factory.mktemp("rendered") / "bank")


def carried(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_part_is_a_bank_within_its_budget(bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "newest.safetensors"
    weights.write_bytes(b"w" * 1000)
    command = [bank, tmp_path / "a", "--megabytes", 0.02, "--width", 64]
    assert carry_bank.main([*map(str, command), "--weights", str(weights)]) == 0
    found = carried(tmp_path / "a")
    assert found.pop("weights.safetensors") == weights.read_bytes()
    settings = found.pop("bank/bank.json")
    assert sum(map(len, found.values())) <= 20_000
    part = open_bank(tmp_path / "a" / "bank")
    whole = open_bank(bank)
    for kind in KINDS:
        assert 0 < len(getattr(part, kind)) <= len(getattr(whole, kind))
    assert len(part.sprites) < len(whole.sprites)
    assert part.sprite(0).view == View((64, 64), 48.0)
    names = {families_of(part.sprite(number))[0] for number in range(len(part.sprites))}
    assert names == {families_of(whole.sprite(number))[0] for number in range(len(whole.sprites))}
    assert part.settings["size"] == 64
    assert part.settings["part"]["of"] == whole.hashes
    assert f"{len(part.sprites)} sprites: " in capsys.readouterr().out
    (tmp_path / "b" / "bank").mkdir(parents=True)
    (tmp_path / "b" / "bank" / "sprites-00099.json").touch()  # of a run that was stopped
    assert carry_bank.main([str(bank), str(tmp_path / "b"), *map(str, command[2:])]) == 0
    assert carried(tmp_path / "b") == {**found, "bank/bank.json": settings}


def test_all_items_are_carried_where_they_fit(bank: Path, tmp_path: Path) -> None:
    assert carry_bank.main([str(bank), str(tmp_path / "a"), "--width", "200"]) == 0
    part, whole = open_bank(tmp_path / "a" / "bank"), open_bank(bank)
    assert [len(getattr(part, kind)) for kind in KINDS] == [len(getattr(whole, kind)) for kind in KINDS]
    assert families_of(a_tissue()) == families_of(part.tissue_picture(0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{bank}/none", "a"], "make a bank with csl-tracker render"),
        (["{bank}", "a", "--megabytes", "68"], "beside 0.0 MB .* all together at most 67.1 MB"),
        (["{bank}", "a", "--megabytes", "67", "--weights", "{big}"], "beside 1.0 MB of weights"),
        (["{bank}", "full", "--megabytes", "67"], "beside 1.0 MB of weights and packages"),
        (["{bank}", "a", "--megabytes", "nan"], "does not fit"),
        (["{bank}", "a", "--megabytes", "0.0001"], "No item of .* fits into 0.0001 MB"),
        (["{bank}", "a", "--width", "5"], "--width is 5"),
        (["{bank}", "a", "--weights", "none"], "There is no file none"),
        (["{bank}", "{done}"], "There is a bank in .* already"),
    ],
)
def test_mistakes_get_a_sentence(
    arguments: list[str],
    words: str,
    bank: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big").write_bytes(bytes(1_000_000))
    (tmp_path / "full" / "packages").mkdir(parents=True)
    (tmp_path / "full" / "packages" / "one.py").write_bytes(bytes(1_000_000))
    (tmp_path / "done" / "bank").mkdir(parents=True)
    (tmp_path / "done" / "bank" / "bank.json").touch()
    paths = {"bank": bank, "big": tmp_path / "big", "done": tmp_path / "done"}
    assert carry_bank.main([text.format(**paths) for text in arguments]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert re.search(words, said.err)
    assert not (tmp_path / "a" / "bank" / "bank.json").exists()
