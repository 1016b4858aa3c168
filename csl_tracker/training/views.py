"""One or two views of a training frame: pasted instruments, style, effects of a video chain, crop, colours.

Without these changes, :class:`csl_tracker.training.data.MixedDataset` crops first and pastes into the crop. With them, the
whole frame changes before the crop, as by a real video chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, LabelMap
from csl_tracker.datasets.augment import Augmentation, TrainingSample, paste, photometric, random_affine, warp_sample
from csl_tracker.datasets.rendered.effects import random_views
from csl_tracker.datasets.rendered.effects_style import Pool, random_style
from csl_tracker.datasets.sample import Sample, renumbered
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.pixels import Size
from csl_tracker.weights import Preprocessing

_AS_IT_IS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class FrameChanges:
    """Changes of whole frames.

    Attributes:
        effects: Probability of effects, :mod:`csl_tracker.datasets.rendered.effects`.
        style: Probability of a changed style, :mod:`csl_tracker.datasets.rendered.effects_style`.
        views: Number of views of each frame: 1, or 2 to compare the network's outputs.
    """

    effects: float = 0.0
    style: float = 0.0
    views: int = 1

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.effects or self.style or self.views > 1)


@dataclass(frozen=True)
class Cropping:
    """How frames are cropped.

    Attributes:
        augmentation: Ranges of the random changes.
        preprocessing: Gives the working size of a frame.
        flip_order: Order of the landmarks in a mirrored image.
        crop: (height, width) of the crops.
    """

    augmentation: Augmentation
    preprocessing: Preprocessing
    flip_order: Sequence[int]
    crop: Size

    def draw(self, rng: np.random.Generator, sample: Sample) -> TrainingSample:
        """A random crop of a frame."""
        size = _size(sample)
        affine, mirrored = random_affine(rng, self.augmentation, size, self.preprocessing.working_size(size), self.crop)
        return warp_sample(sample, affine, mirrored, self.flip_order, self.crop)

    def draw_views(self, rng: np.random.Generator, views: Sequence[Sample]) -> list[TrainingSample]:
        """The same random crop of several views of one frame, with other random colours each."""
        size = _size(views[0])
        affine, mirrored = random_affine(rng, self.augmentation, size, self.preprocessing.working_size(size), self.crop)
        crops = [warp_sample(view, affine, mirrored, self.flip_order, self.crop) for view in views]
        return [photometric(rng, self.augmentation, crop) for crop in crops]

    def paste_onto_frame(self, rng: np.random.Generator, sample: Sample, other: Sample) -> Sample:
        """Paste the instruments of another frame, at a random scale and place, onto a whole frame."""
        size, source = _size(sample), _size(other)
        ratio = size[0] / self.preprocessing.working_size(size)[0]
        working = self.preprocessing.working_size(source)
        working = (max(1, round(working[0] * ratio)), max(1, round(working[1] * ratio)))
        affine, mirrored = random_affine(rng, self.augmentation, source, working, size)
        above = warp_sample(other, affine, mirrored, self.flip_order, size, stride=1)
        below = warp_sample(sample, _AS_IT_IS, False, self.flip_order, size, stride=1)
        both = paste(below, above, stride=1)
        if both is below:
            return sample
        moved = replace(other, labelled=other.labelled[:, list(self.flip_order)] if mirrored else other.labelled)
        labelled, instances = _joined_instances(sample, moved, affine, above.label_map)
        return replace(
            sample,
            image=both.image,
            label_map=both.label_map,
            landmarks=both.landmarks,
            labelled=labelled,
            instances=instances,
            anchors=both.anchors,
        )


def change_frame(rng: np.random.Generator, sample: Sample, changes: FrameChanges, pool: Pool) -> list[Sample]:
    """Views of a frame with random style and effects; all have the same landmarks.

    Args:
        rng: Random generator.
        sample: The frame.
        changes: What to change, and how many views to make.
        pool: Draws pictures for their style.
    """
    views = [sample] * changes.views
    views = [random_style(rng, view, pool) if rng.random() < changes.style else view for view in views]
    return random_views(rng, views) if rng.random() < changes.effects else views


def agreed_labels(views: Sequence[TrainingSample]) -> TrainingSample:
    """The first view, with labels that are known in all views."""
    unknown = np.any([view.label_map == IGNORE_LABEL for view in views], axis=0)
    return replace(views[0], label_map=np.where(unknown, np.uint8(IGNORE_LABEL), views[0].label_map))


def _joined_instances(
    below: Sample, above: Sample, affine: FloatArray, pasted: LabelMap
) -> tuple[npt.NDArray[np.bool_], LabelMap | None]:
    """Labelled landmarks (instruments, landmarks) and instances of a frame with pasted instruments.

    Without instances in both frames, a landmark that is unlabelled on one instrument becomes unlabelled on all.
    """
    labelled = np.concatenate((below.labelled, above.labelled))
    if below.instances is None or above.instances is None:
        return np.broadcast_to(labelled.all(axis=0), labelled.shape).copy(), None
    size = (below.image.shape[1], below.image.shape[0])
    moved = cv2.warpAffine(above.instances, affine, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    numbers = renumbered(np.asarray(moved, np.uint8), len(below.labelled))
    tool = (pasted > 0) & (pasted != IGNORE_LABEL)
    return labelled, np.asarray(np.where(tool, numbers, below.instances), np.uint8)


def _size(sample: Sample) -> Size:
    return sample.image.shape[0], sample.image.shape[1]
