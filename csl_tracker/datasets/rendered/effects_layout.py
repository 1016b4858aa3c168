"""Effects that move the picture: digital zoom, pictures within a black screen, stereo pictures, insets.

All keep the size of the frame. Landmarks outside the picture are known to be absent. A stereo picture shows the scene twice, so
the instruments double.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.rendered.effects_fields import Generator, amount, cloud
from csl_tracker.datasets.rendered.effects_pieces import Box, cut, empty, lay, whole
from csl_tracker.datasets.sample import Sample
from csl_tracker.pixels import Size

_MOST_INSTRUMENTS = 16
"""Frames with more instruments are not doubled."""


def zoom(rng: Generator, sample: Sample, strength: float) -> Sample:
    """A digital zoom of x1.02 to x2.4 onto a random place, sometimes stretched a little; resampled as devices do."""
    box = whole(sample)
    factor = amount(rng, strength, 1.02, 2.4)
    stretch = float(np.exp(rng.normal(0.0, 0.06)))
    height = min(box.height, round(box.height / factor))
    width = min(box.width, round(box.width / factor * stretch))
    place = rng.beta(1.5, 1.5, 2)
    window = Box(round((box.width - width) * place[0]), round((box.height - height) * place[1]), width, height)
    way = rng.choice([cv2.INTER_NEAREST_EXACT, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4], p=[0.1, 0.5, 0.3, 0.1])
    return cut(sample, window, box.size, int(way))


def boxed(rng: Generator, sample: Sample, strength: float) -> Sample:
    """The picture, smaller, in a black or dark screen: a box of the same or another shape, at a random place."""
    return _in_screen(rng, sample, strength, lambda size: None)


def shaped(rng: Generator, sample: Sample, strength: float) -> Sample:
    """A round, oval or many-cornered picture in a black screen, of the size of the frame or smaller."""
    return _in_screen(rng, sample, strength * rng.uniform(0.0, 1.0), lambda size: _aperture(rng, size, strength))


def side_by_side(rng: Generator, sample: Sample, strength: float) -> Sample:
    """Both eyes' pictures side by side, squeezed, cropped or with black borders; the right eye's is shifted."""
    return _stereo(rng, sample, strength, across=True)


def top_bottom(rng: Generator, sample: Sample, strength: float) -> Sample:
    """Both eyes' pictures one above the other; else as :func:`side_by_side`."""
    return _stereo(rng, sample, strength, across=False)


def inset(rng: Generator, sample: Sample, strength: float) -> Sample:
    """A small picture in the picture: the scene again, with its instruments, or a grey scan without any."""
    box = whole(sample)
    scale = amount(rng, strength, 0.12, 0.45)
    size = (max(8, round(box.height * scale)), max(8, round(box.width * scale * rng.uniform(0.7, 1.2))))
    place = rng.beta(0.3, 0.3, 2)
    left, top = round((box.width - size[1]) * place[0]), round((box.height - size[0]) * place[1])
    if rng.random() < 0.5 and 2 * len(sample.landmarks) <= _MOST_INSTRUMENTS:
        piece = cut(sample, _window(rng, box, amount(rng, strength, 0.0, 0.4)), size)
    else:
        piece = empty(sample)
        piece = cut(piece, box, size)
        piece.image[:] = _scan(rng, size)
    line = int(rng.integers(0, 3))
    if line:
        color = rng.integers(0, 256, 3).tolist()
        cv2.rectangle(piece.image, (0, 0), (size[1] - 1, size[0] - 1), color, line)
    return lay(sample, piece, left, top)


def _in_screen(rng: Generator, sample: Sample, strength: float, aperture: Callable[[Size], FloatArray | None]) -> Sample:
    box = whole(sample)
    scale = 1.0 - amount(rng, strength, 0.0, 0.55)
    stretch = float(np.exp(rng.normal(0.0, 0.06)))
    height, width = round(box.height * min(1.0, scale * stretch)), round(box.width * min(1.0, scale / stretch))
    if rng.random() < 0.4:  # a picture of another shape: a part of the scene
        if rng.random() < 0.7:
            width = round(width * rng.uniform(0.6, 1.0))
        else:
            height = round(height * rng.uniform(0.6, 1.0))
    window = Box(0, 0, min(box.width, round(width / scale)), min(box.height, round(height / scale)))
    window = Box((box.width - window.width) // 2, (box.height - window.height) // 2, window.width, window.height)
    place = rng.uniform(0, 1, 2) if rng.random() < 0.4 else np.array([0.5, 0.5])
    piece = cut(sample, window, (height, width))
    alpha = aperture((height, width))
    return lay(
        empty(sample, _screen(rng)),
        piece,
        round((box.width - width) * place[0]),
        round((box.height - height) * place[1]),
        alpha,
    )


def _screen(rng: Generator) -> tuple[float, float, float]:
    """The colour of an empty screen: mostly black or nearly black."""
    if rng.random() < 0.8:
        grey = float(rng.choice([0.0, rng.uniform(0, 25)]))
        return grey, grey, grey
    red, green, blue = rng.uniform(0, 90, 3).tolist()
    return red, green, blue


def _aperture(rng: Generator, size: Size, strength: float) -> FloatArray:
    """Opacity (height, width), 0..1, of a round or many-cornered picture with a soft edge."""
    height, width = size
    mask = np.zeros(size, np.uint8)
    radius = 0.5 * height * (1.25 - amount(rng, strength, 0.0, 0.45))
    middle = np.array([width / 2, height / 2]) + rng.normal(0.0, 0.03, 2) * height
    kind = rng.random()
    if kind < 0.6:
        axes = (
            np.array([radius, radius]) * (1.0, 1.0) if rng.random() < 0.7 else radius * np.array([rng.uniform(0.8, 1.5), 1.0])
        )
        cv2.ellipse(
            mask, (middle * 16).astype(int).tolist(), (axes * 16).astype(int).tolist(), 0, 0, 360, 255, -1, cv2.LINE_AA, 4
        )
        if rng.random() < 0.3:  # the notch that shows what is up
            cv2.circle(mask, (round(middle[0]), round(middle[1] - radius)), max(2, round(radius * 0.06)), 0, -1, cv2.LINE_AA)
    elif kind < 0.8:
        corners = int(rng.integers(5, 11))
        angles = (np.arange(corners) + 0.5) * 2 * np.pi / corners + np.pi / 2
        points = middle + radius * 1.1 * np.stack((np.cos(angles) * rng.uniform(0.9, 1.4), np.sin(angles)), axis=1)
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255, cv2.LINE_AA)
    else:  # cut or rounded corners
        cutoff = round(height * rng.uniform(0.08, 0.3))
        mask[:] = 255
        for x, y in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
            inward = np.array([1 if x == 0 else -1, 1 if y == 0 else -1]) * cutoff
            cv2.fillPoly(mask, [np.array([(x, y), (x + inward[0], y), (x, y + inward[1])], np.int32)], 0, cv2.LINE_AA)
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 3.0))
    return np.asarray(soft / 255.0, np.float64)


def _stereo(rng: Generator, sample: Sample, strength: float, across: bool) -> Sample:
    if 2 * len(sample.landmarks) > _MOST_INSTRUMENTS:
        return sample
    frame = whole(sample)
    half = (frame.height, frame.width // 2) if across else (frame.height // 2, frame.width)
    disparity = round(frame.width * amount(rng, strength, 0.0, 0.06))
    source = Box(0, 0, frame.width - disparity, frame.height)
    size = half
    layout = rng.random()
    if layout < 0.4:  # keep the shape of the scene, with black borders
        scale = min(half[0] / source.height, half[1] / source.width)
        size = (round(source.height * scale), round(source.width * scale))
    elif layout < 0.6:  # keep it, and crop to the half
        scale = max(half[0] / source.height, half[1] / source.width)
        width, height = min(source.width, round(half[1] / scale)), min(source.height, round(half[0] / scale))
        source = Box((source.width - width) // 2, (source.height - height) // 2, width, height)
    canvas = empty(sample)
    shifts = (disparity, 0) if rng.random() < 0.5 else (0, disparity)
    for number, shift in enumerate(shifts):
        piece = cut(sample, Box(source.left + shift, source.top, source.width, source.height), size)
        left = (half[1] - size[1]) // 2 + (number * half[1] if across else 0)
        top = (half[0] - size[0]) // 2 + (0 if across else number * half[0])
        canvas = lay(canvas, piece, left, top)
    return canvas


def _window(rng: Generator, box: Box, loss: float) -> Box:
    """A random rectangle of the shape of a box, smaller by a share."""
    width, height = round(box.width * (1.0 - loss)), round(box.height * (1.0 - loss))
    place = rng.uniform(0, 1, 2)
    return Box(round((box.width - width) * place[0]), round((box.height - height) * place[1]), width, height)


def _scan(rng: Generator, size: Size) -> Image:
    """A grey picture as of an ultrasound or a radiograph: speckled noise."""
    speckle = cloud(rng, size, 4) * rng.rayleigh(0.6, size).astype(np.float32) * np.float32(rng.uniform(120, 320))
    tint = np.array([1.0, 1.0, 1.0]) if rng.random() < 0.7 else rng.uniform(0.5, 1.0, 3)
    return np.asarray(np.clip(speckle[..., None] * tint, 0, 255), np.uint8)
