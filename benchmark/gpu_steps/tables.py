"""The figures of ``benchmark/gpu.py`` as Markdown; what was not measured says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.reporting.table import markdown

NOT_MEASURED = "not measured"
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "gpu.json"
BEGIN, END = "<!-- gpu: benchmark/gpu.py -->", "<!-- end of gpu -->"

Data = Mapping[str, Any]
_NETWORKS = ("CSL, ResNet-50", "csl_lite0", "csl_accurate")
_SOURCES = ([576, 720], [1080, 1920])
_GRAPH = "torch, float16, graph"
_PRECISIONS = ("float32", "tf32", "float16", "bfloat16")


def load(path: Path = RESULTS) -> dict[str, Any] | None:
    """The figures of a file; None where there is none.

    Raises:
        ConfigError: They are of a dry run, and worth nothing.
    """
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if data["dry_run"]:
        raise ConfigError(f"{path} is of a dry run, whose figures mean nothing; measure on a GPU, or remove it.")
    return data


def everything(data: Data | None) -> str:
    """All tables, with what they are of."""
    parts = [
        where(data),
        correctness(data),
        eviction(data),
        latency(data),
        roofline(data),
        throughput(data),
        fusion(data),
        training(data),
        paper(data),
        node(data),
        device_loss(data),
    ]
    return "\n\n".join(parts)


def gpu_section(data: Data | None) -> str:
    """For docs/engines.md, which has correctness and roofline at their own places."""
    parts = [where(data), latency(data), throughput(data), fusion(data), training(data), paper(data), node(data)]
    return "\n\n".join([*parts, eviction(data), device_loss(data)])


def where(data: Data | None) -> str:
    """The machine, a sentence."""
    if data is None:
        return f"GPU: {NOT_MEASURED}."
    machine, versions = data["machine"], data["versions"]
    warning = "A dry run, none of whose figures means anything: " if data["dry_run"] else ""
    return (
        f"{warning}{machine['gpu'] or machine['cpu']}, driver {machine.get('driver')}, CUDA {machine.get('cuda')}, torch"
        f" {versions['torch']}, {machine['cores']} cores of {machine['cpu']}; `{data['command']}`, {data['date']}."
    )


def correctness(data: Data | None) -> str:
    """What each engine and precision does to the landmarks."""
    columns = ("network", "on the GPU", "frames", "median shift, px", "largest shift, px", "lost", "DICE change")
    step = _step(data, "correctness")
    rows = [_correctness_row(row) for row in _rows(step) if row["trained"] or "refused" not in row]
    if not rows:
        names = [name for name in _NETWORKS if name.startswith("csl_")]
        return _unmeasured(f"Shifts and losses of landmarks on the GPU in {', '.join(_PRECISIONS)}", step, names)
    return markdown(columns, rows) + _remark(step)


def _correctness_row(row: Data) -> list[str]:
    name = row["network"] + ("" if row["trained"] else " (random weights)")
    if "shift_px" not in row:
        return [name, row["variant"], str(row["n"]), _refusal(row), "", "", ""]
    return [
        name,
        row["variant"],
        str(row["frames"]),
        *(["no landmarks"] * 2 if row["shift_px"] is None else [f"{row['shift_px'][key]:.4f}" for key in ("p50", "max")]),
        f"{row['lost']} of {row['keypoints']}",
        _number(row["dice_change"], 5, sign=True),
    ]


def eviction(data: Data | None) -> str:
    """Whether graphs that come and go agree with eager launches, a sentence."""
    found = _step(data, "correctness").get("eviction")
    if found is None:
        return f"More image sizes in turn than graphs are kept, against eager launches: {NOT_MEASURED}."
    if "refused" in found:
        return f"More image sizes in turn than graphs are kept, against eager launches: {found['refused']}"
    bad = [f"{'x'.join(map(str, visit['size']))}" for visit in found["visits"] if not visit["agrees"]]
    said = "all agree" if found["agrees"] else f"these do not agree: {', '.join(bad)}"
    return f"More image sizes in turn than graphs are kept, against eager launches: {found['n']} visits, {said}."


def latency(data: Data | None) -> str:
    """A frame and its pieces, p50 / p99."""
    pieces = ("upload", "network", "post_processing", "download", "total")
    columns = ("network", "image", "engine", "label map", *(f"{name.replace('_', '-')}, ms" for name in pieces), "frames")
    step = _step(data, "latency")
    rows = []
    for row in _rows(step):
        if "total_ms" not in row:
            rows.append([row["network"], "", row["variant"], "", *[""] * 4, _refusal(row), "0"])
            continue
        cells = [_two(row.get(f"{name}_ms"), 2) for name in pieces]
        rows.append([row["network"], _size(row["source_size"]), row["variant"], _yes(row["segmentation"]), *cells, _n(row)])
    if not rows:
        sizes = " and ".join(map(_size, _SOURCES))
        return _unmeasured(f"Latency of a frame and of its pieces at {sizes} ({_GRAPH})", step)
    return markdown(columns, rows) + _remark(step)


def roofline(data: Data | None) -> str:
    """The card's ceilings, and the networks' distance to them."""
    step = _step(data, "roofline")
    products, copied = step.get("matrix_products", {}), step.get("copy")
    rates = [f"{name} {found['flop_per_s'] / 1e12:.0f} TFLOP/s" for name, found in products.items()]
    said = f"Measured: products of large matrices {', '.join(rates) or NOT_MEASURED}; copies on the device "
    said += NOT_MEASURED if copied is None else f"{copied['bytes_per_s'] / 1e12:.2f} TB/s"
    columns = ("network", "input", "precision", "roofline, us", "network, us", "times the roofline")
    rows = [
        [
            row["network"],
            _size(row["input_size"]),
            row["precision"],
            f"{row['roofline_us']:.0f}",
            _two(row["network_us"], 0),
            f"{row['times_the_roofline']:.1f}",
        ]
        for row in _rows(step)
    ]
    rest = f"{markdown(columns, rows)}{_remark(step)}" if rows else _unmeasured("Distance to the roofline", step)
    return f"{said}.\n\n{rest}"


def throughput(data: Data | None) -> str:
    """Images per second of the networks alone, a column for each batch."""
    step = _step(data, "throughput")
    found: dict[str, dict[int, str]] = {}
    for row in _rows(step):
        text = f"{row['images_per_s']:.0f}" if "images_per_s" in row else "too large"
        found.setdefault(row["network"], {})[row["batch"]] = text
    if not found:
        return _unmeasured("Images/s of the network alone, in batches", step)
    batches = sorted({batch for by_batch in found.values() for batch in by_batch})
    rows = [[name, *(by_batch.get(batch, NOT_MEASURED) for batch in batches)] for name, by_batch in found.items()]
    return markdown(("network alone, images/s with batches of", *map(str, batches)), rows) + _remark(step)


def fusion(data: Data | None) -> str:
    """A frame with each form of a network, and how long compiling took."""
    columns = ("network", "plain, ms", "cuDNN's fused convolutions, ms", "inductor, ms", "compiled in, s")
    step = _step(data, "fusion")
    rows = []
    for row in _rows(step):
        if "forms_ms" not in row:
            rows.append([row["network"], _refusal(row), "", "", ""])
            continue
        forms = [_number(row["forms_ms"].get(name), 2) for name in ("plain", "cudnn", "inductor")]
        rows.append([row["network"], *forms, _number(row["compile_s"], 0)])
    if not rows:
        return _unmeasured("Plain network, cuDNN's fused convolutions and inductor", step)
    return markdown(columns, rows) + _remark(step)


def training(data: Data | None) -> str:
    """Images per second of trainings."""
    sides = ("csl_tracker", "plain loop", "plain loop, one batch kept on the device")
    columns = ("training", "precision", "batch", *(f"{side}, images/s" for side in sides))
    step = _step(data, "training")
    rows = []
    for row in _rows(step):
        cells = [_number(row["images_per_s"].get(side), 0) for side in sides]
        rows.append([row["network"], row["precision"], str(row.get("batch_size", "")), *cells])
    if not rows:
        return _unmeasured("Training images/s (16-mixed, 32-true) against a plain loop", step, ("csl_lite0", _NETWORKS[0]))
    return markdown(columns, rows) + _remark(step)


def paper(data: Data | None) -> str:
    """The paper's network on the synthetic protocol, a sentence."""
    step = _step(data, "paper")
    start = "ImageNet's encoder" if step.get("configuration", {}).get("encoder_weights") else "random weights"
    head = f"The paper's network on the synthetic protocol, preset `paper`, from {start}: "
    if "steps" not in step:
        return f"{head}{NOT_MEASURED}.{_remark(step)}"
    losses = [loss for loss in step["curve"]["loss"] if loss is not None]
    said = f"{step['steps']} steps in {step['training_s']:.0f} s"
    if losses:
        said += f", loss {losses[0]:.3f} at first and {losses[-1]:.3f} at last"
    test = [found for found in step.get("test", {}).values() if found["dice"] is not None]
    if test:
        dice, within = (sum(found[key] for found in test) / len(test) for key in ("dice", "threshold_score_20px"))
        said += f"; on {len(test)} test sequences DICE {dice:.3f}, {within:.3f} of the landmarks within 20 px"
    return f"{head}{said}.{_remark(step)}"


def node(data: Data | None) -> str:
    """The node over DDS."""
    columns = ("node", "image", "`~/segmentation`", "rate", "stamp to pose, ms: p50", "p99", "dropped")
    step = _step(data, "node")
    rows = []
    for row in _rows(step):
        times = row["latency_ms"]
        cells = [f"{times[key]:.1f}" if times else "-" for key in ("p50", "p99")]
        subscribed = "subscribed" if row["segmentation"] else "no"
        dropped = f"{row['dropped']} of {row['frames']}"
        rows.append(["csl_lite0", _size(row["image_size"]), subscribed, f"{row['rate_hz']:g} Hz", *cells, dropped])
    if not rows:
        return _unmeasured(f"The node over DDS at {_size(_SOURCES[1])} and 60 Hz", step, ("csl_lite0",))
    return markdown(columns, rows) + _remark(step)


def device_loss(data: Data | None) -> str:
    """What a lost device does, a sentence."""
    step = _step(data, "device_loss")
    if "phase" not in step:
        return f"A provoked loss of the device: {NOT_MEASURED}.{_remark(step)}"
    if step["phase"] != "over":
        return f"A provoked loss of the device: the process ended while {step['phase']}.{_remark(step)}"
    on = "tracking goes on on the CPU" if step["goes_on"] else "tracking does not go on as it should"
    return (
        f"A provoked loss of the device: {on}, the first frame after {step['first_frame_s']:.2f} s; exit status of the process"
        f" {step['exit_status']}."
    )


def readme(data: Data | None) -> list[str]:
    """The lines of docs/measured.md."""
    head = "GPU, from the image on the host to the landmarks there (`benchmark/gpu.py`)"
    rows = [row for row in _rows(_step(data, "latency")) if row["variant"] == _GRAPH and row.get("segmentation") is False]
    if not rows:
        sizes = " and ".join(_size(size, wide=True) for size in _SOURCES)
        return [f"{head}, {sizes}: {NOT_MEASURED}."]
    cells = [
        [
            row["network"],
            _size(row["source_size"], wide=True),
            *(f"{row['total_ms'][key]:.2f}" for key in ("p50", "p99")),
            _n(row),
        ]
        for row in rows
    ]
    return [where(data), f"{head}:", "", *markdown(("network", "image", "p50, ms", "p99, ms", "frames"), cells).split("\n")]


def measured_network(data: Data | None) -> Callable[[Sequence[int]], str]:
    """For benchmark/roofline.py: what a network of an input size took, half precision, us; by its name."""
    rows = [row for row in _rows(_step(data, "roofline")) if row["precision"] == "float16"]
    found = {tuple(row["input_size"]): f"{row['network_us']['p50']:.0f} us" for row in rows}
    return lambda size: found.get(tuple(size), NOT_MEASURED)


def _step(data: Data | None, name: str) -> Data:
    found: Data = {} if data is None else data["steps"].get(name, {})
    return found


def _rows(step: Data) -> list[Any]:
    return list(step.get("rows", ()))


def _remark(step: Data) -> str:
    """Why a step is not whole, below its table."""
    reason = step.get("reason", "")
    return f"\n\n{step['state'].capitalize()}: {reason}" if reason else ""


def _unmeasured(what: str, step: Data, networks: Sequence[str] = _NETWORKS) -> str:
    """In place of a table without rows."""
    return f"{what} ({'; '.join(networks)}): {NOT_MEASURED}.{_remark(step)}"


def _refusal(row: Data) -> str:
    return f"refused: {row['refused']}" if "refused" in row else NOT_MEASURED


def _two(values: Mapping[str, float] | None, digits: int) -> str:
    return NOT_MEASURED if values is None else f"{values['p50']:.{digits}f} / {values['p99']:.{digits}f}"


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    return NOT_MEASURED if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _size(size: Sequence[int], wide: bool = False) -> str:
    return "x".join(map(str, reversed(size) if wide else size))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _n(row: Data) -> str:
    return str(row["total_ms"]["n"])
