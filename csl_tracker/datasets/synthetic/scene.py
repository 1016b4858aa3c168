"""A scene: tissue, lighting, instruments on smooth paths, and camera artefacts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, FloatArray
from csl_tracker.datasets.blending import color_row, three_channels
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic.clutter import add_clutter
from csl_tracker.datasets.synthetic.instrument import Look, Part, Pose, Shape, parts_and_landmarks, random_look, random_shape
from csl_tracker.datasets.synthetic.noise import smooth
from csl_tracker.datasets.synthetic.tissue import light, render_tissue
from csl_tracker.instruments import ENDOVIS
from csl_tracker.pixels import Resize, Size

_SHIFT = 6
_OVERSAMPLING = 4
_RETREAT_FREQUENCY = 0.55  # rad/s
_BALANCE_DRIFT = 0.05  # of the colour channels
_LIGHT_SWAY = 0.05  # of the light direction; moves the highlights over the tissue
LANDMARKS = 5


@dataclass(frozen=True)
class Path:
    """Smooth motion of one instrument: every coordinate a sum of two sines; image widths, rad.

    Attributes:
        center: Mean of x, y, angle, bend, yaw, opening and relative size, float64 (7,).
        swing: Amplitudes, float64 (2, 7).
        frequency: Of the sines, rad/s.
        phase: Of the sines, rad.
        scale: Width of the shaft.
        reach: Foreshortening of what lies beyond the shaft's end.
        retreat: How far the instrument is drawn back along its shaft now and then, so that it leaves the image.
    """

    center: FloatArray
    swing: FloatArray
    frequency: FloatArray
    phase: FloatArray
    scale: float
    reach: float
    retreat: float = 0.0

    def pose(self, time: float, width: float) -> Pose:
        """Pose of the instrument at a time, s, in an image of the given width."""
        wave = np.sin(self.frequency * time + self.phase)
        x, y, angle, bend, yaw, opening, size = self.center + (self.swing * wave).sum(axis=0)
        back = self.retreat * max(0.0, float(np.sin(_RETREAT_FREQUENCY * time))) ** 2
        x, y = x - back * np.cos(angle), y - back * np.sin(angle)
        return Pose(
            x=x * width,
            y=y * width,
            angle=angle,
            bend=bend,
            yaw=yaw,
            opening=max(0.02, opening),
            width=self.scale * width * float(np.clip(1 + size, 0.6, 1.6)),
            reach=self.reach,
        )


def random_path(rng: np.random.Generator, aspect: float, entry: float) -> Path:
    """A random path of an instrument that enters from a side.

    Args:
        rng: Random generator.
        aspect: Height over width of the image.
        entry: Direction of the shaft towards the tip, rad.
    """
    middle = np.array([0.5 + rng.normal(0, 0.16), aspect * (0.5 + rng.normal(0, 0.16))])
    back = rng.uniform(-0.12, 0.3)
    end = middle - back * np.array([np.cos(entry), np.sin(entry)])
    center = np.array([*end, entry, rng.normal(0, 0.3), rng.normal(0, 0.25), rng.uniform(0.0, 0.7), 0.0])
    swing = rng.uniform(0, 1, (2, 7)) * np.array([0.09, 0.08, 0.15, 0.3, 0.2, 0.3, 0.1])
    frequency = rng.uniform(0.3, 2.2, (2, 7))
    scale = 0.14 * float(np.exp(rng.normal(0, 0.28)))
    return Path(
        center, swing, frequency, rng.uniform(0, 2 * np.pi, (2, 7)), float(np.clip(scale, 0.06, 0.24)), rng.uniform(0.7, 1.0)
    )


def _entry(rng: np.random.Generator, side: str) -> float:
    base = {"left": 0.0, "right": np.pi, "bottom": -np.pi / 2, "top": np.pi / 2}[side]
    return float(base + rng.normal(0, 0.42))


@dataclass(frozen=True)
class Tool:
    """One instrument of a scene."""

    shape: Shape
    look: Look
    path: Path
    side: str


class Scene:
    """The constant parts of a sequence.

    Args:
        seed: Of the scene.
        size: (height, width) at which it is rendered.
        tools: Number of instruments; drawn when None.
        sides: Sides from which they come, ``left``, ``right``, ``bottom`` or ``top``; drawn when None.
        moving: For sequences: highlights wander, fast instruments are blurred, and some leave for a while.
        clutter: Probability of things on the tissue that look a little like instruments.
    """

    def __init__(
        self,
        seed: int,
        size: Size,
        tools: int | None = None,
        sides: tuple[str, ...] | None = None,
        moving: bool = False,
        clutter: float = 0.0,
    ) -> None:
        rng = np.random.default_rng((seed, 1))
        self.seed, self.size = seed, size
        aspect = size[0] / size[1]
        count = int(rng.choice(3, p=(0.05, 0.55, 0.4))) if tools is None else tools
        if sides is None:
            drawn = rng.choice(["left", "right", "bottom", "top"], 2, replace=False, p=(0.35, 0.35, 0.2, 0.1))
            sides = tuple(str(side) for side in drawn[:count])
        self.tools = [
            Tool(random_shape(rng), random_look(rng), random_path(rng, aspect, _entry(rng, side)), side) for side in sides
        ]
        self.color, self.height = render_tissue(rng, size)
        if clutter:
            clutter_rng = np.random.default_rng((seed, 6))
            if clutter_rng.random() < clutter:
                add_clutter(clutter_rng, self.color, self.height)
        self.wetness = rng.uniform(-1.2, 0.6)
        self.exposure = float(np.exp(rng.normal(0.05, 0.22)))
        self.balance = np.exp(rng.normal(0, 0.07, 3)).astype(np.float32)
        self.gamma = float(np.exp(rng.normal(0, 0.15)))
        self.noise = rng.uniform(0, 6)
        self.blur = rng.uniform(0.2, 1.1) * size[1] / 320
        self.smoke = rng.uniform(0.1, 0.5) if rng.random() < 0.15 else 0.0
        self.vignette = rng.uniform(0.0, 0.9)
        self.border = rng.uniform(0.005, 0.03) if rng.random() < 0.6 else 0.0
        self.round_border = rng.random() < 0.08
        self.tint = rng.uniform(0.0, 0.35)
        self.shadow = rng.uniform(0.15, 0.7)
        self.drift = rng.uniform(-0.01, 0.01, 2)
        self.gloss_seed = int(rng.integers(2**31))
        self.moving = moving
        if moving:
            # A separate generator, so that the scene of a seed does not change.
            motion_rng = np.random.default_rng((seed, 5))
            self.shutter_s = motion_rng.uniform(0.005, 0.03)
            self.tools = [
                replace(t, path=replace(t.path, retreat=motion_rng.uniform(0.3, 0.9) if motion_rng.random() < 0.4 else 0.0))
                for t in self.tools
            ]

    def render(self, time: float, frame: int, sequence: str, stamp_ns: int) -> Sample:
        """Render the scene at a time, s."""
        h, w = self.size
        rng = np.random.default_rng((self.seed, 2, frame))
        light_rng = np.random.default_rng((self.seed, 3))
        sway = _LIGHT_SWAY * np.sin(np.array([0.9, 1.3]) * time) if self.moving else np.zeros(2)
        image = light(light_rng, self.color, self.height, self.wetness, self.gloss_seed, sway)
        if time:
            shift = self.drift * w * np.sin(0.7 * time)
            matrix = np.array([[1.0, 0, shift[0]], [0, 1.0, shift[1]]])
            moved = cv2.warpAffine(image, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            image = np.asarray(moved, np.float32)
        labels, instances = np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
        anchors = np.full((len(self.tools), 2), np.nan)
        landmarks = np.full((len(self.tools), LANDMARKS, 2), np.nan)
        ambient = image.mean(axis=(0, 1)) / max(1.0, float(image.mean()))
        for k, tool in enumerate(self.tools):
            parts, points = parts_and_landmarks(tool.shape, tool.look, tool.path.pose(time, w))
            image = self._draw(image, labels, instances, k + 1, parts, ambient)
            anchors[k] = points[ENDOVIS.anchor]
            if self.moving:
                image = self._smear(image, parts, tool.path, time)
            inside = (points > -0.5).all(axis=1) & (points[:, 0] < w - 0.5) & (points[:, 1] < h - 0.5)
            landmarks[k] = np.where(inside[:, None], points, np.nan)
        seen = self._camera(image, rng, time)
        labelled = np.ones(landmarks.shape[:2], bool)
        return Sample(seen, labels, landmarks, labelled, sequence, frame, stamp_ns, instances, anchors)

    def poses(self, time: float) -> list[Pose]:
        """Poses of the instruments at a time, s; px and rad."""
        return [tool.path.pose(time, self.size[1]) for tool in self.tools]

    def layers(self, time: float) -> list[npt.NDArray[np.uint8]]:
        """Label map of each instrument, uint8 (h, w); pixels hidden by another instrument are background."""
        layers: list[npt.NDArray[np.uint8]] = []
        for tool, pose in zip(self.tools, self.poses(time), strict=True):
            labels = np.zeros(self.size, np.uint8)
            for part in parts_and_landmarks(tool.shape, tool.look, pose)[0]:
                labels[_mask(part.outline, self.size) > 127] = part.label
            layers = [np.where(labels > 0, 0, below).astype(np.uint8) for below in layers]
            layers.append(labels)
        return layers

    def _draw(
        self,
        image: Float32Array,
        labels: npt.NDArray[np.uint8],
        instances: npt.NDArray[np.uint8],
        number: int,
        parts: list[Part],
        ambient: Float32Array,
    ) -> Float32Array:
        h, w = self.size
        alphas = [_mask(part.outline, self.size) for part in parts]
        whole = np.maximum.reduce(alphas)
        if not whole.any():
            return image
        spread = 0.02 * w
        shadow = cv2.resize(whole, (w // 4, h // 4), interpolation=cv2.INTER_AREA)
        shadow = cv2.GaussianBlur(shadow, (0, 0), spread / 4)
        matrix = np.array([[4.0, 0, 0.4 * spread], [0, 4.0, 0.9 * spread]])
        shadow = cv2.warpAffine(shadow, matrix, (w, h), flags=cv2.INTER_LINEAR)
        image = image * three_channels(1 - np.float32(self.shadow / 255) * shadow)
        # Light attenuation along the shaft, and reflection of the tissue colour.
        color_cast = (1 + np.float32(self.tint) * (ambient - 1)).astype(np.float32)
        for part, alpha in zip(parts, alphas, strict=True):
            if not alpha.any():
                continue
            x, y, bw, bh = cv2.boundingRect(cv2.findNonZero(alpha))
            frame = part.frame.copy()
            frame[:, 2] -= (x, y)
            texture = cv2.warpAffine(part.texture, frame, (bw, bh), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            a = alpha[y : y + bh, x : x + bw, None].astype(np.float32) / 255
            region = image[y : y + bh, x : x + bw]
            region += a * (texture * color_cast - region)
            covered = alpha[y : y + bh, x : x + bw] > 127
            labels[y : y + bh, x : x + bw][covered] = part.label
            instances[y : y + bh, x : x + bw][covered] = number
        return image

    def _smear(self, image: Float32Array, parts: list[Part], path: Path, time: float) -> Float32Array:
        """Apply motion blur to an instrument."""
        before, after = (path.pose(time + s * self.shutter_s / 2, self.size[1]) for s in (-1, 1))
        way = np.array([after.x - before.x, after.y - before.y])
        length = float(np.linalg.norm(way))
        if length < 1.0:
            return image
        side = 2 * int(np.ceil(length / 2)) + 1
        kernel = np.zeros((side, side), np.float32)
        ends = [np.rint((side // 2 + s * way / 2) * (1 << _SHIFT)).astype(int) for s in (-1, 1)]
        cv2.line(kernel, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1.0, 1, cv2.LINE_8, _SHIFT)
        kernel /= kernel.sum()
        where = np.maximum.reduce([_mask(part.outline, self.size) for part in parts])
        share = cv2.filter2D(cv2.dilate(where, np.ones((side, side), np.uint8)), -1, kernel)[..., None] / np.float32(255)
        return np.asarray(image + share * (cv2.filter2D(image, -1, kernel) - image), np.float32)

    def _camera(self, image: Float32Array, rng: np.random.Generator, time: float) -> npt.NDArray[np.uint8]:
        h, w = self.size
        breath = 1 + 0.03 * np.sin(0.5 * time + self.seed % 7)
        balance = self.balance
        if self.moving:
            balance = balance * np.exp(_BALANCE_DRIFT * np.sin(0.31 * time + np.array([0.0, 2.1, 4.2]))).astype(np.float32)
        image = image * color_row(balance * np.float32(self.exposure * breath), w)
        if self.vignette:
            rows = ((np.arange(h, dtype=np.float32) - h / 2) / w)[:, None]
            columns = ((np.arange(w, dtype=np.float32) - w / 2) / w)[None]
            fall = 1 - np.float32(self.vignette) * np.minimum((rows**2 + columns**2) * 2.2, 0.9)
            image *= three_channels(fall)
        if self.smoke:
            smoke_rng = np.random.default_rng((self.seed, 4))
            cloud = np.clip(0.5 + 0.4 * smooth(smoke_rng, (h, w), 3).reshape(h, w), 0, 1)
            image += np.float32(self.smoke) * cloud[..., None] * (200 - image)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur), np.float32)
        if self.noise:
            image += np.float32(self.noise) * cv2.GaussianBlur(rng.standard_normal((h, w, 3), np.float32), (0, 0), 0.6)
        np.clip(image, 0, 255, out=image)
        if abs(self.gamma - 1) > 0.02:
            image = 255 * (image / 255) ** np.float32(self.gamma)
        if self.border:
            edge = round(self.border * w)
            image[:, :edge] = image[:, w - edge :] = 3
        if self.round_border:
            mask = np.zeros((h, w), np.uint8)
            cv2.circle(mask, (w // 2, h // 2), round(0.52 * w), 1, -1)
            image *= mask[..., None]
        return np.rint(image).astype(np.uint8)


def _mask(outline: FloatArray, size: Size) -> npt.NDArray[np.uint8]:
    """Filled polygon, uint8 (height, width): coverage of each pixel, 0..255.

    Drawn at four times the size within its box and averaged: OpenCV's own anti-aliased filling is off by up to a third of a px.
    """
    mask = np.zeros(size, np.uint8)
    low = np.clip(np.floor(outline.min(axis=0)) - 1, 0, (size[1], size[0])).astype(int)
    high = np.clip(np.ceil(outline.max(axis=0)) + 2, 0, (size[1], size[0])).astype(int)
    width, height = high - low
    if width <= 0 or height <= 0:
        return mask
    corners = Resize((1, 1), (_OVERSAMPLING, _OVERSAMPLING)).points(outline - low)
    fine = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    cv2.fillPoly(fine, [np.rint(corners * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_8, _SHIFT)
    mask[low[1] : high[1], low[0] : high[0]] = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return mask


def render_frame(seed: int, size: Size = (256, 320), clutter: float = 0.0) -> Sample:
    """Render one frame of a separate scene; ``clutter`` as for :class:`Scene`."""
    return Scene(seed, size, clutter=clutter).render(0.0, seed, "synthetic", 0)
