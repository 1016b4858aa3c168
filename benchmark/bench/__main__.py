"""``make bench``: the tracker node and its peers on the same frames and cores; docs/benchmark.md says how and what.

    make bench                                       # everything, about half an hour; a quiet machine, please
    make bench BENCH_ARGS="--quick"                  # some minutes, to see that it works
    make bench BENCH_ARGS="--bag your.mcap --weights your.safetensors"

What is finished is kept in OUT/parts: the same command goes on after Ctrl-C or a kill, and measures nothing twice.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.bench import dds, figures, forward, peers, plots, tables
from benchmark.bench.ending import exit_code
from csl_tracker.bags.frame_writer import sequence_frames, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.cli.main import main as csl_tracker_main
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.errors import ConfigError
from csl_tracker.messages.images import message_to_rgb
from csl_tracker.output import write_between, write_json, write_text
from csl_tracker.pixels import Size
from csl_tracker.provenance import machine, portable, versions
from csl_tracker.weights import Model, default_weights, load_weights, save_weights

SIZES: tuple[Size, ...] = ((576, 720), (1080, 1920))
SEED, PICTURES = 60_000, 24
HIGHEST_HZ = 120.0
BEGIN, END = "<!-- benchmark: benchmark/bench -->", "<!-- end of benchmark -->"
SLOWER = 4  # networks that take hundreds of ms see a share of the images
OURS, PLAIN = "csl_tracker", "plain node (eager torch, queue of 10)"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("output/bench"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--bag", type=Path, help="images to play (default: synthetic ones of 576x720 and of 1080x1920)")
    parser.add_argument("--topic", help="of the images in the bag (the only one)")
    parser.add_argument("--weights", type=Path, help="of the tracker (default: the package's own)")
    parser.add_argument(
        "--engine", default="auto", help="auto, openvino, onnx or torch, for all but the plain node (%(default)s)"
    )
    parser.add_argument("--frames", type=int, default=1000, metavar="N", help="of each run (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each combination (%(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=[30.0, 60.0], metavar="HZ", help="(30 60)")
    parser.add_argument("--trials", type=int, default=7, metavar="N", help="of the search for the peak rate (%(default)s)")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="of the networks in turn (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few images and one run: not for publication")
    parser.add_argument("--only", choices=("ours", "nodes", "networks"), help="the tracker node, all nodes, or networks alone")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished")
    parser.add_argument("--table", action="store_true", help="only write tables and pictures of what is finished")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables into this page, too, between its marks")
    args = parser.parse_args(argv)
    if args.quick:
        args.frames, args.runs, args.rounds = min(args.frames, 90), 1, 3
    if args.frames < 30 or min(args.runs, args.rounds, args.trials) < 1 or min(args.rates) <= 0:
        raise ConfigError("Give --frames of 30 or more, --runs, --rounds and --trials of 1 or more, and --rates above 0.")
    if args.bag is not None and not args.bag.exists():
        raise ConfigError(f"The bag {args.bag} does not exist; give the path of a recording with --bag.")
    return args


class Parts:
    """Finished measurements in a folder, each with the settings that it holds for."""

    def __init__(self, folder: Path, common: Mapping[str, Any], fresh: bool, only_read: bool) -> None:
        self._folder = folder
        self._common = dict(common)
        self._fresh = fresh
        self._only_read = only_read

    def get(self, name: str, settings: Mapping[str, Any], measure: Callable[[], Any]) -> Any:
        """A finished measurement, or a new one; None where it is not finished and nothing is to be measured."""
        path = self._folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
        key = json.loads(json.dumps({**self._common, **settings}))
        if path.is_file() and not self._fresh:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["settings"] == key:
                return found["result"]
        if self._only_read:
            return None
        write_json(path, {"settings": key, "result": measure()})
        return json.loads(path.read_text(encoding="utf-8"))["result"]  # rounded, as it will be found the next time


def synthetic_bag(folder: Path, size: Size) -> Path:
    """A bag of synthetic frames, made where it is missing."""
    path = folder / f"synthetic_{size[0]}x{size[1]}.mcap"
    if not path.is_file():
        write_frames(path, sequence_frames(SyntheticSequence(SEED, PICTURES, size=size)), PICTURES)
    return path


def export(weights: Path, engine: str, size: Size, cache: Path) -> None:
    """Put a network into a cache, as one does on a machine whose nodes are to start fast."""
    if engine == "torch":
        return
    before, os.environ["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME"), str(cache)
    try:
        wanted = "openvino" if engine == "auto" else engine
        given = ["export", str(weights), "--engine", wanted, "--size", f"{size[0]}x{size[1]}", "--count", "2"]
        if csl_tracker_main(given) != 0:
            raise ConfigError(f"The network {weights} could not be exported for {wanted}; --engine torch does without.")
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


@dataclass(frozen=True)
class Case:
    """A node with the images that it is shown.

    Attributes:
        subject: The node.
        bag: The images.
        size: (height, width) of the images, px.
        digest: Their hash.
        frames: How many are shown in a run.
        segmentation: Someone subscribes to the label maps.
    """

    subject: dds.Subject
    bag: Path
    size: Size
    digest: str
    frames: int
    segmentation: bool


def cases(args: argparse.Namespace, weights: Path, bags: Sequence[tuple[Path, Size, str]]) -> list[Case]:
    """Everything that is measured over DDS; the peers see the images of the first bag alone."""
    found: list[Case] = []
    slow = max(30, args.frames // SLOWER)
    for number, (bag, size, digest) in enumerate(bags):
        common = {"device": "cpu" if machine()["gpu"] is None else "auto", "warm_up_height": size[0], "warm_up_width": size[1]}

        def tracker(name: str, file: Path, rates: Sequence[float], common: Mapping[str, Any] = common) -> dds.Subject:
            parameters = {"weights": str(file.resolve()), "engine": args.engine, **common}
            return dds.Subject(name, "benchmark.bench.timed_tracker", parameters, tuple(rates), timed=True)

        ours = tracker(OURS, weights, args.rates)
        found += [Case(ours, bag, size, digest, args.frames, segmentation) for segmentation in (False, True)]
        if number or args.only == "ours":
            continue
        plain = dds.Subject(PLAIN, "benchmark.bench.plain_node", {"weights": str(weights)}, tuple(args.rates))
        found.append(Case(plain, bag, size, digest, args.frames, segmentation=False))
        for peer in peers.peers(load_weights(weights)):
            if not peer.of_the_package:
                continue  # a node takes weights files, and these know the package's networks
            model = peers.random_model(peer)
            path = args.out / "weights" / f"{model.sha256[:8]}.safetensors"
            if not path.is_file():
                save_weights(path, model.network, model.description, half=True)
            other = tracker(f"{OURS} with {peer.name}", path, args.rates[:1])
            found.append(Case(other, bag, size, digest, slow, segmentation=False))
    return found


def one_run(case: Case, args: argparse.Namespace, peak: bool) -> dict[str, Any]:
    """Start a node and measure it at all its rates, and where wanted its peak rate."""
    subject, times = case.subject, args.out.resolve() / "times.json"
    what = f"{subject.name}{' + segmentation' if case.segmentation else ''}"
    times.unlink(missing_ok=True)
    cache = args.out.resolve() / "cache"
    with dds.session(subject, case.bag, args.topic, case.segmentation, cache, times) as session:
        found = [session.measure(rate, case.frames, f"{what}, {rate:g} Hz") for rate in subject.rates_hz]
        best = session.peak_rate(max(30, case.frames // 4), HIGHEST_HZ, args.trials, what) if peak else None
        session.stop()
    for at in found:
        at["inside"] = dds.doors(times, at.pop("stamps"))
    times.unlink(missing_ok=True)
    return {"first_pose_s": session.first_pose_s, "rates": found, "peak": best}


def cold_start(case: Case, args: argparse.Namespace) -> float:
    """From the start of a node to its first poses where no network is exported, s."""
    out = args.out.resolve()
    with dds.session(case.subject, case.bag, args.topic, False, out / "no_cache", out / "times.json") as session:
        return session.first_pose_s


def joined(case: Case, runs: Sequence[Mapping[str, Any]], cold: float | None) -> dict[str, Any]:
    """The runs of a node as one: percentiles over the images of all runs, the rest of the run with the median latency."""
    rates = []
    for index, rate in enumerate(case.subject.rates_hz):
        found = [run["rates"][index] for run in runs]
        answered = [value for at in found for value in at["latencies_ms"] if value is not None]
        typical = sorted(found, key=lambda at: at["latency_ms"]["p50"] if at["latency_ms"] else math.inf)[len(found) // 2]
        rates.append(
            {
                "rate_hz": rate,
                "frames": sum(at["frames"] for at in found),
                "dropped": sum(at["dropped"] for at in found),
                "latency_ms": figures.spread(answered) if answered else None,
                "p50_of_runs_ms": [at["latency_ms"]["p50"] if at["latency_ms"] else None for at in found],
                **{key: typical[key] for key in ("processing_ms", "inside", "cpu_share_of_a_core", "memory_mb", "played_hz")},
            }
        )
    loads = [at["gpu_load"] for run in runs for at in run["rates"] if at["gpu_load"] is not None]
    return {
        "name": case.subject.name,
        "image_size": list(case.size),
        "segmentation": case.segmentation,
        "runs": len(runs),
        "rates": rates,
        "peak": next((run["peak"] for run in runs if run["peak"]), None),
        "first_pose_s": sorted(run["first_pose_s"] for run in runs)[len(runs) // 2],
        "cold_first_pose_s": cold,
        "gpu_load": max(loads) if loads else None,
    }


def measure_nodes(
    args: argparse.Namespace, plan: Sequence[Case], parts: Parts
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """All nodes; runs of different nodes take turns, so that none has the quiet hour for itself.

    Returns:
        The joined figures, and the latencies of each at its first rate by title.
    """
    runs: dict[int, list[Any]] = {index: [] for index in range(len(plan))}
    for run in range(args.runs):
        for index, case in enumerate(plan):
            subject, size = case.subject, "x".join(map(str, case.size))
            name = f"{subject.name} {size} {'map' if case.segmentation else 'poses'} run {run}"
            settings = {
                "bag": case.digest,
                "rates": subject.rates_hz,
                "frames": case.frames,
                "trials": args.trials,
                "engine": args.engine,
            }
            if not args.table:
                tqdm.write(f"{run * len(plan) + index + 1} of {args.runs * len(plan)}: {name}")
            found = parts.get(name, settings, functools.partial(one_run, case, args, peak=run == 0))
            if found is not None:
                runs[index].append(found)
    groups, raw = [], {}
    for index, case in enumerate(plan):
        if not runs[index]:
            continue
        cold = None
        if case.subject.name == OURS and not case.segmentation:
            name = f"cold {case.size[0]}x{case.size[1]}"
            cold = parts.get(name, {"bag": case.digest, "engine": args.engine}, functools.partial(cold_start, case, args))
        group = joined(case, runs[index], cold)
        groups.append(group)
        raw[plots.title(group)] = [v for run in runs[index] for v in run["rates"][0]["latencies_ms"] if v is not None]
    return groups, raw


def measure_networks(args: argparse.Namespace, ours: Model, bag: Path, digest: str, parts: Parts) -> Any:
    """The networks in turn, on the images of a bag."""

    def measure() -> Any:
        with BagReader(bag) as reader:
            topic = reader.image_topic(args.topic)
            images = [message_to_rgb(reader.deserialize(message)) for message in reader.messages([topic])][:8]
        models = [(ours.name, ours, True)]
        models += [(peer.name, peers.random_model(peer), peer.own_size) for peer in peers.peers(ours)]
        return forward.measure(models, images, args.engine, args.rounds)

    return parts.get("networks", {"bag": digest, "rounds": args.rounds, "engine": args.engine}, measure)


def open_bags(args: argparse.Namespace) -> list[tuple[Path, Size, str]]:
    """The images: bag, (height, width) and hash."""
    paths = [args.bag] if args.bag is not None else [synthetic_bag(args.out, size) for size in SIZES]
    found = []
    for path in paths:
        with BagReader(path) as bag:
            topic = bag.image_topic(args.topic)
            first = next(bag.messages([topic]), None)
            if first is None:
                raise ConfigError(f"The bag {path} holds no images on {topic}; record some, or choose another with --topic.")
            height, width = message_to_rgb(bag.deserialize(first)).shape[:2]
            digest = hashlib.sha256()
            for message in bag.messages([topic]):
                digest.update(message.data)
        found.append((path.resolve(), (height, width), digest.hexdigest()))
    return found


def run(args: argparse.Namespace) -> int:
    """Measure, join, and write tables and pictures."""
    if args.table and not (args.out / "bench.json").is_file():
        raise ConfigError(f"Nothing is finished in {args.out}; run without --table first.")
    args.out.mkdir(parents=True, exist_ok=True)
    weights = (args.weights or default_weights()).resolve()
    ours = load_weights(weights)
    bags = open_bags(args)
    about = {"machine": machine(), "versions": versions(), "weights": ours.sha256}
    parts = Parts(args.out / "parts", about, args.fresh, args.table)
    began = parts.get("load", {}, lambda: float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0]))
    groups: list[dict[str, Any]] = []
    raw: dict[str, list[float]] = {}
    if args.only != "networks":
        if not args.table:
            for _, size, _ in bags:
                export(weights, args.engine, size, args.out.resolve() / "cache")
        groups, raw = measure_nodes(args, cases(args, weights, bags), parts)
    rows = [] if args.only in ("ours", "nodes") else measure_networks(args, ours, bags[0][0], bags[0][2], parts) or []
    if not args.table:
        report = {
            "command": shlex.join(["python", "-m", "benchmark.bench", *(str(portable(word)) for word in sys.argv[1:])]),
            **about,
            "engine": args.engine,
            "load_before": began,
            "images": f"{PICTURES} synthetic ones of each size, seed {SEED}" if args.bag is None else args.bag.name,
            "images_sha256": {"x".join(map(str, size)): digest for _, size, digest in bags},
            "nodes": groups,
            "networks": rows,
        }
        write_json(args.out / "bench.json", report)
    report = json.loads((args.out / "bench.json").read_text(encoding="utf-8"))
    accuracy = args.out / "accuracy.json"
    page = tables.page(report, json.loads(accuracy.read_text(encoding="utf-8")) if accuracy.is_file() else None)
    write_text(args.out / "README.md", page + "\n")
    if args.page is not None:
        write_between(args.page, BEGIN, END, page)
    if groups:
        plots.latency(groups, raw, args.out / "latency")
        plots.drops(groups, args.out / "drops")
    if rows:
        plots.networks(rows, args.out / "networks")
    print(page)
    print(f"\nwrote {args.out / 'bench.json'}, README.md and the pictures beside it")
    return 0


def main() -> int:
    """Exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    return exit_code("bench", lambda: run(arguments()))


if __name__ == "__main__":
    sys.exit(main())
