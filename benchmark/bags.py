"""How fast are videos and bags read and decoded, and in how much memory?

``python benchmark/bags.py --json docs/results/bags.json`` makes the inputs in a temporary folder, reads each in a process of
its own, and writes rates and the largest resident memory. The 10 minutes of 1080p take about 6 GB of disk while it runs.

``python benchmark/bags.py --libraries --json docs/results/bag_libraries.json`` compares this package's reader with those of
``rosbags`` and ``mcap``, in turns, and gives all three the bags that recorders and attackers leave.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bag_libraries import compare
from tqdm import tqdm

from csl_tracker.bags.frame_writer import START_NS, RecordedFrame
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.messages import topics
from csl_tracker.messages.images import compressed_message, image_message, message_to_rgb
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, portable, versions
from csl_tracker.video import VideoReader, VideoWriter

FPS = 25.0
SMALL, LARGE = (576, 720), (1080, 1920)
DIFFERENT = 50
"""So many frames are rendered; they are written again and again, since reading does not get faster by it."""


def _render(size: tuple[int, int]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [sample.image for sample in SyntheticSequence(1, DIFFERENT, size, FPS, name="benchmark")]


def _write_video(path: Path, frames: list[Any], count: int) -> None:
    with VideoWriter(path, FPS) as video:
        for index in tqdm(range(count), desc=path.name, unit="frame", leave=False):
            video.write(frames[index % len(frames)])


def _write_bag(path: Path, frames: list[Any], count: int, jpeg: int | None) -> None:
    kind = topics.IMAGE_TYPE if jpeg is None else topics.COMPRESSED_TYPE
    topic = topics.IMAGE + ("" if jpeg is None else topics.COMPRESSED_SUFFIX)
    messages = [image_message(image, 0) if jpeg is None else compressed_message(image, jpeg, 0) for image in frames]
    with BagWriter(path) as bag:
        bag.add_topic(topic, kind, depth=1)
        for index in tqdm(range(count), desc=path.name, unit="frame", leave=False):
            frame = RecordedFrame(frames[0], START_NS + round(index * 1e9 / FPS))
            bag.write(topic, messages[index % len(messages)], frame.stamp_ns)


def _decoded(path: Path) -> Iterator[Any]:
    if path.suffix not in (".mcap", ".db3"):
        yield from VideoReader(path)
        return
    with BagReader(path) as bag:
        for frame in bag.frames():
            yield message_to_rgb(bag.deserialize(frame.image))


def _measure(path: Path) -> dict[str, float]:
    """Read and decode all frames; runs in a process of its own, whose memory is that of the reading alone."""
    start = time.perf_counter()
    count = sum(1 for _ in _decoded(path))
    seconds = time.perf_counter() - start
    return {
        "frames": count,
        "frames_per_second": count / seconds,
        "times_real_time": count / FPS / seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "file_mb": path.stat().st_size / 1e6,
    }


def main() -> None:
    """Make the inputs, read them, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the 720x576 inputs (%(default)s)")
    parser.add_argument("--large-seconds", type=float, default=600.0, help="length of the 1080p bag (%(default)s)")
    parser.add_argument("--libraries", action="store_true", help="compare with the readers of rosbags and mcap instead")
    parser.add_argument("--folder", type=Path, help="where the temporary inputs go")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    if args.libraries:
        found: dict[str, Any] = compare(args.folder)
    else:
        found = {"fps": FPS, "inputs": _measure_inputs(args)}
    command = shlex.join(["python", *(str(portable(word)) for word in sys.argv)])
    report = {"command": command, "machine": machine(), "versions": versions(), **found}
    write_json(args.json, report)


def _measure_inputs(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    count, large = round(args.seconds * FPS), round(args.large_seconds * FPS)
    found: dict[str, dict[str, float]] = {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bags.", dir=args.folder) as folder, context.Pool(1, maxtasksperchild=1) as pool:
        small = _render(SMALL)
        inputs: dict[str, tuple[str, Any]] = {
            "video, h264, 720x576": ("video.mp4", lambda path: _write_video(path, small, count)),
            "bag, mcap, raw, 720x576": ("raw.mcap", lambda path: _write_bag(path, small, count, None)),
            "bag, sqlite3, raw, 720x576": ("raw.db3", lambda path: _write_bag(path, small, count, None)),
            "bag, mcap, JPEG, 720x576": ("jpeg.mcap", lambda path: _write_bag(path, small, count, 90)),
            "bag, mcap, JPEG, 1920x1080": ("large.mcap", lambda path: _write_bag(path, _render(LARGE), large, 90)),
        }
        for name, (file, write) in inputs.items():
            path = Path(folder) / file
            write(path)
            found[name] = pool.apply(_measure, (path,))
            path.unlink()
            print(
                f"{name}: {found[name]['times_real_time']:.1f} times real time, {found[name]['peak_rss_mb']:.0f} MB", flush=True
            )
    return found


if __name__ == "__main__":
    main()
