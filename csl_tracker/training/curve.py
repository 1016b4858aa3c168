"""Training curves from TensorBoard event files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

CURVE_POINTS = 200


def read_curve(folder: Path) -> dict[str, Any]:
    """Read the losses from TensorBoard event files; the last value of a repeated step counts.

    Args:
        folder: Folder of the event files; may be missing (forests).

    Returns:
        ``step`` and ``loss``: at most 200 points, averaged over the logged values; ``validation_step`` and ``validation``
        (metric -> values): at most 200 evenly selected points.
    """
    scalars = _scalars(folder) if folder.is_dir() else {}
    loss = scalars.get("train/loss_step") or scalars.get("train/loss_epoch") or {}
    steps = sorted(loss)
    size = -(-len(steps) // CURVE_POINTS) or 1
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    validation = {key.partition("/")[2]: values for key, values in scalars.items() if key.startswith("val/")}
    every = sorted({step for values in validation.values() for step in values})
    picked = every[:: -(-len(every) // CURVE_POINTS) or 1]
    return {
        "step": [round(sum(group) / len(group)) for group in groups],
        "loss": [_finite(sum(loss[step] for step in group) / len(group)) for group in groups],
        "validation_step": picked,
        "validation": {key: [_finite(values.get(step)) for step in picked] for key, values in sorted(validation.items())},
    }


def _scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value; later event files win."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    found: dict[str, dict[int, tuple[float, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            values = found.setdefault(tag, {})
            for event in events.Scalars(tag):
                if event.step not in values or event.wall_time >= values[event.step][0]:
                    values[event.step] = (event.wall_time, event.value)
    return {tag: {step: value for step, (_, value) in values.items()} for tag, values in found.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
