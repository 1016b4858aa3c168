"""The tracker node between processes over DDS, where ROS 2 is at hand: in this Python, or carried along."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.gpu_steps import carry, child, frames
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.networks import SHIPPED, candidates
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import ConfigError
from csl_tracker.pixels import Size
from csl_tracker.weights import find_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
_NEEDED = ("rclpy", "rosbags", carry.MESSAGES)
_EACH_S = 25.0
"""What a node's start and its images take at least, at the scale of a measurement."""


def run(context: Context, part: Part) -> None:
    """Measure here, or in a Python that sees the ROS 2 that was carried along."""
    if all(importlib.util.find_spec(name) is not None for name in _NEEDED) and context.wheels is None:
        measure(context, part)
        return
    if context.wheels is None:
        part.note(not_run="No ROS 2 was carried along; --wheels takes a folder that benchmark/gpu_steps/carry.py has made.")
        return
    archive = context.wheels / carry.archive_name((sys.version_info[0], sys.version_info[1]))
    if not archive.is_file():
        part.note(
            not_run=f"{context.wheels.name} has no {archive.name}; make it with the same version of Python as this one's."
        )
        return
    python, environment = unpack(archive, context.folder / "ros")
    settings = json.dumps({**child.settings_of("node", context, part.path), "wheels": None})
    command = [str(python), str(ROOT / "benchmark" / "gpu.py"), "--one", settings]
    process = subprocess.Popen(command, env=environment)
    try:
        status = process.wait()
    finally:
        if process.poll() is None:  # it has a node to stop
            process.terminate()
            process.wait(child.GRACE_S)
    part.data = json.loads(part.path.read_text(encoding="utf-8")) if part.path.is_file() else {}
    if status != 0:
        raise ConfigError(part.data.get("failed", f"The Python with the carried ROS 2 ended with status {status}."))


def unpack(archive: Path, prefix: Path, environ: Mapping[str, str] | None = None) -> tuple[Path, dict[str, str]]:
    """Make a virtual environment of an archive, on top of this Python's packages.

    Args:
        archive: Made by carry.py.
        prefix: Folder of the environment, made here.
        environ: The environment variables as they are; None takes this process's.

    Returns:
        Its Python, and the variables with which that finds ROS's libraries.
    """
    sys.path.insert(0, str(ROOT / "tools"))
    import overlay_hook

    venv.EnvBuilder(with_pip=False, symlinks=True).create(prefix)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(prefix, filter="data")
        else:
            tar.extractall(prefix)
    folder = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site_packages = prefix / "lib" / folder / "site-packages"
    own = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site_packages / "this_python.pth").write_text("\n".join(own) + "\n", encoding="utf-8")
    before = dict(os.environ if environ is None else environ)
    changes, modules = overlay_hook.overlay_environment(str(prefix), before, str(prefix), str(site_packages), folder)
    paths = [str(ROOT), *modules, *filter(None, before.get("PYTHONPATH", "").split(os.pathsep))]
    guard = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}  # the wheels' own hook has nothing left to set
    return prefix / "bin" / "python", {**before, **changes, **guard, "PYTHONPATH": os.pathsep.join(paths)}


@dataclass(frozen=True)
class Case:
    """A run of the node: (height, width) of the images, their rate, and whether someone subscribes to the label maps."""

    size: Size
    rate_hz: float
    segmentation: bool


def cases(context: Context) -> Iterator[Case]:
    """By worth; the first one is that of the aim."""
    small, large = context.scale.sources
    yield Case(large, 60.0, False)
    if not context.dry:
        yield Case(large, 60.0, True)
        yield Case(small, 60.0, False)
        yield Case(small, 30.0, False)


def measure(context: Context, part: Part) -> None:
    """From publication to reception, for every case that there is time for."""
    from benchmark.bench import dds

    weights = find_weights(SHIPPED[0])
    if context.dry:
        model = next(candidate for candidate in candidates(dry=True) if candidate.name == SHIPPED[0]).build()
        weights = context.folder / "node.safetensors"
        save_weights(weights, model.network, model.description)
    part.note(network=SHIPPED[0])
    for number, case in enumerate(cases(context)):
        if number and context.left_s < _EACH_S:
            part.note(left_out=[*part.data.get("left_out", []), f"{case.size}, {case.rate_hz:g} Hz, {case.segmentation}"])
            continue
        height, width = case.size
        parameters = {"weights": str(weights), "device": context.device, "warm_up_height": height, "warm_up_width": width}
        subject = dds.Subject("csl_tracker", "benchmark.bench.timed_tracker", parameters, (case.rate_hz,), timed=True)
        bag, digest = _bag(context, case.size)
        times = context.folder / "node_times.json"
        times.unlink(missing_ok=True)
        with dds.session(subject, bag, None, case.segmentation, context.folder / "no_cache", times) as session:
            at = session.measure(case.rate_hz, context.scale.node_frames, "node")
            session.stop()
        at["inside"] = dds.doors(times, at.pop("stamps"))
        del at["latencies_ms"]
        row = {"image_size": list(case.size), "segmentation": case.segmentation, "images_sha256": digest}
        part.row({**row, "first_pose_s": session.first_pose_s, **at})


@functools.lru_cache
def _bag(context: Context, size: Size) -> tuple[Path, str]:
    """The frames of a size as a bag, and the hash of its images."""
    from csl_tracker.bags.frame_writer import sequence_frames, write_frames

    pictures = frames.images(context, size)[0][: context.scale.pictures]
    path = context.folder / f"node_{size[0]}x{size[1]}.mcap"
    write_frames(path, sequence_frames(_Pictures(pictures)), len(pictures))
    return path, frames.images_sha256(pictures)


class _Pictures:
    """Images as a sequence without any labels."""

    landmarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    slots = ("left",)
    fps = 25.0
    name = "pictures"

    def __init__(self, pictures: frames.Image) -> None:
        self._pictures = pictures
        self.size = (int(pictures.shape[1]), int(pictures.shape[2]))

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[Sample]:
        nothing: Any = np.zeros((1, 0, 2)), np.zeros((1, 0), bool)
        for index, image in enumerate(self._pictures):
            yield Sample(image, None, *nothing, self.name, index, round(index * 1e9 / self.fps))
