"""Convert pose arrays to ``vision_msgs/Detection2DArray`` (bounding boxes). This module imports no ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PACKAGE = "vision_msgs"


@dataclass(frozen=True)
class DetectionTypes:
    """Message classes; each takes its fields as keywords."""

    array: Callable[..., Any]
    detection: Callable[..., Any]
    box: Callable[..., Any]
    pose: Callable[..., Any]
    point: Callable[..., Any]
    hypothesis: Callable[..., Any]
    scored: Callable[..., Any]


def detection_types(messages: Any) -> DetectionTypes:
    """The classes of the module ``vision_msgs.msg`` (4.x: Humble and later)."""
    return DetectionTypes(
        array=messages.Detection2DArray,
        detection=messages.Detection2D,
        box=messages.BoundingBox2D,
        pose=messages.Pose2D,
        point=messages.Point2D,
        hypothesis=messages.ObjectHypothesis,
        scored=messages.ObjectHypothesisWithPose,
    )


def make_detections(types: DetectionTypes, poses: Any) -> Any:
    """A ``Detection2DArray`` with the image's header and one detection per instrument with a box.

    The box is the pose's region of interest, relative to the image corner as in ``vision_msgs`` (its ``createAABB2D``: the
    centre is left + width / 2). Class, score and id are the instrument's slot, confidence and track id. Instruments without a
    visible landmark have no box and are omitted. The hypothesis' 6-D pose stays empty: a single image does not determine it.

    Args:
        types: Message classes.
        poses: An ``InstrumentPoseArray``.
    """
    return types.array(
        header=poses.header, detections=[_detection(types, poses.header, pose) for pose in poses.poses if pose.roi.width > 0]
    )


def _detection(types: DetectionTypes, header: Any, pose: Any) -> Any:
    roi = pose.roi
    center = types.pose(position=types.point(x=roi.x_offset + roi.width / 2, y=roi.y_offset + roi.height / 2), theta=0.0)
    hypothesis = types.hypothesis(class_id=str(pose.instrument), score=float(pose.confidence))
    return types.detection(
        header=header,
        results=[types.scored(hypothesis=hypothesis)],
        bbox=types.box(center=center, size_x=float(roi.width), size_y=float(roi.height)),
        id=str(pose.track_id),
    )
