"""Which side of its instrument's axis is a pixel on? A second task, for training alone.

The left and the right clasper look the same; what tells them apart is on which side of the instrument they are, seen from the
shaft to the tip. The heatmaps alone give a network next to no hint of that, and for thousands of steps it draws the same map
twice. Asked for the side of every instrument pixel it learns the difference within a few hundred, and the heatmaps follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet

_REACH = 4.0
"""Pixels farther from the axis' end than this many lengths of the axis are not asked."""
_SOFTNESS = 0.4
"""Distance from the axis, in its lengths, at which the target is tanh(1)."""


def side_axis(instruments: InstrumentSet) -> tuple[int, int] | None:
    """Two landmarks on the axis that the landmarks of a flip pair lie beside: the last two before them along the skeleton.

    Returns:
        Landmark indices, from the shaft to the tip; None where there is no such pair.
    """
    chains = instruments.chains()
    paired = {instruments.landmarks.index(name) for pair in instruments.flip_pairs for name in pair}
    return next(((a, b) for a, b, c in chains if c in paired), None)


def side_targets(points: Tensor, labels: Tensor, axis: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The side of every pixel: tanh of its signed distance from the axis of the nearest instrument.

    Args:
        points: (N, instruments, landmarks, 2), px of the map, NaN where unknown.
        labels: integer (N, h, w).
        axis: From :func:`side_axis`.

    Returns:
        float (N, h, w), -1 to 1, negative to the left when looking along the axis; and bool (N, h, w), the pixels that are
        asked: those of an instrument, near one whose axis is known.
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
    """Mean squared error over the pixels that are asked.

    Args:
        sides: (N, 1, h, w), what the network says.
        targets: (N, h, w).
        asked: bool (N, h, w).

    Returns:
        A scalar; 0 where no pixel is asked.
    """
    squared = (sides[:, 0] - targets) ** 2 * asked
    return squared.sum() / asked.sum().clamp(min=1)
