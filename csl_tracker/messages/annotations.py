"""Convert pose arrays to ``foxglove_msgs/ImageAnnotations``, an overlay for Foxglove. This module imports no ROS.

Foxglove's origin is the corner of the image; :func:`csl_tracker.pixels.from_corner` adds the half pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from csl_tracker.drawing import landmark_colors
from csl_tracker.instruments import Color, InstrumentSet
from csl_tracker.pixels import from_corner

PACKAGE = "foxglove_msgs"

_WHITE: Color = (255, 255, 255)
_BLACK: Color = (0, 0, 0)

DISC_DIAMETER_PX = 8.0
LINE_PX = 2.0
FONT_PX = 14.0
TEXT_OFFSET_PX = (8.0, -12.0)
"""Offset of an instrument's name from its first visible landmark, px."""


@dataclass(frozen=True)
class AnnotationTypes:
    """Message classes; each takes its fields as keywords."""

    annotations: Callable[..., Any]
    circle: Callable[..., Any]
    points: Any
    text: Callable[..., Any]
    point: Callable[..., Any]
    color: Callable[..., Any]


def annotation_types(messages: Any) -> AnnotationTypes:
    """The classes of the module ``foxglove_msgs.msg``."""
    return AnnotationTypes(
        annotations=messages.ImageAnnotations,
        circle=messages.CircleAnnotation,
        points=messages.PointsAnnotation,
        text=messages.TextAnnotation,
        point=messages.Point2,
        color=messages.Color,
    )


def make_annotations(types: AnnotationTypes, poses: Any, instruments: InstrumentSet) -> Any:
    """``ImageAnnotations`` of all visible landmarks: discs, the skeleton between them, and each instrument's name.

    Every annotation has the image's stamp, so that Foxglove draws it on that image.

    Args:
        types: Message classes.
        poses: An ``InstrumentPoseArray``.
        instruments: Skeleton and colours; unknown landmarks are drawn in white.
    """
    stamp = poses.header.stamp
    colors = dict(zip(instruments.landmarks, landmark_colors(instruments), strict=True))
    circles, lines, texts = [], [], []
    for pose in poses.poses:
        marks = {
            str(mark.name): types.point(x=x, y=y)
            for mark in pose.landmarks
            if mark.visible and math.isfinite(mark.x) and math.isfinite(mark.y)
            for x, y in [from_corner((mark.x, mark.y)).tolist()]
        }
        if not marks:
            continue
        ends = [marks[name] for pair in instruments.skeleton if marks.keys() >= set(pair) for name in pair]
        if ends:
            lines.append(
                types.points(
                    timestamp=stamp,
                    type=types.points.LINE_LIST,
                    points=ends,
                    outline_color=_color(types, _WHITE),
                    thickness=LINE_PX,
                )
            )
        circles += [
            types.circle(
                timestamp=stamp,
                position=point,
                diameter=DISC_DIAMETER_PX,
                thickness=1.0,
                fill_color=_color(types, colors.get(name, _WHITE)),
                outline_color=_color(types, _BLACK),
            )
            for name, point in marks.items()
        ]
        anchor = next(iter(marks.values()))
        texts.append(
            types.text(
                timestamp=stamp,
                position=types.point(x=anchor.x + TEXT_OFFSET_PX[0], y=anchor.y + TEXT_OFFSET_PX[1]),
                text=f"{pose.instrument} #{pose.track_id} {pose.confidence:.2f}" + (" predicted" if pose.predicted else ""),
                font_size=FONT_PX,
                text_color=_color(types, _WHITE),
                background_color=_color(types, _BLACK, 0.6),
            )
        )
    return types.annotations(circles=circles, points=lines, texts=texts)


def _color(types: AnnotationTypes, color: Color, alpha: float = 1.0) -> Any:
    return types.color(r=color[0] / 255, g=color[1] / 255, b=color[2] / 255, a=alpha)
