"""Convert results and ground truth to messages and back.

The functions work with the classes that ROS generates (``csl_tracker.node.ros_types``) and those of a bag's type store
(:func:`bag_types`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.clock import NS
from csl_tracker.messages.types import typestore
from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult


@dataclass(frozen=True)
class MessageTypes:
    """Message classes; each takes its fields as keywords."""

    time: Callable[..., Any]
    duration: Callable[..., Any]
    header: Callable[..., Any]
    roi: Callable[..., Any]
    landmark: Callable[..., Any]
    instrument_pose: Callable[..., Any]
    instrument_pose_array: Callable[..., Any]


@lru_cache(maxsize=1)
def bag_types() -> MessageTypes:
    """The classes of :func:`csl_tracker.messages.types.typestore`."""
    types = typestore().types
    return MessageTypes(
        time=types["builtin_interfaces/msg/Time"],
        duration=types["builtin_interfaces/msg/Duration"],
        header=types["std_msgs/msg/Header"],
        roi=types["sensor_msgs/msg/RegionOfInterest"],
        landmark=types["csl_tracker_msgs/msg/Landmark"],
        instrument_pose=types["csl_tracker_msgs/msg/InstrumentPose"],
        instrument_pose_array=types["csl_tracker_msgs/msg/InstrumentPoseArray"],
    )


def stamp_ns(stamp: Any) -> int:
    """Convert a ``builtin_interfaces/Time`` or ``Duration`` to ns."""
    return int(stamp.sec) * NS + int(stamp.nanosec)


def make_time(types: MessageTypes, ns: int) -> Any:
    """A ``builtin_interfaces/Time`` from ns."""
    return types.time(sec=ns // NS, nanosec=ns % NS)


def make_header(types: MessageTypes, ns: int, frame_id: str) -> Any:
    """A ``std_msgs/Header`` from a stamp in ns and a frame."""
    return types.header(stamp=make_time(types, ns), frame_id=frame_id)


def _duration(types: MessageTypes, seconds: float) -> Any:
    ns = round(seconds * 1e9)
    return types.duration(sec=ns // NS, nanosec=ns % NS)


def _landmark(types: MessageTypes, landmark: LandmarkEstimate) -> Any:
    covariance = np.asarray(landmark.covariance, np.float64).reshape(4)
    return types.landmark(
        name=landmark.name,
        x=float(landmark.x),
        y=float(landmark.y),
        covariance=covariance,
        confidence=float(landmark.confidence),
        visible=bool(landmark.visible),
        filtered_x=float(landmark.x),
        filtered_y=float(landmark.y),
        filtered_covariance=covariance.copy(),
    )


def make_pose(types: MessageTypes, header: Any, instrument: InstrumentEstimate) -> Any:
    """An ``InstrumentPose`` that shares the given header."""
    x, y, width, height = (int(value) for value in instrument.roi)
    return types.instrument_pose(
        header=header,
        track_id=int(instrument.track_id),
        instrument=instrument.slot,
        landmarks=[_landmark(types, landmark) for landmark in instrument.landmarks],
        confidence=float(instrument.confidence),
        shaft_angle=float(instrument.shaft_angle),
        roi=types.roi(x_offset=x, y_offset=y, height=height, width=width, do_rectify=False),
        age=_duration(types, instrument.age_s),
        predicted=bool(instrument.predicted),
    )


def make_pose_array(types: MessageTypes, header: Any, result: TrackingResult, model: str) -> Any:
    """An ``InstrumentPoseArray`` of all instruments.

    Args:
        types: Message classes.
        header: The image's header, for the array and its poses.
        result: The tracking result.
        model: Name and short hash of the weights, as in ``csl_lite0@1a2b3c4d``.
    """
    return types.instrument_pose_array(
        header=header,
        image_width=int(result.size[1]),
        image_height=int(result.size[0]),
        model=model,
        processing_time=_duration(types, result.processing_time_s),
        poses=[make_pose(types, header, instrument) for instrument in result.instruments],
    )


def read_pose_array(message: Any) -> TrackingResult:
    """The result in an ``InstrumentPoseArray``, without a label map."""
    return TrackingResult(
        instruments=tuple(_read_pose(pose) for pose in message.poses),
        label_map=None,
        size=(int(message.image_height), int(message.image_width)),
        processing_time_s=stamp_ns(message.processing_time) / NS,
    )


def _read_pose(pose: Any) -> InstrumentEstimate:
    return InstrumentEstimate(
        track_id=int(pose.track_id),
        slot=str(pose.instrument),
        landmarks=tuple(
            LandmarkEstimate(
                name=str(landmark.name),
                x=float(landmark.x),
                y=float(landmark.y),
                covariance=np.array(landmark.covariance, np.float64).reshape(2, 2),
                confidence=float(landmark.confidence),
                visible=bool(landmark.visible),
            )
            for landmark in pose.landmarks
        ),
        confidence=float(pose.confidence),
        shaft_angle=float(pose.shaft_angle),
        roi=(int(pose.roi.x_offset), int(pose.roi.y_offset), int(pose.roi.width), int(pose.roi.height)),
        age_s=stamp_ns(pose.age) / NS,
        predicted=bool(pose.predicted),
    )


@dataclass(frozen=True)
class GroundTruth:
    """The annotation of a frame.

    Attributes:
        slots: Names of the instruments.
        names: Landmark names.
        landmarks: float64 (instruments, landmarks, 2), (x, y) in px; NaN where absent or not labelled.
        labelled: bool (instruments, landmarks); False where not annotated.
        size: (height, width) of the image, px.
    """

    slots: tuple[str, ...]
    names: tuple[str, ...]
    landmarks: npt.NDArray[np.float64]
    labelled: npt.NDArray[np.bool_]
    size: Size


def make_truth_array(types: MessageTypes, header: Any, truth: GroundTruth) -> Any:
    """An ``InstrumentPoseArray`` of an annotation: all instruments and landmarks, ``model`` empty.

    ``confidence`` and ``visible`` of a landmark encode the label: 1 and true is a position, 1 and false is absent, 0 is not
    labelled.
    """
    unknown = np.full((2, 2), np.nan)
    instruments = []
    for index, slot in enumerate(truth.slots):
        landmarks = []
        for name, (x, y), labelled in zip(truth.names, truth.landmarks[index], truth.labelled[index], strict=True):
            visible = bool(labelled) and math.isfinite(x) and math.isfinite(y)
            covariance = np.zeros((2, 2)) if visible else unknown
            landmarks.append(LandmarkEstimate(name, float(x), float(y), covariance, float(labelled), visible))
        anywhere = float(any(landmark.visible for landmark in landmarks))
        instruments.append(InstrumentEstimate(index + 1, slot, tuple(landmarks), anywhere, math.nan, (0, 0, 0, 0)))
    return make_pose_array(types, header, TrackingResult(tuple(instruments), None, truth.size, 0.0), model="")


def read_truth_array(message: Any) -> GroundTruth:
    """The annotation in a message of :func:`make_truth_array`."""
    names = tuple(str(landmark.name) for landmark in message.poses[0].landmarks) if len(message.poses) else ()
    shape = (len(message.poses), len(names))
    points = [[(mark.x, mark.y) if mark.visible else (math.nan, math.nan) for mark in pose.landmarks] for pose in message.poses]
    labelled = [[mark.confidence > 0 for mark in pose.landmarks] for pose in message.poses]
    return GroundTruth(
        slots=tuple(str(pose.instrument) for pose in message.poses),
        names=names,
        landmarks=np.array(points, np.float64).reshape(*shape, 2),
        labelled=np.array(labelled, np.bool_).reshape(shape),
        size=(int(message.image_height), int(message.image_width)),
    )
