"""The gate: new weights must not be worse than the old ones on held-out frames with exact labels, nor on empty frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import Image
from csl_tracker.datasets.rendered.bank import Bank, open_bank
from csl_tracker.datasets.rendered.compose import compose_frame
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.metrics import tool_overlap
from csl_tracker.pixels import Size
from csl_tracker.tracker import Tracker
from csl_tracker.training.adaptation.clips import read_frames
from csl_tracker.training.adaptation.empties import CLUTTER, empty_frame
from csl_tracker.training.data import SYNTHETIC_SIZE
from csl_tracker.video import VideoReader

MAX_DICE_LOSS = 0.01
"""Largest accepted fall of the mean DICE on held-out frames."""
MAX_PIXEL_GAIN = 0.0002
"""Largest accepted rise of the mean share of tool pixels on frames without instruments: 16 px of a frame of 320x256."""
HELD_OUT_FAMILIES = ("scissors", "hand-held scissors", "bowel")
"""Families of a bank that only the gate sees, where the bank has them; those of ``config/train/rendered.yaml``."""
HELD_OUT_SEED = 1_700_000_000
"""First seed of the gate's frames; no training uses them."""


@dataclass(frozen=True)
class Figures:
    """What the gate measures of one set of weights.

    Attributes:
        dice: Mean DICE, tool against background, of held-out frames with instruments; None without any.
        dice_frames: Their number.
        empty_share: Mean share of tool pixels on held-out frames without instruments.
        empty_frames: Their number.
        video_share: The same for frames of the videos on which the old weights saw nothing; None without any.
        video_frames: Their number.
    """

    dice: float | None
    dice_frames: int
    empty_share: float
    empty_frames: int
    video_share: float | None
    video_frames: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class HeldOut:
    """Held-out frames, drawn on the fly.

    Attributes:
        bank: Bank of rendered instruments; None for synthetic frames.
        families: Families that only the gate sees; if empty, the gate's frames differ from the training's in their seeds only.
        frames: Number of frames, and half as many empty ones besides.
        size: (height, width), px.
    """

    bank: Bank | None
    families: tuple[str, ...]
    frames: int
    size: Size

    def labelled(self) -> Iterator[Sample]:
        """The frames with labels; some have no instrument."""
        for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + self.frames):
            if self.bank is None:
                yield render_frame(seed, self.size, CLUTTER)
            else:
                yield compose_frame(self.bank, seed, self.size)

    def empty(self) -> Iterator[Image]:
        """Frames without instruments: boards, drapes, rooms and the like, and tissue."""
        for index in range(max(2, self.frames // 2)):
            yield empty_frame(HELD_OUT_SEED, index, self.size)


def open_held_out(root: str, frames: int, input_size: Size) -> HeldOut:
    """Open the gate's frames.

    Args:
        root: The bank; empty for synthetic frames.
        frames: Number of frames.
        input_size: (height, width) of the network's input.

    Raises:
        DatasetError: The folder is no bank, or has no instruments.
    """
    size = max(SYNTHETIC_SIZE, input_size, key=math.prod)
    if not root:
        return HeldOut(None, (), frames, size)
    bank = open_bank(root)
    if not (bank.sprites or bank.scenes):
        raise DatasetError(f"The bank {root} has no instruments; render some with csl-tracker render --out {root}.")
    families = tuple(name for name in HELD_OUT_FAMILIES if _opened(root, only=(name,)) is not None)
    held, rest = _opened(root, only=families), _opened(root, hold_out=families)
    if families and _has_tools(held) and _has_tools(rest):
        return HeldOut(held, families, frames, size)
    return HeldOut(bank, (), frames, size)


def _opened(root: str, **families: Sequence[str]) -> Bank | None:
    try:
        return open_bank(root, **families)
    except (ConfigError, DatasetError):  # no such family, or nothing is left
        return None


def _has_tools(bank: Bank | None) -> bool:
    return bank is not None and bool(bank.sprites or bank.scenes)


def measure(
    tracker: Tracker, held_out: HeldOut, readers: Sequence[VideoReader], nothing: Mapping[int, Sequence[int]], title: str
) -> Figures:
    """Measure weights.

    Args:
        tracker: The tracker with the weights.
        held_out: The gate's frames.
        readers: The videos.
        nothing: Video -> frames on which the old weights saw no instrument.
        title: Title of the progress bar.

    Raises:
        DatasetError: A video cannot be decoded.
        EngineError: The network computed values that are not finite.
    """
    dice: list[float] = []
    shares: list[float] = []
    with tqdm(desc=title, unit="frame", disable=None) as bar:
        for sample in held_out.labelled():
            found = _label_map(tracker, sample.image)
            assert sample.label_map is not None
            if (sample.label_map > 0).any():
                dice.append(tool_overlap(found, sample.label_map).dice)
            else:
                shares.append(_share(found))
            bar.update()
        shares += _shares(tracker, held_out.empty(), bar)
        pictures = (image for video, frames in nothing.items() for *_, image in read_frames(readers[video], set(frames)))
        seen = _shares(tracker, pictures, bar)
    return Figures(_mean(dice), len(dice), _mean(shares) or 0.0, len(shares), _mean(seen), len(seen))


def _shares(tracker: Tracker, images: Iterable[Image], bar: Any) -> list[float]:
    found = []
    for image in images:
        found.append(_share(_label_map(tracker, image)))
        bar.update()
    return found


def _label_map(tracker: Tracker, image: Image) -> Image:
    tracker.reset()
    label_map = tracker.track(image).label_map
    assert label_map is not None
    return label_map


def _share(label_map: Image) -> float:
    return float(((label_map > 0) & (label_map != IGNORE_LABEL)).mean())


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def objection(before: Figures, after: Figures) -> str | None:
    """Why the new weights are refused, as a clause; None if they are accepted."""
    if before.dice is not None and after.dice is not None and after.dice < before.dice - MAX_DICE_LOSS:
        return (
            f"the DICE of {after.dice_frames} held-out frames fell from {before.dice:.4f} to {after.dice:.4f}, by more than"
            f" {MAX_DICE_LOSS:g}"
        )
    gains = (
        ("held-out frames without instruments", after.empty_frames, before.empty_share, after.empty_share),
        ("frames of the videos without instruments", after.video_frames, before.video_share, after.video_share),
    )
    for what, count, then, now in gains:
        if then is not None and now is not None and now > then + MAX_PIXEL_GAIN:
            return f"the share of pixels called instrument on {count} {what} rose from {then:.5f} to {now:.5f}"
    return None
