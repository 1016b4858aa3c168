"""Does the tracker node stay as it was? ``python benchmark/soak.py --minutes 30 --json docs/results/soak.json``.

A tracker node in a process of its own gets synthetic frames at a fixed rate. Its memory and its diagnostics are sampled once a
second; the slope of the memory is that of a line through the samples after the first tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.messages import topics
from csl_tracker.messages.poses import make_header
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment, run_stoppable
from csl_tracker.output import write_text
from csl_tracker.process_memory import resident_mb
from csl_tracker.provenance import machine, versions

SIZE = (576, 720)
PICTURES = 30
FIRST_SHARE = 0.1


def slope_mb_per_hour(times_s: list[float], memory_mb: list[float]) -> float:
    """Slope of a line through the samples after the first tenth."""
    kept = [(t, m) for t, m in zip(times_s, memory_mb, strict=True) if t >= FIRST_SHARE * times_s[-1]]
    times, memory = np.array(kept, np.float64).T
    return float(np.polyfit(times / 3600, memory, 1)[0])


def soak(process: NodeProcess, minutes: float, rate_hz: float) -> dict[str, Any]:
    """Show frames to a running tracker.

    Returns:
        Figures and samples.
    """
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from csl_tracker.messages.images import fill_image
    from csl_tracker.node.ros_types import ROS_TYPES
    from csl_tracker_msgs.msg import InstrumentPoseArray

    rclpy.init(args=[])
    node = rclpy.create_node("soak")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    counts = {"shown": 0, "poses": 0}
    levels: dict[str, int] = {}
    last: dict[str, str] = {}

    def count(message: Any) -> None:
        counts["poses"] += 1

    def note(message: Any) -> None:
        status = message.status[0]
        level = ("OK", "WARN", "ERROR", "STALE")[status.level[0]]
        levels[level] = levels.get(level, 0) + 1
        last.update({value.key: value.value for value in status.values})

    node.create_subscription(InstrumentPoseArray, topics.POSES, count, 50)
    node.create_subscription(DiagnosticArray, "/diagnostics", note, 10)
    camera = node.create_publisher(Image, topics.IMAGE, 1)
    pictures = [fill_image(Image(), render_frame(seed, SIZE).image) for seed in range(PICTURES)]
    times: list[float] = []
    memory: list[float] = []
    try:
        while counts["poses"] == 0:
            if process.poll() is not None:
                raise SystemExit(f"The tracker has ended: {process.complaint()}")
            pictures[0].header = make_header(ROS_TYPES, time.time_ns(), "camera")
            camera.publish(pictures[0])
            executor.spin_once(timeout_sec=0.1)
        counts["poses"] = 0
        levels.clear()
        began = time.monotonic()
        for second in tqdm(range(round(60 * minutes)), unit="s", desc="soak"):
            while (elapsed := time.monotonic() - began) < second + 1:
                if elapsed >= counts["shown"] / rate_hz:
                    picture = pictures[counts["shown"] % PICTURES]
                    picture.header = make_header(ROS_TYPES, time.time_ns(), "camera")
                    camera.publish(picture)
                    counts["shown"] += 1
                executor.spin_once(timeout_sec=0.001)
            if process.poll() is not None:
                raise SystemExit(f"The tracker has ended: {process.complaint()}")
            times.append(time.monotonic() - began)
            memory.append(resident_mb(process.pid))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return {
        "minutes": minutes,
        "rate_hz": rate_hz,
        "frames_shown": counts["shown"],
        "pose_arrays": counts["poses"],
        "memory_mb": {
            "first": memory[0],
            "last": memory[-1],
            "max": max(memory),
            "slope_per_hour": slope_mb_per_hour(times, memory),
            "samples": [round(value, 1) for value in memory],
        },
        "diagnostics": {"levels": levels, "last": last},
    }


def main() -> None:
    """Start the tracker, soak it, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ")
    parser.add_argument("--weights", default="", help="weights file (default: the one that comes with the package)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    if args.minutes * 60 < 10 or args.rate <= 0:
        parser.error("at least 10 s (--minutes 0.17) and a rate above 0 are needed")
    environment = private_environment(free_domain_id())
    os.environ.update(environment)
    parameters = {"weights": args.weights, "device": args.device, "expected_rate": args.rate}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tracker.log"
        with NodeProcess("tracker_node", parameters, {"image": topics.IMAGE}, environment, log) as process:
            figures = soak(process, args.minutes, args.rate)
            figures["exit_status"] = process.stop()
            figures["summary"] = process.complaint()
    result = {"command": shlex.join(["python", *sys.argv]), "machine": machine(), "versions": versions(), **figures}
    write_text(args.json, json.dumps(result, indent=2) + "\n")
    memory = figures["memory_mb"]
    print(
        f"{figures['pose_arrays']} pose arrays of {figures['frames_shown']} frames; memory {memory['first']:.0f} MB at first,"
        f" {memory['last']:.0f} MB at last, {memory['slope_per_hour']:+.1f} MB an hour."
    )


if __name__ == "__main__":
    sys.exit(run_stoppable("soak", main))
