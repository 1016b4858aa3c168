"""Topic and node names shared by nodes, bags and the demo."""

from __future__ import annotations

IMAGE = "/camera/image_raw"
"""``sensor_msgs/Image``: frames of a dataset or video."""

COMPRESSED_SUFFIX = "/compressed"
"""Suffix of the image topic for the ``compressed`` transport."""

TRACKER_NODE = "tracker_node"
"""Name of the tracker node; the prefix of its private topics."""

POSES = f"/{TRACKER_NODE}/poses"
"""``csl_tracker_msgs/InstrumentPoseArray``: the tracked instruments, one message per image."""

SEGMENTATION = f"/{TRACKER_NODE}/segmentation"
"""``sensor_msgs/Image``, mono8: the tracker's label map at the source size."""

TRUTH_POSES = "/ground_truth/poses"
"""``csl_tracker_msgs/InstrumentPoseArray``: the annotation of the image with the same stamp."""

TRUTH_SEGMENTATION = "/ground_truth/segmentation"
"""``sensor_msgs/Image``, mono8: the annotated label map of the image with the same stamp."""

SOURCE_TIME = "/replay/source_time"
"""``sensor_msgs/TimeReference``: for each replayed image (``header.stamp``) its original stamp in the bag (``time_ref``)."""

CAMERA_INFO = "/camera/camera_info"
"""``sensor_msgs/CameraInfo``: the camera's calibration, next to the images."""

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TIME_REFERENCE_TYPE = "sensor_msgs/msg/TimeReference"
POSES_TYPE = "csl_tracker_msgs/msg/InstrumentPoseArray"

CAMERA_FRAME = "camera"
"""``frame_id`` of the images that this package writes into bags."""
