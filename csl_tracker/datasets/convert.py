"""Lossless conversion of any dataset to COCO keypoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from csl_tracker.datasets.coco_writer import CocoWriter
from csl_tracker.datasets.describe import skeleton_of
from csl_tracker.datasets.registry import FileSequence


def convert_to_coco(
    sequences: Sequence[FileSequence], folder: Path, description: str = "", progress: Callable[[], Any] | None = None
) -> int:
    """Write sequences as COCO keypoints, which :func:`csl_tracker.datasets.coco.open_coco` reads back without loss.

    The output is atomic. Image files are hard-linked if possible, else copied; other frames become PNG files.

    Args:
        sequences: The sequences.
        folder: Output folder; must not exist or must be empty.
        description: Description stored in the JSON.
        progress: Called after each frame.

    Returns:
        Number of frames written.

    Raises:
        DatasetError: A sequence is broken or the folder cannot be written.
    """
    frames = 0
    skeleton = dict.fromkeys(pair for sequence in sequences for pair in skeleton_of(sequence))
    with CocoWriter(folder, sequences, skeleton, description=description) as writer:
        for sequence in sequences:
            images: Sequence[Path] = getattr(sequence, "images", ())  # only sequences of unmodified image files
            for index, sample in enumerate(sequence):
                writer.write(sample, images[index] if images else None)
                frames += 1
                if progress is not None:
                    progress()
    return frames
