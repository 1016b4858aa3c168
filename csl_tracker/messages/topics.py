"""Names of topics: the one home of what nodes, bags and the demo call each other by."""

from __future__ import annotations

IMAGE = "/camera/image_raw"
"""``sensor_msgs/Image``: frames of a dataset or video."""

COMPRESSED_SUFFIX = "/compressed"
"""Appended to the image topic when the transport is ``compressed``."""

TRACKER_NODE = "tracker_node"
"""Name of the tracker node; its private topics lie under it."""

POSES = f"/{TRACKER_NODE}/poses"
"""``csl_tracker_msgs/InstrumentPoseArray``: what the tracker saw, one message per image."""

SEGMENTATION = f"/{TRACKER_NODE}/segmentation"
"""``sensor_msgs/Image``, mono8: the tracker's label map at the source size."""

TRUTH_POSES = "/ground_truth/poses"
"""``csl_tracker_msgs/InstrumentPoseArray``: the annotation of the image with the same stamp."""

TRUTH_SEGMENTATION = "/ground_truth/segmentation"
"""``sensor_msgs/Image``, mono8: the annotated label map of the image with the same stamp."""

SOURCE_TIME = "/replay/source_time"
"""``sensor_msgs/TimeReference``: for each replayed image (``header.stamp``) the stamp it has in its bag (``time_ref``)."""

CAMERA_INFO = "/camera/camera_info"
"""``sensor_msgs/CameraInfo``: the calibration of the camera, the images' sibling."""

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TIME_REFERENCE_TYPE = "sensor_msgs/msg/TimeReference"
POSES_TYPE = "csl_tracker_msgs/msg/InstrumentPoseArray"

CAMERA_FRAME = "camera"
"""``frame_id`` of the images that this package writes into bags."""
