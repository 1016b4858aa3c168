"""The first step: frames are generated where they are needed, and shared by the steps after it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.gpu_steps.context import Context, Part
from csl_tracker.arrays import Image
from csl_tracker.datasets.cache import FrameCache
from csl_tracker.datasets.registry import select_landmarks
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import SyntheticSequence, render_frame
from csl_tracker.evaluation.protocol_models import Fold, Synthesis
from csl_tracker.evaluation.protocol_models import Part as ProtocolPart
from csl_tracker.evaluation.protocols import Protocol, load_protocol
from csl_tracker.instruments import ENDOVIS
from csl_tracker.pixels import Size
from csl_tracker.provenance import sha256_of

FIRST_SEED = 30_000
"""That of benchmark/engines.py; no training frame has it."""


def run(context: Context, part: Part) -> None:
    """Render the frames and the sequences of the synthetic protocol, on all cores."""
    scale = context.scale
    for number, size in enumerate(scale.sources):
        count = max(scale.compared, scale.pictures) if number == 0 else scale.pictures
        part.row({"size": list(size), "count": count, "sha256": _render_frames(context.folder, size, count)}, "sources")
    synthesis = protocol(context).synthesis
    assert synthesis is not None
    jobs = [(context.folder, synthesis, *job) for job in _sequences(synthesis)]
    _on_all_cores(_render_sequence, jobs)
    opened = rendered(context, [name for _, _, name, _, _ in jobs])
    files = [FrameCache(sequence, cache(context)).folder / "images.npy" for sequence in opened]
    count = sum(len(sequence) for sequence in opened)
    part.note(sequences={"protocol": "synthetic", "frames": count, "size": list(synthesis.size), "sha256": sha256_of(files)})


def images(context: Context, size: Size) -> tuple[Image, Image]:
    """Images (n, H, W, 3) in RGB and their true label maps (n, H, W), uint8."""
    return np.load(context.folder / _name("images", size)), np.load(context.folder / _name("labels", size))


def images_sha256(pictures: Image) -> str:
    """Of the images that a row was measured on."""
    return hashlib.sha256(pictures.tobytes()).hexdigest()


def protocol(context: Context) -> Protocol:
    """The synthetic protocol, cut down for a dry run."""
    found = load_protocol("synthetic")
    scale = context.scale
    assert found.synthesis is not None
    if scale.sequences is None or scale.sequence_frames is None:
        return found
    groups = tuple(
        replace(group, sequences=group.sequences[:count], frames=scale.sequence_frames)
        for group, count in zip(found.synthesis.groups, scale.sequences, strict=True)
    )
    fold = Fold("all", *((ProtocolPart(group.sequences),) for group in groups))
    return replace(found, folds=(fold,), synthesis=replace(found.synthesis, size=scale.sources[0], groups=groups))


def cache(context: Context) -> Path:
    """Folder of the rendered sequences, as :class:`csl_tracker.datasets.cache.FrameCache` keeps them."""
    return context.folder / "cache"


def rendered(context: Context, names: Iterable[str] | None = None) -> list[Rendered]:
    """The sequences of the protocol, all or by name; to be put in the place of ``open_dataset``, which needs video files."""
    synthesis = protocol(context).synthesis
    assert synthesis is not None
    jobs = {name: (name, frames, seed) for name, frames, seed in _sequences(synthesis)}
    return [Rendered(context.folder, synthesis, *jobs[name]) for name in (jobs if names is None else names)]


class Rendered:
    """A synthetic sequence with a file that stands for its content, so that it can be cached.

    Its frames are those of the protocol before they are compressed as a video.
    """

    def __init__(self, folder: Path, synthesis: Synthesis, name: str, frames: int, seed: int) -> None:
        self._made = SyntheticSequence(seed, frames, synthesis.size, synthesis.fps, name=name)
        self.name = name
        self.landmarks, self.classes, self.slots = self._made.landmarks, self._made.classes, self._made.slots
        self.fps, self.size = self._made.fps, self._made.size
        file = folder / "sequences" / f"{name}.txt"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            temporary = file.with_name(f".{name}.{os.getpid()}")
            temporary.write_text(f"{name} {seed} {frames} {synthesis.size} {synthesis.fps}", encoding="utf-8")
            os.replace(temporary, file)
        self.files = (file,)

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._made)


def _sequences(synthesis: Synthesis) -> list[tuple[str, int, int]]:
    """Name, number of frames and seed of each."""
    return [
        (name, group.frames, group.seed + index) for group in synthesis.groups for index, name in enumerate(group.sequences)
    ]


def _render_frames(folder: Path, size: Size, count: int) -> str:
    """Render and save frames of one size; the hash of the images."""
    samples = _on_all_cores(_render_frame, [(FIRST_SEED + index, size) for index in range(count)])
    pictures = np.stack([image for image, _ in samples])
    np.save(folder / _name("images", size), pictures)
    np.save(folder / _name("labels", size), np.stack([labels for _, labels in samples]))
    return images_sha256(pictures)


def _render_frame(seed: int, size: Size) -> tuple[Image, Image]:
    cv2.setNumThreads(0)
    sample = render_frame(seed, size)
    assert sample.label_map is not None
    return sample.image, sample.label_map


def _render_sequence(folder: Path, synthesis: Synthesis, name: str, frames: int, seed: int) -> None:
    """Put a sequence into the cache where a training finds it."""
    cv2.setNumThreads(0)
    FrameCache(select_landmarks(Rendered(folder, synthesis, name, frames, seed), ENDOVIS), folder / "cache")


def _on_all_cores(work: Any, jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Results of a function for each tuple of arguments."""
    cores = len(os.sched_getaffinity(0))
    if len(jobs) < 8:
        return [work(*job) for job in jobs]
    with multiprocessing.get_context("fork").Pool(min(cores, len(jobs))) as pool:
        return pool.starmap(work, jobs, chunksize=1)


def _name(kind: str, size: Size) -> str:
    return f"{kind}_{size[0]}x{size[1]}.npy"
