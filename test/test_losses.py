import math

import numpy as np
import torch

from csl_tracker.losses import csl_loss, heatmap_loss, segmentation_loss


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

    tensors = [torch.from_numpy(a) for a in (heatmaps, scores, targets, labels, labelled)]
    total_, segmentation_, localisation_ = csl_loss(*tensors, weight)
    np.testing.assert_allclose(float(segmentation_), segmentation / count, rtol=1e-12)
    np.testing.assert_allclose(float(localisation_), localisation, rtol=1e-12)
    np.testing.assert_allclose(float(total_), segmentation / count + localisation, rtol=1e-12)


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
