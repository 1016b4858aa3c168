"""Where does the time of a frame go, and where that of the start?

    python benchmark/latency.py --json docs/results/latency.json         # a quiet machine, please
    python benchmark/latency.py --table docs/results/latency.json --page docs/engines.md  # the tables of docs/engines.md

A frame: ``Tracker.track`` of the default engine, piece by piece. What is around the network is all that is not the network's
own forward pass. The start: a new Python to its first pose, once with an empty cache and once with the network that
``csl-tracker export`` has put there; the node adds what ROS needs.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from tqdm import tqdm

import csl_tracker.tracker
from csl_tracker.cli.sizes import size_argument
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.import_path import python_command, safe_environment
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.pixels import Size
from csl_tracker.provenance import machine, versions
from csl_tracker.reporting.table import markdown
from csl_tracker.tracker import Tracker
from csl_tracker.weights import default_weights, load_weights

FIRST_SEED = 40_000
BEGIN, END = "<!-- latency: benchmark/latency.py -->", "<!-- end of latency -->"
PIECES = ("resize", "network", "label map", "decode", "group and identify")
STEPS = ("imports", "weights and engine", "warm-up", "first frame")
"""Of a start."""

START = """
import time
began = time.perf_counter()
import numpy as np
from csl_tracker.tracker import Tracker
from csl_tracker.weights import default_weights
laps = {"imports": time.perf_counter() - began}
def lap(name):
    laps[name] = time.perf_counter() - began - sum(laps.values())
tracker = Tracker.from_weights(WEIGHTS or default_weights(), "cpu", ENGINE)
lap("weights and engine")
tracker.warm_up(SIZE)
lap("warm-up")
tracker.track(np.zeros((*SIZE, 3), np.uint8))
lap("first frame")
import json
print(json.dumps({**laps, "engine": tracker.engine_name, "reason": tracker.engine.reason}))
"""


@contextmanager
def timed(place: Any, name: str, laps: list[float]) -> Iterator[None]:
    """Note how long each call of a function takes."""
    function: Callable[..., Any] = getattr(place, name)

    @functools.wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            laps.append(time.perf_counter() - start)

    with mock.patch.object(place, name, wrapper):
        yield


def pieces(weights: Path, engine: str, size: Size, frames: int, segmentation: bool) -> dict[str, Any]:
    """Durations of one frame's pieces, ms."""
    tracker = Tracker.from_weights(weights, "cpu", engine)
    tracker.warm_up(size)
    images = [render_frame(FIRST_SEED + index, size).image for index in range(8)]
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.tobytes())
    running = getattr(tracker.engine, "_engine", tracker.engine)
    assert isinstance(running, CpuEngine)
    laps: dict[str, list[float]] = {name: [] for name in ("track", "begin", *PIECES)}
    with ExitStack() as stack:
        for place, name, key in (
            (running, "_resize", "resize"),
            (running, "infer", "network"),
            (running, "_labels", "label map"),
            (running, "begin", "begin"),
            (csl_tracker.tracker, "decode", "decode"),
        ):
            stack.enter_context(timed(place, name, laps[key]))
        for number in tqdm(range(frames), desc=f"{size[0]}x{size[1]}", unit="frame"):
            start = time.perf_counter()
            tracker.track(images[number % len(images)], segmentation=segmentation)
            laps["track"].append(time.perf_counter() - start)
    resizes = np.array([_resizes(running, images[number % len(images)]) for number in range(frames)])
    track, network = np.array(laps["track"]), np.array(laps["network"])
    rest = track - np.array(laps["begin"]) - np.array(laps["decode"])
    rest -= np.array(laps["label map"]) if segmentation else 0.0
    laps["group and identify"] = rest.tolist()
    return {
        "source_size": list(size),
        "segmentation": segmentation,
        "frames": frames,
        "images_sha256": digest.hexdigest(),
        "engine": tracker.engine_name,
        "ms": {name: percentiles(np.array(laps[name])) for name in (*PIECES, "track") if laps[name]},
        "around_the_network_ms": percentiles(track - network),
        "resize_ms": percentiles(resizes[:, 0]),
        "area_means_ms": percentiles(resizes[:, 1]),
        "area_means_over_resize": float(np.median(resizes[:, 1] / resizes[:, 0])),
    }


def _resizes(engine: CpuEngine, image: Any) -> tuple[float, float]:
    """Seconds of the engine's resize and of area means in one step, one after the other."""
    target = engine.input_buffer(engine.preprocessing.working_size(image.shape[:2]))
    height, width = target.shape[:2]
    start = time.perf_counter()
    engine._resize(image, target)
    middle = time.perf_counter()
    cv2.resize(image, (width, height), target, interpolation=cv2.INTER_AREA)
    return middle - start, time.perf_counter() - middle


def percentiles(seconds: Any) -> dict[str, float]:
    """Of durations, ms."""
    return {name: float(np.percentile(1e3 * seconds, q)) for name, q in (("p50", 50), ("p95", 95), ("p99", 99))}


def start_up(weights: Path | None, engine: str, size: Size, cache: Path) -> dict[str, Any]:
    """Durations of a new process to its first pose, s."""
    code = START.replace("WEIGHTS", repr(None if weights is None else str(weights))).replace("ENGINE", repr(engine))
    done = subprocess.run(
        python_command("-c", code.replace("SIZE", repr(size))),
        env={**os.environ, **safe_environment(), "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def starts(weights: Path | None, engine: str, size: Size, runs: int) -> dict[str, Any]:
    """Starts with and without an exported network."""
    from csl_tracker.cli.main import main as csl_tracker_main

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for name in ("without export", "with export"):
            if name == "with export":
                exported = "openvino" if engine == "auto" else engine
                given = [] if weights is None else [str(weights)]
                with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": folder}):
                    assert csl_tracker_main(["export", *given, "--engine", exported, "--size", "x".join(map(str, size))]) == 0
            found[name] = [start_up(weights, engine, size, cache) for _ in tqdm(range(runs), desc=name, unit="start")]
    return found


def tables(data: dict[str, Any]) -> str:
    """The figures as Markdown."""
    frames, resizing, starts = [], [], []
    for row in data["frames"]:
        cells = [f"{row['ms'][name]['p50']:.2f}" if name in row["ms"] else "" for name in (*PIECES, "track")]
        around = row["around_the_network_ms"]
        size = "x".join(map(str, row["source_size"]))
        wanted = "yes" if row["segmentation"] else "no"
        frames.append([size, wanted, *cells, f"{around['p50']:.2f} / {around['p99']:.2f}"])
        if row["segmentation"]:
            means = (row["resize_ms"]["p50"], row["area_means_ms"]["p50"])
            resizing.append([size, *(f"{value:.2f}" for value in means), f"{row['area_means_over_resize']:.1f}"])
    for name, runs in data["starts"].items():
        steps = [float(np.median([run[key] for run in runs])) for key in STEPS]
        starts.append([name, *(f"{value:.2f}" for value in (*steps, sum(steps)))])
    return "\n\n".join(
        (
            markdown(("frame", "label map", *PIECES, "whole", "around the network"), frames),
            markdown(("frame", "resize, ms", "area means in one step, ms", "ratio"), resizing),
            markdown(("start", *STEPS, "sum"), starts),
        )
    )


def main() -> None:
    """Measure, or print the tables of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="weights file (default: the package's own)")
    parser.add_argument("--engine", default="auto", help="auto, torch, onnx or openvino (%(default)s)")
    parser.add_argument("--sizes", nargs="*", type=size_argument, default=[(576, 720), (1080, 1920)], metavar="HxW")
    parser.add_argument("--frames", type=int, default=500, help="frames of each row (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="starts of each kind (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the tables of such a file, and measure nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    args = parser.parse_args()
    if args.table is not None:
        print_or_write_between(args.page, BEGIN, END, tables(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    if args.json is None or args.frames < 2 or args.runs < 1:
        parser.error("--json, --frames of at least 2 and --runs of at least 1 are needed")
    model = load_weights(args.weights or default_weights())
    report = {
        "command": shlex.join(["python", "benchmark/latency.py", *(Path(w).name if "/" in w else w for w in sys.argv[1:])]),
        "machine": machine(),
        "versions": versions(),
        "load_before": float(Path("/proc/loadavg").read_text(encoding="utf-8").split()[0]),
        "model": {"name": model.name, "sha256": model.sha256},
        "frames": [
            pieces(args.weights or default_weights(), args.engine, size, args.frames, segmentation)
            for size in args.sizes
            for segmentation in (False, True)
        ],
        "starts": starts(args.weights, args.engine, args.sizes[0], args.runs),
    }
    write_json(args.json, report)
    print(tables(report))


if __name__ == "__main__":
    main()
