"""``csl-tracker track``: track instruments in a video or folder of frames, and write an overlay video and poses."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from csl_tracker.cli.tracking import add_instrument_arguments, add_network_arguments, tracker_of
from csl_tracker.datasets.endovis2015_files import VIDEO, find_file
from csl_tracker.drawing import draw_overlay
from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path
from csl_tracker.pose_files import PoseFiles
from csl_tracker.provenance import machine, portable_command, sha256_of, versions
from csl_tracker.video import VideoReader, VideoWriter

HELP = "track instruments in a video, a folder of frames or a dataset sequence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "input", type=user_path, metavar="VIDEO_OR_FOLDER", help="video, folder of images, or EndoVis sequence folder"
    )
    parser.add_argument(
        "--output",
        type=user_path,
        metavar="DIR",
        help="folder for overlay.mp4, poses.csv and poses.json (default: output/track/NAME)",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write only the poses")
    add_instrument_arguments(parser)
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Track every frame; Ctrl-C stops after the current frame and keeps the results."""
    reader = open_frames(args.input)
    total = len(reader)
    output = args.output or Path("output") / "track" / _name(args.input)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"The output {output} is a file; name a folder with --output.")
    tracker = tracker_of(args)
    instruments = tracker.model.instruments
    header = {
        "command": portable_command(),
        "input": args.input.name,
        "input_sha256": sha256_of(reader.files),
        "width": reader.size[1],
        "height": reader.size[0],
        "fps": reader.fps,
        "weights": {"name": tracker.model.name, "sha256": tracker.model.sha256},
        "confidence_threshold": tracker.confidence_threshold,
        "landmarks": list(instruments.landmarks),
        "machine": machine(),
        "versions": versions(),
    }
    tracker.warm_up(reader.size)
    made_folder = not output.exists()
    done = found = 0
    start = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            stopped = stack.enter_context(stop_on_interrupt())
            poses = stack.enter_context(PoseFiles(output / "poses.csv", output / "poses.json", instruments, header))
            video = None if args.no_overlay else stack.enter_context(VideoWriter(output / "overlay.mp4", reader.fps))
            for time_ns, image in tqdm(reader.timed(), total=total, desc=_name(args.input), unit="frame", disable=None):
                stamp_s = time_ns * 1e-9
                result = tracker.track(image, stamp_s, segmentation=video is not None)
                poses.write(done, stamp_s, result)
                if video is not None:
                    video.write(draw_overlay(image, result, instruments), time_ns)
                done += 1
                found += bool(result.instruments)
                if stopped.is_set():
                    break
    except BaseException:
        if made_folder:
            with contextlib.suppress(OSError):
                output.rmdir()  # only if it is empty
        raise
    rate = done / max(time.monotonic() - start, 1e-9)
    print(f"tracked {done} of {total} frames at {rate:.1f} frames/s, instruments in {found} of them; wrote {output}")
    if stopped.is_set() and done < total:
        raise KeyboardInterrupt
    return 0


def open_frames(path: Path) -> VideoReader:
    """Open a video, a folder of images, or the video of an EndoVis sequence folder.

    Raises:
        DatasetError: There are no frames.
    """
    inside = find_file(path, VIDEO) if path.is_dir() else None
    return VideoReader(inside or path, strict=False)


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Set an event at the first Ctrl-C, so that the current frame is completed; the second raises ``KeyboardInterrupt``."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may set signal handlers
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _name(path: Path) -> str:
    path = path.resolve()
    return path.name if path.is_dir() else path.stem
