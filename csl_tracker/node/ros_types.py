"""The generated ROS classes of the messages; their fields are described in ``csl_tracker.messages.poses``."""

from __future__ import annotations

from builtin_interfaces.msg import Duration, Time
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from csl_tracker.messages.poses import MessageTypes
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray, Landmark

ROS_TYPES = MessageTypes(
    time=Time,
    duration=Duration,
    header=Header,
    roi=RegionOfInterest,
    landmark=Landmark,
    instrument_pose=InstrumentPose,
    instrument_pose_array=InstrumentPoseArray,
)
"""Classes for :func:`csl_tracker.messages.poses.make_pose_array`."""
