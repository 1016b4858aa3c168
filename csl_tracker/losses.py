"""The losses of Laina et al. 2017, equations (1) and (2), and that of direct regression, with what is not labelled left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.assignment import assign
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.networks import NetworkOutput


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


def regression_loss(
    points: Tensor, truth: Tensor, labelled: Tensor, weight: float = 1.0, presence_weight: float = 0.1
) -> Tensor:
    """The L2 loss of direct regression: ``lambda_L`` times the mean squared distance of the landmarks in view, over the batch.

    The paper regresses one instrument that is always in view. For several, the slots of the network take the instruments of an
    image by the assignment of the smallest squared distance, and every landmark has the logit of being in view, which is
    trained with the binary cross-entropy.

    Args:
        points: (N, slots, landmarks, 3), see :class:`csl_tracker.networks.NetworkOutput`.
        truth: (N, instruments, landmarks, 2) in the unit of ``points``, NaN where not in view. Of more instruments than slots
            those that fit best are taken.
        labelled: bool (N, landmarks); an unlabelled landmark adds nothing.
        weight: ``lambda_L``.
        presence_weight: Weight of the cross-entropy.

    Returns:
        A scalar.
    """
    count, slots = points.shape[:2]
    missing = max(0, slots - truth.shape[1])
    truth = torch.cat((truth, truth.new_full((count, missing, *truth.shape[2:]), torch.nan)), dim=1)
    visible = torch.isfinite(truth).all(dim=-1) & labelled[:, None]
    squared = ((points[:, :, None, :, :2] - torch.nan_to_num(truth)[:, None]) ** 2).sum(dim=-1)
    cost = (squared * visible[:, None]).sum(dim=-1)
    # An instrument in view is never left out for an absent one.
    price = cost.detach().double() + 1e6 * (~visible.any(dim=-1))[:, None]
    best = torch.tensor([assign(one) for one in price.cpu().numpy()], device=points.device)
    chosen = cost.gather(2, best[..., None])[..., 0].sum(dim=1)
    seen = visible.gather(1, best[..., None].expand(-1, -1, visible.shape[2]))
    distances = chosen / seen.sum(dim=(1, 2)).clamp(min=1)
    known = labelled[:, None].expand_as(seen).to(points.dtype)
    entropy = functional.binary_cross_entropy_with_logits(points[..., 2], seen.to(points.dtype), known, reduction="sum")
    return weight * distances.mean() + presence_weight * entropy / known.sum().clamp(min=1)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts.

    Attributes:
        heatmaps: ``lambda_H``.
        regression: ``lambda_L``.
    """

    heatmaps: float = 1.0
    regression: float = 1.0


@dataclass(frozen=True)
class Losses:
    """The parts of a loss; None for what the network does not say.

    Attributes:
        segmentation: :func:`segmentation_loss`.
        localisation: :func:`heatmap_loss` or :func:`regression_loss`.
        side: Of the second task in training, :mod:`csl_tracker.training.left_right_task`.
    """

    segmentation: Tensor | None
    localisation: Tensor
    side: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """Equation (1): the sum."""
        total = self.localisation
        for part in (self.segmentation, self.side):
            if part is not None:
                total = total + part
        return total


def network_loss(
    output: NetworkOutput, targets: Tensor | None, points: Tensor, labels: Tensor, labelled: Tensor, weights: LossWeights
) -> Losses:
    """The loss of a network's outputs, whatever its strategy.

    Args:
        output: What the network said.
        targets: (N, landmarks, h, w), the Gaussians; None for a network without heatmaps.
        points: (N, instruments, landmarks, 2), the truth in the unit of ``output.points``.
        labels: integer (N, h, w); 255 is ignored.
        labelled: bool (N, landmarks).
        weights: Of the parts.
    """
    segmentation = None if output.scores is None else segmentation_loss(output.scores, labels)
    if output.heatmaps is not None:
        assert targets is not None
        return Losses(segmentation, heatmap_loss(output.heatmaps, targets, labelled, weights.heatmaps))
    assert output.points is not None
    return Losses(segmentation, regression_loss(output.points, points, labelled, weights.regression))
