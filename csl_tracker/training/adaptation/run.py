"""An adaptation from the first frame to the gate; the same call goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from csl_tracker.arrays import Image
from csl_tracker.datasets.json_file import load_json
from csl_tracker.drawing import draw_overlay
from csl_tracker.errors import ConfigError, CslTrackerError
from csl_tracker.evaluation.robustness import CLEAN, chosen_frames
from csl_tracker.evaluation.robustness import measure as measure_labels
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, sha256_of, versions
from csl_tracker.tracker import Tracker
from csl_tracker.training.adaptation.clips import evenly, read_frames
from csl_tracker.training.adaptation.empties import write_empty_frames
from csl_tracker.training.adaptation.gate import Figures, measure, objection
from csl_tracker.training.adaptation.plan import (
    EMPTY_FRAMES,
    LEAST_KEPT,
    TRAINING_SEED,
    AdaptSettings,
    Inputs,
    Labelled,
    training_config,
)
from csl_tracker.training.adaptation.pseudo_labels import PseudoLabels, read_or_make, saw_nothing, sequence_names
from csl_tracker.training.curve import read_curve
from csl_tracker.training.disk import disk_errors
from csl_tracker.weights import load_weights, save_weights
from csl_tracker.weights_checks import read_tensor_file

RECORD = "adapt.json"
"""File of settings and figures."""
LABEL_FRAMES = 60
"""Frames of each labelled sequence that are measured, evenly spaced."""
VIDEO_FRAMES = 100
"""Frames of the videos on which the old weights saw nothing that the gate looks at."""
PICTURES = 8
"""Frames shown before and after."""
SAME = (
    "weights_sha256",
    "videos_sha256",
    "bank_shards",
    "name",
    "frames",
    "steps",
    "held_out",
    "max_instruments",
    "batch_size",
    "seed",
    "labels",
    "engine",
    "precision",
)
"""Facts that must not change between calls for the same output folder."""


class RefusedError(CslTrackerError):
    """The new weights were not written, since they could do harm."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame before and after.

    Attributes:
        video: Name of the video.
        frame: Index in the video.
        time_s: Time since its start, s.
        outcome: What the checks said.
        before: uint8 (H, W, 3), RGB, with the overlay of the old weights.
        after: The same with the new weights; None if none were trained.
    """

    video: str
    frame: int
    time_s: float
    outcome: str
    before: Image
    after: Image | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of an adaptation.

    Attributes:
        record: Content of ``adapt.json``.
        pseudo_labels: What became of the frames.
        shown: Frames before and after.
        refusal: Why no weights were written, as a sentence; empty if they were.
        weights: The new weights; they exist unless there is a refusal.
    """

    record: Mapping[str, Any]
    pseudo_labels: PseudoLabels
    shown: tuple[Shown, ...]
    refusal: str
    weights: Path


def adapt(settings: AdaptSettings, inputs: Inputs, command: str) -> Outcome:
    """Adapt weights to videos.

    Args:
        settings: The settings.
        inputs: Result of :func:`csl_tracker.training.adaptation.plan.open_inputs`.
        command: The command line, for the provenance.

    Returns:
        The outcome; the new weights are in place unless it has a refusal.

    Raises:
        ConfigError: The output folder belongs to another run, or the training diverged.
        DatasetError: A video cannot be decoded, or the disk is full.
    """
    record = _record(settings, inputs, command)
    old = settings.tracker(settings.weights)
    write_json(settings.out / RECORD, record)
    folder, out = settings.out / "pseudo_labels", settings.out / inputs.file_name
    made = read_or_make(inputs.readers, old, folder, settings.frames, LEAST_KEPT)
    record["pseudo_labels"] = {reason.value: count for reason, count in made.counts.items()}
    if made.kept < LEAST_KEPT:
        refusal = (
            f"Only {made.kept} of {len(made.records)} frames show an instrument that passes the checks and {LEAST_KEPT} are"
            " needed, so nothing was learned and no weights were written; give videos that show instruments, or more of them."
        )
        return _finish(settings, record, made, _shown(inputs, made, old, None), refusal, out)
    nothing = {video: saw_nothing(made, video, VIDEO_FRAMES) for video in range(len(inputs.readers))}
    if "before" not in record:
        record["before"] = measure(old, inputs.held_out, inputs.readers, nothing, "old weights").to_dict()
        record["labels_before"] = _measure_labels(settings, inputs, settings.weights)
        write_json(settings.out / RECORD, record)
    candidate = _train(settings, inputs, folder, command)
    try:
        new = settings.tracker(candidate)
        after = measure(new, inputs.held_out, inputs.readers, nothing, "new weights")
        record |= {"after": after.to_dict(), "labels_after": _measure_labels(settings, inputs, candidate)}
        record["loss"] = read_curve(candidate.parent / "tensorboard")
        reason = objection(Figures(**record["before"]), after)
        shown = _shown(inputs, made, old, new)
        if reason is None:
            _save(settings, inputs, candidate, out, record)
    finally:
        for path in candidate.parent.glob("*.safetensors"):
            path.unlink()  # what was not accepted must not be used by mistake
    refusal = "" if reason is None else _sentence(reason)
    return _finish(settings, record, made, shown, refusal, out)


def _sentence(reason: str) -> str:
    return f"The new weights were not written: {reason}; use the old weights, or give other videos."


def _record(settings: AdaptSettings, inputs: Inputs, command: str) -> dict[str, Any]:
    """Content of ``adapt.json``, with the figures of an earlier call.

    Raises:
        ConfigError: The output folder belongs to another run.
    """
    bank = inputs.held_out.bank
    facts: dict[str, Any] = {
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "weights": inputs.model.label,
        "weights_sha256": inputs.model.sha256,
        "videos": sequence_names(settings.videos),
        "videos_sha256": [sha256_of(reader.files) for reader in inputs.readers],
        "bank_shards": None if bank is None else dict(sorted(bank.hashes.items())),
        "held_out_families": list(inputs.held_out.families),
        "name": inputs.name,
        **{key: getattr(settings, key) for key in SAME if hasattr(settings, key) and key not in ("name", "labels")},
        "labels": [f"{entry.dataset} {_digest(entry)}" for entry in inputs.labelled],
    }
    folder, path = settings.out, settings.out / RECORD
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"The output {folder} exists and is no adaptation; remove it, or give another folder as --out.")
        return facts
    before = load_json(path, "The record of the adaptation")
    if not isinstance(before, dict):
        raise ConfigError(f"{path} is no record of an adaptation; give another folder as --out.")
    for key in SAME:
        if before.get(key) != facts[key]:
            raise ConfigError(
                f"{path} was made with {key} {before.get(key)} and not with {facts[key]}; give another folder as --out."
            )
    return {**facts, **{key: before[key] for key in ("before", "labels_before") if key in before and "before" in before}}


def _digest(entry: Labelled) -> str:
    return sha256_of(path for sequence in entry.sequences for path in sequence.files)[:16]


def _measure_labels(settings: AdaptSettings, inputs: Inputs, weights: Path) -> list[dict[str, Any]]:
    """Figures of evenly spaced frames of each labelled sequence."""
    rows = []
    videos = {path.resolve() for path in settings.videos}
    for entry in inputs.labelled:
        for sequence in entry.sequences:
            tracker = settings.tracker(weights, len(sequence.slots), always_report=True)
            found = measure_labels(tracker, sequence, chosen_frames(sequence, LABEL_FRAMES), CLEAN, entry.matching)
            learned = bool(videos & {path.resolve() for path in sequence.files})
            rows.append({"dataset": entry.dataset, "sequence": sequence.name, "of_the_videos": learned, **found})
    return rows


def _train(settings: AdaptSettings, inputs: Inputs, pseudo_labels: Path, command: str) -> Path:
    from csl_tracker.training.run import train  # imports lightning

    folder, empty = settings.out / "train", settings.out / "empty_frames"
    if settings.bank is None:
        count = min(EMPTY_FRAMES, settings.frames)
        write_empty_frames(empty, count, inputs.held_out.size, TRAINING_SEED, inputs.model.instruments)
    with disk_errors(folder):
        return train(training_config(settings, inputs, pseudo_labels, empty, folder), command)


def _save(settings: AdaptSettings, inputs: Inputs, candidate: Path, out: Path, record: Mapping[str, Any]) -> None:
    """Write the accepted weights, with the threshold and the number format of the old ones."""
    model = load_weights(candidate)
    figures = {key: record[key] for key in ("before", "after", "pseudo_labels", "videos_sha256")}
    description = replace(
        inputs.model.description,
        name=inputs.name,
        provenance={**model.description.provenance, "adaptation": figures},
    )
    half = any(tensor.dtype == "F16" for tensor in read_tensor_file(settings.weights).tensors.values())
    with disk_errors(settings.out):
        save_weights(out, model.network, description, half=half)


def _finish(
    settings: AdaptSettings,
    record: dict[str, Any],
    made: PseudoLabels,
    shown: Sequence[Shown],
    refusal: str,
    out: Path,
) -> Outcome:
    record["refusal"] = refusal
    if refusal:
        out.unlink(missing_ok=True)
    write_json(settings.out / RECORD, record)
    return Outcome(record, made, tuple(shown), refusal, out)


def _shown(inputs: Inputs, made: PseudoLabels, old: Tracker, new: Tracker | None) -> list[Shown]:
    """Evenly spaced sampled frames, kept or not, before and after."""
    chosen = [made.records[index] for index in evenly(range(len(made.records)), PICTURES)]
    names = sequence_names([reader.path for reader in inputs.readers])
    found = []
    for video, reader in enumerate(inputs.readers):
        outcomes = {record.frame: record.reason.value for record in chosen if record.video == video}
        for frame, stamp_ns, image in read_frames(reader, outcomes):
            after = None if new is None else _overlay(new, image)
            found.append(Shown(names[video], frame, stamp_ns * 1e-9, outcomes[frame], _overlay(old, image), after))
    return found


def _overlay(tracker: Tracker, image: Image) -> Image:
    tracker.reset()
    return draw_overlay(image, tracker.track(image), tracker.model.instruments)
