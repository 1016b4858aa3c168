"""Do networks know the left clasper from the right one?

``python benchmark/left_right.py --weights A.safetensors B.safetensors --dataset endovis2015 --root DIR --json OUT.json``

At the true tips of every labelled instrument whose tips are far enough apart to be told from each other, the heatmap of each
clasper is read at its own tip and at the other's. A network that tells them apart is higher at the right one; one that does not
is right in half of the cases, with no difference worth the name.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.registry import open_dataset, select_landmarks
from csl_tracker.engines import create_engine
from csl_tracker.engines.base import EngineOutput
from csl_tracker.networks import STRIDE
from csl_tracker.output import write_json
from csl_tracker.pixels import Resize
from csl_tracker.provenance import machine, portable_command, sha256_of, versions
from csl_tracker.weights import load_weights

_APART_PX = 4.0
"""Least distance of the tips, px of the heatmap: nearer ones share a peak."""
_REACH_PX = 2
"""A map is read by its highest value within this many px."""


def _read(output: EngineOutput, landmark: int, point: FloatArray) -> float:
    assert output.heatmaps is not None
    column, row = np.rint(point).astype(int)
    near = output.heatmaps[
        landmark,
        max(0, row - _REACH_PX) : max(0, row + _REACH_PX + 1),
        max(0, column - _REACH_PX) : max(0, column + _REACH_PX + 1),
    ]
    return float(near.max()) if near.size else 0.0


def measure(weights: Path, dataset: str, root: Path, sequences: list[str] | None) -> dict[str, Any]:
    """Share of the instruments for which the maps are right, and how clearly."""
    model = load_weights(weights)
    engine = create_engine(model, "cpu")
    names = model.instruments.landmarks
    left, right = names.index("left_clasper"), names.index("right_clasper")
    found: dict[str, Any] = {}
    pooled: list[float] = []
    for sequence in open_dataset(dataset, root, sequences):
        margins: list[float] = []
        for sample in tqdm(select_landmarks(sequence, model.instruments), desc=sequence.name, leave=False, disable=None):
            output = None
            for points, known in zip(sample.landmarks, sample.visible, strict=True):
                if not (known[left] and known[right]):
                    continue
                source = (sample.image.shape[0], sample.image.shape[1])
                working = model.description.preprocessing.working_size(source)
                tips = Resize(source, (working[0] // STRIDE, working[1] // STRIDE)).points(points[[left, right]])
                if np.hypot(*(tips[0] - tips[1])) < _APART_PX:
                    continue
                output = engine.run(sample.image, False) if output is None else output
                own = _read(output, left, tips[0]) + _read(output, right, tips[1])
                margins.append((own - _read(output, left, tips[1]) - _read(output, right, tips[0])) / 2)
        pooled += margins
        found[sequence.name] = _figures(margins)
    return {"name": model.name, "sha256": model.sha256, "sequences": found, "all": _figures(pooled)}


def _figures(margins: list[float]) -> dict[str, Any]:
    if not margins:
        return {"instruments": 0, "correct": None, "margin": None}
    return {
        "instruments": len(margins),
        "correct": float(np.mean(np.array(margins) > 0)),
        "margin": float(np.mean(margins)),
    }


def main() -> None:
    """Measure all weights on the same frames and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    stems = [path.stem for path in args.weights]
    models = {}
    for path in args.weights:  # the runs of an experiment are all best.safetensors, and differ by the name inside
        found = measure(path, args.dataset, args.root, args.sequences)
        models[path.stem if stems.count(path.stem) == 1 else found["name"]] = found
    files = [path for sequence in open_dataset(args.dataset, args.root, args.sequences) for path in sequence.files]
    command = portable_command(sys.argv[1:]).removeprefix("csl-tracker ")
    write_json(
        args.json,
        {
            "command": f"{shlex.join(['python', 'benchmark/left_right.py'])} {command}",
            "machine": machine(),
            "versions": versions(),
            "dataset": args.dataset,
            "least_distance_px": _APART_PX,
            "models": models,
            "input_sha256": sha256_of(files),
        },
    )
    for name, report in models.items():
        print(name, report["all"])


if __name__ == "__main__":
    main()
