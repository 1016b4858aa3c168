"""Where do the landmarks of EndoVis 2015 lie on a Large Needle Driver?

``python benchmark/calibrate_landmarks.py DATA --model DVRK_MODEL --json docs/results/landmarks.json``

EndoVis 2015 has no camera calibration. The width of the shaft in the mask gives the scale, its taper gives the tilt, and the
joints give the bend of the wrist: :mod:`benchmark.landmark_fit` fits all views of the first half of Dataset1 at once. The ring
between tube and sleeve, which ``TrackedPoint`` marks, and the ends of the jaws are known from the mesh and fix the lengths.
``center`` is fitted to the midpoint of its two annotations, the pose file and ``TrackedPoint``, equally on both instruments.

The second half of Dataset1 and the sequences of ``--report`` are only measured: their views are posed with all positions fixed.
``unseen`` are the errors of a landmark that the pose was fitted without; across the shaft, ``head`` is then hardly determined.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmark.landmark_bundle import (
    POINTS,
    SHARED,
    Setup,
    Views,
    axial_images,
    default_shared,
    landmarks,
)
from benchmark.landmark_fit import Fit, fit, start_views
from benchmark.landmark_views import Border, Model, read_model, read_views
from csl_tracker.arrays import FloatArray
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, portable_command, sha256_of, versions

FIT_SEQUENCE = "Dataset1"
FIT_FRAMES = 185
"""Frames of ``FIT_SEQUENCE`` before this one are fitted."""
FITTED = ("shaft", "head", "tip", "tip_side")
OUTWARD = ("tracked_out", "pose_out", "shaft_out", "head_out")
CENTERS = ("tracked", "pose", "midpoint")
_BLOCK = 4
"""Annotated frames in a block of the bootstrap; they are five video frames apart."""
_REPEATS = 100
_REACH_MM = np.linspace(-20.0, 8.0, 113)


@dataclass(frozen=True)
class Half:
    """Views of one part of a sequence, and the borders of their masks."""

    views: Views
    borders: list[Border]

    def frames(self) -> list[int]:
        """Sorted frame numbers."""
        return sorted({int(frame) for frame in self.views.frame})


def solve(setup: Setup, views: Views) -> Fit:
    """Fit from several starts, twice: the second time with the positions of the first."""
    first = fit(setup, views, start_views(setup, views, setup.mean))
    return fit(setup, views, start_views(setup, views, first.shared))


def center_positions(setup: Setup, views: Views, found: Fit, out_mm: float) -> dict[str, FloatArray]:
    """Position along z of the roll link where each view puts each annotation of the centre, mm, (N,)."""
    along = _directions(found)[0]
    images = np.einsum("nki,ni->nk", axial_images(found.view, found.shared, setup, _REACH_MM, out_mm), along)
    tracked, pose = views.points[:, POINTS.index("tracked")], views.points[:, POINTS.index("pose")]
    result = {}
    for name, point in zip(CENTERS, (tracked, pose, (tracked + pose) / 2), strict=True):
        target = np.einsum("ni,ni->n", point, along)
        result[name] = np.array([np.interp(value, row, _REACH_MM) for value, row in zip(target, images, strict=True)])
    return result


def balanced(values: FloatArray, slot: FloatArray, weight: FloatArray | None = None) -> float:
    """Mean over the instruments of their weighted medians."""
    weights = np.ones(len(values)) if weight is None else weight
    medians = [_median(values[slot == k], weights[slot == k]) for k in np.unique(slot) if weights[slot == k].sum() > 0]
    return float(np.mean(medians))


def _median(values: FloatArray, weights: FloatArray) -> float:
    return float(np.median(np.repeat(values, np.rint(weights).astype(int))))


def positions(setup: Setup, views: Views, found: Fit, weight: FloatArray | None = None) -> dict[str, float]:
    """All fitted positions, mm."""
    values = dict(zip(SHARED, found.shared.tolist(), strict=True))
    result = {name: values[name] for name in FITTED}
    centers = center_positions(setup, views, found, values["tracked_out"])
    result |= {f"center_{name}": balanced(z, views.slot, weight) for name, z in centers.items()}
    return result | {"focal_px": float(np.exp(values["log_focal"]))}


def bootstrap(setup: Setup, views: Views, found: Fit, repeats: int = _REPEATS) -> dict[str, float]:
    """Standard deviations over resampled blocks of frames."""
    rng = np.random.default_rng(0)
    frames = np.unique(views.frame)
    blocks = np.searchsorted(frames, views.frame) // _BLOCK
    count = int(blocks.max()) + 1
    rows = []
    for _ in range(repeats):
        weight = np.bincount(rng.integers(0, count, count), minlength=count)[blocks].astype(float)
        rows.append(positions(setup, views, fit(setup, views, found, weight, rounds=30), weight))
    return {name: float(np.std([row[name] for row in rows], ddof=1)) for name in rows[0]}


def variants(setup: Setup, views: Views, found: Fit) -> dict[str, Any]:
    """The positions under other assumptions."""
    loose = setup.sigma.copy()
    loose[SHARED.index("tracked")], loose[SHARED.index("tip")] = 4.0, 1.0
    inner = setup.mean.copy()
    inner[[SHARED.index(name) for name in OUTWARD]] = 0.0
    changed: Mapping[str, Setup] = {
        "landmarks on the axis instead of the surface": replace(setup, mean=inner),
        "ring and jaw ends nearly free": replace(setup, sigma=loose),
        "pixels of a 4:3 picture": replace(setup, aspect=15 / 16),
        "radius of the sleeve, 4.2 mm": replace(setup, tool=replace(setup.tool, radius_mm=4.2)),
        "offset of the masks up to 30 px": replace(setup, shift_px=30.0),
    }
    result: dict[str, Any] = {}
    for name, other in changed.items():
        start = Fit(found.view, np.where(other.sigma > 0, found.shared, other.mean), found.cost)
        solved = fit(other, views, start)
        result[name] = {"cost": float(solved.cost.sum()), **positions(other, views, solved)}
    for slot in np.unique(views.slot):
        weight = (views.slot == slot).astype(float)
        solved = fit(setup, views, found, weight)
        result[f"instrument {slot} only"] = positions(setup, views, solved, weight)
    return result


def _directions(found: Fit) -> tuple[FloatArray, FloatArray]:
    angle = found.view[:, 2]
    return np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([-np.sin(angle), np.cos(angle)], -1)


def _figures(error: FloatArray, found: Fit, views: Views) -> dict[str, Any]:
    """Distance, and bias along and across the shaft, px: median of all views, and of each instrument."""
    along, across = (np.einsum("ni,ni->n", error, axis) for axis in _directions(found))
    result: dict[str, Any] = {
        "views": len(error),
        "median_px": float(np.nanmedian(np.hypot(*error.T))),
        "along_px": float(np.nanmedian(along)),
        "across_px": float(np.nanmedian(across)),
    }
    for slot in np.unique(views.slot):
        own = views.slot == slot
        result[f"instrument_{slot}"] = {
            "median_px": float(np.nanmedian(np.hypot(*error[own].T))),
            "along_px": float(np.nanmedian(along[own])),
            "across_px": float(np.nanmedian(across[own])),
        }
    return result


def evaluate(setup: Setup, part: Half, shared: FloatArray, center_mm: float) -> dict[str, Any]:
    """Residuals with fixed positions: after fitting the pose to all points, and of each point that the pose did not see."""
    fixed = replace(setup, sigma=np.zeros(len(SHARED)))
    views = part.views
    posed = start_views(setup, views, shared)
    own = views.points - landmarks(posed.view, shared, setup)
    fitted = {name: _figures(own[:, k], posed, views) for k, name in enumerate(POINTS)}
    unseen: dict[str, Any] = {}
    for name in ("shaft", "head", "tip_1", "tip_2"):
        blind = fit(fixed, views.without(name), posed)
        k = POINTS.index(name)
        unseen[name] = _figures(views.points[:, k] - landmarks(blind.view, shared, setup)[:, k], blind, views)
    blind = fit(fixed, views.without("tracked", "pose"), posed)
    at_center = shared.copy()
    at_center[SHARED.index("tracked")] = center_mm
    predicted = landmarks(blind.view, at_center, setup)[:, POINTS.index("tracked")]
    tracked, pose = views.points[:, POINTS.index("tracked")], views.points[:, POINTS.index("pose")]
    for name, point in zip(CENTERS, (tracked, pose, (tracked + pose) / 2), strict=True):
        unseen[f"center_{name}"] = _figures(point - predicted, blind, views)
    refit = fit(setup, views, posed)
    return {
        "frames": part.frames(),
        "annotations_apart_px": float(np.median(np.hypot(*(tracked - pose).T))),
        "fitted": fitted,
        "unseen": unseen,
        "border": borders(setup, part, posed, shared),
        "right_tip_on_the_right": _right_tips(views),
        "positions_if_fitted_here": positions(setup, views, refit),
    }


def borders(setup: Setup, part: Half, posed: Fit, shared: FloatArray) -> dict[str, Any]:
    """Border between shaft and manipulator in the masks along z of the roll link, mm, read on the axis and on the surface."""
    along, _ = _directions(posed)
    shift = posed.view[:, -2:]
    result: dict[str, Any] = {}
    for where, out in (("axis", 0.0), ("surface", setup.tool.radius_mm)):
        images = np.einsum("nki,ni->nk", axial_images(posed.view, shared, setup, _REACH_MM, out), along)
        rows = np.array(
            [
                np.interp(np.percentile((border.pixels - shift[n]) @ along[n], (2, 50, 98)), images[n], _REACH_MM)
                for n, border in enumerate(part.borders)
            ]
        )
        for slot in np.unique(part.views.slot):
            middle = np.median(rows[part.views.slot == slot], axis=0)
            result[f"instrument_{slot}_{where}"] = dict(zip(("slot_mm", "middle_mm", "ears_mm"), middle.tolist(), strict=True))
    return result


def _right_tips(views: Views) -> str:
    left, right = views.points[:, POINTS.index("tip_1")], views.points[:, POINTS.index("tip_2")]
    across = np.stack([-np.sin(views.direction), np.cos(views.direction)], -1)
    side = np.einsum("ni,ni->n", right - left, across)
    seen = np.isfinite(side)
    return f"{int((side[seen] > 0).sum())} of {int(seen.sum())}"


def calibrate(data: Path, model: Model, report: list[str]) -> tuple[dict[str, Any], list[Path]]:
    """The whole report, and the files read."""
    views, edges, files = read_views(data, FIT_SEQUENCE)
    read = [*model.files, *files]
    early = views.frame < FIT_FRAMES
    parts = {
        "fit": Half(views.select(early), [edges[k] for k in np.nonzero(early)[0]]),
        "held_out": Half(views.select(~early), [edges[k] for k in np.nonzero(~early)[0]]),
    }
    for name in report:
        others, more, files = read_views(data, name)
        parts[name] = Half(others, more)
        read += files
    setup, used = Setup(model.tool, *default_shared(model.tool)), parts["fit"].views
    found = solve(setup, used)
    values = positions(setup, used, found)
    deviations = bootstrap(setup, used, found)
    other = variants(setup, used, found)
    single = [row for name, row in other.items() if name.startswith("instrument")]
    z = center_positions(setup, used, found, setup.tool.radius_mm)
    fitted: dict[str, Any] = {}
    for name, value in values.items():
        each = [row[name] for row in single]
        if name.startswith("center_"):
            each = [_median(z[name[7:]][used.slot == k], np.ones(int((used.slot == k).sum()))) for k in np.unique(used.slot)]
        half = (max(each) - min(each)) / 2
        fitted[name] = {
            "value": value,
            "bootstrap_sd": deviations[name],
            "by_instrument": each,
            "spread": float(np.hypot(deviations[name], half)),
        }
    tool = {**vars(model.tool), "slot_mm": model.slot_mm}
    result = {
        "tool": tool,
        "cost": float(found.cost.sum()),
        "positions": fitted,
        "variants": other,
        "fitted_part": "fit",
        "parts": {name: evaluate(setup, part, found.shared, values["center_midpoint"]) for name, part in parts.items()},
    }
    return result, read


def main() -> None:
    """Calibrate and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of EndoVis 2015, robotic, with the joints of Du et al.")
    parser.add_argument("--model", type=Path, required=True, help="folder of dvrk_model with urdf/ and meshes/")
    parser.add_argument("--report", nargs="*", default=[], help="more sequences to measure, such as Dataset2 Dataset3")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    report, files = calibrate(args.data, read_model(args.model), args.report)
    command = portable_command(sys.argv[1:]).removeprefix("csl-tracker ")
    write_json(
        args.json,
        {
            "command": f"{shlex.join(['python', 'benchmark/calibrate_landmarks.py'])} {command}",
            "machine": machine(),
            "versions": versions(),
            **report,
            "input_sha256": sha256_of(files),
        },
    )
    for name, row in report["positions"].items():
        print(f"{name}: {row['value']:.2f} +- {row['spread']:.2f}")


if __name__ == "__main__":
    main()
