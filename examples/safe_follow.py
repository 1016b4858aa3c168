"""Example of a controller that uses the stereo node's output safely: it proposes motions, but never commands an arm.

    python examples/safe_follow.py --ros-args -r target:=/stereo_node/left/measured_cp_cov -r poses:=/left/tracker_node/poses \
        -r arm:=/PSM1/measured_cp

A starting point for a laboratory's controller that follows an instrument, for example with the other arm. It subscribes to the
instrument's pose (``target``), the tracker's result (``poses``) and the arm's pose (``arm``), and publishes ``~/proposed_cp``:
where the arm might be one tick later. It never publishes ``servo_cp``: a servo loop has ticks of less than a millisecond, and a
network's result from one image must not be reached within one tick. The controller that moves the arm needs its own limits and
a person's consent.

Proposals are made only while all of these conditions hold:

- the instrument's pose is recent, by its stamp (age) and by its time of arrival (watchdog);
- the publisher is alive: lost liveliness or a missed deadline stops at once;
- the tracker's confidence and the pose's covariance are good enough;
- pose and arm are in the same frame;
- the pose is close to the previous one: a jump is followed only after it has been confirmed.

A proposal starts at the arm's measured position and moves towards the target with limited step and speed. When a condition
fails, proposals stop; the receiver must treat this as "hold".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from std_msgs.msg import String

from csl_tracker.node.distributions import SubscriptionEventCallbacks
from csl_tracker.node.running import run
from csl_tracker_msgs.msg import InstrumentPoseArray

NAME = "safe_follow"
TICK_S = 0.02

CRTK_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)

# name -> (default, description, range)
PARAMETERS: dict[str, tuple[float, str, tuple[float, float]]] = {
    "max_age": (0.2, "Age by its stamp from which an instrument's pose is ignored, s.", (0.001, 10.0)),
    "watchdog": (0.2, "Time without a pose after which nothing is proposed, s, on the steady clock.", (0.001, 10.0)),
    "lease": (0.0, "Deadline and liveliness to request, s (0: none); not less than what the publisher offers.", (0.0, 10.0)),
    "min_confidence": (0.5, "Smallest confidence of the tracker.", (0.0, 1.0)),
    "max_sigma": (0.005, "Largest standard deviation of the position in any direction, m.", (0.0, 1.0)),
    "max_jump": (0.01, "Largest distance between two consecutive poses of the instrument, m.", (0.0, 1.0)),
    "stand_off": (0.0, "Distance to keep from the instrument, m.", (0.0, 1.0)),
    "max_step": (0.0005, "Largest step of a proposal, m.", (0.0, 0.01)),
    "max_speed": (0.01, "Largest speed of the proposals, m/s.", (0.0, 0.1)),
}


@dataclass(frozen=True)
class Target:
    """The instrument's last valid pose.

    Attributes:
        position: float64 (3,), m.
        frame_id: Its frame.
        arrived_s: Time of arrival on the steady clock, s.
    """

    position: npt.NDArray[np.float64]
    frame_id: str
    arrived_s: float


class SafeFollow(Node):  # type: ignore[misc]
    """Proposes motions towards an instrument while all conditions hold."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(NAME, **node_arguments)
        for name, (default, description, limits) in PARAMETERS.items():
            bounds = [FloatingPointRange(from_value=limits[0], to_value=limits[1])]
            self.declare_parameter(name, default, ParameterDescriptor(description=description, floating_point_range=bounds))
        self.declare_parameter("slot", "left", ParameterDescriptor(description="The instrument's slot in the left image."))
        self._target: Target | None = None
        self._candidate: Target | None = None
        self._arm: PoseStamped | None = None
        self._arm_arrived_s = 0.0
        self._confidence: dict[int, float] = {}
        self._waiting: dict[int, PoseWithCovarianceStamped] = {}
        self._reason = "no pose received yet"
        self._alive = True
        self._last_tick_s = time.monotonic()
        events = SubscriptionEventCallbacks(liveliness=self._liveliness_changed, deadline=self._deadline_missed)
        self.create_subscription(
            PoseWithCovarianceStamped, "target", self._receive_target, self._target_qos(), event_callbacks=events
        )
        self.create_subscription(InstrumentPoseArray, "poses", self._receive_poses, CRTK_QOS)
        self.create_subscription(PoseStamped, "arm", self._receive_arm, CRTK_QOS)
        self._proposals = self.create_publisher(PoseStamped, "~/proposed_cp", CRTK_QOS)
        self._state = self.create_publisher(String, "~/state", CRTK_QOS)
        # The steady clock: with the simulated time of a paused bag the watchdog would stop, too.
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _target_qos(self) -> QoSProfile:
        lease = self._value("lease")
        if lease <= 0:
            return CRTK_QOS
        # A stereo node with expected_rate offers 2.5 periods; without expected_rate it offers none and would not connect.
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE,
            deadline=Duration(seconds=lease),
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=Duration(seconds=lease),
        )

    def _liveliness_changed(self, event: Any) -> None:
        self._alive = event.alive_count > 0
        if not self._alive:
            self._refuse("the stereo node is not alive")

    def _deadline_missed(self, event: Any) -> None:
        self._refuse("the instrument was not seen within the deadline")

    def _receive_poses(self, message: InstrumentPoseArray) -> None:
        """Store the tracker's confidence by stamp; it usually arrives before the position."""
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        found = [pose.confidence for pose in message.poses if pose.instrument == self._value("slot") and not pose.predicted]
        self._confidence[stamp] = found[0] if found else 0.0
        for old in sorted(self._confidence)[:-50]:
            del self._confidence[old]
        waiting = self._waiting.pop(stamp, None)
        if waiting is not None:
            self._receive_target(waiting)

    def _receive_arm(self, message: PoseStamped) -> None:
        self._arm, self._arm_arrived_s = message, time.monotonic()

    def _receive_target(self, message: PoseWithCovarianceStamped) -> None:
        """Check a pose, and use it or report why not."""
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        if stamp not in self._confidence:
            # DDS does not order messages of different topics; the image's poses may arrive slightly later.
            self._waiting = {stamp: message}
            return
        objection = self._objection(message, stamp)
        if objection:
            self._refuse(objection)

    def _objection(self, message: PoseWithCovarianceStamped, stamp: int) -> str:
        """Why a pose is rejected; empty if it became the target."""
        point = message.pose.pose.position
        position = np.array([point.x, point.y, point.z])
        covariance = np.asarray(message.pose.covariance, np.float64).reshape(6, 6)[:3, :3]
        if not (np.isfinite(position).all() and np.isfinite(covariance).all()):
            return "the pose is not finite"
        age = 1e-9 * (self.get_clock().now().nanoseconds - stamp)
        if abs(age) > self._value("max_age"):
            return f"the pose is {age:.3f} s old"
        if self._confidence[stamp] < self._value("min_confidence"):
            return f"the tracker's confidence is {self._confidence[stamp]:.2f}"
        sigma = float(np.sqrt(max(0.0, np.linalg.eigvalsh(covariance)[-1])))
        if sigma > self._value("max_sigma"):
            return f"the position has a standard deviation of {1e3 * sigma:.1f} mm"
        before, self._candidate = self._candidate, Target(position, message.header.frame_id, time.monotonic())
        if before is None or np.linalg.norm(position - before.position) > self._value("max_jump"):
            return "the instrument has jumped, or is new"
        self._target = self._candidate
        return ""

    def _refuse(self, reason: str) -> None:
        """Clear the target and hold."""
        self._target = None
        self._say(reason)

    def _tick(self) -> None:
        """Propose one step, or nothing."""
        now = time.monotonic()
        elapsed, self._last_tick_s = now - self._last_tick_s, now
        target, arm = self._target, self._arm
        if target is None or not self._alive:
            self._say(self._reason)
        elif now - target.arrived_s > self._value("watchdog"):
            self._refuse("no recent pose of the instrument")
        elif arm is None or now - self._arm_arrived_s > self._value("watchdog"):
            self._say("no recent pose of the arm")
        elif arm.header.frame_id != target.frame_id:
            self._say(f"the arm is in {arm.header.frame_id!r} and the instrument in {target.frame_id!r}")
        else:
            self._propose(target, arm, min(elapsed, 2 * TICK_S))

    def _propose(self, target: Target, arm: PoseStamped, elapsed: float) -> None:
        """Propose one step from the arm's measured position, so that proposals never run ahead of an arm that holds."""
        measured, orientation = arm.pose.position, arm.pose.orientation
        here = np.array([measured.x, measured.y, measured.z])
        offset = target.position - here
        distance = float(np.linalg.norm(offset))
        if not np.isfinite(distance):
            self._say("the arm's position is not finite")
            return
        step = min(distance - self._value("stand_off"), self._value("max_step"), self._value("max_speed") * elapsed)
        if step > 0:
            here = here + step * offset / distance
        proposal = PoseStamped()
        proposal.header.frame_id = arm.header.frame_id
        proposal.header.stamp = self.get_clock().now().to_msg()
        proposal.pose.position = Point(x=float(here[0]), y=float(here[1]), z=float(here[2]))
        proposal.pose.orientation = orientation
        self._proposals.publish(proposal)
        self._say("")

    def _say(self, reason: str) -> None:
        """Publish the state, and log it when it changes."""
        if reason != self._reason:
            self._reason = reason
            self.get_logger().info(f"holding: {reason}" if reason else "following")
        self._state.publish(String(data=reason or "following"))


def _work() -> None:
    node = SafeFollow()
    # A single thread, so that checked values cannot change while a proposal is made.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    finally:
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run until a signal arrives."""
    return run(NAME, _work, args)


if __name__ == "__main__":
    sys.exit(main())
