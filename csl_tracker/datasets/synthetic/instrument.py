"""Articulated instruments: geometry, landmarks, metal and plastic."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, FloatArray
from csl_tracker.datasets.synthetic.noise import smooth


@dataclass(frozen=True)
class Shape:
    """Proportions of an instrument in shaft widths.

    Attributes:
        sleeve: Length from the ring to the end of the shaft.
        wrist: Length from the end of the shaft to the clasper joint.
        wrist_width: Width at the joint.
        clasper: Length of the claspers.
        clasper_width: Width at their base.
        clasper_tip: Width at their tip.
    """

    sleeve: float
    wrist: float
    wrist_width: float
    clasper: float
    clasper_width: float
    clasper_tip: float


@dataclass(frozen=True)
class Look:
    """Textures, float32 (rows across, columns along, 3), 0..255: dark shaft, metal sleeve, wrist, claspers."""

    shaft: Float32Array
    sleeve: Float32Array
    wrist: Float32Array
    clasper: Float32Array


@dataclass(frozen=True)
class Pose:
    """Pose of an instrument, image px and rad.

    Attributes:
        x: Column of the end of the shaft, where the wrist begins.
        y: Row of the end of the shaft.
        angle: Direction of the shaft towards the tip.
        bend: Angle of the wrist relative to the shaft.
        yaw: Angle of the claspers relative to the wrist.
        opening: Angle between the claspers.
        width: Width of the shaft, px.
        reach: Foreshortening beyond the end of the shaft, 0..1.
    """

    x: float
    y: float
    angle: float
    bend: float
    yaw: float
    opening: float
    width: float
    reach: float


def random_shape(rng: np.random.Generator) -> Shape:
    """Random proportions: 65 % similar to a large needle driver, the others arbitrary."""
    if rng.random() < 0.65:
        return Shape(
            rng.uniform(0.45, 0.85),
            rng.uniform(0.65, 1.05),
            rng.uniform(0.62, 0.85),
            rng.uniform(0.65, 1.15),
            rng.uniform(0.24, 0.4),
            rng.uniform(0.1, 0.2),
        )
    return Shape(
        rng.uniform(0.35, 1.2),
        rng.uniform(0.5, 1.3),
        rng.uniform(0.4, 0.95),
        rng.uniform(0.6, 2.0),
        rng.uniform(0.15, 0.45),
        rng.uniform(0.06, 0.3),
    )


def _cylinder(rng: np.random.Generator, size: tuple[int, int], base: npt.ArrayLike, shine: float, tight: float) -> Float32Array:
    rows, columns = size
    v = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    side = rng.uniform(-0.6, 0.6)
    profile = 0.35 + 0.65 * np.sqrt(np.clip(1 - (v - 0.5 * side) ** 2 / 1.7, 0, 1))
    image = np.asarray(base, np.float32)[None, None] * profile[..., None] * np.ones((1, columns, 1), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        at, spread = rng.uniform(-0.8, 0.8), rng.uniform(0.04, 0.22) / tight
        along = np.clip(0.6 + 0.5 * smooth(rng, (1, columns), 3).reshape(1, columns), 0, 1.6)
        image += (shine * rng.uniform(0.4, 1.0) * np.exp(-(((v - at) / spread) ** 2)) * along)[..., None]
    streaks = cv2.resize(rng.standard_normal((rows // 2, 6), np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(image * (1 + 0.08 * streaks[..., None]), np.float32)


def _scratches(rng: np.random.Generator, image: Float32Array, count: int, value: float) -> None:
    rows, columns = image.shape[:2]
    for _ in range(count):
        x, y = rng.uniform(0, columns), rng.uniform(0, rows)
        length, angle = rng.uniform(0.02, 0.12) * columns, rng.normal(0, 0.9)
        end = (round(x + length * np.cos(angle)), round(y + length * np.sin(angle)))
        cv2.line(image, (round(x), round(y)), end, (value, value, value), 1, cv2.LINE_AA)


def _metal(rng: np.random.Generator, size: tuple[int, int], bright: float) -> Float32Array:
    """Polished, machined metal: nearly white patches next to nearly black ones."""
    base = bright * rng.uniform(0.8, 1.1) * np.array([1, 0.99, 0.98]) + rng.normal(0, 5, 3)
    image = _cylinder(rng, size, base * 0.75, 130, 1.0)
    along = smooth(rng, (size[0], size[1] // 3), rng.uniform(3, 7))
    facets = np.asarray(cv2.resize(along, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
    facets += 0.4 * smooth(rng, size, 9).reshape(size)
    image *= np.clip(1 + rng.uniform(0.25, 0.6) * np.tanh(1.5 * facets), 0.2, 2)[..., None]
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.integers(0, size[1]), rng.integers(0, size[0])
        axes = (int(rng.integers(2, size[1] // 5)), int(rng.integers(1, size[0] // 6)))
        value = float(rng.choice([30, 70, 235, 255]))
        cv2.ellipse(
            image,
            (int(x), int(y)),
            axes,
            float(rng.uniform(0, 180)),
            0,
            360,
            (value, value, value),
            int(rng.choice([-1, 1, 2])),
            cv2.LINE_AA,
        )
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.float32)


def random_look(rng: np.random.Generator) -> Look:
    """Textures of one instrument."""
    kind = rng.random()
    if kind < 0.75:
        level = rng.uniform(22, 75)
        base = level * np.array([1.0, 1.0, 1.05]) + rng.normal(0, 3, 3)
        shaft = _cylinder(rng, (64, 384), base, rng.uniform(10, 70), 0.6)
        _scratches(rng, shaft, int(rng.integers(0, 40)), float(rng.uniform(90, 200)))
    elif kind < 0.9:
        shaft = _cylinder(rng, (64, 384), rng.uniform(110, 210) * np.ones(3), rng.uniform(30, 110), 1.0)
    else:
        shaft = _cylinder(rng, (64, 384), rng.uniform(20, 220, 3), rng.uniform(10, 60), 1.0)
    bright = rng.uniform(120, 215)
    sleeve = _cylinder(rng, (64, 64), bright * np.array([1, 0.99, 0.97]), rng.uniform(40, 120), 1.0)
    for _ in range(int(rng.integers(0, 4))):
        x = int(rng.integers(0, 64))
        cv2.line(sleeve, (x, 0), (x, 63), (float(rng.choice([30, 80, 250])),) * 3, int(rng.integers(1, 4)), cv2.LINE_AA)
    sleeve[:, :3] *= rng.uniform(0.3, 1.6)
    wrist = _metal(rng, (72, 96), bright)
    joint = (int(rng.uniform(35, 80)), int(rng.uniform(28, 44)))
    if rng.random() < 0.8:
        radius = int(rng.uniform(8, 15))
        cv2.circle(wrist, joint, radius, (bright * 0.9,) * 3, -1, cv2.LINE_AA)
        cv2.circle(wrist, joint, radius, (30.0,) * 3, 2, cv2.LINE_AA)
        cv2.ellipse(
            wrist,
            joint,
            (radius - 3, radius - 3),
            0,
            float(rng.uniform(0, 360)),
            float(rng.uniform(360, 540)),
            (250.0,) * 3,
            2,
            cv2.LINE_AA,
        )
    if rng.random() < 0.5:
        cv2.putText(
            wrist,
            str(rng.integers(10, 99)),
            (int(rng.uniform(5, 60)), int(rng.uniform(20, 60))),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (30.0,) * 3,
            1,
            cv2.LINE_AA,
        )
    clasper = _metal(rng, (32, 96), bright * 0.9)
    if rng.random() < 0.6:
        for x in range(20, 96, int(rng.integers(4, 9))):
            cv2.line(clasper, (x, 0), (x - 6, 31), (45.0,) * 3, 1, cv2.LINE_AA)
    return Look(shaft, sleeve, wrist, clasper)


@dataclass(frozen=True)
class Part:
    """One part with its outline and texture mapping.

    Attributes:
        outline: float64 (n, 2), image px.
        label: Class.
        texture: The texture.
        frame: float64 (2, 3), texture px to image px.
    """

    outline: FloatArray
    label: int
    texture: Float32Array
    frame: FloatArray


def _frame(origin: FloatArray, along: FloatArray, across: FloatArray, texture: Float32Array) -> FloatArray:
    """Affine map of a texture with its left centre at the origin; ``along`` and ``across`` span its length and width."""
    rows, columns = texture.shape[:2]
    a, b = along / columns, across / rows
    start = origin - 0.5 * across + 0.5 * a + 0.5 * b
    return np.column_stack((a, b, start))


def parts_and_landmarks(shape: Shape, look: Look, pose: Pose) -> tuple[list[Part], FloatArray]:
    """Parts in the order in which they are drawn, and landmarks float64 (5, 2): center, shaft, head, left and right clasper."""
    w = pose.width

    def unit(angle: float) -> FloatArray:
        return np.array([np.cos(angle), np.sin(angle)])

    d, n = unit(pose.angle), unit(pose.angle + np.pi / 2)
    end = np.array([pose.x, pose.y])
    ring = end - shape.sleeve * w * d
    far = ring - 14 * w * d
    wd, wn = unit(pose.angle + pose.bend), unit(pose.angle + pose.bend + np.pi / 2)
    head = end + shape.wrist * w * pose.reach * wd
    half = 0.5 * w
    parts = [
        Part(
            np.array([far - half * n, ring - half * n, ring + half * n, far + half * n]),
            1,
            look.shaft,
            _frame(ring - 4 * w * d, 4 * w * d, w * n, look.shaft),
        ),
        Part(
            np.array([ring - half * n, end - half * n, end + half * n, ring + half * n]),
            1,
            look.sleeve,
            _frame(ring, end - ring, w * n, look.sleeve),
        ),
    ]
    tips = []
    claspers = []
    for side in (-1, 1):
        cd = unit(pose.angle + pose.bend + pose.yaw + side * 0.5 * pose.opening)
        cn = np.array([-cd[1], cd[0]])
        length = shape.clasper * w * pose.reach
        base, tip = 0.5 * shape.clasper_width * w, 0.5 * shape.clasper_tip * w
        offset = head + side * 0.35 * base * cn
        point = offset + length * cd
        tips.append(point)
        outline = np.array(
            [
                offset - 0.6 * base * cd - base * cn,
                offset + 0.45 * length * cd - 0.8 * base * cn,
                point - 0.3 * tip * cd - tip * cn,
                point + 0.2 * tip * cd,
                point - 0.3 * tip * cd + tip * cn,
                offset + 0.45 * length * cd + 0.8 * base * cn,
                offset - 0.6 * base * cd + base * cn,
            ]
        )
        claspers.append(
            Part(outline, 2, look.clasper, _frame(offset - base * cd, (length + base) * cd, 2.2 * base * cn, look.clasper))
        )
    e = 0.5 * shape.wrist_width * w
    wrist_outline = np.array(
        [
            end - half * n - 0.02 * w * d,
            end + 0.25 * (head - end) - 0.98 * half * wn,
            end + 0.6 * (head - end) - 0.5 * (half + e) * wn,
            head - e * wn,
            head + 0.35 * e * wd - 0.75 * e * wn,
            head + 0.5 * e * wd,
            head + 0.35 * e * wd + 0.75 * e * wn,
            head + e * wn,
            end + 0.6 * (head - end) + 0.5 * (half + e) * wn,
            end + 0.25 * (head - end) + 0.98 * half * wn,
            end + half * n - 0.02 * w * d,
        ]
    )
    wrist = Part(wrist_outline, 2, look.wrist, _frame(end, 1.25 * (head - end), 1.05 * w * wn, look.wrist))
    parts += [claspers[0], wrist, claspers[1]] if pose.opening < 0.9 else [*claspers, wrist]
    return parts, np.array([ring, end, head, tips[0], tips[1]])
