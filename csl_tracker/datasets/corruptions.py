"""Corruptions of labelled frames at five frozen severities, to measure how robust a network is.

The levels are frozen: changing one changes every published figure. Severity 3 is what labs meet: full grey, a zoom of 1.6, JPEG
at quality 10, noise of sigma 20, a blur of sigma 3, a gain of 0.4 or 1.6, a comb of 6 px, two lines of text and a bar. Lengths
are px of an image of 576 rows and grow with the image. The same frame, kind and severity always give the same picture;
what sits on the lens or the screen stays in place during a sequence.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.sample import Sample
from csl_tracker.instruments import IGNORE_LABEL

SEVERITIES = (1, 2, 3, 4, 5)
_ROWS = 576
"""Image height to which lengths refer, px."""

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        title: Name in tables and figures.
        levels: Parameter by severity, from 1 to 5.
        apply: Maps a sample, the level, a random generator of the frame and one of the sequence to the corrupted sample.
    """

    title: str
    levels: tuple[float, float, float, float, float]
    apply: Callable[[Sample, float, np.random.Generator, np.random.Generator], Sample]


def corrupt(sample: Sample, kind: str, severity: int) -> Sample:
    """Corrupt a frame; image, masks and landmarks stay consistent.

    Args:
        sample: The frame; it is not changed.
        kind: A key of :data:`CORRUPTIONS`.
        severity: 1 to 5.

    Raises:
        KeyError: The kind is unknown.
        ValueError: The severity is not one of 1 to 5.
    """
    corruption = CORRUPTIONS[kind]
    if severity not in SEVERITIES:
        raise ValueError(f"a severity is one of {SEVERITIES}, not {severity}")
    words = [zlib.crc32(kind.encode()), severity, zlib.crc32(sample.sequence.encode())]
    of_sequence, of_frame = np.random.default_rng(words), np.random.default_rng([*words, sample.frame])
    return corruption.apply(sample, corruption.levels[severity - 1], of_frame, of_sequence)


def _pictured(
    change: Callable[[Image, float, np.random.Generator, np.random.Generator], npt.NDArray[np.generic]],
) -> Callable[[Sample, float, np.random.Generator, np.random.Generator], Sample]:
    """A corruption of the picture alone."""

    def apply(sample: Sample, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Sample:
        image = np.asarray(change(sample.image, level, frame, sequence), np.float32)
        return replace(sample, image=np.clip(np.rint(image), 0, 255).astype(np.uint8))

    return apply


def _scale(image: Image) -> float:
    return float(image.shape[0] / _ROWS)


def _field(rng: np.random.Generator, size: tuple[int, int], cells: int) -> FloatImage:
    """A smooth random field of (height, width) from 0 to 1."""
    small = rng.random((cells, round(cells * size[1] / size[0]) + 1), np.float32)
    large = np.asarray(cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.asarray((large - large.min()) / max(float(large.max() - large.min()), 1e-6), np.float32)


def _blend(image: Image, color: tuple[float, float, float], alpha: FloatImage) -> FloatImage:
    share = alpha[..., None]
    return np.asarray(image * (1.0 - share) + np.asarray(color, np.float32) * share, np.float32)


def _blood(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    """Drops of blood on the lens that cover a share of the picture, nearly opaque in their middle."""
    covered = _field(sequence, image.shape[:2], 5)
    edge = float(np.quantile(covered, 1.0 - level))
    alpha = np.clip((covered - edge) / 0.12, 0.0, 1.0) * 0.92
    return _blend(image, (95.0, 8.0, 10.0), np.asarray(alpha, np.float32))


def _smoke(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    """A veil of smoke with moving structure; the level is its mean opacity."""
    veil = 0.6 * _field(frame, image.shape[:2], 4) + 0.4 * _field(frame, image.shape[:2], 11)
    alpha = np.clip(level * veil / float(veil.mean()), 0.0, 0.97)
    return _blend(image, (205.0, 203.0, 208.0), np.asarray(alpha, np.float32))


def _gain(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    return np.asarray(image * np.float32(level), np.float32)


def _motion_blur(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Image:
    """A straight motion of the camera during the exposure, px."""
    length = max(3, round(level * _scale(image)) | 1)
    kernel = np.zeros((length, length), np.float32)
    angle, reach = frame.uniform(0.0, np.pi), (length - 1) / 2
    ends = [(round(reach + sign * reach * np.cos(angle)), round(reach + sign * reach * np.sin(angle))) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)


def _blur(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Image:
    sigma = level * _scale(image)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


def _defocus(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Image:
    """The disc of a lens out of focus; the level is its radius, px."""
    radius = max(1.0, level * _scale(image))
    reach = int(np.ceil(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(rows, columns), 0.0, 1.0).astype(np.float32)
    return np.asarray(cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)


def _noise(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    return np.asarray(image + frame.standard_normal(image.shape, np.float32) * np.float32(level), np.float32)


def _jpeg(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Image:
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(level)])[1]
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8)


def _interlace(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Image:
    """The second field of an interlaced picture, taken after a motion to the right, px."""
    shift = max(1, round(level * image.shape[1] / (_ROWS * 1.25)))
    moved: Image = image.copy()
    moved[1::2, shift:] = image[1::2, : image.shape[1] - shift]
    moved[1::2, :shift] = image[1::2, :1]
    return moved


def _colour_cast(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    """A wrong white balance: red is weakened and blue amplified by the level."""
    return np.asarray(image * np.array([1.0 - level, 1.0 - 0.2 * level, 1.0 + level], np.float32), np.float32)


def _grey(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
    return np.asarray(image + (grey - image) * np.float32(min(1.0, level)) - np.float32(60 * max(0.0, level - 1.0)), np.float32)


def _text(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Image:
    """Lines of white text, and from severity 2 on a grey bar, as on a recorded screen; the level is the number of lines."""
    drawn: Image = image.copy()
    height, width = image.shape[:2]
    size = 1.6 * _scale(image)
    thick = max(1, round(3 * _scale(image)))
    if level >= 1.5:
        top = round(0.88 * height)
        drawn[top:] = (drawn[top:] * 0.25 + 0.75 * 70).astype(np.uint8)
        cv2.rectangle(
            drawn, (round(0.3 * width), round(0.92 * height)), (round(0.7 * width), round(0.95 * height)), (235, 235, 235), -1
        )
    letters = np.array(list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789:/."))
    for line in range(int(level)):
        words = "".join(sequence.choice(letters, 18))
        place = (round(0.03 * width), round((0.1 + 0.11 * line) * height))
        cv2.putText(drawn, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thick, cv2.LINE_AA)
    return drawn


def _lens_dirt(image: Image, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> FloatImage:
    """Blurred specks and smears on the lens, brighter or darker than the scene; the level is their number."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(level)):
        center = (int(sequence.integers(width)), int(sequence.integers(height)))
        axes = tuple(int(a) for a in sequence.uniform(0.015, 0.09, 2) * height)
        cv2.ellipse(mask, center, axes, float(sequence.uniform(0, 180)), 0, 360, float(sequence.uniform(0.4, 0.85)), -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 5 * _scale(image)), np.float32)
    tone = 40.0 + 160.0 * _field(sequence, (height, width), 3)
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), 12 * _scale(image)), np.float32)
    dirt = 0.5 * blurred + 0.5 * tone[..., None]
    return np.asarray(image * (1 - mask[..., None]) + dirt * mask[..., None], np.float32)


def _zoom(sample: Sample, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Sample:
    return _warped(sample, level, np.zeros(2), IGNORE_LABEL)


def _boxed(sample: Sample, level: float, frame: np.random.Generator, sequence: np.random.Generator) -> Sample:
    """The picture, smaller, somewhere in a black screen; the level is its share of the width."""
    height, width = sample.image.shape[:2]
    free = np.array([width, height]) * (1.0 - level) / 2
    return _warped(sample, level, sequence.uniform(-free, free), 0)


def _warped(sample: Sample, scale: float, shift: FloatArray, outside: int) -> Sample:
    """Scale around the middle of the image and shift, px; landmarks that leave the image are known to be absent.

    Pixel centres have whole coordinates, so that the image reaches from -0.5 to its size less 0.5, and its middle is at
    (size - 1) / 2.
    """
    height, width = sample.image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = middle + shift - scale * middle
    affine = np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])
    if scale < 1:  # warpAffine does not average: shrink first, then place on whole pixels
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA), np.uint8)
        ratio = np.array([size[0] / width, size[1] / height])
        left, top = (int(v) for v in np.rint(middle + shift - (np.array(size) - 1) / 2))
        affine = np.column_stack((np.diag(ratio), np.array([left, top]) + (ratio - 1) / 2))
        image = np.zeros_like(sample.image)
        rows = slice(max(0, top), min(height, top + size[1]))
        columns = slice(max(0, left), min(width, left + size[0]))
        image[rows, columns] = small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    else:
        image = np.asarray(cv2.warpAffine(sample.image, affine, (width, height), flags=cv2.INTER_LINEAR), np.uint8)

    def labels(values: Image | None) -> Image | None:
        if values is None:
            return None
        flags = cv2.INTER_NEAREST
        return np.asarray(cv2.warpAffine(values, affine, (width, height), flags=flags, borderValue=float(outside)), np.uint8)

    points = sample.landmarks @ affine[:, :2].T + affine[:, 2]
    inside = (points >= -0.5).all(axis=-1) & (points[..., 0] <= width - 0.5) & (points[..., 1] <= height - 0.5)
    return replace(
        sample,
        image=image,
        label_map=labels(sample.label_map),
        landmarks=np.where(inside[..., None], points, np.nan),
        instances=labels(sample.instances),
    )


CORRUPTIONS: Mapping[str, Corruption] = {
    "blood": Corruption("blood on the lens", (0.04, 0.08, 0.15, 0.25, 0.4), _pictured(_blood)),
    "smoke": Corruption("smoke", (0.15, 0.3, 0.45, 0.6, 0.75), _pictured(_smoke)),
    "dark": Corruption("dark", (0.8, 0.6, 0.4, 0.25, 0.15), _pictured(_gain)),
    "bright": Corruption("bright", (1.2, 1.4, 1.6, 2.0, 2.6), _pictured(_gain)),
    "blur": Corruption("blur", (1.0, 2.0, 3.0, 4.5, 6.5), _pictured(_blur)),
    "motion_blur": Corruption("motion blur", (7, 13, 21, 31, 45), _pictured(_motion_blur)),
    "defocus": Corruption("defocus", (2.0, 3.5, 5.0, 7.5, 11.0), _pictured(_defocus)),
    "noise": Corruption("noise", (5, 10, 20, 35, 55), _pictured(_noise)),
    "jpeg": Corruption("JPEG", (40, 20, 10, 6, 3), _pictured(_jpeg)),
    "interlace": Corruption("interlacing", (2, 4, 6, 10, 16), _pictured(_interlace)),
    "colour_cast": Corruption("colour cast", (0.1, 0.2, 0.35, 0.5, 0.7), _pictured(_colour_cast)),
    "grey": Corruption("grey", (0.4, 0.7, 1.0, 1.25, 1.5), _pictured(_grey)),
    "zoom": Corruption("zoom", (1.2, 1.4, 1.6, 2.2, 3.0), _zoom),
    "text": Corruption("text", (1, 1.5, 2, 4, 6), _pictured(_text)),
    "boxed": Corruption("boxed picture", (0.9, 0.8, 0.7, 0.55, 0.4), _boxed),
    "lens_dirt": Corruption("dirt on the lens", (6, 12, 20, 32, 50), _pictured(_lens_dirt)),
}
"""Kind -> corruption. ``grey`` above 1 also darkens by 60 grey levels per unit; ``text`` has a bar from severity 2 on."""
