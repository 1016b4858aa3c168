"""Augmentation: one affine warp of image, label map and landmarks, then photometric changes.

A single affine map from source px to crop px avoids repeated resampling and applies equally to landmarks and label map. The
presets ``paper`` and ``paper_retinal`` follow Laina et al. 2017, section 3: rotation, scale, crop, gamma, colour factors, in
this order, drawn uniformly; horizontal flips for EndoVis only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.blending import color_row, three_channels
from csl_tracker.datasets.sample import Sample, renumbered
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.pixels import Resize, Size


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes. Pairs are (minimum, maximum); a probability of 0 disables a change.

    Attributes:
        rotation_deg: Maximum rotation in either direction.
        scale: Zoom relative to the tracker's working size.
        overhang: How far a zoomed crop may extend beyond the frame, as a share of the crop.
        stretch: Maximum relative difference of the zooms in x and y.
        shear: Maximum shear.
        flip: Probability of a horizontal flip.
        upside_down: Probability of a vertical flip.
        gamma: Exponent on the intensities.
        channel_gain: Gain of each colour channel.
        brightness: Maximum shift, 0..255.
        contrast: Gain around the mean.
        saturation: Gain of the distance from grey.
        hue: Probability of a white-balance change (a small random colour matrix).
        blur: Probability of a Gaussian or motion blur.
        noise: Maximum standard deviation of sensor noise, 0..255.
        compression: Probability of JPEG compression.
        erase: Probability of erasing a rectangle, whose labels become unknown.
        shade: Probability of a smooth light gradient.
        paste: Probability of pasting the instruments of another sample onto this one.
        logarithmic: Draw zoom and gamma uniformly in their logarithms; otherwise uniformly.
        gamma_first: Apply gamma before the channel gains; otherwise after them.
    """

    rotation_deg: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    overhang: float = 0.06
    stretch: float = 0.0
    shear: float = 0.0
    flip: float = 0.0
    upside_down: float = 0.0
    gamma: tuple[float, float] = (1.0, 1.0)
    channel_gain: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    compression: float = 0.0
    erase: float = 0.0
    shade: float = 0.0
    paste: float = 0.0
    logarithmic: bool = True
    gamma_first: bool = False


_PAPER = Augmentation(
    rotation_deg=5,
    scale=(1.0, 1.2),
    overhang=0.0,
    gamma=(0.9, 1.1),
    channel_gain=(0.8, 1.2),
    logarithmic=False,
    gamma_first=True,
)

_STRONG = Augmentation(
    rotation_deg=40,
    scale=(0.75, 1.5),
    stretch=0.1,
    shear=0.1,
    flip=0.5,
    upside_down=0.3,
    gamma=(0.6, 1.6),
    channel_gain=(0.7, 1.3),
    brightness=25,
    contrast=(0.7, 1.35),
    saturation=(0.3, 1.6),
    hue=0.3,
    blur=0.3,
    noise=8,
    compression=0.25,
    erase=0.2,
    shade=0.3,
    paste=0.3,
)

AUGMENTATIONS: Mapping[str, Augmentation] = {
    "none": Augmentation(),
    "paper": replace(_PAPER, flip=0.5),
    "paper_retinal": _PAPER,
    "strong": _STRONG,
    "rendered": replace(
        _STRONG,
        scale=(0.7, 1.5),
        gamma=(0.8, 1.25),
        channel_gain=(0.85, 1.15),
        brightness=12,
        contrast=(0.85, 1.2),
        saturation=(0.7, 1.3),
        hue=0.1,
        blur=0.1,
        noise=3,
        compression=0.1,
        erase=0.15,
        shade=0.15,
    ),
}
"""Presets by name. ``rendered`` has the geometry of ``strong`` and mild colours, since the effects of
:mod:`csl_tracker.datasets.rendered.effects` come on top."""


_MARGIN_PX = 12
"""Margin around an instrument within which its landmarks and their Gaussians lie, heatmap px."""


@dataclass(frozen=True)
class TrainingSample:
    """A training sample at network resolution.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        label_map: uint8 (h / stride, w / stride), 255 for unknown.
        landmarks: float64 (instruments, landmarks, 2), heatmap px, NaN if absent.
        labelled: bool (landmarks,): whether the landmark is labelled for all instruments, or only unlabelled where ``unasked``
            says so.
        instances: uint8 (h / stride, w / stride), instrument of each pixel: k for instrument k - 1, 0 none, 255 unknown.
        anchors: float64 (instruments, 2), heatmap px, :attr:`csl_tracker.datasets.sample.Sample.anchors`; NaN if unknown.
        unasked: bool (landmarks, h / stride, w / stride): where an unlabelled landmark may lie; None if there is none.
    """

    image: Image
    label_map: Image
    landmarks: FloatArray
    labelled: npt.NDArray[np.bool_]
    instances: Image
    anchors: FloatArray
    unasked: npt.NDArray[np.bool_] | None = None


def random_affine(
    rng: np.random.Generator, augmentation: Augmentation, source: Size, working: Size, crop: Size
) -> tuple[FloatArray, bool]:
    """Sample a random map from source px to crop px.

    Args:
        rng: Random generator.
        augmentation: Ranges.
        source: (height, width) of the frame.
        working: (height, width) of the tracker's working size.
        crop: (height, width) of the result.

    Returns:
        float64 (2, 3), and whether the map mirrors the image.
    """
    zoom = _draw(rng, augmentation.scale, augmentation.logarithmic)
    stretch = 1.0 + rng.uniform(-augmentation.stretch, augmentation.stretch)
    angle = math.radians(rng.uniform(-augmentation.rotation_deg, augmentation.rotation_deg))
    shear = rng.uniform(-augmentation.shear, augmentation.shear)
    flip_x = -1.0 if rng.random() < augmentation.flip else 1.0
    flip_y = -1.0 if rng.random() < augmentation.upside_down else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([zoom * stretch * flip_x, zoom / stretch * flip_y])
    # Along a side longer than the crop, the crop position is random; otherwise it is near the centre. Without overhang, a crop
    # of an upright frame that covers it shows no border; rotation alone brings one into the corners.
    slack = [max(0.0, working[i] * zoom - crop[i]) / 2 + augmentation.overhang * crop[i] * (zoom != 1.0) for i in (1, 0)]
    shift = np.array([rng.uniform(-s, s) if s > 0 else 0.0 for s in slack])
    resize = Resize(source, working).matrix()
    middle = np.array([(working[1] - 1) / 2, (working[0] - 1) / 2])
    target = np.array([(crop[1] - 1) / 2, (crop[0] - 1) / 2])
    offset = linear @ (resize[:, 2] - middle) + target + shift
    return np.column_stack((linear @ resize[:, :2], offset)), flip_x * flip_y < 0


def _draw(rng: np.random.Generator, limits: tuple[float, float], logarithmic: bool) -> float:
    return math.exp(rng.uniform(*np.log(limits))) if logarithmic else float(rng.uniform(*limits))


def warp_sample(
    sample: Sample, affine: FloatArray, mirrored: bool, flip_order: Sequence[int], crop: Size, stride: int = 2
) -> TrainingSample:
    """Apply an affine map from source px to crop px to image, label map and landmarks.

    Args:
        sample: The labelled frame.
        affine: float64 (2, 3).
        mirrored: Swap left and right landmarks.
        flip_order: Landmark order in a mirrored image.
        crop: (height, width) of the result, multiples of the stride.
        stride: Crop px per px of the label map and heatmap.
    """
    size = (crop[1], crop[0])
    image = cv2.warpAffine(sample.image, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    to_output = Resize((stride, stride), (1, 1))
    output = np.vstack((affine, (0.0, 0.0, 1.0)))
    output = np.vstack((to_output.matrix(), (0.0, 0.0, 1.0)))[:2] @ output
    small = (crop[1] // stride, crop[0] // stride)
    if sample.label_map is None:
        labels = np.full(small[::-1], IGNORE_LABEL, np.uint8)
    else:
        # Outside the frame, the image is black and the label is background.
        labels = cv2.warpAffine(sample.label_map, output, small, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    points = sample.landmarks @ output[:, :2].T + output[:, 2]
    labelled = sample.labelled
    if mirrored:
        points, labelled = points[:, list(flip_order)], labelled[:, list(flip_order)]
    inside = (points >= -0.5).all(axis=-1) & (points[..., 0] <= small[0] - 0.5) & (points[..., 1] <= small[1] - 0.5)
    points = np.where(inside[..., None], points, np.nan)
    asked, unasked = labelled_region(sample.instances, labelled, output, small[::-1])
    anchors = sample.all_anchors @ output[:, :2].T + output[:, 2]
    return TrainingSample(
        np.asarray(image, np.uint8),
        np.asarray(labels, np.uint8),
        points,
        asked,
        _warped_instances(sample.instances, np.asarray(labels, np.uint8), output),
        anchors,
        unasked,
    )


def _warped_instances(instances: Image | None, labels: Image, affine: FloatArray) -> Image:
    """Instances of a crop; without those of the frame, they are unknown on instruments."""
    if instances is None:
        return np.where(labels == 0, 0, IGNORE_LABEL).astype(np.uint8)
    size = (labels.shape[1], labels.shape[0])
    moved = cv2.warpAffine(instances, affine, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(moved, np.uint8)


def labelled_region(
    instances: Image | None, labelled: npt.NDArray[np.bool_], affine: FloatArray, size: Size
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_] | None]:
    """Which landmarks are labelled, and where in a crop they are not.

    A landmark that is unlabelled on one instrument is unknown in a box around that instrument only, and nowhere if the
    instrument is out of view. Without instances, it is unknown in the whole frame.

    Args:
        instances: uint8 (H, W), see :class:`Sample`.
        labelled: bool (instruments, landmarks).
        affine: float64 (2, 3), from px of the frame to px of the crop.
        size: (height, width) of the crop.

    Returns:
        bool (landmarks,), and bool (landmarks, height, width) or None.
    """
    everywhere = np.asarray(labelled.all(axis=0))
    if instances is None or everywhere.all():
        return everywhere, None
    partly = np.flatnonzero(~labelled.all(axis=1))
    moved = cv2.warpAffine(instances, affine, size[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    unasked = np.zeros((labelled.shape[1], *size), bool)
    unknown = cv2.dilate((moved == IGNORE_LABEL).astype(np.uint8), np.ones((2 * _MARGIN_PX + 1,) * 2, np.uint8)) > 0
    for number in partly:
        rows, columns = np.nonzero(moved == number + 1)
        box = np.zeros(size, bool)
        if len(rows):
            top, left = max(0, int(rows.min()) - _MARGIN_PX), max(0, int(columns.min()) - _MARGIN_PX)
            box[top : int(rows.max()) + _MARGIN_PX + 1, left : int(columns.max()) + _MARGIN_PX + 1] = True
        unasked[~labelled[number]] |= box | unknown
    return np.ones_like(everywhere), unasked


def paste(onto: TrainingSample, pasted: TrainingSample, stride: int = 2) -> TrainingSample:
    """Paste the instruments of one sample onto another.

    Occluded landmarks stay labelled, so that the network learns to handle short occlusions. Pixels with unknown labels are not
    pasted; if a landmark lies on such a pixel, nothing is pasted, since the landmark would have no instrument.
    """
    tool = (pasted.label_map > 0) & (pasted.label_map != IGNORE_LABEL)
    places = pasted.landmarks[np.isfinite(pasted.landmarks).all(axis=-1)]
    columns, rows = np.clip(np.rint(places), 0, np.array(pasted.label_map.shape)[::-1] - 1).astype(int).T
    if not tool.any() or (pasted.label_map[rows, columns] == IGNORE_LABEL).any():
        return onto
    size = (onto.image.shape[1], onto.image.shape[0])
    alpha = cv2.resize(tool.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.5 * stride)
    image = onto.image + three_channels(alpha) * (pasted.image.astype(np.float32) - onto.image)
    return TrainingSample(
        np.rint(image).astype(np.uint8),
        np.where(tool, pasted.label_map, onto.label_map),
        np.concatenate((onto.landmarks, pasted.landmarks)),
        onto.labelled & pasted.labelled,
        np.where(tool, renumbered(pasted.instances, len(onto.landmarks)), onto.instances),
        np.concatenate((onto.anchors, pasted.anchors)),
        _either(onto.unasked, pasted.unasked),
    )


def _either(one: npt.NDArray[np.bool_] | None, other: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    return other if one is None else one if other is None else np.asarray(one | other)


def photometric(rng: np.random.Generator, augmentation: Augmentation, sample: TrainingSample) -> TrainingSample:
    """Change colours, sharpness and noise, and erase a rectangle."""
    image = sample.image.astype(np.float32)
    a = augmentation
    if a.shade and rng.random() < a.shade:
        image *= three_channels(_shade(rng, image.shape[:2]))
    if a.hue and rng.random() < a.hue:
        matrix = np.eye(3) + rng.normal(0.0, 0.12, (3, 3))
        image = image @ (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32).T
    if a.saturation != (1.0, 1.0):
        gray = three_channels((image[..., 0] + image[..., 1] + image[..., 2]) / np.float32(3))
        image = gray + (image - gray) * np.float32(rng.uniform(*a.saturation))
    gain = rng.uniform(*a.channel_gain, size=3) if a.channel_gain != (1.0, 1.0) else np.ones(3)
    contrast = rng.uniform(*a.contrast)
    shift = rng.uniform(-a.brightness, a.brightness)
    mean = float(image.mean())
    image = (image - mean) * np.float32(contrast) + np.float32(mean + shift)
    gamma = np.float32(_draw(rng, a.gamma, a.logarithmic)) if a.gamma != (1.0, 1.0) else None
    if gamma is not None and a.gamma_first:
        image = _power(image, gamma)
    image *= color_row(gain, image.shape[1])
    image = np.clip(image, 0.0, 255.0)
    if gamma is not None and not a.gamma_first:
        image = _power(image, gamma)
    if a.blur and rng.random() < a.blur:
        image = _blur(rng, image)
    if a.noise:
        noise = rng.standard_normal(image.shape[:2], np.float32)
        image += three_channels(noise * np.float32(rng.uniform(0, a.noise)))
    out = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if a.compression and rng.random() < a.compression:
        quality = int(rng.integers(30, 90))
        encoded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    result = replace(sample, image=out)
    if a.erase and rng.random() < a.erase:
        result = _erase(rng, result)
    return result


def _power(image: npt.NDArray[np.float32], gamma: np.float32) -> npt.NDArray[np.float32]:
    return np.asarray(255.0 * (np.clip(image, 0.0, 255.0) / 255.0) ** gamma, np.float32)


def _shade(rng: np.random.Generator, size: Size) -> npt.NDArray[np.float32]:
    small = rng.uniform(0.35, 1.25, (3, 3)).astype(np.float32)
    return np.asarray(cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _blur(rng: np.random.Generator, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.8)), np.float32)
    length = int(rng.integers(3, 10)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, math.pi)
    reach = (length - 1) / 2
    start = (round(reach - reach * math.cos(angle)), round(reach - reach * math.sin(angle)))
    end = (round(reach + reach * math.cos(angle)), round(reach + reach * math.sin(angle)))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)


def _erase(rng: np.random.Generator, sample: TrainingSample) -> TrainingSample:
    """Fill a rectangle with a colour of the image; its labels become unknown, landmarks are kept."""
    height, width = sample.image.shape[:2]
    h, w = int(height * rng.uniform(0.05, 0.25)), int(width * rng.uniform(0.05, 0.25))
    top, left = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    image, labels = sample.image.copy(), sample.label_map.copy()
    image[top : top + h, left : left + w] = image[rng.integers(0, height), rng.integers(0, width)]
    stride = height // labels.shape[0]
    labels[top // stride : -(-(top + h) // stride), left // stride : -(-(left + w) // stride)] = IGNORE_LABEL
    return replace(sample, image=image, label_map=labels)
