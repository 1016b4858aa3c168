"""Frames without instruments, drawn on the fly: boards, drapes, rooms and the like, and tissue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import Image
from csl_tracker.datasets.coco_writer import CocoWriter
from csl_tracker.datasets.rendered.world import draw_world
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic.clutter import add_clutter
from csl_tracker.datasets.synthetic.tissue import light, render_tissue
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pixels import Size

CLUTTER = 0.5
"""Probability of clutter on tissue."""
NAME = "empty"
"""Name of the sequence."""
_SLOT = "instrument_1"


def empty_frame(seed: int, index: int, size: Size) -> Image:
    """Draw a frame without instruments; uint8 (h, w, 3), RGB. Odd numbers show no tissue."""
    rng = np.random.default_rng((seed, index))
    if index % 2:
        return draw_world(rng, size).image
    color, height = render_tissue(rng, size)
    if rng.random() < CLUTTER:
        add_clutter(rng, color, height)
    lit = light(rng, color, height, rng.uniform(-1.2, 0.6), int(rng.integers(2**31)), np.zeros(2))
    return np.asarray(np.rint(np.clip(lit, 0, 255)), np.uint8)


@dataclass(frozen=True)
class _Described:
    """Description of the frames for the writer."""

    landmarks: tuple[str, ...]
    classes: tuple[str, ...]
    name: str = NAME
    fps: float = 1.0
    slots: tuple[str, ...] = (_SLOT,)


def write_empty_frames(folder: Path, count: int, size: Size, seed: int, instruments: InstrumentSet) -> None:
    """Write frames without instruments as a dataset in COCO keypoints, unless an earlier call did.

    Args:
        folder: Folder of the dataset.
        count: Number of frames.
        size: (height, width), px.
        seed: Of the frames.
        instruments: Landmarks and classes; all landmarks are labelled as absent.

    Raises:
        DatasetError: The disk is full.
    """
    if folder.is_dir():
        return  # the writer makes it complete or not at all
    shape = (1, instruments.num_landmarks)
    landmarks, labelled = np.full((*shape, 2), np.nan), np.ones(shape, bool)
    with CocoWriter(folder, [_Described(instruments.landmarks, instruments.classes)]) as writer:
        for index in tqdm(range(count), desc="empty frames", unit="frame", disable=None):
            image = empty_frame(seed, index, size)
            writer.write(Sample(image, np.zeros(size, np.uint8), landmarks, labelled, NAME, index, index * 1_000_000_000))
