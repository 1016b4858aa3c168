"""Training data: sources mixed by share; each sample is a pure function of (seed, index).

Therefore a resumed run follows the same trajectory, regardless of the number of workers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from csl_tracker.arrays import Image
from csl_tracker.datasets.augment import (
    AUGMENTATIONS,
    Augmentation,
    TrainingSample,
    paste,
    photometric,
    random_affine,
    warp_sample,
)
from csl_tracker.datasets.cache import FrameCache
from csl_tracker.datasets.mapping import parse_matching
from csl_tracker.datasets.registry import open_dataset, select_landmarks
from csl_tracker.datasets.sample import Sample, share_of_frames
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.instruments import ENDOVIS, InstrumentSet, find_instruments
from csl_tracker.training.config import SourceConfig, TrainConfig
from csl_tracker.training.views import Cropping, FrameChanges, agreed_labels, change_frame
from csl_tracker.weights import Preprocessing

logger = logging.getLogger(__name__)

SYNTHETIC_SIZE = (256, 320)
"""Minimum (height, width) of rendered frames: the default input size. Larger network inputs use their own size, to avoid
upscaling."""


@dataclass(frozen=True)
class Source:
    """Samples by index.

    Attributes:
        get: Returns the sample of an index.
        length: Number of samples; None if infinite.
        share: Relative share in the mix.
        landmarks: Labelled landmarks.
        segmented: Whether there are masks.
    """

    get: Callable[[int], Sample]
    length: int | None
    share: float
    landmarks: frozenset[str] = frozenset()
    segmented: bool = True


def open_source(config: SourceConfig, instruments: InstrumentSet, cache: str, size: tuple[int, int]) -> Source:
    """Open one source of a configuration; its samples have anchors wherever the anchor landmark is in view.

    Args:
        config: The source.
        instruments: The landmarks and classes of the model.
        cache: Folder for decoded frames.
        size: (height, width) of the network's input; frames are cached at 1.5 times this size, and rendered at it.

    Raises:
        DatasetError: The dataset is missing or broken.
        ConfigError: It lacks landmarks or classes and is not declared partial, or has no frames left.
    """
    source = _open(config, instruments, cache, size)
    return replace(source, get=lambda index: _with_anchors(source.get(index), instruments.anchor))


def _with_anchors(sample: Sample, anchor: int) -> Sample:
    return sample if sample.anchors is not None else replace(sample, anchors=sample.landmarks[:, anchor].copy())


def _open(config: SourceConfig, instruments: InstrumentSet, cache: str, size: tuple[int, int]) -> Source:
    if config.dataset == "synthetic" and not config.root:
        if instruments != ENDOVIS:
            raise ConfigError(
                "Synthetic frames that are drawn on the fly have the landmarks and classes of the instruments 'endovis'; leave"
                " that source out, or write them with csl-tracker synthesize and give their root with partial: true."
            )
        drawn = max(SYNTHETIC_SIZE, size, key=math.prod)
        return Source(
            lambda index: render_frame(config.seed + index, drawn, config.clutter),
            None,
            config.share,
            frozenset(instruments.landmarks),
        )
    root = os.path.expanduser(os.path.expandvars(config.root))
    if "$" in root or not root:
        raise ConfigError(
            f"The root {config.root!r} of {config.dataset!r} is not set; set that environment variable or give a path."
        )
    if config.dataset == "rendered":
        return _open_rendered(config, instruments, Path(root), size)
    samples: list[tuple[FrameCache, int]] = []
    landmarks: set[str] = set()
    segmented = False
    sequences = open_dataset(config.dataset, Path(root), config.sequences or None)
    what = f"of the source {config.dataset!r}"
    matching = parse_matching(config.landmarks, config.classes, config.partial, sequences, instruments, what)
    for sequence in sequences:
        try:
            chosen = select_landmarks(sequence, instruments, matching)
        except WeightsError as error:
            raise ConfigError(
                f"The training wants the landmarks {', '.join(instruments.landmarks)} and the classes"
                f" {', '.join(instruments.classes)}; the sequence {sequence.name} of {config.dataset!r} at {root} has the"
                f" landmarks {', '.join(sequence.landmarks) or '(none)'} and the classes {', '.join(sequence.classes)}. Write"
                " 'partial: true' into that source to train on what both have, or rename with its 'landmarks' and 'classes'."
            ) from error
        landmarks |= set(chosen.labelled)
        segmented |= bool(chosen.segmented)
        scale = 1.5 * np.sqrt(size[0] * size[1] / (chosen.size[0] * chosen.size[1]))
        kept = chosen.size if scale >= 1 else (round(chosen.size[0] * scale), round(chosen.size[1] * scale))
        frames = FrameCache(chosen, Path(cache), kept)
        samples += [(frames, index) for index in share_of_frames(len(frames), config.skip_first, 1 - config.skip_last)]
    if not samples:
        raise ConfigError(
            f"The source {config.dataset!r} at {root} leaves no frames; check sequences, skip_first and skip_last."
        )
    return Source(
        lambda index: samples[index][0][samples[index][1]], len(samples), config.share, frozenset(landmarks), segmented
    )


def _open_rendered(config: SourceConfig, instruments: InstrumentSet, root: Path, size: tuple[int, int]) -> Source:
    """Frames that are composed on the fly from a bank of rendered instruments and scenes."""
    from csl_tracker.datasets.rendered.bank import open_bank
    from csl_tracker.datasets.rendered.compose import compose_frame

    if instruments != ENDOVIS:
        raise ConfigError(
            "Rendered frames have the landmarks and classes of the instruments 'endovis'; leave the source 'rendered' out."
        )
    bank = open_bank(root, hold_out=config.hold_out, only=config.only)
    composed = max(SYNTHETIC_SIZE, size, key=math.prod)
    return Source(
        lambda index: compose_frame(bank, config.seed + index, composed),
        None,
        config.share,
        frozenset(instruments.landmarks),
    )


class MixedDataset(Dataset[dict[str, Tensor]]):
    """Random crops from a mix of sources; item ``i`` depends only on the seed and ``i``."""

    def __init__(
        self,
        sources: Sequence[Source],
        augmentation: Augmentation,
        instruments: InstrumentSet,
        preprocessing: Preprocessing,
        crop: tuple[int, int],
        seed: int,
        changes: FrameChanges | None = None,
    ) -> None:
        self.sources = list(sources)
        shares = np.array([source.share for source in sources], np.float64)
        self.shares = shares / shares.sum()
        self.augmentation = augmentation
        self.cropping = Cropping(augmentation, preprocessing, instruments.flip_permutation(), crop)
        self.seed = seed
        self.changes = changes or FrameChanges()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One augmented training sample as tensors."""
        # OpenCV threads would compete with torch threads for the cores.
        cv2.setNumThreads(0)
        rng = np.random.default_rng((self.seed, index))
        if self.changes:
            return self._changed(rng, index)
        sample = self.cropping.draw(rng, self._frame(rng, 2 * index))
        if self.augmentation.paste and rng.random() < self.augmentation.paste:
            sample = paste(sample, self.cropping.draw(rng, self._frame(rng, 2 * index + 1)))
        return to_tensors(photometric(rng, self.augmentation, sample))

    def _changed(self, rng: np.random.Generator, index: int) -> dict[str, Tensor]:
        """A sample whose whole frame is changed before the crop, with its second view if there are two."""
        frame = self._frame(rng, 2 * index)
        if self.augmentation.paste and rng.random() < self.augmentation.paste:
            frame = self.cropping.paste_onto_frame(rng, frame, self._frame(rng, 2 * index + 1))

        def pool(rng: np.random.Generator) -> Image:
            # Infinite sources number their frames; an earlier one is never a validation frame.
            return self._frame(rng, int(rng.integers(2 * index + 1))).image

        views = self.cropping.draw_views(rng, change_frame(rng, frame, self.changes, pool))
        item = to_tensors(agreed_labels(views))
        if len(views) > 1:
            item["second"] = torch.from_numpy(np.ascontiguousarray(views[1].image))
        return item

    def _frame(self, rng: np.random.Generator, number: int) -> Sample:
        source = self.sources[int(rng.choice(len(self.sources), p=self.shares))]
        return source.get(number if source.length is None else int(rng.integers(source.length)))


class HeldOutDataset(Dataset[dict[str, Tensor]]):
    """Full frames of one source at the tracker's working size."""

    def __init__(self, source: Source, config: SourceConfig, preprocessing: Preprocessing) -> None:
        self.source = source
        length = source.length
        step = 1 if length is None else max(1, length // config.frames)
        self.indices = list(range(config.frames)) if length is None else list(range(0, length, step))
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One frame as tensors."""
        cv2.setNumThreads(0)
        sample = self.source.get(self.indices[index])
        size = (sample.image.shape[0], sample.image.shape[1])
        working = self.preprocessing.working_size(size)
        affine, _ = random_affine(np.random.default_rng(0), Augmentation(), size, working, working)
        return to_tensors(warp_sample(sample, affine, False, (), working))


def to_tensors(sample: TrainingSample) -> dict[str, Tensor]:
    """Tensors of one sample: image uint8 (h, w, 3), labels uint8, points float32 (instruments, landmarks, 2), labelled bool.

    ``instances`` uint8 (h, w) and ``anchors`` float32 (instruments, 2) belong to the association; ``unasked``, bool (landmarks,
    h, w) of the heatmaps, is there only if a landmark is unlabelled in a part of the frame.
    """
    tensors = {
        "image": torch.from_numpy(np.ascontiguousarray(sample.image)),
        "labels": torch.from_numpy(np.ascontiguousarray(sample.label_map)),
        "points": torch.from_numpy(sample.landmarks.astype(np.float32)),
        "labelled": torch.from_numpy(np.asarray(sample.labelled)),
        "instances": torch.from_numpy(np.ascontiguousarray(sample.instances)),
        "anchors": torch.from_numpy(sample.anchors.astype(np.float32)),
    }
    if sample.unasked is not None:
        tensors["unasked"] = torch.from_numpy(np.ascontiguousarray(sample.unasked))
    return tensors


_RAGGED = ("points", "anchors", "unasked")


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack samples; pads the instruments with NaN to a common number, and ``unasked`` with False."""
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0] if key not in _RAGGED}
    if any("unasked" in item for item in items):
        nowhere = torch.zeros(items[0]["points"].shape[1], *items[0]["labels"].shape, dtype=torch.bool)
        batch["unasked"] = torch.stack([item.get("unasked", nowhere) for item in items])
    count = max(1, *(len(item["points"]) for item in items))
    for key in ("points", "anchors"):
        padded = torch.full((len(items), count, *items[0][key].shape[1:]), torch.nan)
        for i, item in enumerate(items):
            padded[i, : len(item[key])] = item[key]
        batch[key] = padded
    return batch


class StepSampler(Sampler[int]):
    """Consecutive indices of one epoch, starting at the current step; interleaved between devices.

    Uses steps rather than the trainer's epochs, which a resumed run may count differently.

    Args:
        steps: Steps per epoch.
        batch_size: Samples per step and device.
        step: Returns the number of completed steps.
    """

    def __init__(self, steps: int, batch_size: int, step: Callable[[], int]) -> None:
        self.steps = steps
        self.batch_size = batch_size
        self.step = step

    def __len__(self) -> int:
        """Samples per epoch and device."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        """Indices, interleaved between the devices."""
        # Lightning creates the process group after building the loaders, but before iterating over them.
        spread = distributed.is_available() and distributed.is_initialized()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if spread else (0, 1)
        first = self.step() * self.batch_size * world
        return iter(range(first + rank, first + len(self) * world, world))


def build_loaders(
    config: TrainConfig, preprocessing: Preprocessing, step: Callable[[], int] = lambda: 0
) -> tuple[DataLoader[Any], list[DataLoader[Any]]]:
    """Data loaders: one for training, and one per validation source.

    Args:
        config: Training configuration.
        preprocessing: Image preprocessing.
        step: Returns the number of completed steps; called at the start of an epoch.

    Raises:
        DatasetError, ConfigError: A source cannot be opened.
    """
    instruments = find_instruments(config.instruments)
    sources = [open_source(source, instruments, config.cache, config.input_size) for source in config.train]
    train = MixedDataset(
        sources,
        AUGMENTATIONS[config.augmentation],
        instruments,
        preprocessing,
        config.crop,
        config.seed,
        frame_changes(config),
    )
    _warn_of_gaps(sources, instruments, config)
    sampler = StepSampler(config.steps_per_epoch, config.batch_size, step)
    shared: dict[str, Any] = {"batch_size": config.batch_size, "collate_fn": collate, "num_workers": config.workers}
    if config.workers:
        shared |= {
            "persistent_workers": True,
            "prefetch_factor": 4,
        }
    held_out = []
    for source in config.validation:
        opened = open_source(source, instruments, config.cache, config.input_size)
        held_out.append(
            DataLoader(HeldOutDataset(opened, source, preprocessing), batch_size=config.batch_size, collate_fn=collate)
        )
    return DataLoader(train, sampler=sampler, **shared), held_out


def frame_changes(config: TrainConfig) -> FrameChanges:
    """Changes of whole frames that a configuration asks for."""
    return FrameChanges(config.effects, config.style, 2 if config.consistency_weight else 1)


def _warn_of_gaps(sources: Sequence[Source], instruments: InstrumentSet, config: TrainConfig) -> None:
    """Warn about landmarks and masks that no source provides."""
    missing = [name for name in instruments.landmarks if all(name not in source.landmarks for source in sources)]
    if missing:
        logger.warning("No training source labels the landmarks %s; %s will not learn them.", ", ".join(missing), config.name)
    if not any(source.segmented for source in sources):
        logger.warning("No training source has masks; %s will not learn to segment.", config.name)
