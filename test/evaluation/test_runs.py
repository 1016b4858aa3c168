from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.evaluation.curves import MEAN, kbb_curves, tail_curves, threshold_curves
from csl_tracker.evaluation.runs import counted, full_seeds, landmarks_of, models_of, parse_run, parse_runs, pool

Make = Callable[..., Any]


@pytest.fixture
def result(make_run: Make, sequence: Make, landmark: Make) -> dict[str, Any]:
    parts = {"center": landmark([5.0, None], [100.0, None]), "head": landmark([30.0], frames=[1])}
    return make_run("csl", {"Dataset1": sequence(parts)})


def change(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(data)
    *way, last = path.split("/")
    part = data
    for key in way:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("format", None, "format None instead of 'csl_tracker/run/1'"),
        ("format", "csl_tracker/run/2", "format 'csl_tracker/run/2' instead"),
        ("seed", "x", "model csl, fold all, seed x is damaged"),
        ("sequences", [1], "is damaged"),
        ("sequences/Dataset1/details", None, "'details'"),
        ("sequences/Dataset1/details/landmarks/center/error_px", [1.0], "the lists of center differ in length"),
        ("sequences/Dataset1/details/dice", [1.0], "the shares of Dataset1 differ in number"),
        ("sequences/Dataset1/details/landmarks/center/error_px", ["a", "b"], "is damaged"),
    ],
)
def test_what_is_not_the_result_of_a_run(result: dict[str, Any], path: str, value: Any, text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        parse_run(change(result, path, value))


@pytest.mark.parametrize("data", [None, 3, []])
def test_what_is_no_object_at_all(data: Any) -> None:
    with pytest.raises(DatasetError, match="has the format None"):
        parse_run(data)


def test_results_that_cannot_stand_together(result: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="two results of model csl, fold all, seed 0"):
        parse_runs([result, result])
    with pytest.raises(DatasetError, match=r"differ in their protocol \(endovis_loso and synthetic\)"):
        parse_runs([result, {**result, "seed": 1, "protocol": "endovis_loso"}])
    other = change({**result, "seed": 1}, "sequences/Dataset1/reference_size", [480, 640])
    with pytest.raises(DatasetError, match=r"differ in their reference size \(480x640 and source px\)"):
        parse_runs([result, other])


def test_models_stand_in_the_papers_order_with_their_variants_behind_them(result: dict[str, Any]) -> None:
    names = ["own", "unet", "csl@a=1", "forest", "csl", "l", "csl_no_skip", "sl", "sl_skip", "alien@b", "csl@a=0"]
    runs = parse_runs({**result, "model": name} for name in names)
    ours = ["l", "sl", "sl_skip", "csl_no_skip", "csl", "csl@a=1", "csl@a=0", "unet", "forest"]
    assert models_of(runs) == [*ours, "own", "alien@b"]


@pytest.mark.parametrize(
    ("model", "stored", "name"),
    [
        ("sl", {"strategy": "sl", "decoder": "separable"}, "sl_skip"),
        ("sl@steps=3", {"strategy": "sl", "decoder": "up_projection"}, "sl_skip@steps=3"),
        ("sl", {"strategy": "sl", "decoder": "separable", "bottleneck_relu": False}, "sl"),
        ("csl", {"strategy": "csl", "decoder": "separable"}, "csl"),
        ("own", {"strategy": "sl", "decoder": "separable"}, "own"),
    ],
)
def test_sl_of_the_first_release_had_skips(result: dict[str, Any], model: str, stored: dict[str, Any], name: str) -> None:
    run = parse_run({**result, "model": model, "network": stored})
    assert run.model == name
    assert run.data["network"]["bottleneck_relu"] == (stored["decoder"] == "up_projection")


def test_nulls_become_nan_and_lists_become_arrays(result: dict[str, Any]) -> None:
    run = parse_run(result)
    center = run.sequences["Dataset1"].landmarks["center"]
    np.testing.assert_array_equal(center.error, [5.0, math.nan])
    np.testing.assert_array_equal(center.box, [100.0, math.nan])
    pooled = run.sequences["Dataset1"].pooled()
    np.testing.assert_array_equal(pooled.frame, [0, 1, 1])
    assert pooled.error.shape == pooled.missed.shape == (3,)
    np.testing.assert_array_equal(run.sequences["Dataset1"].segmented, [0, 1])
    assert pool([]).error.shape == (0,)


def test_no_segmentation_is_no_share(make_run: Make, sequence: Make, landmark: Make) -> None:
    part = parse_run(make_run("l", {"Dataset1": sequence({"center": landmark([1.0])}, dice=None)})).sequences["Dataset1"]
    assert part.overlaps["dice"].shape == part.segmented.shape == (0,)


def test_frame_numbers_of_segmented_frames(result: dict[str, Any]) -> None:
    part = parse_run(change(result, "sequences/Dataset1/details/segmented_frame", [40, 45])).sequences["Dataset1"]
    np.testing.assert_array_equal(part.segmented, [40, 45])


def test_seeds_that_lack_a_fold_are_left_out_while_others_are_whole(result: dict[str, Any]) -> None:
    runs = parse_runs(
        {**result, "model": model, "fold": fold, "seed": seed}
        for model, fold, seed in [("csl", "a", 0), ("csl", "b", 0), ("csl", "a", 1), ("sl", "a", 0), ("sl", "a", 2)]
    )
    assert models_of(runs) == ["sl", "csl"]
    assert landmarks_of(runs) == ["center", "head"]
    assert full_seeds(runs, "csl") == ([0], [1])
    assert {seed: len(of_seed) for seed, of_seed in counted(runs, "csl").items()} == {0: 2}
    assert full_seeds(runs, "sl") == ([], [0, 2])
    assert list(counted(runs, "sl")) == [0, 2]


def test_curves_by_hand(make_run: Make, sequence: Make, landmark: Make) -> None:
    def run(model: str, seed: int, center: list[float | None], head: list[float | None]) -> dict[str, Any]:
        parts = {"center": landmark(center, 200.0), "head": landmark(head, None)}
        return make_run(model, {"Dataset1": sequence(parts)}, seed)

    runs = parse_runs(
        [run("csl", 0, [5, 15, None, 25], [1]), run("csl", 1, [5, 5, 5, 5], [30]), run("sl", 0, [5, 15, 45, 25], [1])]
    )
    x = np.array([0.0, 10.0, 20.0, 60.0])
    curves = threshold_curves(runs, x)
    assert list(curves) == ["center", "head", MEAN]
    np.testing.assert_allclose(curves["center"]["csl"].seeds, [[0, 0.25, 0.5, 0.75], [0, 1, 1, 1]])
    np.testing.assert_allclose(curves["center"]["csl"].mean, [0, 0.625, 0.75, 0.875])
    np.testing.assert_allclose(curves[MEAN]["sl"].mean, [0, (0.25 + 1) / 2, (0.5 + 1) / 2, 1])
    boxes = kbb_curves(runs, np.array([0.1, 0.15]))
    assert list(boxes) == ["center"], "the head never has a box, and one landmark needs no mean"
    np.testing.assert_allclose(boxes["center"]["sl"].seeds, [[0.5, 0.75]])
    tail = tail_curves(runs, x)
    np.testing.assert_allclose(tail["csl"].seeds, [[1, 3 / 5, 2 / 5, 1 / 5], [1, 1 / 5, 1 / 5, 0]])
