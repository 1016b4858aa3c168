"""Any dataset to COCO keypoints, without loss."""

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
    """Write sequences as COCO keypoints, from which :func:`csl_tracker.datasets.coco.open_coco` reads the same samples.

    The folder appears when it is complete. Frames that are image files already are linked, where the file system can, or
    copied; the others become PNG files.

    Args:
        sequences: What to write.
        folder: Where to; it must not exist, or be empty.
        description: Goes into the JSON.
        progress: Called after every frame.

    Returns:
        Number of frames written.

    Raises:
        DatasetError: A sequence is broken or the folder cannot be written.
    """
    frames = 0
    skeleton = dict.fromkeys(pair for sequence in sequences for pair in skeleton_of(sequence))
    with CocoWriter(folder, sequences, skeleton, description=description) as writer:
        for sequence in sequences:
            images: Sequence[Path] = getattr(sequence, "images", ())  # of those that show an image file as it is
            for index, sample in enumerate(sequence):
                writer.write(sample, images[index] if images else None)
                frames += 1
                if progress is not None:
                    progress()
    return frames
