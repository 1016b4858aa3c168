"""From the publication of an image to the reception of its poses, over DDS between processes.

    python benchmark/latency_node.py --json docs/results/latency_node.json       # a quiet machine, please
    python benchmark/latency_node.py --table docs/results/latency_node.json

A tracker node in a process of its own gets frames that lie ready in memory, at a fixed rate. Each carries the time of its
publication as its stamp, so that latency is one clock's: the time of the reception less the stamp of the poses. A frame without
poses was dropped. The network alone is timed in this process before, on the same frames.
"""

from __future__ import annotations

import argparse
import hashlib
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

from csl_tracker.bags import topics
from csl_tracker.bags.messages import make_header, stamp_ns
from csl_tracker.cli.main import main as csl_tracker_main
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment
from csl_tracker.output import write_json
from csl_tracker.pixels import Size
from csl_tracker.provenance import machine, versions
from csl_tracker.tracker import Tracker
from csl_tracker.weights import default_weights

PICTURES = 30
FIRST_SEED = 60_000
GRACE_S = 1.0
"""How long poses may come after the last frame."""


def network_ms(weights: str, engine: str, images: list[Any], repeats: int = 100) -> dict[str, float]:
    """Time of the network's forward pass alone."""
    tracker = Tracker.from_weights(weights or default_weights(), "cpu", engine)
    tracker.warm_up(images[0].shape[:2])
    running = getattr(tracker.engine, "_engine", tracker.engine)
    assert isinstance(running, CpuEngine)
    small = running.input_buffer(running.preprocessing.working_size(images[0].shape[:2]))
    laps = []
    for _ in range(repeats):
        start = time.perf_counter()
        running.infer(small)
        laps.append(time.perf_counter() - start)
    return spread([1e3 * lap for lap in laps])


def export(weights: str, engine: str, size: Size) -> None:
    """Put the network into the cache, as one does on a machine that is to start fast."""
    if engine == "torch":
        return
    given = [*([weights] if weights else []), "--engine", "openvino" if engine == "auto" else engine]
    if csl_tracker_main(["export", *given, "--size", f"{size[0]}x{size[1]}", "--count", "2"]) != 0:
        raise SystemExit("The network could not be exported; --engine torch does without.")


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles, maximum and standard deviation."""
    array = np.array(values, np.float64)
    names = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9}
    return {
        **{name: float(np.percentile(array, q)) for name, q in names.items()},
        "max": float(array.max()),
        "std": float(array.std()),
    }


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(images: list[Any], parameters: dict[str, Any], rate_hz: float, frames: int, segmentation: bool) -> dict[str, Any]:
    """Start a tracker, show it the frames, and say what came back."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from csl_tracker.node.image_conversion import fill_image
    from csl_tracker.node.messages import ROS_TYPES
    from csl_tracker_msgs.msg import InstrumentPoseArray

    environment = private_environment(free_domain_id())
    os.environ.update(environment)
    rclpy.init(args=[])
    node = rclpy.create_node("latency")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    latency: dict[int, float] = {}
    processing: dict[int, float] = {}
    maps = 0

    def receive(message: Any) -> None:
        now, stamp = time.time_ns(), stamp_ns(message.header.stamp)
        latency.setdefault(stamp, 1e-6 * (now - stamp))
        processing[stamp] = 1e3 * message.processing_time.sec + 1e-6 * message.processing_time.nanosec

    def receive_map(message: Any) -> None:
        nonlocal maps
        maps += 1

    node.create_subscription(InstrumentPoseArray, topics.POSES, receive, 50)
    if segmentation:
        node.create_subscription(Image, topics.SEGMENTATION, receive_map, 1)
    camera = node.create_publisher(Image, topics.IMAGE, 1)
    pictures = [fill_image(Image(), image) for image in images]
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "tracker.log"
            with NodeProcess("tracker_node", parameters, {"image": topics.IMAGE}, environment, log) as process:

                def show(number: int) -> int:
                    picture = pictures[number % len(pictures)]
                    stamp = time.time_ns()
                    picture.header = make_header(ROS_TYPES, stamp, "camera")
                    camera.publish(picture)
                    return stamp

                while not latency or (segmentation and not maps):
                    if process.poll() is not None:
                        raise SystemExit(f"The tracker has ended: {process.complaint()}")
                    show(0)
                    executor.spin_once(timeout_sec=0.1)
                first_pose_s = time.monotonic() - began
                for _ in range(20):  # what was shown while waiting is not counted
                    executor.spin_once(timeout_sec=0.05)
                latency.clear()
                used, shown, since = cpu_s(process.pid), set[int](), time.monotonic()
                for number in tqdm(
                    range(frames), unit="frame", desc=f"{images[0].shape[0]}x{images[0].shape[1]}, {rate_hz:g} Hz"
                ):
                    while time.monotonic() - since < number / rate_hz:
                        executor.spin_once(timeout_sec=0.0005)
                    shown.add(show(number))
                elapsed, used = time.monotonic() - since, cpu_s(process.pid) - used
                memory = resident_mb(process.pid)
                end = time.monotonic() + GRACE_S
                while time.monotonic() < end and not shown <= latency.keys():
                    executor.spin_once(timeout_sec=0.01)
                process.stop()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    answered = [latency[stamp] for stamp in shown if stamp in latency]
    return {
        "rate_hz": rate_hz,
        "segmentation": segmentation,
        "frames": frames,
        "dropped": frames - len(answered),
        "latency_ms": spread(answered) if answered else None,
        "processing_ms": spread([processing[stamp] for stamp in shown if stamp in processing]) if answered else None,
        "first_pose_s": first_pose_s,
        "cpu_share_of_a_core": used / elapsed,
        "memory_mb": memory,
    }


def table(data: dict[str, Any]) -> str:
    """The figures as Markdown; of several runs the one with the median p50."""
    lines = [
        "| image | rate | `~/segmentation` | stamp to pose, ms: p50 | p95 | p99 | max | dropped | `track()`, ms |"
        " network alone, ms | CPU | memory | first pose |",
        "|" + " --- |" * 13,
    ]
    for group in data["groups"]:
        runs = sorted((run for run in group["runs"] if run["latency_ms"]), key=lambda run: run["latency_ms"]["p50"])
        if not runs:
            continue
        run = runs[len(runs) // 2]
        times = run["latency_ms"]
        cells = [
            "x".join(map(str, group["source_size"])),
            f"{run['rate_hz']:g} Hz",
            "subscribed" if run["segmentation"] else "no",
            *(f"{times[name]:.1f}" for name in ("p50", "p95", "p99", "max")),
            f"{sum(one['dropped'] for one in group['runs'])} of {sum(one['frames'] for one in group['runs'])}",
            f"{run['processing_ms']['p50']:.1f}",
            f"{group['network_ms']['p50']:.1f}",
            f"{100 * run['cpu_share_of_a_core']:.0f} % of a core",
            f"{run['memory_mb']:.0f} MB",
            f"{run['first_pose_s']:.1f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def groups_of(args: argparse.Namespace, sizes: list[Size]) -> list[dict[str, Any]]:
    """All runs of each combination."""
    groups = []
    for size in sizes:
        images = [render_frame(FIRST_SEED + index, size).image for index in range(PICTURES)]
        digest = hashlib.sha256()
        for image in images:
            digest.update(image.tobytes())
        export(args.weights, args.engine, size)
        alone = network_ms(args.weights, args.engine, images)
        parameters = {
            "weights": args.weights,
            "device": "cpu",
            "engine": args.engine,
            "precision": args.precision,
            "warm_up_height": size[0],
            "warm_up_width": size[1],
        }
        for rate in args.rates:
            for segmentation in (False, True):
                runs = [measure(images, parameters, rate, args.frames, segmentation) for _ in range(args.runs)]
                groups.append(
                    {"source_size": list(size), "images_sha256": digest.hexdigest(), "network_ms": alone, "runs": runs}
                )
    return groups


def main() -> None:
    """Measure, or print the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="weights file (default: the package's own)")
    parser.add_argument("--engine", default="auto", help="auto, torch, onnx or openvino (%(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16 (%(default)s)")
    parser.add_argument("--sizes", nargs="*", default=["576x720", "1080x1920"], metavar="HxW")
    parser.add_argument("--rates", nargs="*", type=float, default=[30.0, 60.0], metavar="HZ")
    parser.add_argument("--frames", type=int, default=1000, help="of each run (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each combination (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of such a file, and measure nothing")
    args = parser.parse_args()
    if args.table is not None:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    if args.json is None or args.frames < 1 or args.runs < 1 or min(args.rates, default=0.0) <= 0:
        parser.error("--json, --frames and --runs of at least 1, and --rates above 0 are needed")
    sizes: list[Size] = [(int(h), int(w)) for h, _, w in (text.partition("x") for text in args.sizes)]
    load = float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0])
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        groups = groups_of(args, sizes)
    report = {
        "command": shlex.join(
            ["python", "benchmark/latency_node.py", *(Path(w).name if "/" in w else w for w in sys.argv[1:])]
        ),
        "machine": machine(),
        "versions": versions(),
        "load_before": load,
        "groups": groups,
    }
    write_json(args.json, report)
    print(table(report))


if __name__ == "__main__":
    main()
