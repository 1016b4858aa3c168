"""Text and tables of the training presets in docs/training.md, from ``presets.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csl_tracker.reporting.table import markdown

_DEPARTURES = {
    "csl": "`modern`",
    "csl@sgd": "SGD with one rate of 1e-2 and `lambda_H` of 2e-3 instead of AdamW",
    "csl@weak": "the paper's augmentation instead of the strong one",
    "csl@constant": "a constant rate instead of warm-up and cosine",
    "csl@wide_start": "new layers normal with variance 0.01, the heads included",
    "csl@no_average": "the last step's weights instead of the averaged ones",
}


def text(runs: Sequence[dict[str, Any]]) -> str:
    """The presets in one budget, how `paper` was rescaled, and what the departures of `modern` bring; Markdown.

    Args:
        runs: Those of ``presets.json``.
    """
    found = {run["model"]: run for run in runs}
    assert len(found) == len(runs)
    rescaled = [found[model] for model in _RESCALED]
    first, least, others = found["csl@preset=modern"], rescaled[0], found["csl"]
    height, width = first["input_size"]
    figures = ("DICE", "all landmarks, mean / median px", "within 20 px")
    parts = list(first["sequences"].values())
    visible = sum(part["visible"] for part in parts)
    by_rate = []
    for run in sorted(rescaled, key=lambda run: (run["training"]["learning_rate"], run["training"]["heatmap_weight"])):
        training = run["training"]
        by_rate.append((f"{training['learning_rate']:g}", f"{training['heatmap_weight']:g}", *_means(run)))
    own = found["csl@p,r"]
    (tall, wide), rate, weight = (own["training"][key] for key in ("crop", "learning_rate", "heatmap_weight"))
    texts = [
        f"On the synthetic protocol, `csl`, input {height}x{width}, one seed; {first['steps']} steps of {first['batch_size']}"
        f" frames for each preset. Every figure of these tables is a mean over the {len(parts)} held-out test sequences, each"
        " counted once: of its DICE, its mean error, its median error, and its share within 20 px. They have"
        f" {visible} visible landmarks in {sum(part['frames'] for part in parts)} frames.",
        markdown(("preset", *figures), [(name, *_means(found[model])) for model, name in _PRESETS.items()]),
        "The paper's optimiser, initialisation and augmentation with other rates and `lambda_H`, the lite network,"
        f" {least['steps']} steps:",
        markdown(("rate", "`lambda_H`", *figures), by_rate),
        f"With a rate of {rate:g} and `lambda_H` {weight:.2g} the paper's own network (ResNet-50 and up-projections,"
        f" {own['initialisation']}), on {own['batch_size']} crops of {tall}x{wide} a step, does not explode: of {own['steps']}"
        f" steps the last loss on record is {own['training_loss']:.1f}. Whether"
        " it learns well with them was not measured.",
        f"`modern` with one departure from the paper taken back, {others['steps']} steps"
        f" (weights averaged with {others['training']['ema_decay']:g}):",
        markdown(("", *figures), [(name, *_means(found[model])) for model, name in _DEPARTURES.items()]),
    ]
    return "\n\n".join(texts)


_RESCALED = tuple(f"csl@{name}" for name in "abcdefghij")
"""Of ``config/recipe/presets.yaml``."""
_PRESETS = {
    "csl@preset=paper_literal": "`paper_literal`",
    "csl@paper_lite": "`paper` with a rate of 1e-2 and `lambda_H` 2e-3 (see the next table)",
    "csl@preset=modern": "`modern`",
}


def _means(run: dict[str, Any]) -> tuple[str, str, str]:
    """DICE, errors and the share within 20 px of a run, each a mean over its test sequences."""
    parts = list(run["sequences"].values())

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    errors = (mean([part["landmark_error_px"][key] for part in parts]) for key in ("mean", "median"))
    dice, within = (mean([part[key] for part in parts]) for key in ("dice", "threshold_score_20px"))
    return f"{dice:.3f}", " / ".join(f"{error:.1f}" for error in errors), f"{within:.3f}"
