"""Labels of a CVAT project for its raw constructor, where a skeleton with named points is tedious to create by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.coco_records import SLOT_ATTRIBUTES
from csl_tracker.datasets.coco_writer import IGNORE, INSTRUMENT
from csl_tracker.drawing import colorize, landmark_colors
from csl_tracker.instruments import Color, InstrumentSet
from csl_tracker.text import printable

_LOW, _HIGH = 15.0, 85.0  # of the template's 100x100 square


def project_labels(
    instruments: InstrumentSet, slots: tuple[str, ...], shapes: Sequence[FloatArray] = ()
) -> list[dict[str, Any]]:
    """The labels to paste under *Raw* when creating a project.

    Args:
        instruments: Landmarks, skeleton and classes.
        slots: Names of the instruments; each skeleton has one as its attribute.
        shapes: (landmarks, 2) px each: detected instruments, whose mean shape defines the template; NaN where invisible.
    """
    areas = colorize(np.arange(instruments.num_classes, dtype=np.uint8)[None], instruments)[0]
    slot = {
        "name": SLOT_ATTRIBUTES[0],
        "input_type": "select",
        "mutable": False,
        "values": list(slots),
        "default_value": slots[0],
    }
    labels: list[dict[str, Any]] = []
    if instruments.landmarks:
        points = [
            {"name": printable(name), "type": "points", "color": _hex(color), "attributes": []}
            for name, color in zip(instruments.landmarks, landmark_colors(instruments), strict=True)
        ]
        template = _template(instruments, _places(instruments.num_landmarks, shapes))
        skeleton = {"name": INSTRUMENT, "type": "skeleton", "attributes": [slot], "sublabels": points, "svg": template}
        labels.append(skeleton)
    for label, name in enumerate(instruments.classes[1:], 1):
        color = (int(areas[label, 0]), int(areas[label, 1]), int(areas[label, 2]))
        labels.append({"name": printable(name), "type": "any", "color": _hex(color), "attributes": []})
    if instruments.num_classes > 1:
        labels.append({"name": IGNORE, "type": "any", "color": _hex((128, 128, 128)), "attributes": []})
    return labels


def _places(count: int, shapes: Sequence[FloatArray]) -> FloatArray:
    """Points of the template: the mean of the completely visible shapes, or else on a circle."""
    whole = [shape for shape in shapes if np.isfinite(shape).all() and (np.ptp(shape, axis=0) > 0).all()]
    if whole:
        # Normalise each shape to the unit square, since instruments differ in size.
        mean = np.mean([(shape - shape.min(axis=0)) / np.ptp(shape, axis=0) for shape in whole], axis=0)
        return np.asarray(_LOW + (_HIGH - _LOW) * mean, np.float64)
    angles = [2 * math.pi * index / count for index in range(count)]
    return np.array([(50 + 35 * math.sin(angle), 50 - 35 * math.cos(angle)) for angle in angles]).reshape(-1, 2)


def _template(instruments: InstrumentSet, places: FloatArray) -> str:
    shown = np.round(places, 2)
    parts = []
    for pair in instruments.skeleton:
        one, two = (instruments.landmarks.index(name) for name in pair)
        ends = f'x1="{shown[one, 0]}" y1="{shown[one, 1]}" x2="{shown[two, 0]}" y2="{shown[two, 1]}"'
        parts.append(f'<line {ends} data-type="edge" data-node-from="{one + 1}" data-node-to="{two + 1}"></line>')
    for number, (name, (x, y)) in enumerate(zip(instruments.landmarks, shown, strict=True), 1):
        node = f'data-type="element node" data-element-id="{number}" data-node-id="{number}"'
        parts.append(f'<circle r="0.75" cx="{x}" cy="{y}" {node} data-label-name={quoteattr(printable(name))}></circle>')
    return "\n".join(parts)


def _hex(color: Color) -> str:
    return f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}"
