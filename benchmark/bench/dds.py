"""From the publication of an image to the reception of its poses: player, tracker and this process talk over DDS.

All images lie in the player's memory. Each carries the time of its publication as its stamp, so that latency is one clock's:
the time of the reception less the stamp of the poses. An image without poses was dropped.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.bench import figures
from csl_tracker.errors import CslTrackerError
from csl_tracker.import_path import python_command, safe_environment
from csl_tracker.messages import topics
from csl_tracker.messages.poses import stamp_ns
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment

GRACE_S = 2.0
"""How long poses may come after the last image."""
MOST_DROPPED = 0.05
"""The peak rate is the highest at which fewer images than this share are dropped, as in ros2_benchmark."""
_START_TIMEOUT_S = 180.0
_WAKING_HZ = 10.0


class BenchError(CslTrackerError):
    """A part of the benchmark could not be measured."""


@dataclass(frozen=True)
class Subject:
    """A node that is measured.

    Attributes:
        name: As in the tables.
        module: What is started.
        parameters: Of the node.
        rates_hz: At which it is measured.
        timed: Its own doors are timed, too; for the package's node.
    """

    name: str
    module: str
    parameters: Mapping[str, Any]
    rates_hz: tuple[float, ...]
    timed: bool = False


@dataclass
class _Received:
    """What came back since the last :meth:`clear`, by stamp."""

    latency_ms: dict[int, float] = field(default_factory=dict)
    processing_ms: dict[int, float] = field(default_factory=dict)
    maps: int = 0

    def clear(self) -> None:
        self.latency_ms, self.processing_ms, self.maps = {}, {}, 0

    def poses(self, message: Any) -> None:
        now, stamp = time.time_ns(), stamp_ns(message.header.stamp)
        self.latency_ms.setdefault(stamp, 1e-6 * (now - stamp))
        self.processing_ms[stamp] = 1e3 * message.processing_time.sec + 1e-6 * message.processing_time.nanosec

    def map(self, _message: Any) -> None:
        self.maps += 1


class _Player:
    """The player's process, spoken to by lines of JSON."""

    def __init__(self, bag: Path, topic: str | None, environment: Mapping[str, str], log: Path) -> None:
        command = python_command("-m", "benchmark.bench.player", str(bag), *([topic] if topic else []))
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment, **safe_environment(environment)},
                text=True,
                start_new_session=True,
            )
        self.compressed = bool(self._read()["compressed"])

    def start(self, rate_hz: float, frames: int) -> Callable[[], list[int] | None]:
        """Begin to play.

        Returns:
            A function that gives the stamps once all images were published, and None before.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"rate_hz": rate_hz, "frames": frames}) + "\n")
        self._process.stdin.flush()
        said: list[Any] = []
        thread = threading.Thread(target=lambda: said.append(self._read()), daemon=True)
        thread.start()

        def stamps() -> list[int] | None:
            if not thread.is_alive() and not said:
                raise BenchError(f"The player has ended: {self._complaint()}")
            return said[0] if said else None

        return stamps

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(10)
            raise BenchError(f"The player has ended: {self._complaint()}")
        return json.loads(line)

    def _complaint(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Session:
    """A tracker, a player and a subscriber, ready to measure at any rate."""

    def __init__(
        self, process: NodeProcess, player: _Player, received: _Received, spin: Callable[[float], None], first_pose_s: float
    ) -> None:
        self.first_pose_s = first_pose_s
        self._process = process
        self._player = player
        self._received = received
        self._spin = spin

    def measure(self, rate_hz: float, frames: int, title: str) -> dict[str, Any]:
        """Play so many images at a rate.

        Raises:
            BenchError: Tracker or player have ended.
        """
        received, pid = self._received, self._process.pid
        received.clear()
        used, began = figures.cpu_s(pid), time.monotonic()
        gpu: list[float] = []
        stamps = None
        playing = self._player.start(rate_hz, frames)
        with tqdm(total=frames, desc=title, unit="frame", leave=False, disable=None) as bar:
            while stamps is None:
                self._spin(0.05)
                stamps = playing()
                bar.n = min(frames, round((time.monotonic() - began) * rate_hz))
                bar.refresh()
                if len(gpu) < (time.monotonic() - began) / 2 and (load := figures.gpu_load()) is not None:
                    gpu.append(load)
                if self._process.poll() is not None:
                    raise BenchError(f"The tracker has ended: {self._process.complaint()}")
        elapsed, used = time.monotonic() - began, figures.cpu_s(pid) - used
        end, last = time.monotonic() + GRACE_S, 0
        shown = set(stamps)
        while time.monotonic() < end and not shown <= received.latency_ms.keys():
            self._spin(0.02)
            if len(received.latency_ms) > last:  # a queue that is worked off
                last, end = len(received.latency_ms), time.monotonic() + GRACE_S
        answered = [stamp for stamp in stamps if stamp in received.latency_ms]
        seconds = 1e-9 * (stamps[-1] - stamps[0])
        return {
            "rate_hz": rate_hz,
            "played_hz": (frames - 1) / seconds if seconds else None,
            "frames": frames,
            "dropped": frames - len(answered),
            "latency_ms": figures.spread([received.latency_ms[stamp] for stamp in answered]) if answered else None,
            "processing_ms": figures.spread([received.processing_ms[stamp] for stamp in answered]) if answered else None,
            "maps": received.maps,
            "cpu_share_of_a_core": used / elapsed,
            "memory_mb": figures.memory_mb(pid),
            "gpu_load": sum(gpu) / len(gpu) if gpu else None,
            "stamps": stamps,
            "latencies_ms": [received.latency_ms.get(stamp) for stamp in stamps],
        }

    def peak_rate(self, frames: int, highest_hz: float, steps: int, title: str) -> dict[str, Any]:
        """Search for the highest rate at which fewer than :data:`MOST_DROPPED` of the images are dropped, by halving.

        Args:
            frames: Of each trial.
            highest_hz: Where the search begins.
            steps: Number of trials.
            title: Of the progress bar.
        """
        low, high = 0.0, highest_hz
        trials: list[dict[str, float]] = []
        for _ in range(steps):
            rate = high if not trials else (low + high) / 2
            found = self.measure(rate, frames, f"{title}, {rate:.0f} Hz?")
            share, played = found["dropped"] / frames, found["played_hz"] or rate
            trials.append({"rate_hz": rate, "played_hz": played, "dropped_share": share})
            if share < MOST_DROPPED:
                low = rate
                if rate == high:
                    break
            else:
                high = rate
        return {"peak_hz": low, "above": low == highest_hz, "trials": trials}

    def stop(self) -> None:
        """End the tracker, which then leaves its times."""
        self._process.stop()


@contextmanager
def session(subject: Subject, bag: Path, topic: str | None, segmentation: bool, cache: Path, times: Path) -> Iterator[Session]:
    """Start everything, and wait for the first poses.

    Args:
        subject: What to measure.
        bag: Images to play.
        topic: Theirs; None for the only one.
        segmentation: Subscribe to the label maps as well.
        cache: Where the node finds exported networks.
        times: File in which a timed subject leaves its times when it has ended.

    Raises:
        BenchError: The tracker or the player gave up, or no poses came.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from csl_tracker_msgs.msg import InstrumentPoseArray

    environment = {**private_environment(free_domain_id()), "XDG_CACHE_HOME": str(cache)}
    os.environ.update({key: environment[key] for key in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")})
    os.environ.update({key: value for key, value in environment.items() if "FASTRTPS" in key or "FASTDDS" in key})
    received = _Received()
    rclpy.init(args=[])
    node = rclpy.create_node("bench")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.create_subscription(InstrumentPoseArray, topics.POSES, received.poses, 50)
    if segmentation:
        node.create_subscription(Image, topics.SEGMENTATION, received.map, 1)

    def spin(seconds: float) -> None:
        executor.spin_once(timeout_sec=seconds)

    try:
        with tempfile.TemporaryDirectory() as folder:
            player = _Player(bag, topic, environment, Path(folder) / "player.log")
            try:
                parameters = dict(subject.parameters)
                if player.compressed:
                    parameters["image_transport"] = "compressed"
                began = time.monotonic()
                process = NodeProcess(
                    subject.module,
                    parameters,
                    {"image": topics.IMAGE},
                    environment,
                    Path(folder) / "tracker.log",
                    [str(times)] if subject.timed else [],
                )
                with process:
                    first = _wake(process, player, received, spin, segmentation, began)
                    yield Session(process, player, received, spin, first)
            finally:
                player.close()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def _wake(
    process: NodeProcess,
    player: _Player,
    received: _Received,
    spin: Callable[[float], None],
    segmentation: bool,
    began: float,
) -> float:
    """Show images until poses come; how long after the start of the process that was, s."""
    first: float | None = None
    while first is None or (segmentation and not received.maps):
        playing = player.start(_WAKING_HZ, 5)
        while playing() is None:
            spin(0.01)
            if first is None and received.latency_ms:
                first = time.monotonic() - began
        if process.poll() is not None:
            raise BenchError(f"The tracker has ended: {process.complaint()}")
        if time.monotonic() - began > _START_TIMEOUT_S:
            raise BenchError(f"No poses came within {_START_TIMEOUT_S:.0f} s of the tracker's start: {process.complaint()}")
    end = time.monotonic() + 1.0  # what was shown while waiting is not counted
    while time.monotonic() < end:
        spin(0.05)
    return first


def doors(times: Path, stamps: Sequence[int]) -> dict[str, Any] | None:
    """The node's own times of the images with these stamps, as spreads in ms; None where there are none.

    ``queue`` is from the callback to the worker, ``network`` the forward pass, ``inside`` from the callback to the published
    poses, and ``overhead`` is ``inside`` without the network.
    """
    if not times.is_file():
        return None
    wanted = set(stamps)
    frames = [frame for frame in json.loads(times.read_text(encoding="utf-8")) if frame["stamp"] in wanted]
    if not frames:
        return None
    ms = 1e-6
    return {
        "frames": len(frames),
        "queue_ms": figures.spread([ms * (frame["begun"] - frame["in"]) for frame in frames]),
        "network_ms": figures.spread([ms * frame["network"] for frame in frames]),
        "inside_ms": figures.spread([ms * (frame["out"] - frame["in"]) for frame in frames]),
        "overhead_ms": figures.spread([ms * (frame["out"] - frame["in"] - frame["network"]) for frame in frames]),
    }
