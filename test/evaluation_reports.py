"""Files of ``evaluate-bag`` and ``evaluate`` for tests."""

import json

import numpy as np

FRAMES = 200
ALL = tuple(range(FRAMES))


def bag_report(seed, mean_px, frames=ALL, truth="aa", landmarks=("center",), order=1):
    """Figures of evaluate-bag with one error a frame; ``order`` of -1 lists frames from the last one on."""
    noise = np.random.default_rng(seed).normal(0, 0.5, FRAMES)
    chosen = list(frames)[::order]
    part = {
        "frame": chosen,
        "slot": [0] * len(chosen),
        "error_px": [float(mean_px + noise[k]) for k in chosen],
        "box_px": [None] * len(chosen),
        "missed": [0] * len(chosen),
    }
    return {
        "kind": "evaluate-bag",
        "name": f"bag_{seed}",
        "truth_sha256": truth,
        "frames": FRAMES,
        "scored_landmarks": list(landmarks),
        "accuracy": {"landmark_error_px": {"median": mean_px, "p95": mean_px}, "kbb_0.15": None},
        "latency_ms": {"p95": 40.0 + seed, "max": None},
        "jitter": {"position_px": {"rms": 1.0}},
        "calibration": {"ece": 0.1},
        "details": {
            "stamp_ns": [10**18 + k * 40_000_000 for k in ALL],
            "answered": [int(k in frames) for k in ALL],
            "latency_ms": [20.0 if k in frames else None for k in ALL],
            "landmarks": dict.fromkeys(landmarks, part),
        },
    }


def dataset_report(error_px=5.0, details=True, **changes):
    errors = {"visible": 3, "absent": 0, "landmark_error_px": {"median": error_px}}
    part = {
        "frames": 3,
        "reference_size": None,
        "max_instruments": 2,
        "input_sha256": "cc",
        "landmarks": {"center": errors},
        "landmark_error_px": {"median": error_px, "p95": error_px},
        **changes,
    }
    if details:
        raw = {"frame": [0, 1, 2], "slot": [0] * 3, "error_px": [error_px] * 3, "box_px": [None] * 3, "missed": [0] * 3}
        part["details"] = {"landmarks": {"center": raw}, "dice": [0.5, 0.5, 0.5], "segmented_frame": [0, 1, 2]}
    return {"dataset": "synthetic", "sequences": {"s": part}}


def write(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")
    return path
