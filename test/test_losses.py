import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from csl_tracker.losses import LossWeights, heatmap_loss, network_loss, regression_loss, segmentation_loss
from csl_tracker.networks import NetworkOutput


def test_equations_1_and_2_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    n, landmarks, classes, rows, columns, weight = 2, 3, 4, 5, 6, 0.7
    heatmaps, targets = rng.normal(size=(2, n, landmarks, rows, columns))
    scores = rng.normal(size=(n, classes, rows, columns))
    labels = rng.integers(0, classes, (n, rows, columns))
    labels[0, 0, :3] = 255
    labelled = np.array([[True, True, False], [True, False, True]])

    segmentation, count = 0.0, 0
    for i in range(n):
        for r in range(rows):
            for c in range(columns):
                if labels[i, r, c] == 255:
                    continue
                total = math.fsum(math.exp(s) for s in scores[i, :, r, c])
                segmentation -= math.log(math.exp(scores[i, labels[i, r, c], r, c]) / total)
                count += 1
    localisation = 0.0
    for i in range(n):
        image = 0.0
        for k in range(landmarks):
            if labelled[i, k]:
                for r in range(rows):
                    for c in range(columns):
                        image += (heatmaps[i, k, r, c] - targets[i, k, r, c]) ** 2
        localisation += weight * image / labelled[i].sum() / n

    maps, wanted, said, pixels, known = (torch.from_numpy(a) for a in (heatmaps, targets, scores, labels, labelled))
    nowhere = torch.full((n, 1, landmarks, 2), torch.nan)
    losses = network_loss(NetworkOutput(maps, said), wanted, nowhere, pixels, known, LossWeights(heatmaps=weight))
    assert losses.segmentation is not None
    np.testing.assert_allclose(float(losses.segmentation), segmentation / count, rtol=1e-12)
    np.testing.assert_allclose(float(losses.localisation), localisation, rtol=1e-12)
    np.testing.assert_allclose(float(losses.total), segmentation / count + localisation, rtol=1e-12)


@pytest.mark.parametrize("instruments", [1, 2, 3])
def test_regression_against_plain_loops_and_scipys_assignment(instruments: int) -> None:
    rng = np.random.default_rng(instruments)
    n, slots, landmarks, weight, presence = 4, 2, 3, 0.7, 0.2
    points = rng.normal(size=(n, slots, landmarks, 3))
    truth = rng.normal(size=(n, instruments, landmarks, 2))
    truth[0, 0, 1] = np.nan
    truth[1, 0] = np.nan
    labelled = np.ones((n, landmarks), bool)
    labelled[2, 0] = False
    expected, entropy = 0.0, []
    for image in range(n):
        visible = np.isfinite(truth[image]).all(axis=-1) & labelled[image]
        there = np.flatnonzero(visible.any(axis=1))
        cost = np.zeros((slots, len(there)))
        for s in range(slots):
            for j, i in enumerate(there):
                cost[s, j] = sum(
                    ((points[image, s, k, :2] - truth[image, i, k]) ** 2).sum() for k in range(landmarks) if visible[i, k]
                )
        rows, columns = linear_sum_assignment(cost)
        count = sum(visible[there[j]].sum() for j in columns)
        expected += cost[rows, columns].sum() / max(count, 1) / n
        seen = np.zeros((slots, landmarks), bool)
        for s, j in zip(rows, columns, strict=True):
            seen[s] = visible[there[j]]
        for s in range(slots):
            for k in range(landmarks):
                if labelled[image, k]:
                    p = 1 / (1 + math.exp(-points[image, s, k, 2]))
                    entropy.append(-math.log(p if seen[s, k] else 1 - p))
    found = regression_loss(torch.from_numpy(points), torch.from_numpy(truth), torch.from_numpy(labelled), weight, presence)
    np.testing.assert_allclose(float(found), weight * expected + presence * np.mean(entropy), rtol=1e-9)


def test_an_absent_landmark_pulls_no_coordinate() -> None:
    points = torch.randn(1, 2, 2, 3, requires_grad=True)
    truth = torch.tensor([[[[0.1, 0.2], [math.nan, math.nan]]]])
    regression_loss(points, truth, torch.ones(1, 2, dtype=torch.bool)).backward()
    assert points.grad is not None
    assert not points.grad[0, :, 1, :2].any()
    assert int((points.grad[0, :, 0, :2] != 0).all(dim=-1).sum()) == 1, "one slot alone takes the only instrument"
    assert (points.grad[..., 2] != 0).all()


def test_what_is_not_labelled_has_no_gradient() -> None:
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    heatmaps = torch.randn(1, 2, 4, 4, requires_grad=True)
    labels = torch.full((1, 4, 4), 255)
    labels[0, 0, 0] = 1
    loss = segmentation_loss(scores, labels) + heatmap_loss(heatmaps, torch.zeros(1, 2, 4, 4), torch.tensor([[True, False]]))
    loss.backward()
    assert scores.grad is not None
    assert heatmaps.grad is not None
    assert bool((scores.grad[0, :, 0, 0] != 0).all())
    scores.grad[0, :, 0, 0] = 0
    assert not scores.grad.any(), "the pixels with label 255"
    assert float(heatmaps.grad[0, 1].abs().sum()) == 0
    assert float(heatmaps.grad[0, 0].abs().sum()) > 0


def test_nothing_labelled_at_all_is_zero_and_not_nan() -> None:
    scores = torch.randn(2, 3, 4, 4)
    assert float(segmentation_loss(scores, torch.full((2, 4, 4), 255))) == 0.0
    assert float(heatmap_loss(scores, scores + 1, torch.zeros(2, 3, dtype=torch.bool))) == 0.0
