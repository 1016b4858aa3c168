"""How soon does a controller notice that the tracker died or hangs?

``python benchmark/lease.py --json docs/results/lease.json``

A tracker node in a process of its own gets synthetic frames at a fixed rate. Again and again, at a moment that is random within
the frames' period, the whole process is stopped (SIGSTOP), or its worker alone is made to hang in a frame while the process
lives on. A subscriber of the poses with the offered lease and deadline notes when each of the two events comes. In between, and
while the camera is silent, each lost liveliness is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.messages import topics
from csl_tracker.messages.poses import make_header
from csl_tracker.node.processes import free_domain_id, private_environment, run_stoppable
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.node.timing import lease_s
from csl_tracker.output import write_text
from csl_tracker.provenance import machine, versions

SIZE = (576, 720)
PICTURES = 10
HANG_S = 1.0
CALM_S = 2.0
LIMIT_S = 10.0


def run_tracker() -> None:
    """The node as it is, but for one thing: after SIGUSR1 its worker hangs in the next frame for a second."""
    from csl_tracker.node import tracker_node
    from csl_tracker.tracker import Tracker

    wanted: list[float] = []
    signal.signal(signal.SIGUSR1, lambda *given: wanted.append(HANG_S))
    track = Tracker.track

    def hang(self: Tracker, *given: Any, **named: Any) -> Any:
        if wanted:
            print(time.monotonic(), file=sys.stderr, flush=True)  # one clock for all processes
            time.sleep(wanted.pop())
        return track(self, *given, **named)

    Tracker.track = hang  # type: ignore[method-assign]
    sys.exit(tracker_node.main(sys.argv[2:]))


class Controller:
    """A camera, and a subscriber of the poses that notes when their lease and their deadline are missed."""

    def __init__(self, rate_hz: float) -> None:
        import rclpy
        from rclpy.duration import Duration
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        from csl_tracker.messages.images import fill_image
        from csl_tracker.node.distributions import SubscriptionEventCallbacks
        from csl_tracker_msgs.msg import InstrumentPoseArray

        rclpy.init(args=[])
        self.period_s = 1 / rate_hz
        self.node = rclpy.create_node("controller")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.camera = self.node.create_publisher(Image, topics.IMAGE, 1)
        self.pictures = [fill_image(Image(), render_frame(seed, SIZE).image) for seed in range(PICTURES)]
        self.poses = self.shown = 0
        self.alive = False
        self.lost_at: list[float] = []
        self.late_at: list[float] = []
        self._next = time.monotonic()
        lease = Duration(nanoseconds=round(lease_s(rate_hz) * 1e9))
        quality = QoSProfile(
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE,
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=lease,
            deadline=lease,
        )
        events = SubscriptionEventCallbacks(
            liveliness=self._liveliness, deadline=lambda status: self.late_at.append(time.monotonic())
        )
        self.node.create_subscription(InstrumentPoseArray, topics.POSES, self._count, quality, event_callbacks=events)

    def _count(self, message: Any) -> None:
        self.poses += 1

    def _liveliness(self, status: Any) -> None:
        self.alive = status.alive_count > 0
        if not self.alive:
            self.lost_at.append(time.monotonic())

    def spin(self, until: Callable[[], bool], limit_s: float, show: bool = True) -> bool:
        """Show frames at the rate until a condition holds; whether it did within the limit."""
        end = time.monotonic() + limit_s
        while not until():
            now = time.monotonic()
            if now >= end:
                return False
            if show and now >= self._next:
                picture = self.pictures[self.shown % PICTURES]
                picture.header = make_header(ROS_TYPES, time.time_ns(), "camera")
                self.camera.publish(picture)
                self.shown += 1
                self._next = max(self._next + self.period_s, now)
            self.executor.spin_once(timeout_sec=0.001)
        return True

    def settle(self) -> int:
        """Show frames until the tracker has followed for a while; the number of false alarms in it."""
        if not self.spin(lambda: self.alive, LIMIT_S):
            raise SystemExit("The tracker does not come back.")
        self.spin(lambda: False, CALM_S / 2)
        before = len(self.lost_at)
        self.spin(lambda: False, CALM_S)
        return len(self.lost_at) - before

    def close(self) -> None:
        """Leave the graph."""
        import rclpy

        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


def quantiles(delays_s: list[float]) -> dict[str, Any]:
    """Figures of delays, ms."""
    values = np.array(delays_s, np.float64) * 1000
    return {
        "noticed": len(delays_s),
        "p50": round(float(np.percentile(values, 50)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "max": round(float(values.max()), 1),
        "all": [round(float(value), 1) for value in values],
    }


def hang_began(said: Path) -> float:
    """When the worker began to hang, on the monotonic clock: the last number that the tracker wrote."""
    return float([line for line in said.read_text(errors="replace").splitlines() if line.replace(".", "", 1).isdigit()][-1])


def measure(process: subprocess.Popen[bytes], said: Path, rate_hz: float, trials: int) -> dict[str, Any]:
    """Stop a running tracker again and again.

    Returns:
        Figures, ms.
    """
    controller = Controller(rate_hz)
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    false_alarms, calm_s = 0, 0.0
    faults: dict[str, tuple[int, int | None]] = {"stopped": (signal.SIGSTOP, signal.SIGCONT), "hanging": (signal.SIGUSR1, None)}
    try:
        if not controller.spin(lambda: controller.poses > 0, 60.0):
            raise SystemExit("The tracker publishes no poses.")
        for fault, (begin, end) in faults.items():
            lost: list[float] = []
            late: list[float] = []
            for _ in tqdm(range(trials), desc=fault):
                false_alarms += controller.settle()
                calm_s += CALM_S
                controller.spin(lambda: False, float(rng.uniform(0, controller.period_s)))
                controller.spin(lambda: controller.alive, LIMIT_S)
                controller.lost_at.clear()
                controller.late_at.clear()
                began = time.monotonic()
                process.send_signal(begin)
                controller.spin(lambda: bool(controller.lost_at and controller.late_at), HANG_S)
                if end is not None:
                    process.send_signal(end)
                else:
                    controller.spin(lambda: False, HANG_S)
                    began = hang_began(said)
                lost += [at - began for at in controller.lost_at[:1]]
                late += [at - began for at in controller.late_at[:1]]
            found[fault] = {"liveliness_lost_ms": quantiles(lost), "deadline_missed_ms": quantiles(late)}
        false_alarms += controller.settle()
        before, late_before = len(controller.lost_at), len(controller.late_at)
        controller.spin(lambda: False, 10.0, show=False)
        found["silent_camera_10_s"] = {
            "liveliness_lost": len(controller.lost_at) - before,
            "deadlines_missed": len(controller.late_at) - late_before,
        }
    finally:
        process.send_signal(signal.SIGCONT)
        controller.close()
    return {"rate_hz": rate_hz, "lease_ms": lease_s(rate_hz) * 1000, "trials": trials, **found} | {
        "followed": {"seconds": calm_s + CALM_S, "false_alarms": false_alarms}
    }


def main() -> None:
    """Start the tracker, stop it again and again, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    if args.trials < 1 or args.rate <= 0:
        parser.error("at least one trial and a rate above 0 are needed")
    environment = private_environment(free_domain_id())
    os.environ.update(environment)
    ros = ["--ros-args", "-r", f"image:={topics.IMAGE}", "-p", f"expected_rate:={args.rate}"]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "tracker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--tracker", *ros], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            figures = measure(process, Path(log.name), args.rate, args.trials)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    result = {"command": shlex.join(["python", *sys.argv]), "machine": machine(), "versions": versions(), **figures}
    write_text(args.json, json.dumps(result, indent=2) + "\n")
    for fault in ("stopped", "hanging"):
        lost = figures[fault]["liveliness_lost_ms"]
        print(f"{fault}: noticed {lost['noticed']} of {args.trials} times, p50 {lost['p50']} ms, max {lost['max']} ms")
    print(f"false alarms: {figures['followed']['false_alarms']} in {figures['followed']['seconds']:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tracker"]:
        run_tracker()
    sys.exit(run_stoppable("lease", main))
