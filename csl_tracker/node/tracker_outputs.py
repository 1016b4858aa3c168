"""The publishers of the tracker node: poses, pictures, and optional outputs in other message types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from csl_tracker.instruments import InstrumentSet
from csl_tracker.messages.images import fill_image
from csl_tracker.messages.poses import make_pose_array
from csl_tracker.node import qos
from csl_tracker.node.camera_info_outputs import camera_info_publishers
from csl_tracker.node.distributions import PublisherEventCallbacks
from csl_tracker.node.managed_node import ManagedNode
from csl_tracker.node.optional_outputs import optional_publishers
from csl_tracker.node.picture_outputs import PicturePublisher, picture_publisher
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.node.session_ports import Picture
from csl_tracker.results import TrackingResult
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray


class TrackerOutputs:
    """Implements :class:`csl_tracker.node.session_ports.Outputs`; created on configure, destroyed on cleanup."""

    def __init__(
        self,
        node: ManagedNode,
        instruments: InstrumentSet,
        expected_rate: float,
        latest_camera_info: Callable[[], CameraInfo | None],
    ) -> None:
        """Create the publishers.

        Args:
            node: The tracker node.
            instruments: Instruments of its model.
            expected_rate: Rate of the poses, Hz; 0 offers neither lease nor deadline.
            latest_camera_info: Returns the camera's last calibration, or None.
        """
        self._node = node
        self._publishers: list[Publisher] = []
        create = self._create
        self._poses = create(InstrumentPoseArray, "~/poses", qos.poses_qos(expected_rate))
        self._pose = create(InstrumentPose, "~/pose", qos.POSE_QOS)
        create_picture = partial(create, profile=qos.PICTURE_QOS)
        self._pictures: dict[Picture, Publisher | PicturePublisher] = {
            Picture.SEGMENTATION: create_picture(Image, f"~/{Picture.SEGMENTATION.value}"),
            Picture.SEGMENTATION_COLOR: picture_publisher(create_picture, f"~/{Picture.SEGMENTATION_COLOR.value}"),
            Picture.OVERLAY: picture_publisher(create_picture, f"~/{Picture.OVERLAY.value}"),
        }
        self._optional = (*optional_publishers(node, instruments), *camera_info_publishers(node, latest_camera_info))
        self._publishers += [optional.publisher for optional in self._optional]

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def subscribed_pictures(self) -> Sequence[Picture]:
        """Pictures that have subscribers."""
        return [picture for picture, publisher in self._pictures.items() if publisher.get_subscription_count() > 0]

    def publish_poses(self, header: Any, result: TrackingResult, model: str) -> None:
        """Publish the pose array, single poses for subscribers, and the optional outputs."""
        array = make_pose_array(ROS_TYPES, header, result, model)
        self._poses.publish(array)
        if self._pose.get_subscription_count() > 0:
            for pose in array.poses:
                self._pose.publish(pose)
        for optional in self._optional:
            optional.publish(array)

    def publish_picture(self, picture: Picture, header: Any, image: npt.NDArray[np.uint8]) -> None:
        """Publish a picture: uint8 (H, W) labels or (H, W, 3) RGB."""
        self._pictures[picture].publish(fill_image(Image(header=header), image))

    def assert_liveliness(self) -> None:
        """Renew the lease of the poses."""
        try:
            self._poses.assert_liveliness()
        except Exception:  # ROS may be shut down between two heartbeats
            if self._node.context.ok():
                raise

    def _create(self, kind: Any, name: str, profile: QoSProfile) -> Publisher:
        topic = self._node.resolve_topic_name(name)

        def report_mismatch(event: Any) -> None:
            self._node.explain_soon(topic, lambda: qos.explain_listener(self._node, topic, profile))

        events = PublisherEventCallbacks(incompatible_qos=report_mismatch)
        publisher = self._node.create_publisher(kind, name, profile, event_callbacks=events)
        self._publishers.append(publisher)
        return publisher
