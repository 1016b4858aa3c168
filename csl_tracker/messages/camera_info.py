"""Calibrations as ``sensor_msgs/CameraInfo`` messages."""

from __future__ import annotations

from typing import Any

from csl_tracker.camera import CameraModel
from csl_tracker.messages.poses import bag_types, make_header
from csl_tracker.messages.types import typestore


def camera_info_message(camera: CameraModel, stamp_ns: int, frame_id: str) -> Any:
    """A ``sensor_msgs/CameraInfo`` for a bag."""
    types = bag_types()
    return typestore().types["sensor_msgs/msg/CameraInfo"](
        header=make_header(types, stamp_ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.model,
        d=camera.d,
        k=camera.k.reshape(9),
        r=camera.r.reshape(9),
        p=camera.p.reshape(12),
        binning_x=0,
        binning_y=0,
        roi=types.roi(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )
