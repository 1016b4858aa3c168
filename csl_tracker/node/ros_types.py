"""The messages of this package as ROS generates them; what their fields mean stands in ``csl_tracker.messages.poses``."""

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
"""The classes that :func:`csl_tracker.messages.poses.make_pose_array` makes messages of, for publishing."""
