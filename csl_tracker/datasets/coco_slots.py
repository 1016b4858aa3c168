"""Assigns COCO annotations to instrument slots; see :mod:`csl_tracker.datasets.coco` for the rule."""

from __future__ import annotations

import numpy as np

from csl_tracker.datasets.coco_records import LONE_SLOT, SIDES, UNKNOWN_SLOT, Frame
from csl_tracker.errors import DatasetError
from csl_tracker.natural_order import natural_order


def assign_slots(frames: list[Frame], stated: tuple[str, ...] | None, width: int) -> tuple[str, ...]:
    """Assign a slot to each instrument, in place.

    Returns:
        The slot names.

    Raises:
        DatasetError: Two instruments of an image have the same slot, or a slot is not among the stated ones.
    """
    items = [item for frame in frames for item in frame.instruments]
    most = max((len(frame.instruments) for frame in frames), default=0)
    masks = {region.slot for frame in frames for region in frame.regions} - {"", UNKNOWN_SLOT}
    named = {item.slot for item in items if item.slot} | masks
    tracks = {item.track for item in items if item.track}
    if stated is not None:
        slots = stated
    elif named:
        # Unnamed instruments take free slots, so there must be enough slots.
        extra = [side for side in SIDES if side not in named][: max(0, most - len(named))]
        slots = tuple(sorted(named | set(extra), key=lambda s: (s not in SIDES, natural_order(s))))
    else:
        slots = _slot_names(max(1, most))
    if not named and tracks and len(tracks) == len(slots) and all(item.track for item in items):
        mean = {track: np.mean([item.x for item in items if item.track == track]) for track in tracks}
        order = sorted(tracks, key=lambda track: (np.nan_to_num(mean[track], nan=np.inf), track))
        for item in items:
            item.slot = slots[order.index(item.track)]
    for frame in frames:
        _fill_slots(frame, slots, width)
        for item in frame.instruments:
            same = [other for other in frame.instruments if other.slot == item.slot]
            if item.slot not in slots or len(same) > 1:
                problem = (
                    f"are both of the instrument {item.slot} in the image {frame.path}"
                    if len(same) > 1
                    else f"is of the instrument {item.slot!r}, and the sequence {frame.sequence} has {', '.join(slots)}"
                )
                raise DatasetError(
                    f"The {' and the '.join(other.where for other in same)} {problem}; give every instrument of an image an"
                    " attribute 'slot' of its own."
                )
    return slots


def _fill_slots(frame: Frame, slots: tuple[str, ...], width: int) -> None:
    """Assign slots to unnamed instruments by position."""
    loose = [item for item in frame.instruments if not item.slot]
    free = [slot for slot in slots if all(item.slot != slot for item in frame.instruments)]
    if len(loose) == 1 and len(slots) == 2 and len(free) == 2:
        loose[0].slot = slots[int(loose[0].x > (width - 1) / 2)]
        return
    for slot, item in zip(free, sorted(loose, key=lambda item: item.x), strict=False):
        item.slot = slot


def _slot_names(count: int) -> tuple[str, ...]:
    if count == 2:
        return SIDES
    return (LONE_SLOT,) if count == 1 else tuple(f"{LONE_SLOT}_{number}" for number in range(1, count + 1))
