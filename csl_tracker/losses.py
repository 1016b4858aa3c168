"""The losses of Laina et al. 2017, section 2.2, and of direct regression; unlabelled data is masked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.assignment import assign
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.networks import NetworkOutput


def segmentation_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Pixel-wise cross-entropy, mean over the labelled pixels of the batch; equation (1).

    Args:
        scores: (N, classes, H, W), before the softmax.
        labels: integer (N, H, W); 255 is ignored.

    Returns:
        A scalar; 0 if no pixel is labelled.
    """
    labels = labels.long()
    total = functional.cross_entropy(scores, labels, ignore_index=IGNORE_LABEL, reduction="sum")
    return total / (labels != IGNORE_LABEL).sum().clamp(min=1)


def heatmap_loss(
    heatmaps: Tensor, targets: Tensor, labelled: Tensor, weight: float = 1.0, unasked: Tensor | None = None
) -> Tensor:
    """``lambda_H / n`` times the squared error summed over landmarks and pixels, in equation (2); mean over the batch.

    Args:
        heatmaps: (N, landmarks, H, W).
        targets: (N, landmarks, H, W).
        labelled: bool (N, landmarks); unlabelled landmarks are ignored, ``n`` counts the labelled ones of each image.
        weight: ``lambda_H``.
        unasked: bool (N, landmarks, H, W), pixels to ignore, since an unlabelled landmark may lie there.

    Returns:
        A scalar; images without labelled landmarks contribute 0.
    """
    errors = (heatmaps - targets) ** 2
    squared = (errors if unasked is None else errors.masked_fill(unasked, 0.0)).sum(dim=(-2, -1))
    mask = labelled.to(squared.dtype)
    per_image = (squared * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
    return weight * per_image.mean()


def regression_loss(
    points: Tensor, truth: Tensor, labelled: Tensor, weight: float = 1.0, presence_weight: float = 0.1
) -> Tensor:
    """L2 loss of direct regression: ``lambda_L`` times the mean squared distance of the visible landmarks.

    The paper regresses one instrument that is always in view. For several instruments, slots and instruments are matched by
    minimum squared distance, and each landmark has a visibility logit trained with binary cross-entropy.

    Args:
        points: (N, slots, landmarks, 3), see :class:`csl_tracker.networks.NetworkOutput`.
        truth: (N, instruments, landmarks, 2) in the unit of ``points``, NaN if not in view. With more instruments than
            slots, the best matches count.
        labelled: bool (N, landmarks); unlabelled landmarks are ignored.
        weight: ``lambda_L``.
        presence_weight: Weight of the cross-entropy.
    """
    count, slots = points.shape[:2]
    missing = max(0, slots - truth.shape[1])
    truth = torch.cat((truth, truth.new_full((count, missing, *truth.shape[2:]), torch.nan)), dim=1)
    visible = torch.isfinite(truth).all(dim=-1) & labelled[:, None]
    squared = ((points[:, :, None, :, :2] - torch.nan_to_num(truth)[:, None]) ** 2).sum(dim=-1)
    cost = (squared * visible[:, None]).sum(dim=-1)
    # Always prefer an instrument in view over an absent one.
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
    """Weights of the loss terms.

    Attributes:
        heatmaps: ``lambda_H``.
        regression: ``lambda_L``.
    """

    heatmaps: float = 1.0
    regression: float = 1.0


@dataclass(frozen=True)
class Losses:
    """The loss terms; None for outputs that the network does not have.

    Attributes:
        segmentation: :func:`segmentation_loss`.
        localisation: :func:`heatmap_loss` or :func:`regression_loss`.
        side: Loss of the auxiliary task, :mod:`csl_tracker.training.left_right_task`.
        consistency: :func:`consistency_loss`, weighted.
        association: Loss of the offsets, :mod:`csl_tracker.training.association`, weighted.
    """

    segmentation: Tensor | None
    localisation: Tensor
    side: Tensor | None = None
    consistency: Tensor | None = None
    association: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The sum of the terms, equation (2)."""
        total = self.localisation
        for part in (self.segmentation, self.side, self.consistency, self.association):
            if part is not None:
                total = total + part
        return total


def consistency_loss(output: NetworkOutput, weights: LossWeights) -> Tensor:
    """Squared difference between the outputs for two views of the same frames, on the scale of the other losses.

    Heatmaps and points count as in :func:`heatmap_loss` and :func:`regression_loss`, over all landmarks, labelled or not;
    class probabilities count with the mean over pixels of the squared distance.

    Args:
        output: Output for a batch of the first views, then the second views in the same order.
        weights: Weights of the terms.

    Returns:
        A scalar; 0 for equal outputs.
    """
    parts = []
    if output.heatmaps is not None:
        one, other = output.heatmaps.chunk(2)
        parts.append(weights.heatmaps * ((one - other) ** 2).sum(dim=(-2, -1)).mean())
    if output.points is not None:
        one, other = output.points[..., :2].chunk(2)
        parts.append(weights.regression * ((one - other) ** 2).sum(dim=-1).mean())
    if output.scores is not None:
        one, other = output.scores.softmax(dim=1).chunk(2)
        parts.append(((one - other) ** 2).sum(dim=1).mean())
    return torch.stack(parts).sum()


def network_loss(
    output: NetworkOutput,
    targets: Tensor | None,
    points: Tensor,
    labels: Tensor,
    labelled: Tensor,
    weights: LossWeights,
    unasked: Tensor | None = None,
) -> Losses:
    """The loss terms of a network of any strategy.

    Args:
        output: Network output.
        targets: (N, landmarks, h, w), target heatmaps; None for a network without heatmaps.
        points: (N, instruments, landmarks, 2), ground truth in the unit of ``output.points``.
        labels: integer (N, h, w); 255 is ignored.
        labelled: bool (N, landmarks).
        weights: Weights of the terms.
        unasked: bool (N, landmarks, h, w), where an unlabelled landmark may lie. Heatmaps ignore these pixels, regression the
            landmark in the whole image.
    """
    segmentation = None if output.scores is None else segmentation_loss(output.scores, labels)
    if output.heatmaps is not None:
        assert targets is not None
        return Losses(segmentation, heatmap_loss(output.heatmaps, targets, labelled, weights.heatmaps, unasked))
    assert output.points is not None
    if unasked is not None:
        labelled = labelled & ~unasked.flatten(2).any(dim=2)
    return Losses(segmentation, regression_loss(output.points, points, labelled, weights.regression))
