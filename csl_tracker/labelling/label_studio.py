"""Export samples as Label Studio tasks with predictions, and its labelling interface; it does not import COCO.

Coordinates are percent of the image's width and height, from its corner. Label Studio does not group key points into
instruments, so a point's label is ``SLOT:LANDMARK``; :mod:`csl_tracker.datasets.coco` splits it when reading a COCO export.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from csl_tracker.datasets.coco_masks import polygons_for_people
from csl_tracker.datasets.coco_records import SLOT_SEPARATOR
from csl_tracker.datasets.sample import Sample
from csl_tracker.drawing import colorize, landmark_colors
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pixels import from_corner
from csl_tracker.text import printable

_IMAGE, _POINTS, _AREAS = "image", "landmarks", "classes"
LOCAL_FILES = "/data/local-files/?d="
"""URL prefix of files in Label Studio's local storage."""


def labelling_interface(instruments: InstrumentSet, slots: tuple[str, ...]) -> str:
    """The XML of a project's labelling interface.

    Args:
        instruments: Landmarks and classes.
        slots: Names of the instruments.
    """
    lines = ["<View>", f'  <Image name="{_IMAGE}" value="$image" zoom="true"/>']
    if instruments.landmarks:
        lines.append(f'  <KeyPointLabels name="{_POINTS}" toName="{_IMAGE}" strokeWidth="2">')
        colors = landmark_colors(instruments)
        labels = [
            (f"{slot}{SLOT_SEPARATOR}{name}", colors[i]) for slot in slots for i, name in enumerate(instruments.landmarks)
        ]
        # Without model_index, Label Studio's COCO export omits key points.
        lines += [_label(name, color, f' model_index="{index}"') for index, (name, color) in enumerate(labels)]
        lines.append("  </KeyPointLabels>")
    if instruments.num_classes > 1:
        lines.append(f'  <PolygonLabels name="{_AREAS}" toName="{_IMAGE}" strokeWidth="2">')
        areas = colorize(np.arange(instruments.num_classes, dtype=np.uint8)[None], instruments)[0]
        for label, name in enumerate(instruments.classes[1:], 1):
            lines.append(_label(name, (int(areas[label, 0]), int(areas[label, 1]), int(areas[label, 2]))))
        lines.append("  </PolygonLabels>")
    return "\n".join([*lines, "</View>", ""])


def task(sample: Sample, slots: tuple[str, ...], instruments: InstrumentSet, image: str, model: str) -> dict[str, Any]:
    """A task with its prediction.

    Args:
        sample: Image, landmarks and label map.
        slots: Names of the sample's instruments.
        instruments: Names of its landmarks and classes.
        image: Path of its image below the folder that Label Studio serves.
        model: Name of the predicting model.
    """
    height, width = sample.image.shape[:2]
    shared = {"to_name": _IMAGE, "original_width": width, "original_height": height, "image_rotation": 0}
    percent = np.array([100 / width, 100 / height])
    result: list[dict[str, Any]] = []
    for slot, points, visible in zip(slots, sample.landmarks, sample.visible, strict=True):
        for name, point in zip(np.array(instruments.landmarks)[visible], from_corner(points[visible]) * percent, strict=True):
            value: dict[str, Any] = {"x": float(point[0]), "y": float(point[1]), "width": 0.6}
            value["keypointlabels"] = [printable(f"{slot}{SLOT_SEPARATOR}{name}")]
            result.append({"type": "keypointlabels", "from_name": _POINTS, "value": value, **shared})
    if sample.label_map is not None:
        for label, name in enumerate(instruments.classes[1:], 1):
            for polygon in polygons_for_people(sample.label_map == label):
                corners = (np.array(polygon).reshape(-1, 2) * percent).tolist()
                value = {"points": corners, "closed": True, "polygonlabels": [printable(name)]}
                result.append({"type": "polygonlabels", "from_name": _AREAS, "value": value, **shared})
    for number, item in enumerate(result):
        item["id"] = f"{sample.frame:06d}_{number:03d}"
    return {"data": {"image": LOCAL_FILES + quote(image)}, "predictions": [{"model_version": model, "result": result}]}


def _label(name: str, color: tuple[int, int, int], more: str = "") -> str:
    return f'    <Label value={quoteattr(printable(name))} background="#{color[0]:02x}{color[1]:02x}{color[2]:02x}"{more}/>'
