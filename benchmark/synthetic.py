"""How fast are synthetic frames made? ``python benchmark/synthetic.py --json docs/results/synthetic_speed.json``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import statistics
import sys
import time
from pathlib import Path

import cv2

from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.provenance import machine, versions

SIZE = (256, 320)


def _render(seed: int) -> None:
    cv2.setNumThreads(0)
    render_frame(seed, SIZE)


def main() -> None:
    """Render in as many processes as asked for, several times, and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--frames", type=int, default=400, help="frames of one run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rates = []
    with multiprocessing.Pool(args.processes) as pool:
        pool.map(_render, range(4 * args.processes))
        for run in range(args.runs):
            start = time.perf_counter()
            pool.map(_render, range(run * args.frames, (run + 1) * args.frames), chunksize=8)
            rates.append(args.frames / (time.perf_counter() - start))
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": versions(),
        "size": SIZE,
        "processes": args.processes,
        "frames": args.frames,
        "frames_per_second": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{statistics.median(rates):.1f} frames a second (median of {args.runs} runs)")


if __name__ == "__main__":
    main()
