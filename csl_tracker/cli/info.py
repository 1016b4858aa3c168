"""``csl-tracker info``: describe a weights file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csl_tracker.cli.tracking import WEIGHTS_HELP, weights_of
from csl_tracker.errors import ConfigError
from csl_tracker.pixels import parse_size
from csl_tracker.reporting import table
from csl_tracker.text import excerpt

if TYPE_CHECKING:
    from csl_tracker.weights import Model

_LONGEST = 2000
"""Longest line to print, characters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("weights", nargs="?", metavar="FILE|NAME", help=WEIGHTS_HELP)
    parser.add_argument(
        "--size", default="", metavar="HxW", help="input size for the GFLOP count, such as 480x480 (default: the model's)"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def describe(path: Path, size: str = "") -> dict[str, Any]:
    """Describe a weights file as JSON-compatible values.

    Args:
        path: The weights.
        size: ``HxW`` for the GFLOP count; empty for the model's input size.

    Raises:
        WeightsError: The file is unusable.
        ConfigError: The size is not ``HxW``.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from csl_tracker.weights import load_weights
    from csl_tracker.weights_checks import outline

    model = load_weights(path)
    height, width = model.description.preprocessing.input_size
    if size:
        given = parse_size(size)
        if given is None:
            raise ConfigError(f"The size {size!r} is no HxW; write for example 480x480.")
        height, width = given
    config = model.description.network
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        if config.strategy != "forest":  # comparisons are not counted
            outline(config).eval()(torch.zeros(1, 3, height, width, device="meta"))  # counts operations without computing
    return {
        "file": str(path),
        "sha256": model.sha256,
        "size_bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "gflop": round(counter.get_total_flops() / 1e9, 3),
        "gflop_size": [height, width],
        "engine": _engine(model),
        **model.description.to_dict(),
    }


def _engine(model: Model) -> str:
    """The engine that ``engine: auto`` selects on this machine, and the input sizes that are already exported."""
    from csl_tracker.engines import create_engine
    from csl_tracker.engines.artefacts import ArtefactCache

    engine = create_engine(model)
    ready = ArtefactCache().sizes(model.sha256).get(engine.name, [])
    sizes = f"exported for {', '.join(f'{height}x{width}' for height, width in sorted(set(ready)))}" if ready else ""
    return "; ".join(text for text in (f"auto selects {engine.name} on {engine.device}", engine.reason, sizes) if text)


def _cost(info: dict[str, Any], size: str) -> dict[str, str]:
    """Size and cost of a network; a forest has neither parameters nor floating-point operations."""
    if info["parameters"] == 0:
        return {"forest": f"{info['network']['trees']} trees of at most {info['network']['nodes']} nodes in each stage"}
    return {
        "parameters": f"{info['parameters'] / 1e6:.2f} M",
        "GFLOP": f"{info['gflop']:.2f} at {size} (a multiplication and an addition count as two)",
    }


def run(args: argparse.Namespace) -> int:
    """Print a description."""
    info = describe(weights_of(args), args.size)
    if args.json:
        print(json.dumps(info, indent=2))
        return 0
    network, pre, provenance = info["network"], info["preprocessing"], info["provenance"]
    size = "x".join(map(str, info["gflop_size"]))
    rows = {
        "model": f"{info['name']} ({info['sha256'][:8]}), {info['size_bytes'] / 1e6:.1f} MB",
        "network": f"{network['strategy']}, {network['encoder']}, {network['decoder']} decoder",
        **_cost(info, size),
        "engine": info["engine"],
        "landmarks": ", ".join(info["instruments"]["landmarks"]),
        "classes": ", ".join(info["instruments"]["classes"]),
        "heatmaps": f"sigma {info['heatmap']['sigma']} px, peak {info['heatmap']['peak']:.4g}, at half the input size",
        "preprocessing": f"input {'x'.join(map(str, pre['input_size']))}, {pre['resize']}, RGB,"
        f" mean {pre['mean']}, std {pre['std']}",
        "threshold": f"{info['confidence_threshold']}",
        "initialised": provenance.get("initialisation", "not stated"),
        "data": _data(provenance) or "not stated",
        "seed": _section(provenance, "configuration").get("seed", "not stated"),
        "command": provenance.get("command", "not stated"),
        "steps": f"{provenance.get('steps', 'not stated')}, {provenance.get('seconds', '?')} s",
        "validation": ", ".join(f"{k} {_short(v)}" for k, v in _section(provenance, "validation").items()) or "not stated",
    }
    print("\n".join(table.plain([(key, excerpt(value, _LONGEST)) for key, value in rows.items()], right=(0,), indent=" ")))
    return 0


def _section(provenance: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of the training's provenance; empty if it is missing or not a map."""
    found = provenance.get(name)
    return found if isinstance(found, dict) else {}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _data(provenance: Mapping[str, Any]) -> str:
    """Training data: each source's dataset with its sequences; empty if not stated."""
    sources = _section(provenance, "configuration").get("train")
    if not isinstance(sources, list):
        return ""
    return "; ".join(f"{source.get('dataset')}: {_sequences(source)}" for source in sources if isinstance(source, dict))


def _sequences(source: Mapping[str, Any]) -> str:
    if isinstance(source.get("sequences"), list) and source["sequences"]:
        return ", ".join(map(str, source["sequences"]))
    return "rendered on the fly" if source.get("dataset") == "synthetic" else "all sequences"
