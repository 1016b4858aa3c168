"""The tracker node as it is, with a clock at its doors: ``python -m benchmark.bench.timed_tracker FILE --ros-args ...``.

FILE gets a JSON list when the node ends, an entry a frame: ``{"stamp": ns, "in": ns, "begun": ns, "network": ns, "out": ns}``.
``in`` is when the callback got the image, ``begun`` when the worker took it, ``network`` how long the network's own forward
pass took, and ``out`` when the poses were published.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from csl_tracker.engines.auto import installed
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.messages.poses import stamp_ns
from csl_tracker.node import tracker_node
from csl_tracker.node.session import TrackingSession
from csl_tracker.node.tracker_outputs import TrackerOutputs

_KEPT = 100


def main() -> int:
    """Run the node; write the times at its end."""
    target = Path(sys.argv.pop(1))
    frames: list[dict[str, int]] = []
    arrived: dict[int, int] = {}
    now: dict[str, int] = {}
    node_class: Any = tracker_node.TrackerNode
    receive, track, publish = node_class._receive_image, TrackingSession._track, TrackerOutputs.publish_poses

    def received(self: Any, message: Any) -> None:
        if len(arrived) > _KEPT:  # those that were dropped for a newer one
            arrived.clear()
        arrived[stamp_ns(message.header.stamp)] = time.monotonic_ns()
        receive(self, message)

    def tracked(self: Any, activation: Any, outputs: Any, frame: Any) -> None:
        begun = time.monotonic_ns()
        now.update(stamp=frame.stamp_ns, begun=begun, network=0)
        now["in"] = arrived.pop(frame.stamp_ns, begun)
        track(self, activation, outputs, frame)

    def published(self: Any, header: Any, result: Any, model: str) -> None:
        publish(self, header, result, model)
        frames.append({**now, "out": time.monotonic_ns()})

    node_class._receive_image = received
    session_class: Any = TrackingSession
    outputs_class: Any = TrackerOutputs
    session_class._track, outputs_class.publish_poses = tracked, published
    for engine in _subclasses(CpuEngine):
        if "infer" in vars(engine):
            _time(engine, now)
    try:
        return tracker_node.main()
    finally:
        target.write_text(json.dumps(frames), encoding="utf-8")


def _time(engine: Any, now: dict[str, int]) -> None:
    infer = engine.infer

    def timed(self: Any, image: Any) -> Any:
        began = time.monotonic_ns()
        try:
            return infer(self, image)
        finally:
            now["network"] = now.get("network", 0) + time.monotonic_ns() - began

    engine.infer = timed


def _subclasses(kind: Any) -> list[type]:
    for name in installed():
        importlib.import_module(f"csl_tracker.engines.{name}_engine")
    found: list[type] = []
    child: Any
    for child in kind.__subclasses__():
        found += [child, *_subclasses(child)]
    return found


if __name__ == "__main__":
    sys.exit(main())
