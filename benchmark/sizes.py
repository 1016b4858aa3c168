"""What does an unexpected image size cost? ``python benchmark/sizes.py --json docs/results/sizes.json``.

Each engine of the CPU is warmed up for one size, and then sees others. The first two frames of a new size are compared with a
usual one, and landmarks and masks with those of float32 torch, which runs each size as it is. Then images of random sizes come,
while memory and threads are sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.engines import create_engine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.process_memory import resident_mb
from csl_tracker.provenance import machine, versions
from csl_tracker.tracker import Tracker
from csl_tracker.weights import find_weights, load_weights

WARMED_UP = (576, 720)
SIZES = [(480, 640), (720, 1280), (1080, 1920), (600, 600), (1024, 1280), (640, 360), (300, 1000)]
LARGEST = 1300


def memory_and_threads() -> dict[str, float]:
    """Memory in RAM, MB, and threads of this process."""
    return {"memory_mb": round(resident_mb(), 1), "threads": len(os.listdir("/proc/self/task"))}


def timed_ms(tracker: Tracker, image: Any) -> float:
    """Time of one frame with its label map, ms."""
    began = time.perf_counter()
    tracker.track(image)
    return 1e3 * (time.perf_counter() - began)


def look_at(name: str, weights: str, seconds: float) -> dict[str, Any]:
    """Warm an engine up for one size and show it others.

    Args:
        name: Name of the engine.
        weights: Weights file.
        seconds: How long to show images of random sizes, s.
    """
    model = load_weights(find_weights(weights))
    tracker = Tracker(model, create_engine(model, "cpu", name), always_report=True)
    reference = Tracker(model, TorchCpuEngine(model), always_report=True)
    tracker.warm_up(WARMED_UP)
    rng = np.random.default_rng(0)
    picture = render_frame(1, (480, 600)).image
    usual = float(np.median([timed_ms(tracker, cv2.resize(picture, WARMED_UP[::-1])) for _ in range(10)]))
    first_two, shifts, labels = [], [], []
    for height, width in SIZES:
        image = cv2.resize(picture, (width, height))
        first_two.append(timed_ms(tracker, image) + timed_ms(tracker, image))
        tracker.reset()
        reference.reset()
        found, expected = tracker.track(image), reference.track(image)
        for one, other in zip(found.instruments, expected.instruments, strict=True):
            for mark, right in zip(one.landmarks, other.landmarks, strict=True):
                if mark.visible and right.visible:
                    shifts.append(float(np.hypot(mark.x - right.x, mark.y - right.y)))
        if found.label_map is not None and expected.label_map is not None:
            labels.append(float((found.label_map != expected.label_map).mean()))
    samples, frames, end = [memory_and_threads()], 0, time.monotonic() + seconds
    next_sample = time.monotonic()
    while time.monotonic() < end:
        height, width = (int(side) for side in rng.integers(16, LARGEST, 2))
        tracker.track(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        frames += 1
        if time.monotonic() >= next_sample:
            next_sample += seconds / 20
            samples.append(memory_and_threads())
    return {
        "engine": name,
        "usual_ms": round(usual, 1),
        "first_two_frames_ms": [round(value, 1) for value in first_two],
        "largest_shift_px": max(shifts, default=None),
        "landmarks": len(shifts),
        "largest_share_of_other_labels": max(labels, default=None),
        "random_sizes": frames,
        "samples": samples,
    }


def main() -> None:
    """Look at each engine and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="weights file (default: the one that comes with the package)")
    parser.add_argument("--engines", nargs="+", default=["openvino", "onnx", "torch"])
    parser.add_argument("--seconds", type=float, default=150.0, help="how long each sees images of random sizes")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    engines = [look_at(name, args.weights, args.seconds) for name in args.engines]
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": versions(),
        "warmed_up": list(WARMED_UP),
        "sizes": [list(size) for size in SIZES],
        "engines": engines,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=2) + "\n")
    for one in engines:
        first, last = one["samples"][0], one["samples"][-1]
        shift = "no landmarks" if one["largest_shift_px"] is None else f"shift {one['largest_shift_px']:.4f} px at most"
        print(
            f"{one['engine']}: usual {one['usual_ms']:.0f} ms, first two of a new size"
            f" {max(one['first_two_frames_ms']):.0f} ms at most; {shift}; memory {first['memory_mb']:.0f} to"
            f" {last['memory_mb']:.0f} MB, threads {first['threads']} to {last['threads']} in {one['random_sizes']} sizes."
        )


if __name__ == "__main__":
    main()
