"""Convert instruments in space to ``geometry_msgs`` and ``visualization_msgs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from csl_tracker.instruments import ENDOVIS
from csl_tracker.stereo.finder import FoundInstrument
from csl_tracker.stereo.orientation import Pose3D, rotation_matrix

MARKER_LIFETIME = Duration(sec=0, nanosec=500_000_000)
"""Time after which the markers of a lost instrument disappear."""

_LANDMARK_SIZE, _LINE_WIDTH, _ARROW_LENGTH, _TEXT_SIZE = 0.0025, 0.001, 0.02, 0.004
_COLORS = dict(zip(ENDOVIS.landmarks, ENDOVIS.landmark_colors, strict=True))
_OTHER_COLOR = (255, 255, 255)
_ARROW_COLOR = (80, 140, 255)


def make_ros_pose(pose: Pose3D) -> Pose:
    """Convert to ``geometry_msgs/Pose``."""
    x, y, z = (float(value) for value in pose.position)
    qx, qy, qz, qw = (float(value) for value in pose.quaternion)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def make_measured_cp(header: Header, pose: Pose3D) -> PoseStamped:
    """A ``measured_cp`` as defined by CRTK."""
    return PoseStamped(header=header, pose=make_ros_pose(pose))


def make_measured_cp_cov(header: Header, pose: Pose3D) -> PoseWithCovarianceStamped:
    """The pose with its covariance."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = make_ros_pose(pose)
    message.pose.covariance = np.ascontiguousarray(pose.covariance, np.float64).reshape(36)
    return message


def make_markers(header: Header, instruments: Sequence[FoundInstrument]) -> MarkerArray:
    """Landmarks as spheres, the skeleton as lines, the pose as an arrow along the shaft, and the slot's name as text."""
    markers: list[Marker] = []
    for found in instruments:
        points = dict(zip(found.names, (_point(position) for position in found.positions), strict=True))

        def marker(kind: int, scale: tuple[float, float, float], slot: str = found.slot, **fields: Any) -> Marker:
            return Marker(
                header=header,
                ns=slot,
                id=kind,
                type=kind,
                action=Marker.ADD,
                scale=Vector3(x=scale[0], y=scale[1], z=scale[2]),
                lifetime=MARKER_LIFETIME,
                **{"pose": Pose(orientation=Quaternion(w=1.0)), "color": _color(_OTHER_COLOR), **fields},
            )

        markers.append(
            marker(
                Marker.SPHERE_LIST,
                (_LANDMARK_SIZE,) * 3,
                points=list(points.values()),
                colors=[_color(_COLORS.get(name, _OTHER_COLOR)) for name in points],
            )
        )
        bones = [pair for pair in ENDOVIS.skeleton if pair[0] in points and pair[1] in points]
        if bones:
            ends = [points[name] for pair in bones for name in pair]
            markers.append(marker(Marker.LINE_LIST, (_LINE_WIDTH, 0.0, 0.0), points=ends))
        tip = found.pose.position + _ARROW_LENGTH * rotation_matrix(found.pose.quaternion)[:, 2]
        arrow = [_point(found.pose.position), _point(tip)]
        shape = (_LINE_WIDTH, 2 * _LINE_WIDTH, 3 * _LINE_WIDTH)
        markers.append(marker(Marker.ARROW, shape, points=arrow, color=_color(_ARROW_COLOR)))
        text = f"{found.slot} {found.confidence:.2f}"
        markers.append(marker(Marker.TEXT_VIEW_FACING, (0.0, 0.0, _TEXT_SIZE), pose=make_ros_pose(found.pose), text=text))
    return MarkerArray(markers=markers)


def _point(position: Any) -> Point:
    return Point(x=float(position[0]), y=float(position[1]), z=float(position[2]))


def _color(rgb: tuple[int, int, int]) -> ColorRGBA:
    return ColorRGBA(r=rgb[0] / 255, g=rgb[1] / 255, b=rgb[2] / 255, a=1.0)
