"""The losses of Laina et al. 2017, equations (1) and (2), with what is not labelled left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.instruments import IGNORE_LABEL


def segmentation_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Pixel-wise softmax-log loss, the mean over the labelled pixels of the batch; the first term of equation (1).

    Args:
        scores: (N, classes, H, W), before the softmax.
        labels: integer (N, H, W); 255 is ignored.

    Returns:
        A scalar; 0 where no pixel is labelled.
    """
    labels = labels.long()
    total = functional.cross_entropy(scores, labels, ignore_index=IGNORE_LABEL, reduction="sum")
    return total / (labels != IGNORE_LABEL).sum().clamp(min=1)


def heatmap_loss(heatmaps: Tensor, targets: Tensor, labelled: Tensor, weight: float = 1.0) -> Tensor:
    """``lambda_H / n`` times the squared error summed over landmarks and pixels, equation (2); mean over the batch.

    Args:
        heatmaps: (N, landmarks, H, W).
        targets: (N, landmarks, H, W).
        labelled: bool (N, landmarks); an unlabelled landmark adds nothing, and ``n`` counts the labelled ones of each image.
        weight: ``lambda_H``.

    Returns:
        A scalar; images without any labelled landmark count as 0.
    """
    squared = ((heatmaps - targets) ** 2).sum(dim=(-2, -1))
    mask = labelled.to(squared.dtype)
    per_image = (squared * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
    return weight * per_image.mean()


def csl_loss(
    heatmaps: Tensor, scores: Tensor, targets: Tensor, labels: Tensor, labelled: Tensor, weight: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Equation (1): segmentation plus localisation.

    Returns:
        The sum, the segmentation's part and the heatmaps' part.
    """
    segmentation = segmentation_loss(scores, labels)
    localisation = heatmap_loss(heatmaps, targets, labelled, weight)
    return torch.add(segmentation, localisation), segmentation, localisation
