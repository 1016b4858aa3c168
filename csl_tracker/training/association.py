"""Training of the association: each pixel of an instrument points to the instrument's anchor landmark.

Landmarks of one instrument point to one place, so peaks and pixels can be gathered by where they point (offsets to a centre as
in Papandreou et al., PersonLab, 2018, and Cheng et al., Panoptic-DeepLab, 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.networks.base import OFFSET_UNIT_PX

_REACH_PX = 3.0
"""Radius around a landmark that belongs to its instrument where instances are unknown, map px."""
_FAR = 0.1
"""Error from which the loss grows linearly, in units of the offsets."""


def offset_targets(anchors: Tensor, instances: Tensor, labels: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets from each pixel to the anchor of its instrument.

    Args:
        anchors: (N, instruments, 2), map px, also out of view; NaN if unknown.
        instances: integer (N, h, w), k for instrument k - 1, 0 none, 255 unknown.
        labels: integer (N, h, w); 255 is ignored.
        points: (N, instruments, landmarks, 2), map px, NaN if not in view. Where instances are unknown, pixels near a landmark
            belong to its instrument, unless landmarks of two instruments are near.

    Returns:
        float (N, 2, h, w), x and y in units of ``OFFSET_UNIT_PX``, and the pixel mask, bool (N, h, w).
    """
    height, width = instances.shape[-2:]
    rows = torch.arange(height, device=points.device, dtype=points.dtype)[:, None].expand(height, width)
    columns = torch.arange(width, device=points.device, dtype=points.dtype)[None].expand(height, width)
    grid = torch.stack((columns, rows))
    known = torch.isfinite(anchors).all(dim=-1)
    mask = torch.zeros(instances.shape, dtype=torch.bool, device=points.device)
    count = torch.zeros(instances.shape, dtype=torch.int64, device=points.device)
    target = torch.zeros((len(instances), 2, height, width), dtype=points.dtype, device=points.device)
    for number in range(anchors.shape[1]):
        distance = torch.hypot(
            points[:, number, :, 0, None, None] - columns, points[:, number, :, 1, None, None] - rows
        )  # NaN is not near
        near = (distance < _REACH_PX).any(dim=1) & (instances == IGNORE_LABEL)
        own = (instances == number + 1) | near
        count += near
        asked = own & known[:, number, None, None]
        offset = (torch.nan_to_num(anchors[:, number])[..., None, None] - grid) / OFFSET_UNIT_PX
        target = torch.where(asked[:, None], offset, target)
        mask |= asked
    return target, mask & (count < 2) & ((labels != IGNORE_LABEL) | (count == 1))


def offset_loss(offsets: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
    """Smooth L1 of the offsets, mean over the masked pixels.

    Args:
        offsets: (N, 2, h, w), network output.
        targets: (N, 2, h, w).
        asked: bool (N, h, w), pixel mask.

    Returns:
        A scalar; 0 for an empty mask.
    """
    error = functional.smooth_l1_loss(offsets, targets, reduction="none", beta=_FAR).sum(dim=1)
    return (error * asked).sum() / asked.sum().clamp(min=1)
