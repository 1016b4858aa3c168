"""Auxiliary training task: on which side of its instrument's axis is a pixel?

The left and right clasper look alike and differ only in their side of the instrument, seen from the shaft to the tip. The
heatmap loss gives little gradient for that: for thousands of steps, a network predicts the same map for both. Predicting the
side of each instrument pixel teaches the difference within a few hundred steps, and the heatmaps follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet

_REACH = 4.0
"""Maximum distance of pixels from the end of the axis, in axis lengths."""
_SOFTNESS = 0.4
"""Distance from the axis, in axis lengths, at which the target is tanh(1)."""


def side_axis(instruments: InstrumentSet) -> tuple[int, int] | None:
    """The axis next to a flip pair: the two landmarks before it along the skeleton.

    Returns:
        Landmark indices, from the shaft to the tip; None without a flip pair.
    """
    chains = instruments.chains()
    paired = {instruments.landmarks.index(name) for pair in instruments.flip_pairs for name in pair}
    return next(((a, b) for a, b, c in chains if c in paired), None)


def side_targets(points: Tensor, labels: Tensor, axis: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Side targets: tanh of the signed distance from the axis of the nearest instrument.

    Args:
        points: (N, instruments, landmarks, 2), map px, NaN if unknown.
        labels: integer (N, h, w).
        axis: From :func:`side_axis`.

    Returns:
        float (N, h, w), -1 to 1, negative to the left along the axis; and the pixel mask, bool (N, h, w): instrument pixels
        near an instrument with a known axis.
    """
    start, end = points[:, :, axis[0]], points[:, :, axis[1]]
    along = end - start
    length = along.norm(dim=-1)
    known = torch.isfinite(length) & (length > 0)
    length = torch.where(known, length, torch.ones_like(length))[..., None, None]
    unit = torch.where(known[..., None], along, torch.zeros_like(along))[..., None, None] / length[:, :, None]
    end = torch.where(known[..., None], end, torch.zeros_like(end))
    rows = torch.arange(labels.shape[-2], device=points.device, dtype=points.dtype)[:, None]
    columns = torch.arange(labels.shape[-1], device=points.device, dtype=points.dtype)[None]
    dx, dy = columns - end[..., 0, None, None], rows - end[..., 1, None, None]
    across = unit[:, :, 0] * dy - unit[:, :, 1] * dx
    far = torch.hypot(dx, dy) / length
    far = torch.where(known[..., None, None], far, torch.full_like(far, torch.inf))
    nearest, owner = far.min(dim=1, keepdim=True)
    target = torch.tanh(across / (_SOFTNESS * length)).gather(1, owner)[:, 0]
    return target, (nearest[:, 0] < _REACH) & (labels > 0) & (labels != IGNORE_LABEL)


def side_loss(sides: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Mean squared error over the masked pixels.

    Args:
        sides: (N, 1, h, w), network output.
        targets: (N, h, w).
        asked: bool (N, h, w), pixel mask.

    Returns:
        A scalar; 0 for an empty mask.
    """
    squared = (sides[:, 0] - targets) ** 2 * asked
    return squared.sum() / asked.sum().clamp(min=1)
