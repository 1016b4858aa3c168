"""``csl-tracker export``: export a network for another engine, checked against float32 torch; nodes then start faster."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csl_tracker.cli.tracking import WEIGHTS_HELP, weights_of
from csl_tracker.errors import ConfigError, EngineError
from csl_tracker.names import file_stem
from csl_tracker.paths import user_path
from csl_tracker.pixels import parse_size

if TYPE_CHECKING:
    from csl_tracker.engines.artefacts import Artefact
    from csl_tracker.engines.comparison import Comparison, Frame
    from csl_tracker.engines.exported import ExportedEngine
    from csl_tracker.pixels import Size
    from csl_tracker.weights import Model

EXPORTABLE = ("openvino", "onnx")
INDUCTOR = "inductor"
_FIRST_SEED = 20_000
"""First seed of the synthetic frames for the check, which no training uses."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "example:\n"
        "  csl-tracker export --size 1080x1920               # the built-in weights, for the cache that nodes use\n"
        "  csl-tracker export model.safetensors --engine onnx --out exported\n"
        "  csl-tracker export --engine inductor --device cuda  # fused kernels for the torch engine on this GPU"
    )
    parser.add_argument("weights", nargs="?", metavar="FILE|NAME", help=WEIGHTS_HELP)
    parser.add_argument(
        "--engine",
        choices=(*EXPORTABLE, INDUCTOR),
        default="openvino",
        help="target engine (%(default)s); inductor compiles kernels, which the torch engine uses if they are faster",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="for --engine inductor: the device to compile for, auto, cpu, cuda or cuda:N (%(default)s)",
    )
    parser.add_argument(
        "--out", type=user_path, metavar="DIR", help="folder for a copy of the network, with a JSON file next to it"
    )
    parser.add_argument(
        "--size", default="576x720", metavar="HxW", help="height and width of the camera's images (%(default)s)"
    )
    parser.add_argument(
        "--frames",
        type=user_path,
        metavar="VIDEO_OR_FOLDER",
        help="frames for the check (default: synthetic ones with ground truth)",
    )
    parser.add_argument("--count", type=int, default=12, metavar="N", help="number of frames for the check (%(default)s)")
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32", "float16", "bfloat16"),
        help="also check the network in this precision, which the engine uses on request (float32); for --engine inductor the"
        " precision to compile for (float16 on CUDA, float32 on the CPU)",
    )
    parser.add_argument("--no-cache", action="store_true", help="do not change the user's cache; needs --out")
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier export in --out")


def run(args: argparse.Namespace) -> int:
    """Export, check, and print the location of the network."""
    from csl_tracker.engines.artefacts import ArtefactCache, CacheError
    from csl_tracker.weights import load_weights

    source = _size(args.size)
    if args.count < 1:
        raise ConfigError(f"--count is {args.count}; give at least 1.")
    if args.no_cache and args.out is None:
        raise ConfigError("With --no-cache the network would not be written anywhere; name a folder with --out.")
    model = load_weights(weights_of(args))
    if args.engine == INDUCTOR:
        return _export_inductor(args, model, source)
    precision = _precision(args)
    kind = _engine_class(args.engine, model)
    size = model.description.preprocessing.working_size(source)
    stem = f"{file_stem(model.name)}-{size[0]}x{size[1]}"
    targets = [] if args.out is None else [args.out / f"{stem}{suffix}" for suffix in (*kind.suffixes, f".{kind.name}.json")]
    _refuse_to_overwrite(args.out, targets, args.overwrite)

    frames = _Frames(args.frames, args.count, source)
    with tempfile.TemporaryDirectory() as folder:
        cache = ArtefactCache(Path(folder)) if args.no_cache else ArtefactCache()
        try:
            artefact = cache.put(kind.key(model, size), lambda place: _write(kind, model, size, place, frames))
        except CacheError as error:
            if args.no_cache:
                raise EngineError(
                    f"The network cannot be written to the temporary folder {folder}; make room there, or set TMPDIR to another"
                    " folder."
                ) from error
            if args.out is None:
                raise
            print(f"The cache was not changed: {error}")
            spare = ArtefactCache(Path(folder))
            artefact = spare.put(kind.key(model, size), lambda place: _write(kind, model, size, place, frames))
        _print_check(f"{kind.name} {kind.version()}", "float32", size, artefact.manifest["check"])
        if precision != "float32":
            found = _compare(_engine(kind, model, precision), model, size, artefact, frames, precision)
            _print_check(f"{kind.name} {kind.version()}", precision, size, found.to_dict())
        if not args.no_cache and artefact.folder.is_relative_to(cache.folder):
            print(f"for nodes and commands on this machine: {artefact.folder}")
        if targets:
            _copy(artefact, targets)
            print(f"wrote {', '.join(str(target) for target in targets)}")
    return 0


def _precision(args: argparse.Namespace) -> str:
    """The precision that was asked for.

    Raises:
        ConfigError: The engine does not compute in it, or a device was named.
    """
    if args.device not in ("auto", "cpu"):
        raise ConfigError(f"--engine {args.engine} is independent of the device; omit --device {args.device}.")
    precision: str = args.precision or "float32"
    if precision not in {"openvino": ("float32", "bfloat16")}.get(args.engine, ("float32",)):
        remedy = "use --engine openvino" if precision == "bfloat16" else "omit --precision"
        raise ConfigError(f"The engine {args.engine!r} does not support {precision}; {remedy}.")
    return precision


def _size(text: str) -> Size:
    size = parse_size(text)
    if size is None or max(size) > 16384:
        raise ConfigError(f"The size {text!r} is no HxW; write for example 1080x1920.")
    return size


def _engine_class(name: str, model: Model) -> type[ExportedEngine]:
    from csl_tracker.engines.factory import create_engine

    if model.description.network.strategy == "forest":
        raise EngineError(f"The model {model.name} is a forest, which only torch can run; it cannot be exported.")
    create_engine(model, "cpu", name)  # raises an error if the engine is not installed
    if name == "onnx":
        from csl_tracker.engines.onnx_engine import OnnxEngine

        return OnnxEngine
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine


def _engine(kind: type[ExportedEngine], model: Model, precision: str) -> ExportedEngine:
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model, precision=precision) if kind is OpenVinoEngine else kind(model)


def _refuse_to_overwrite(out: Path | None, targets: list[Path], overwrite: bool) -> None:
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder with --out.")
    existing = [target for target in targets if target.exists()]
    if existing and not overwrite:
        raise ConfigError(f"{existing[0]} exists; add --overwrite, or give another folder with --out.")


class _Frames:
    """Frames for the check; each iteration starts from the beginning."""

    def __init__(self, path: Path | None, count: int, size: Size) -> None:
        from csl_tracker.cli.track import open_frames

        self.reader = None if path is None else open_frames(path)
        self.count = count if self.reader is None else min(count, len(self.reader))
        self.size = size

    def __iter__(self) -> Iterator[Frame]:
        if self.reader is None:
            from csl_tracker.datasets.synthetic import render_frame

            for index in range(self.count):
                sample = render_frame(_FIRST_SEED + index, self.size)
                yield sample.image, sample.label_map
            return
        step = max(1, len(self.reader) // self.count)
        for index, image in enumerate(self.reader):
            if index % step == 0 and index // step < self.count:
                yield image, None


def _export_inductor(args: argparse.Namespace, model: Model, source: Size) -> int:
    """Compile the network for the torch engine on a device, check it, and store it in the cache."""
    import torch
    from tqdm import tqdm

    from csl_tracker.engines.artefacts import ArtefactCache
    from csl_tracker.engines.base import output_names
    from csl_tracker.engines.comparison import compare
    from csl_tracker.engines.device_engine import TorchDeviceEngine
    from csl_tracker.engines.factory import resolve_device
    from csl_tracker.engines.inductor import inductor_key, load_inductor, write_inductor
    from csl_tracker.engines.tuning import NetworkProbe

    if args.out is not None or args.no_cache:
        raise ConfigError(
            "With --engine inductor the network is only stored in the cache of this machine; omit --out and --no-cache."
        )
    if model.description.network.strategy == "forest":
        raise EngineError(f"The model {model.name} is a forest, which only torch can run; it cannot be exported.")
    device = resolve_device(args.device)
    precision = args.precision or ("float16" if device.startswith("cuda") else "float32")
    engine = TorchDeviceEngine(model, device, precision, launch="eager")
    size = model.description.preprocessing.working_size(source)
    frames = _Frames(args.frames, args.count, source)

    def write(folder: Path) -> Mapping[str, Any]:
        print(f"compiling {model.name} for {device} in {precision}; this takes minutes", flush=True)
        write_inductor(engine.network, size, folder)
        compiled = NetworkProbe(engine, load_inductor(engine.network, model, folder))
        shown = tqdm(frames, total=frames.count, desc="inductor against float32", unit="frame", disable=None)
        # The same path on the same device, so that only compiler and precision differ.
        found = compare(compiled, NetworkProbe(engine, engine.make_network("float32")), model, shown)
        if found.moves_keypoints:
            raise EngineError(
                f"The results of the network {model.name} change when it is compiled in {precision} (landmarks shift by"
                f" {found.median_shift_px} px in the median, {found.lost} are lost); try --precision float32."
            )
        return _manifest(model, size, {**found.to_dict(), "disagreement": None}, list(output_names(model.description.network)))

    cache = ArtefactCache()
    artefact = cache.put(inductor_key(model, size, device, precision), write)
    _print_check(f"inductor of torch {torch.__version__} for {device}", precision, size, artefact.manifest["check"])
    print(f"for nodes and commands on this machine: {artefact.folder}")
    return 0


def _write(kind: type[ExportedEngine], model: Model, size: Size, folder: Path, frames: _Frames) -> Mapping[str, Any]:
    """Export to a folder, check the result, and return the manifest.

    Raises:
        EngineError: The results differ from float32 torch.
    """
    from csl_tracker.engines.artefacts import Artefact
    from csl_tracker.engines.auto import TOLERANCE, disagreement

    kind.write(model, size, folder)
    artefact = Artefact(folder, {})
    engine = _engine(kind, model, "float32")
    found = _compare(engine, model, size, artefact, frames, kind.name)
    difference = disagreement(engine, model, size)
    if found.moves_keypoints or not difference <= TOLERANCE:
        raise EngineError(
            f"The results of the network {model.name} differ between {kind.name} and float32 torch (landmarks shift by"
            f" {found.median_shift_px} px in the median, {found.lost} are lost, outputs differ by {difference:.1e} of the"
            " largest); use the engine 'torch' for it."
        )
    return _manifest(model, size, {**found.to_dict(), "disagreement": difference}, list(engine.names))


def _manifest(model: Model, size: Size, check: Mapping[str, Any], outputs: list[str]) -> dict[str, Any]:
    """The manifest without key and files."""
    from csl_tracker.provenance import machine, portable_command, versions

    description = model.description
    return {
        "model": {"name": model.name, "sha256": model.sha256},
        "input": {
            "name": "image",
            "dtype": "uint8",
            "shape": [1, *size, 3],
            "layout": "NHWC, RGB, 0..255; the normalisation is part of the network",
            "resize": description.preprocessing.resize,
        },
        "outputs": outputs,
        "heatmap": description.heatmap.to_dict(),
        "instruments": description.instruments.to_dict(),
        "check": dict(check),
        "command": portable_command(),
        "machine": machine(),
        "versions": versions(),
    }


def _compare(engine: ExportedEngine, model: Model, size: Size, artefact: Artefact, frames: _Frames, name: str) -> Comparison:
    from tqdm import tqdm

    from csl_tracker.engines.comparison import compare
    from csl_tracker.engines.torch_engine import TorchCpuEngine

    engine.use(size, artefact)
    reference = TorchCpuEngine(model, fold=False)
    return compare(
        engine, reference, model, tqdm(frames, total=frames.count, desc=f"{name} against torch", unit="frame", disable=None)
    )


def _print_check(name: str, precision: str, size: Size, check: Mapping[str, Any]) -> None:
    shift = "no landmarks were visible"
    if check["median_shift_px"] is not None:
        shift = f"landmarks shift by {check['median_shift_px']:.4f} px (median), {check['largest_shift_px']:.4f} px (largest)"
    dice = "" if check["dice_between"] is None else f"; DICE of the two masks {check['dice_between']:.5f}"
    change = "" if check["dice_change"] is None else f", against the ground truth {check['dice_change']:+.5f}"
    print(
        f"{name}, {precision}, input {size[0]}x{size[1]}: {shift},"
        f" {check['lost']} of {check['keypoints']} lost, in {check['frames']} frames{dice}{change}"
    )


def _copy(artefact: Artefact, targets: list[Path]) -> None:
    """Copy all files of an artefact, or none.

    Raises:
        EngineError: They cannot be written.
    """
    folder = targets[0].parent
    made = not folder.exists()
    partials = [target.with_name(f".{target.name}.part{os.getpid()}") for target in targets]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target, partial in zip(targets, partials, strict=True):
            if target.suffix == ".json":
                partial.write_text(json.dumps(dict(artefact.manifest), indent=2) + "\n", encoding="utf-8")
            else:
                shutil.copyfile(next(artefact.folder.glob(f"*{target.suffix}")), partial)
        for target, partial in zip(targets, partials, strict=True):
            os.replace(partial, target)
    except OSError as error:
        raise EngineError(
            f"The network cannot be written to {folder} ({error.strerror}); make room on the disk, or choose another folder"
            " with --out."
        ) from error
    finally:
        for partial in partials:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
