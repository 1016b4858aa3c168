"""Sequences of a synthetic scene in motion."""

from __future__ import annotations

import math
from collections.abc import Iterator

from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic.scene import Scene
from csl_tracker.instruments import ENDOVIS
from csl_tracker.pixels import Size

SIDES = ("left", "right", "bottom", "top")


class SyntheticSequence:
    """One scene over time; a :class:`~csl_tracker.datasets.sample.Sequence`.

    The same seed, size and frame always give the same frame. Landmarks that another instrument covers stay labelled; those
    outside the image are absent. Two instruments enter from the left and the right, one from any side.

    Args:
        seed: Of the scene.
        frames: Number of frames.
        size: (height, width), px.
        fps: Frames a second.
        name: Of the sequence.
        instruments: 1 or 2; drawn by the seed when None.
    """

    def __init__(
        self,
        seed: int,
        frames: int,
        size: Size = (576, 720),
        fps: float = 25.0,
        name: str | None = None,
        instruments: int | None = None,
    ) -> None:
        self.seed = seed
        self.name = f"Dataset{seed}" if name is None else name
        self.size = size
        self.fps = fps
        self.frames = frames
        self.landmarks = ENDOVIS.landmarks
        self.classes = ENDOVIS.classes
        count = 1 + seed % 2 if instruments is None else instruments
        sides = ("left", "right") if count == 2 else (SIDES[seed // 2 % len(SIDES)],)
        self._scene = Scene(seed, size, sides=sides, moving=True)
        self.slots = ("left", "right") if count == 2 else (self._slot(),)

    @property
    def scene(self) -> Scene:
        """The scene."""
        return self._scene

    def time(self, frame: int) -> float:
        """Time of a frame since the start of the sequence, s."""
        return frame / self.fps

    def _slot(self) -> str:
        """Average side from which a single instrument enters."""
        poses = [self._scene.poses(self.time(frame))[0] for frame in range(self.frames)]
        return "left" if sum(math.cos(pose.angle) for pose in poses) > 0 else "right"

    def __len__(self) -> int:
        """Number of frames."""
        return self.frames

    def __iter__(self) -> Iterator[Sample]:
        """Render the frames in order."""
        for frame in range(self.frames):
            yield self._scene.render(self.time(frame), frame, self.name, round(frame * 1e9 / self.fps))
