"""How well does stereo find instruments? ``python benchmark/stereo.py --json docs/results/stereo.json``.

``python benchmark/stereo.py --table docs/results/stereo.json`` prints the table of docs/dvrk.md instead.

Three rows on synthetic instruments of known depth before a rig like a da Vinci's endoscope: landmarks exact, landmarks with
noise of a known size, and the landmarks that the shipped network finds in rendered pairs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.synthetic.instrument import parts_and_landmarks, random_look
from csl_tracker.datasets.synthetic.stereo import (
    DEPTHS,
    StereoScene,
    as_result,
    endoscope_rig,
    lens_maps,
    project,
    random_placement,
)
from csl_tracker.instruments import ENDOVIS
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, versions
from csl_tracker.reporting.table import markdown
from csl_tracker.stereo.matching import Matches, MatchLimits, StereoInstrument
from csl_tracker.stereo.orientation import fit_axis
from csl_tracker.stereo.rig import StereoRig
from csl_tracker.tracker import Tracker
from csl_tracker.weights import default_weights

NAMES = ENDOVIS.landmarks
POSITION = "head"
AXIS = ("center", "shaft")
NOISE_PX = 0.5
FALSE_FROM = 0.05
"""Median distance of an instrument's landmarks from every true one, m, from which it is none of them."""


@dataclass
class Errors:
    """What is collected over the instruments of one row.

    Attributes:
        depth: Relative errors of the depth of all landmarks.
        head: Distances of the head from the truth, mm.
        ratio: Depth errors over what the geometry alone predicts for noise of ``NOISE_PX``.
        stated: Depth errors over the standard deviation that was propagated.
        nees: Squared errors of positions in units of their covariances; 3 on average where these tell the truth.
        angles: Between the fitted and the true shaft, degrees.
        instruments: Of the truth.
        found: Of them.
        false: Reported, but not there, or a second time.
        landmarks: Triangulated.
        rejected: By reason.
    """

    depth: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    stated: list[float] = field(default_factory=list)
    nees: list[float] = field(default_factory=list)
    angles: list[float] = field(default_factory=list)
    instruments: int = 0
    found: int = 0
    false: int = 0
    landmarks: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, rig: StereoRig, matches: Matches, truth: FloatArray) -> None:
        """Take the outcome of one pair of images.

        Args:
            rig: The cameras.
            matches: What was found.
            truth: (instruments, landmarks, 3), m.
        """
        self.instruments += len(truth)
        self.rejected += matches.rejected
        # An instrument is measured against the nearest true one: which is which is the tracker's business.
        gaps = sorted(
            (float(np.median(np.linalg.norm(found.positions - _of(found, one), axis=1))), k, m)
            for k, found in enumerate(matches.instruments)
            for m, one in enumerate(truth)
        )
        partners: dict[int, int] = {}
        for gap, k, m in gaps:
            if gap < FALSE_FROM and k not in partners and m not in partners.values():
                partners[k] = m
        self.false += len(matches.instruments) - len(partners)
        for k, m in partners.items():
            self._add(rig, matches.instruments[k], truth[m])

    def _add(self, rig: StereoRig, found: StereoInstrument, truth: FloatArray) -> None:
        self.found += 1
        self.landmarks += len(found.names)
        true = _of(found, truth)
        error = found.positions - true
        self.depth += (np.abs(error[:, 2]) / true[:, 2]).tolist()
        geometry_alone = true[:, 2] ** 2 / (rig.left.k[0, 0] * rig.geometry.baseline) * np.sqrt(2.0) * NOISE_PX
        self.ratio += (error[:, 2] / geometry_alone).tolist()
        self.stated += (error[:, 2] / np.sqrt(found.covariances[:, 2, 2])).tolist()
        self.nees += np.einsum("ni,nij,nj->n", error, np.linalg.inv(found.covariances), error).tolist()
        if POSITION in found.names:
            self.head.append(1e3 * float(np.linalg.norm(error[found.names.index(POSITION)])))
        positions, covariances = found.select(AXIS)
        axis = fit_axis(positions, covariances) if len(positions) == len(AXIS) else None
        if axis is not None:
            ends = truth[[NAMES.index(AXIS[0]), NAMES.index(AXIS[-1])]]
            along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
            self.angles.append(float(np.degrees(np.arccos(np.clip(axis.direction @ along, -1.0, 1.0)))))

    def row(self) -> dict[str, Any]:
        """The figures."""
        return {
            "instruments": self.instruments,
            "found": self.found,
            "false": self.false,
            "landmarks": self.landmarks,
            "rejected": dict(sorted((+self.rejected).items())),
            "depth_error": _quantiles(self.depth),
            "head_error_mm": _quantiles(self.head),
            "shaft_angle_error_deg": _quantiles(self.angles),
        }


def _of(found: StereoInstrument, truth: FloatArray) -> FloatArray:
    return truth[[NAMES.index(name) for name in found.names]]


def _quantiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": float(np.median(values)), "p90": float(np.quantile(values, 0.9)), "max": float(np.max(values))}


def drawn_landmarks(rig: StereoRig, count: int, seed: int, sigma_px: float, limits: MatchLimits) -> Errors:
    """Rows without images: single instruments anywhere in the working volume, their landmarks exact or noisy."""
    rng = np.random.default_rng(seed)
    errors = Errors()
    look = random_look(rng)
    size = (rig.left.height, rig.left.width)
    for _ in tqdm(range(count), desc=f"landmarks, {sigma_px:g} px", unit="pair", leave=False):
        place = random_placement(rng, rig)
        truth = place.positions(parts_and_landmarks(place.shape, look, place.pose)[1])[None]
        sides = [points + sigma_px * rng.standard_normal(points.shape) for points in project(rig, truth)]
        left, right = (as_result(points, size, sigma_px) for points in sides)
        errors.add(rig, rig.locate(left, right, limits), truth)
    return errors


def rendered(
    rig: StereoRig, count: int, seed: int, limits: MatchLimits, weights: Path
) -> tuple[Errors, list[float], dict[str, str]]:
    """The row with images: the network on rendered pairs, one or two instruments in each.

    Returns:
        The errors, the landmarks' errors in px, and what found them.
    """
    trackers = [Tracker.from_weights(weights) for _ in range(2)]
    errors = Errors()
    lenses = lens_maps(rig)
    pixels: list[float] = []
    for index in tqdm(range(count), desc="rendered pairs", unit="pair", leave=False):
        sides = ("left", "right") if index % 2 else (("left", "right", "bottom", "top")[index // 2 % 4],)
        frame = StereoScene(seed + index, rig, sides, lenses).render_pair()
        results = [tracker.track(image, index * 10.0, False) for tracker, image in zip(trackers, frame.images, strict=True)]
        for result, truth in zip(results, frame.landmarks, strict=True):
            for found in result.instruments:
                points = np.array([(m.x, m.y) if m.visible else (np.nan, np.nan) for m in found.landmarks])
                gaps = np.linalg.norm(points - truth, axis=2)
                best = min(range(len(truth)), key=lambda k, g=gaps: np.inf if np.isnan(g[k]).all() else np.nanmedian(g[k]))
                pixels += gaps[best][np.isfinite(gaps[best])].tolist()
        errors.add(rig, rig.locate(*results, limits), frame.positions)
    tracker = trackers[0]
    model = f"{tracker.model.name}@{tracker.model.short_hash}"
    return errors, pixels, {"model": model, "engine": f"{tracker.engine_name} on {tracker.device}"}


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share else "below 0.0001 %"  # the file has six decimals


def table(report: Mapping[str, Any]) -> str:
    """The table of docs/dvrk.md."""
    head_error = "`head` mm, median / p90"
    columns = ("", "found", "false", "landmarks", "depth, median / p90", head_error, "shaft, median", "error over stated")
    rows = []
    for name, row in report["rows"].items():
        depth, head, angle = row["depth_error"], row["head_error_mm"], row["shaft_angle_error_deg"]
        consistency = "not applicable"
        if "depth_rms_over_stated" in row:
            consistency = (
                f"depth: RMS {row['depth_rms_over_stated']:.3f} of the stated, {row['depth_rms_over_geometry']:.3f} of the"
                f" formula's; NEES {row['nees_mean']:.2f} (3 expected)"
            )
        elif row.get("nees_median") is not None:
            consistency = f"NEES, median {row['nees_median']:.1f} ({row['nees_median_expected']:.2f} expected)"
        rows.append(
            (
                name,
                f"{row['found']} of {row['instruments']}",
                row["false"],
                row["landmarks"],
                f"{_percent(depth['median'])} / {_percent(depth['p90'])}",
                f"{head['median']:.2g} / {head['p90']:.2g}",
                f"{angle['median']:.2g}°",
                consistency,
            )
        )
    return markdown(columns, rows) + "\n"


def main() -> None:
    """Make the three rows and write them, or print the table of those that were written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instruments", type=int, default=5000, help="of each row without images")
    parser.add_argument("--pairs", type=int, default=100, help="rendered pairs")
    parser.add_argument("--seed", type=int, default=910_000, help="far from the seeds of the training")
    parser.add_argument("--weights", type=Path, help="the shipped ones when not given")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--json", type=Path, help="where to write the figures")
    target.add_argument("--table", type=Path, help="a file of figures to print as a table")
    args = parser.parse_args()
    if args.table is not None:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))), end="")
        return
    weights = args.weights or default_weights()
    rig = endoscope_rig()
    exact = drawn_landmarks(rig, args.instruments, args.seed, 0.0, MatchLimits(pixel_noise=0.1))
    noisy = drawn_landmarks(rig, args.instruments, args.seed + 1, NOISE_PX, MatchLimits(pixel_noise=0.0))
    limits = MatchLimits()
    network, pixels, tracker = rendered(rig, args.pairs, args.seed, limits, weights)
    report = {
        "command": shlex.join(["python", "benchmark/stereo.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "seed": args.seed,
        "rig": {
            "size": [rig.left.width, rig.left.height],
            "focal_px": [float(rig.left.k[0, 0]), float(rig.right.k[0, 0])],
            "rectified_focal_px": list(rig.geometry.focal),
            "baseline_m": rig.geometry.baseline,
            "distortion": [rig.left.d.ravel().tolist(), rig.right.d.ravel().tolist()],
            "depths_of_the_shafts_end_m": list(DEPTHS),
        },
        "rows": {
            "exact landmarks": exact.row(),
            f"landmarks with {NOISE_PX:g} px noise": {
                **noisy.row(),
                "depth_rms_over_geometry": float(np.sqrt(np.mean(np.square(noisy.ratio)))),
                "depth_rms_over_stated": float(np.sqrt(np.mean(np.square(noisy.stated)))),
                "nees_mean": float(np.mean(noisy.nees)),
                "nees_expected": 3.0,
            },
            "the network on rendered pairs": {
                **network.row(),
                **tracker,
                "limits": asdict(limits),
                "landmark_error_px": _quantiles(pixels),
                "nees_median": float(np.median(network.nees)) if network.nees else None,
                "nees_median_expected": 2.366,
            },
        },
    }
    write_json(args.json, report)
    for name, row in report["rows"].items():
        print(f"{name}: {row['found']} of {row['instruments']} found, depth error {row['depth_error']}")


if __name__ == "__main__":
    main()
