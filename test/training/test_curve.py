"""Curves from event files that TensorBoard's own writer wrote."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from csl_tracker.training.curve import read_curve

tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="the training extra (tensorboard) is not installed")


def write(folder: Path, tag: str, values: dict[int, float], walltime: float) -> None:
    writer = tensorboard.SummaryWriter(str(folder))
    for step, value in values.items():
        writer.add_scalar(tag, value, step, walltime=walltime)
    writer.close()


def test_no_event_files(tmp_path: Path) -> None:
    empty = {"step": [], "loss": [], "validation_step": [], "validation": {}}
    assert read_curve(tmp_path / "nowhere") == empty
    assert read_curve(tmp_path) == empty


def test_the_later_value_of_a_step_counts(tmp_path: Path) -> None:
    now = time.time()
    write(tmp_path, "train/loss_step", {0: 4.0, 10: 3.0, 20: 9.0}, now + 5)
    write(tmp_path, "train/loss_step", {20: 2.0, 30: 1.0}, now + 9)
    write(tmp_path, "train/loss_step", {10: 7.0}, now)
    assert read_curve(tmp_path) == {"step": [0, 10, 20, 30], "loss": [4, 3, 2, 1], "validation_step": [], "validation": {}}


def test_validation_figures_share_their_steps_and_leave_gaps(tmp_path: Path) -> None:
    write(tmp_path, "val/loss", {5: 2.0, 9: math.nan}, 1.0)
    write(tmp_path, "val/dice", {5: 0.5}, 1.0)
    write(tmp_path, "train/loss_epoch", {5: 3.0}, 1.0)
    assert read_curve(tmp_path) == {
        "step": [5],
        "loss": [3.0],
        "validation_step": [5, 9],
        "validation": {"dice": [0.5, None], "loss": [2.0, None]},
    }


def test_long_curves_are_thinned_by_means(tmp_path: Path) -> None:
    write(tmp_path, "train/loss_step", {step: float(step) for step in range(1001)}, 1.0)
    write(tmp_path, "val/loss", {step: float(step) for step in range(401)}, 1.0)
    curve = read_curve(tmp_path)
    assert len(curve["step"]) == 167  # groups of six
    assert curve["loss"][:2] == [2.5, 8.5]
    assert curve["loss"][-1] == 998.0  # the mean of 996 to 1000
    assert curve["validation_step"] == list(range(0, 401, 3))
