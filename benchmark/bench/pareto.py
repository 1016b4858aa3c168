"""Which input size, encoder, decoder and width of it give the best accuracy at video rate on this machine?

    python -m benchmark.bench.pareto time       # every candidate's time for a frame; minutes, a quiet machine
    python -m benchmark.bench.pareto train      # those that are fast enough, equal steps each; hours, resumable
    python -m benchmark.bench.pareto train --only "lite? separable ???x???" "lite0 * 256x320"  # those with such names alone
    python -m benchmark.bench.pareto report --json docs/results/pareto.json --picture docs/results/pareto
    python -m benchmark.bench.pareto page --json docs/results/pareto.json --page docs/engines.md

Time does not depend on the weights, so that all candidates are timed with random ones, in turn on the same frames of 720x576
through the engine that ``auto`` takes. Accuracy is that of ``csl-tracker experiment`` on ``pareto.yaml`` (synthetic frames of
that size), which ``train`` is a front to. Left and right are asked for as in the training of the shipped weights: else it is
luck whether a run tells them apart, and luck would draw the curve.
A candidate is on the front when no faster one has a smaller error.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.lines import Line2D

from benchmark.bench import forward
from benchmark.bench.ending import exit_code
from benchmark.bench.plots import COLORS
from csl_tracker.cli.main import main as csl_tracker_main
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.errors import ConfigError
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.pixels import Size
from csl_tracker.provenance import machine, portable, versions
from csl_tracker.reporting.plot_style import panels, save, styled
from csl_tracker.reporting.table import markdown
from csl_tracker.weights import Model, ModelDescription, Preprocessing

BEGIN, END = "<!-- pareto: benchmark/bench/pareto.py -->", "<!-- end of pareto -->"
SOURCE: Size = (576, 720)
SEED, PICTURES = 80_000, 8
SIZES: tuple[Size, ...] = ((192, 256), (256, 320), (320, 416), (384, 480))
ENCODERS = ("efficientnet_lite0", "efficientnet_lite2")
DECODERS = (("separable", 1.0), ("separable", 0.5), ("separable", 2.0), ("up_projection", 1.0))
"""Name, and the share of its channels."""
SIGMA_OF_HEIGHT = 3.5 / 256
"""Standard deviation of the targets, px of the heatmap, for a px of the input's height: the same part of the image for all."""


@dataclass(frozen=True)
class Candidate:
    """A network at an input size.

    Attributes:
        size: (height, width) of the input, px.
        encoder: Name.
        decoder: Name.
        decoder_width: Share of the decoder's channels.
    """

    size: Size
    encoder: str
    decoder: str
    decoder_width: float = 1.0

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.encoder.replace('efficientnet_', '')} {self.decoder_name} {self.size[0]}x{self.size[1]}"

    @property
    def decoder_name(self) -> str:
        """With its width, where that is not the usual one."""
        return self.decoder if self.decoder_width == 1 else f"{self.decoder} x{self.decoder_width:g}"

    @property
    def sigma(self) -> float:
        """Of the targets, px of the heatmap."""
        return round(SIGMA_OF_HEIGHT * self.size[0], 2)

    @property
    def model(self) -> str:
        """As ``csl-tracker experiment`` calls it."""
        size = f"[{self.size[0]},{self.size[1]}]"
        return (
            f"csl@input_size={size},crop={size},heatmap.sigma={self.sigma},"
            f"network.encoder={self.encoder},network.decoder={self.decoder}"
            + ("" if self.decoder_width == 1 else f",network.decoder_width={self.decoder_width:g}")
        )

    def build(self) -> Model:
        """With random weights."""
        torch.manual_seed(0)
        network = build_network(NetworkConfig("csl", self.encoder, self.decoder, decoder_width=self.decoder_width)).eval()
        pre = Preprocessing(network.normalization.mean, network.normalization.std, self.size, "keep_aspect")
        description = ModelDescription(self.name, network.config, ENDOVIS, HeatmapSpec(self.sigma, 1.0), pre)
        return Model(network, description, hashlib.sha256(self.name.encode()).hexdigest())


CANDIDATES = tuple(Candidate(size, encoder, *decoder) for size in SIZES for encoder in ENCODERS for decoder in DECODERS)
REFERENCE = Candidate((256, 320), "efficientnet_lite0", "separable")


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other one beats in both, by their first value; smaller is better."""
    best, found = np.inf, []
    for index in sorted(range(len(points)), key=lambda k: points[k]):
        if points[index][1] < best:
            best = points[index][1]
            found.append(index)
    return found


def measure_times(args: argparse.Namespace) -> None:
    """Write OUT/time.json."""
    images = [render_frame(SEED + index, SOURCE).image for index in range(PICTURES)]
    others = [candidate for candidate in CANDIDATES if candidate != REFERENCE]
    models = [(candidate.name, candidate.build(), True) for candidate in (REFERENCE, *others)]
    rows = forward.measure(models, images, "auto", args.rounds)
    load = float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0])
    report = {
        "machine": machine(),
        "versions": versions(),
        "load_after": load,
        "rounds": args.rounds,
        "source_size": list(SOURCE),
        "images_sha256": hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest(),
        "rows": rows,
    }
    write_json(args.out / "time.json", report)
    for row in sorted(rows, key=lambda row: row["frame_ms"]["p50"]):
        print(f"{row['frame_ms']['p50']:7.1f} ms  {row['name']}")


def read_times(out: Path) -> dict[str, Any]:
    """What ``time`` wrote.

    Raises:
        ConfigError: It did not run.
    """
    path = out / "time.json"
    if not path.is_file():
        raise ConfigError(f"{path} is not there; run 'python -m benchmark.bench.pareto time --out {out}' first.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def fast_enough(out: Path, most_ms: float, only: Sequence[str] = ("*",)) -> list[Candidate]:
    """The candidates whose median frame takes so long at the most, with names like one of ``only``; fastest first."""
    times = {row["name"]: row["frame_ms"]["p50"] for row in read_times(out)["rows"]}
    named = [candidate for candidate in CANDIDATES if any(fnmatch.fnmatchcase(candidate.name, pattern) for pattern in only)]
    chosen = [candidate for candidate in named if times.get(candidate.name, math.inf) <= most_ms]
    return sorted(chosen, key=lambda candidate: float(times[candidate.name]))


def train(args: argparse.Namespace) -> int:
    """Train and measure what is fast enough."""
    models = [candidate.model for candidate in fast_enough(args.out, args.most_ms, args.only)]
    if not models:
        raise ConfigError(
            f"No candidate like {' or '.join(args.only)} takes {args.most_ms:g} ms or less; raise --most-ms, or widen --only."
        )
    command = [
        "experiment",
        str(Path(__file__).with_name("pareto.yaml")),
        "--out",
        str(args.out / "train"),
        "--models",
        *models,
    ]
    command += [] if args.root is None else ["--root", str(args.root)]
    settings = [
        "resize=keep_aspect",
        f"steps={args.steps}",
        "batch_size=8",
        "side_weight=1",
        "ema_decay=0.99",
        "steps_per_epoch=50",
        "validate_every=4",
        "workers=1",
    ]
    return csl_tracker_main([*command, *settings])


def join(out: Path, most_ms: float) -> dict[str, Any]:
    """Time and accuracy of every candidate.

    Raises:
        ConfigError: Nothing is trained, or runs do not compare.
    """
    times = read_times(out)
    accuracy: dict[str, dict[str, Any]] = {}
    for path in sorted((out / "train").glob("runs/*/*/seed*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        accuracy[result["model"]] = result
    if not accuracy:
        raise ConfigError(f"No candidate in {out} is trained; run 'python -m benchmark.bench.pareto train --out {out}' first.")
    first = next(iter(accuracy.values()))
    rows = []
    for row in times["rows"]:
        candidate = next(known for known in CANDIDATES if known.name == row["name"])
        found = accuracy.get(candidate.model)
        joined = {
            **{key: row[key] for key in ("name", "gflop", "parameters", "frame_ms", "network_ms", "frame_ratio")},
            "input_size": list(candidate.size),
            "encoder": candidate.encoder,
            "decoder": candidate.decoder_name,
            "accuracy": None,
        }
        if found is not None:
            if any(found[key] != first[key] for key in ("steps", "batch_size", "input_sha256", "preset")):
                raise ConfigError(f"The run of {candidate.name} is of other settings or frames than the others; begin anew.")
            parts = list(found["sequences"].values())
            joined["accuracy"] = {
                "dice": float(np.mean([part["dice"] for part in parts])),
                "error_px": {key: float(np.mean([p["landmark_error_px"][key] for p in parts])) for key in ("mean", "median")},
                "within_20px": float(np.mean([part["threshold_score_20px"] for part in parts])),
                "seconds": found["seconds"],
            }
        rows.append(joined)
    rows.sort(key=lambda row: row["frame_ms"]["p50"])
    known = [row for row in rows if row["accuracy"] is not None]
    for key in ("error", "dice"):
        points = [(row["frame_ms"]["p50"], _loss(row["accuracy"], key)) for row in known]
        chosen = {known[index]["name"] for index in front(points)}
        for row in rows:
            row[f"on_the_{key}_front"] = row["name"] in chosen
    return {
        "command": shlex.join(["python", "-m", "benchmark.bench.pareto", *(str(portable(word)) for word in sys.argv[1:])]),
        **{key: times[key] for key in ("machine", "versions", "load_after", "rounds", "source_size", "images_sha256")},
        "most_ms": most_ms,
        **{key: first[key] for key in ("steps", "batch_size", "preset", "initialisation", "input_sha256")},
        "sequences": sorted(first["sequences"]),
        "rows": rows,
    }


def _loss(accuracy: Mapping[str, Any], key: str) -> float:
    return float(accuracy["error_px"]["mean"]) if key == "error" else 1.0 - float(accuracy["dice"])


def table(data: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    height, width = data["source_size"]
    about = (
        f"Source {height}x{width}, {data['machine']['cores']} cores of {data['machine']['cpu']};"
        f" {data['steps']} steps of {data['batch_size']} frames each, measured on {len(data['sequences'])} held-out synthetic"
        " sequences. In bold what no faster one beats."
    )
    head = (
        "encoder",
        "decoder",
        "input",
        "GFLOP",
        "frame, ms (p50 / p95)",
        "DICE",
        "error, px (mean / median)",
        "within 20 px",
    )
    rows = []
    untrained: dict[str, list[str]] = {"Accuracy not measured": [], "Too slow": []}
    for row in data["rows"]:
        found, times = row["accuracy"], row["frame_ms"]
        cells = [row["encoder"], row["decoder"], "x".join(map(str, row["input_size"])), f"{row['gflop']:.1f}"]
        cells.append(f"{times['p50']:.1f} / {times['p95']:.1f}")
        if found is None:
            kind = "Too slow" if times["p50"] > data["most_ms"] else "Accuracy not measured"
            untrained[kind].append(" ".join([*cells[:3], f"({cells[3]}; {times['p50']:.1f}/{times['p95']:.1f})"]))
            continue
        error = f"{found['error_px']['mean']:.1f} / {found['error_px']['median']:.1f}"
        dice = f"{found['dice']:.3f}"
        cells.append(f"**{dice}**" if row["on_the_dice_front"] else dice)
        cells.append(f"**{error}**" if row["on_the_error_front"] else error)
        cells.append(f"{found['within_20px']:.3f}")
        rows.append(cells)
    rest = [f"{kind} (GFLOP; p50/p95 ms): {', '.join(names)}." for kind, names in untrained.items() if names]
    return "\n\n".join([about, markdown(head, rows), *rest])


def picture(data: Mapping[str, Any], stem: Path) -> None:
    """Error and DICE against time, as PNG and SVG."""
    known = [row for row in data["rows"] if row["accuracy"] is not None]
    with styled():
        figure, axes = panels(2, columns=2)
        for place, (key, label) in zip(axes, (("error", "mean error, px"), ("dice", "DICE")), strict=True):
            values = [row["accuracy"]["error_px"]["mean"] if key == "error" else row["accuracy"]["dice"] for row in known]
            times = [row["frame_ms"]["p50"] for row in known]
            best = [index for index, row in enumerate(known) if row[f"on_the_{key}_front"]]
            place.step([times[k] for k in best], [values[k] for k in best], where="post", color=COLORS[0], linewidth=1.2)
            for index in range(len(known)):
                place.plot(times[index], values[index], "o" if index in best else "x", color=COLORS[0 if index in best else 1])
                at = (times[index], values[index])
                place.annotate(str(index + 1), at, fontsize=7, xytext=(4, 3), textcoords="offset points")
            place.axvline(1000 / 30, color="#999999", linestyle=":", linewidth=1)
            place.set(xlabel="frame, ms (median)", ylabel=label)
        names = [Line2D([], [], linestyle="none", label=f"{index + 1}  {row['name']}") for index, row in enumerate(known)]
        figure.legend(handles=names, loc="outside lower center", ncols=3, fontsize=7, handlelength=0, handletextpad=0)
        save(figure, stem)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.bench.pareto", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("time", "train", "report", "page"))
    parser.add_argument("--out", type=Path, default=Path("output/pareto"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the synthetic sequences (default: drawn into OUT/train/data)")
    parser.add_argument("--rounds", type=int, default=60, help="frames of each candidate's time (%(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="of each training (%(default)s)")
    parser.add_argument("--most-ms", type=float, default=28.0, help="longest median frame of what is trained (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="PATTERN", help="train: candidates with such names alone (all)"
    )
    parser.add_argument("--json", type=Path, help="figures of report, and of page")
    parser.add_argument("--picture", type=Path, metavar="STEM", help="report: pictures STEM.png and STEM.svg")
    parser.add_argument("--page", type=Path, help="page: put the table into this file, between its marks")
    args = parser.parse_args()
    if args.what in ("report", "page") and args.json is None:
        parser.error(f"{args.what} needs --json")
    return args


def run(args: argparse.Namespace) -> int:
    """Do one of the four."""
    if args.what == "train":
        return train(args)
    if args.what == "time":
        measure_times(args)
    elif args.what == "report":
        data = join(args.out, args.most_ms)
        write_json(args.json, data)
        if args.picture is not None:
            picture(data, args.picture)
        print(table(data))
    else:
        print_or_write_between(args.page, BEGIN, END, table(json.loads(args.json.read_text(encoding="utf-8"))))
    return 0


def main() -> int:
    """Exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    return exit_code("pareto", lambda: run(arguments()))


if __name__ == "__main__":
    sys.exit(main())
