"""Training data: several sources mixed by share, each sample a pure function of (seed, index).

That purity is what makes a resumed run follow the same trajectory, whatever the number of workers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

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
from csl_tracker.weights import Preprocessing

logger = logging.getLogger(__name__)

SYNTHETIC_SIZE = (256, 320)
"""(height, width) at which frames are rendered at least: that of the default input. Where the network's input is larger they
are rendered at that, so that nothing is blown up."""


@dataclass(frozen=True)
class Source:
    """Samples by index.

    Attributes:
        get: The sample with that number.
        length: Number of samples; None where they never end.
        share: Relative share of the mix.
        landmarks: Those that are labelled here.
        segmented: There are masks.
    """

    get: Callable[[int], Sample]
    length: int | None
    share: float
    landmarks: frozenset[str] = frozenset()
    segmented: bool = True


def open_source(config: SourceConfig, instruments: InstrumentSet, cache: str, size: tuple[int, int]) -> Source:
    """Open one source of a configuration.

    Args:
        config: Which.
        instruments: The landmarks and classes that are wanted of it.
        cache: Folder for decoded frames.
        size: (height, width) of the network's input; frames are kept at 1.5 times its px, and drawn at its own.

    Raises:
        DatasetError: The dataset is missing or broken.
        ConfigError: It lacks landmarks or classes and is not said to be partial, or has no frames left.
    """
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


class MixedDataset(Dataset[dict[str, Tensor]]):
    """Random crops from a mix of sources; item ``i`` depends on the seed and ``i`` alone."""

    def __init__(
        self,
        sources: Sequence[Source],
        augmentation: Augmentation,
        instruments: InstrumentSet,
        preprocessing: Preprocessing,
        crop: tuple[int, int],
        seed: int,
    ) -> None:
        self.sources = list(sources)
        shares = np.array([source.share for source in sources], np.float64)
        self.shares = shares / shares.sum()
        self.augmentation = augmentation
        self.flip_order = instruments.flip_permutation()
        self.preprocessing = preprocessing
        self.crop = crop
        self.seed = seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One augmented training sample as tensors."""
        # OpenCV's own threads would fight over the cores with torch's.
        cv2.setNumThreads(0)
        rng = np.random.default_rng((self.seed, index))
        sample = self._draw(rng, 2 * index)
        if self.augmentation.paste and rng.random() < self.augmentation.paste:
            sample = paste(sample, self._draw(rng, 2 * index + 1))
        return to_tensors(photometric(rng, self.augmentation, sample))

    def _draw(self, rng: np.random.Generator, number: int) -> TrainingSample:
        source = self.sources[int(rng.choice(len(self.sources), p=self.shares))]
        sample = source.get(number if source.length is None else int(rng.integers(source.length)))
        size = (sample.image.shape[0], sample.image.shape[1])
        affine, mirrored = random_affine(rng, self.augmentation, size, self.preprocessing.working_size(size), self.crop)
        return warp_sample(sample, affine, mirrored, self.flip_order, self.crop)


class HeldOutDataset(Dataset[dict[str, Tensor]]):
    """Whole frames of one source, as the tracker would see them."""

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
    """Tensors of one sample: image uint8 (h, w, 3), labels uint8, points float32 (instruments, landmarks, 2), labelled bool."""
    return {
        "image": torch.from_numpy(np.ascontiguousarray(sample.image)),
        "labels": torch.from_numpy(np.ascontiguousarray(sample.label_map)),
        "points": torch.from_numpy(sample.landmarks.astype(np.float32)),
        "labelled": torch.from_numpy(np.asarray(sample.labelled)),
    }


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack samples; frames with fewer instruments are filled up with absent ones (NaN)."""
    batch = {key: torch.stack([item[key] for item in items]) for key in ("image", "labels", "labelled")}
    count = max(1, *(len(item["points"]) for item in items))
    points = torch.full((len(items), count, *items[0]["points"].shape[1:]), torch.nan)
    for i, item in enumerate(items):
        points[i, : len(item["points"])] = item["points"]
    batch["points"] = points
    return batch


class StepSampler(Sampler[int]):
    """Indices of one epoch, in order, from the step at which it begins; several devices take turns.

    It goes by steps and not by the trainer's epochs: a run that was taken up may count those differently.

    Args:
        steps: Steps of an epoch.
        batch_size: Samples of a step on one device.
        step: Gives the number of steps done so far.
    """

    def __init__(self, steps: int, batch_size: int, step: Callable[[], int]) -> None:
        self.steps = steps
        self.batch_size = batch_size
        self.step = step

    def __len__(self) -> int:
        """Samples of an epoch on one device."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        """Indices, interleaved between the devices."""
        # Lightning sets up the process group after the loaders are built, and before they are iterated.
        spread = distributed.is_available() and distributed.is_initialized()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if spread else (0, 1)
        first = self.step() * self.batch_size * world
        return iter(range(first + rank, first + len(self) * world, world))


def build_loaders(
    config: TrainConfig, preprocessing: Preprocessing, step: Callable[[], int] = lambda: 0
) -> tuple[DataLoader[Any], list[DataLoader[Any]]]:
    """Loaders of a configuration: training, and one per validation source.

    Args:
        config: What to train.
        preprocessing: How the tracker would resize frames.
        step: Gives the number of steps done so far, when an epoch begins.

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


def _warn_of_gaps(sources: Sequence[Source], instruments: InstrumentSet, config: TrainConfig) -> None:
    """Say what no source of a mix labels; the network will not learn it."""
    missing = [name for name in instruments.landmarks if all(name not in source.landmarks for source in sources)]
    if missing:
        logger.warning("No training source labels the landmarks %s; %s will not learn them.", ", ".join(missing), config.name)
    if not any(source.segmented for source in sources):
        logger.warning("No training source has masks; %s will not learn to segment.", config.name)
