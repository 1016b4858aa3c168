"""How fast is each engine, and does it move the keypoints?

    python benchmark/engines.py --json docs/results/engines.json          # measures; a quiet machine, please
    python benchmark/engines.py --table docs/results/engines.json --page docs/engines.md  # the table of docs/engines.md

All paths see the same frames in turn, one call each, so that what else the machine does hits all of them alike. The reference
is the network as it was trained, in eager float32 torch. With --repeats 0 nothing is timed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.cli.track import open_frames
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.auto import installed
from csl_tracker.engines.comparison import compare
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.pixels import Size, resize_image
from csl_tracker.provenance import machine, sha256_of, versions
from csl_tracker.reporting.table import markdown
from csl_tracker.weights import Model, default_weights, load_weights

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmark.gpu_steps import tables as gpu_tables
from csl_tracker.cli.sizes import size_argument

FIRST_SEED = 30_000
"""Of the synthetic frames; no training frame has it."""

CALIBRATION_SEED, CALIBRATION_FRAMES = 50_000, 24

REFERENCE = "torch, as trained"
BEGIN, END = "<!-- engines: benchmark/engines.py -->", "<!-- end of engines -->"


def paths(model: Model, cache: ArtefactCache) -> dict[str, Callable[[], CpuEngine]]:
    """Every way to run a network on the CPU that is installed here."""
    found: dict[str, Callable[[], CpuEngine]] = {
        REFERENCE: functools.partial(TorchCpuEngine, model, fold=False),
        "torch, batch norms folded": functools.partial(TorchCpuEngine, model),
    }
    if "onnx" in installed():
        from csl_tracker.engines.onnx_engine import OnnxEngine

        found["onnx, float32"] = functools.partial(OnnxEngine, model, cache=cache)
    if "openvino" in installed():
        from csl_tracker.engines.openvino_engine import OpenVinoEngine

        found["openvino, float32"] = functools.partial(OpenVinoEngine, model, cache=cache)
        found["openvino, bfloat16"] = functools.partial(OpenVinoEngine, model, cache=cache, precision="bfloat16")
    return found


def int8(model: Model, size: Size, frames: Frames) -> CpuEngine:
    """The network after training quantised to int8, by ONNX Runtime's calibration, run by OpenVINO: what it would cost.

    Args:
        model: What to quantise.
        size: (height, width) of the network's input.
        frames: Frames to calibrate on.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from csl_tracker.engines.exported import NETWORK
    from csl_tracker.engines.onnx_engine import OnnxEngine
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self.images = iter(frames)

        def get_next(self) -> dict[str, Any] | None:
            image, _ = next(self.images, (None, None))
            return None if image is None else {"image": resize_image(image, size)[None]}

    engine = OpenVinoEngine(model)
    with tempfile.TemporaryDirectory() as folder:
        OnnxEngine.write(model, size, Path(folder))
        given, quantised = (str(Path(folder) / f"{name}.onnx") for name in ("prepared", "quantised"))
        quant_pre_process(str(Path(folder) / f"{NETWORK}.onnx"), given, skip_symbolic_shape=True)
        quantization.quantize_static(given, quantised, Reader(), per_channel=True, op_types_to_quantize=["Conv"])
        engine.use_file(size, Path(quantised))
    return engine


class Frames:
    """Frames with the truth where there is one; iterating again starts anew."""

    def __init__(self, path: Path | None, count: int, size: Size, first_seed: int = FIRST_SEED) -> None:
        self.first_seed = first_seed
        self.reader = None if path is None else open_frames(path)
        self.count = count if self.reader is None else min(count, len(self.reader))
        self.size = size if self.reader is None else self.reader.size

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield images and label maps."""
        if self.reader is None:
            for index in range(self.count):
                sample = render_frame(self.first_seed + index, self.size)
                yield sample.image, sample.label_map
            return
        step = max(1, len(self.reader) // self.count)
        for index, image in enumerate(self.reader):
            if index % step == 0 and index // step < self.count:
                yield image, None

    def sha256(self) -> str:
        """Of the files, or of the synthetic images one behind the other."""
        if self.reader is not None:
            return sha256_of(self.reader.files)
        digest = hashlib.sha256()
        for image, _ in self:
            digest.update(image.tobytes())
        return digest.hexdigest()


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Percentiles of durations, ms."""
    values = 1e3 * np.array(seconds)
    return {
        "p50": float(np.percentile(values, 50)),
        "p95": float(np.percentile(values, 95)),
        "min": float(values.min()),
    }


def measure(model: Model, frames: Frames, repeats: int) -> dict[str, Any]:
    """Build every path, compare it with the reference, and time network and frame."""
    working = model.description.preprocessing.working_size(frames.size)
    with tempfile.TemporaryDirectory() as folder:
        engines: dict[str, CpuEngine] = {}
        found: dict[str, dict[str, Any]] = {}
        builders = paths(model, ArtefactCache(Path(folder)))
        if {"openvino", "onnx"} <= set(installed()):
            calibration = Frames(None, CALIBRATION_FRAMES, frames.size, CALIBRATION_SEED)
            builders["openvino, int8 (not offered)"] = functools.partial(int8, model, working, calibration)
        for name, build in builders.items():
            start = time.perf_counter()
            engines[name] = build()
            engines[name].warm_up(frames.size)
            found[name] = {"build_s": time.perf_counter() - start}
        for name, engine in engines.items():
            shown = tqdm(frames, total=frames.count, desc=name, unit="frame")
            found[name].update(compare(engine, engines[REFERENCE], model, shown).to_dict())
        image = next(iter(frames))[0]
        whole: dict[str, list[float]] = {name: [] for name in engines}
        network: dict[str, list[float]] = {name: [] for name in engines}
        for _ in tqdm(range(repeats), desc="times", unit="round"):
            for name, engine in engines.items():
                start = time.perf_counter()
                engine.run(image, True)
                whole[name].append(time.perf_counter() - start)
                small = engine.input_buffer(working)
                start = time.perf_counter()
                engine.infer(small)
                network[name].append(time.perf_counter() - start)
    for name in engines:
        found[name]["network_ms"] = milliseconds(network[name]) if repeats else None
        found[name]["frame_ms"] = milliseconds(whole[name]) if repeats else None
        if not repeats:
            del found[name]["build_s"]
    return {"source_size": list(frames.size), "input_size": list(working), "paths": found}


_HEAD = (
    "path",
    "network, ms (p50 / p95)",
    "frame with label map, ms (p50 / p95)",
    "median shift, px",
    "largest shift, px",
    "lost",
    "DICE of the masks",
    "DICE change",
)


def table(data: dict[str, Any], gpu: dict[str, Any] | None = None) -> str:
    """The figures as Markdown.

    Args:
        data: What was measured on the CPU.
        gpu: What benchmark/gpu.py has measured, if it has.
    """
    lines = []
    for result in data["results"]:
        source, size = ("x".join(map(str, result[key])) for key in ("source_size", "input_size"))
        lines += [
            f"`{result['model']['name']}`, source {source}, network input {size} (height x width), {result['frames']['count']}"
            f" {result['frames']['kind']} frames, {data['machine']['cores']} cores of {data['machine']['cpu']}:",
            "",
        ]
        rows = [
            [
                name,
                _times(row["network_ms"]),
                _times(row["frame_ms"]),
                _number(row["median_shift_px"], 4),
                _number(row["largest_shift_px"], 3),
                f"{row['lost']} of {row['keypoints']}",
                _number(row["dice_between"], 5),
                _number(row["dice_change"], 5, sign=True),
            ]
            for name, row in result["paths"].items()
        ]
        lines += [markdown(_HEAD, rows), ""]
    return "\n".join([*lines, gpu_tables.where(gpu), "", gpu_tables.correctness(gpu)])


def _times(values: dict[str, float] | None) -> str:
    return "not measured yet" if values is None else f"{values['p50']:.1f} / {values['p95']:.1f}"


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    return "no truth" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def main() -> None:
    """Measure, or print the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="weights files (default: the package's own)")
    parser.add_argument(
        "--sizes", nargs="*", type=size_argument, default=[(576, 720), (1080, 1920)], metavar="HxW", help="of synthetic frames"
    )
    parser.add_argument("--frames", type=Path, metavar="VIDEO_OR_FOLDER", help="frames, after the synthetic ones")
    parser.add_argument("--label", default="", help="what the table calls these frames")
    parser.add_argument("--count", type=int, default=100, help="frames on which landmarks are compared (%(default)s)")
    parser.add_argument("--repeats", type=int, default=200, help="times each path runs for its time (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of such a file, and measure nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    args = parser.parse_args()
    if args.table is not None:
        data = json.loads(args.table.read_text(encoding="utf-8"))
        print_or_write_between(args.page, BEGIN, END, table(data, gpu_tables.load(args.table.with_name("gpu.json"))))
        return
    if args.json is None or args.count < 1 or args.repeats < 0:
        parser.error("--json, a --count of at least 1 and --repeats of at least 0 are needed")
    results, before = [], busy()
    for path in args.weights or [default_weights()]:
        model = load_weights(path)
        sources = [("synthetic", Frames(None, args.count, size)) for size in args.sizes]
        if args.frames is not None:
            sources.append((args.label or args.frames.stem, Frames(args.frames, args.count, (0, 0))))
        for kind, frames in sources:
            results.append(
                {
                    "model": {"name": model.name, "sha256": model.sha256},
                    "frames": {"kind": kind, "count": frames.count, "sha256": frames.sha256()},
                    **measure(model, frames, args.repeats),
                }
            )
    command = shlex.join(
        ["python", "benchmark/engines.py", *(Path(word).name if "/" in word else word for word in sys.argv[1:])]
    )
    report = {
        "command": command,
        "machine": machine(),
        "versions": versions(),
        "load_before": before,
        "repeats": args.repeats,
        "results": results,
    }
    write_json(args.json, report)
    print(table(report))


def busy() -> float | None:
    """Processes that run, as Linux's one-minute average: on a quiet machine it is near 0."""
    try:
        return float(Path("/proc/loadavg").read_text(encoding="utf-8").split()[0])
    except OSError:
        return None


if __name__ == "__main__":
    main()
