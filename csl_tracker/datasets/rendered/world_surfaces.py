"""Surfaces of an operating room and a laboratory: drapes, gauze, tables, trays, skin, rooms."""

from __future__ import annotations

import math

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.rendered.world_shapes import (
    Color,
    Size,
    any_color,
    bent_line,
    blend,
    defocus,
    filled,
    grain,
    noise_plane,
    pick,
    round_body,
    shade,
    textured,
)

CLOTH: tuple[Color, ...] = (
    (52, 104, 160),
    (40, 120, 110),
    (70, 140, 180),
    (60, 110, 80),
    (180, 200, 210),
    (30, 60, 110),
    (130, 170, 200),
)
TABLE: tuple[Color, ...] = (
    (190, 190, 186),
    (120, 120, 122),
    (60, 60, 62),
    (170, 140, 105),
    (225, 224, 220),
    (24, 24, 26),
    (90, 110, 140),
)
SKIN: tuple[Color, ...] = (
    (222, 180, 156),
    (200, 150, 122),
    (170, 120, 92),
    (110, 74, 58),
    (206, 206, 206),
    (150, 152, 156),
    (232, 196, 196),
)
GLOVE: tuple[Color, ...] = (
    (226, 222, 208),
    (90, 130, 200),
    (120, 110, 180),
    (240, 240, 238),
    (70, 160, 160),
    (214, 190, 150),
    (40, 40, 44),
)


def folds(rng: np.random.Generator, size: Size, cells: float, strength: float) -> Float32Array:
    """Shading of cloth: wide folds and fine wrinkles, lit from one side, as a gain."""
    small = (max(8, size[0] // 2), max(8, size[1] // 2))
    gain = np.ones(small, np.float32)
    for scale, share in ((1.0, 1.0), (float(rng.uniform(2, 4)), 0.6), (float(rng.uniform(5, 9)), 0.3)):
        gain *= _fold_layer(rng, small, cells * scale, strength * share)
    return np.asarray(cv2.resize(np.clip(gain, 0.1, 1.7), (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _fold_layer(rng: np.random.Generator, size: Size, cells: float, strength: float) -> Float32Array:
    """Relief noise that is stretched along one direction."""
    angle = float(rng.uniform(0, math.pi))
    relief = noise_plane(rng, size, cells, 2)
    stretch = np.zeros((2, 3), np.float32)
    c, s, squeeze = math.cos(angle), math.sin(angle), float(rng.uniform(0.12, 0.8))
    stretch[:, :2] = np.array([(c, -s), (s, c)]) @ np.diag([1.0, squeeze]) @ np.array([(c, s), (-s, c)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    relief = np.asarray(
        cv2.warpAffine(relief, stretch, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REFLECT), np.float32
    )
    if rng.random() < 0.5:  # sharp creases
        relief = np.asarray(-np.abs(relief), np.float32)
    slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0) * math.cos(angle) + cv2.Sobel(relief, cv2.CV_32F, 0, 1) * math.sin(angle)
    slope = slope / (np.abs(slope).mean() * np.float32(2.5) + np.float32(1e-6))
    gain = 1 + np.float32(strength) * np.tanh(slope) + np.float32(0.3 * strength) * np.clip(relief, -2, 1)
    return np.asarray(gain, np.float32)


def drape(rng: np.random.Generator, size: Size) -> Image:
    """Surgical drape: folded cloth or plastic sheet."""
    image = shade(
        filled(size, pick(rng, CLOTH, 14)), folds(rng, size, float(rng.uniform(1, 4)), float(rng.uniform(0.15, 0.45)))
    )
    if rng.random() < 0.5:
        image = shade(image, weave(rng, size, float(rng.uniform(2.5, 5)), 0.10))
    if rng.random() < 0.4:
        image = blend(image, _stain(rng, size), pick(rng, ((120, 20, 24), (90, 30, 24), (150, 110, 60))))
    return grain(rng, image, 3)


def weave(rng: np.random.Generator, size: Size, pitch: float, strength: float) -> Float32Array:
    """Threads in two directions, as a gain."""
    warp = noise_plane(rng, size, 5, 2) * np.float32(rng.uniform(1, 5))
    angle = float(rng.uniform(0, math.pi))
    y, x = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)[None]
    u, v = x * math.cos(angle) + y * math.sin(angle) + warp, y * math.cos(angle) - x * math.sin(angle) + warp
    k = np.float32(2 * math.pi / pitch)
    return np.asarray(1 + np.float32(strength) * (np.sin(u * k) + np.sin(v * k)), np.float32)


def _stain(rng: np.random.Generator, size: Size) -> Float32Array:
    field = noise_plane(rng, size, float(rng.uniform(2, 5)), 5)
    return np.asarray(
        np.clip((field - np.float32(rng.uniform(0.6, 1.6))) * 3, 0, np.float32(rng.uniform(0.4, 0.9))), np.float32
    )


def gauze(rng: np.random.Generator, size: Size) -> Image:
    """Gauze or swab: open white weave in layers, often bloody, with a coloured thread."""
    ground = filled(size, pick(rng, ((120, 60, 60), (170, 160, 150), (60, 80, 100), (150, 90, 80), (60, 30, 30))))
    image = textured(rng, ground, 0.15, 4)
    for _ in range(int(rng.integers(1, 4))):
        threads = weave(rng, size, float(rng.uniform(4, 10)) * size[1] / 640 + 1, 0.5)
        cover: Float32Array = np.clip(threads * np.float32(rng.uniform(0.5, 1.1)), 0, np.float32(rng.uniform(0.75, 1.0)))
        image = blend(image, cover, pick(rng, ((240, 238, 230), (226, 224, 216))))
    image = shade(image, folds(rng, size, float(rng.uniform(1, 4)), float(rng.uniform(0.1, 0.4))))
    for _ in range(int(rng.integers(0, 3))):
        image = blend(image, _stain(rng, size), pick(rng, ((150, 20, 24), (110, 12, 18), (180, 60, 50), (200, 150, 110))))
    if rng.random() < 0.4:
        line = np.rint(bent_line(rng, size)).astype(np.int32)
        cv2.polylines(image, [line], False, pick(rng, ((30, 80, 160), (30, 120, 90))), max(1, size[1] // 90), cv2.LINE_AA)
    return image


def table(rng: np.random.Generator, size: Size) -> Image:
    """Bare table, brushed metal tray or wood."""
    image = filled(size, pick(rng, TABLE, 12))
    streak = rng.normal(0, 1, (size[0], 12)).astype(np.float32)
    streaks = cv2.resize(streak, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    turn = cv2.getRotationMatrix2D((size[1] / 2, size[0] / 2), float(rng.uniform(0, 180)), 1.5)
    streaks = cv2.warpAffine(streaks, turn, (size[1], size[0]), borderMode=cv2.BORDER_REFLECT)
    image = shade(image, 1 + np.float32(rng.uniform(0, 0.12)) * np.asarray(streaks, np.float32))
    image = textured(rng, image, float(rng.uniform(0.02, 0.15)), float(rng.uniform(1.5, 6)), 3)
    if rng.random() < 0.12:  # perforated tray
        pitch = max(6, int(rng.uniform(0.03, 0.09) * size[1]))
        for y in range(pitch // 2, size[0], pitch):
            for x in range(pitch // 2, size[1], pitch):
                cv2.circle(image, (x, y), pitch // 4, (20, 20, 22), -1, cv2.LINE_AA)
    if rng.random() < 0.4:  # edge of the table
        a, b = rng.uniform(-0.2, 1.2, 2) * size[0]
        corner = size[0] if rng.random() < 0.5 else 0
        polygon = np.array([(0, a), (size[1], b), (size[1], corner), (0, corner)], np.int32)
        cv2.fillPoly(image, [polygon], pick(rng, TABLE, 12), cv2.LINE_AA)
    return grain(rng, image, 3)


def drawn_skin(rng: np.random.Generator, size: Size) -> Image:
    """Skin-toned or grey pad with drawn lines, crosses and dots."""
    image = textured(rng, filled(size, pick(rng, SKIN)), float(rng.uniform(0.02, 0.12)), float(rng.uniform(1.5, 4)))
    image = grain(rng, image, float(rng.uniform(1, 5)))
    ink = pick(rng, ((20, 20, 30), (40, 40, 140), (120, 30, 40), (70, 30, 90)))
    thick = max(1, size[1] // int(rng.integers(60, 250)))
    for _ in range(int(rng.integers(1, 9))):
        kind = rng.random()
        at = np.array([size[1], size[0]]) * rng.uniform(0, 1, 2)
        reach = rng.uniform(0.02, 0.2) * size[1]
        if kind < 0.4:
            cv2.polylines(image, [np.rint(bent_line(rng, size)).astype(np.int32)], False, ink, thick, cv2.LINE_AA)
        elif kind < 0.6:
            cv2.circle(image, (int(at[0]), int(at[1])), int(reach), ink, thick, cv2.LINE_AA)
        elif kind < 0.8:
            for way in ((reach, 0.3 * reach), (-0.3 * reach, reach)):
                ends = [np.rint(at + sign * np.array(way) / 2).astype(int) for sign in (-1, 1)]
                cv2.line(image, tuple(map(int, ends[0])), tuple(map(int, ends[1])), ink, thick, cv2.LINE_AA)
        else:
            for number in range(8):
                cv2.circle(
                    image,
                    (int(at[0] + number * 0.4 * reach), int(at[1] + number * 0.1 * reach)),
                    2 * thick,
                    ink,
                    -1,
                    cv2.LINE_AA,
                )
    return image


def room(rng: np.random.Generator, size: Size) -> Image:
    """Walls, lamps and people, out of focus."""
    small = (max(16, size[0] // 4), max(16, size[1] // 4))
    image = filled(small, pick(rng, ((190, 195, 195), (120, 130, 135), (60, 64, 70), (160, 150, 130), (90, 120, 110)), 20))
    for _ in range(int(rng.integers(4, 18))):
        a = rng.uniform(-0.2, 1.1, 2) * [small[1], small[0]]
        b = a + rng.uniform(0.05, 0.6, 2) * [small[1], small[0]]
        color = any_color(rng) if rng.random() < 0.35 else pick(rng, TABLE + CLOTH, 20)
        if rng.random() < 0.7:
            cv2.rectangle(image, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), color, -1)
        else:
            axes = (int((b[0] - a[0]) / 2), int((b[1] - a[1]) / 2))
            cv2.ellipse(image, (int(a[0]), int(a[1])), axes, float(rng.uniform(0, 180)), 0, 360, color, -1)
    for _ in range(int(rng.integers(0, 6))):
        at = (int(rng.integers(small[1])), int(rng.integers(small[0])))
        cv2.circle(image, at, max(1, int(rng.uniform(0.01, 0.06) * small[1])), (255, 255, 250), -1, cv2.LINE_AA)
    image = defocus(image, float(rng.uniform(2, 8)) * small[1] / 160)
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.uint8)


def gloves(rng: np.random.Generator, size: Size) -> Image:
    """Gloved hands over a drape, a table or a room."""
    ground = (drape, table, room)[int(rng.integers(3))](rng, size)
    for _ in range(int(rng.integers(1, 3))):
        ground = hand(rng, ground, pick(rng, GLOVE, 10))
    return ground


def hand(rng: np.random.Generator, image: Image, color: Color) -> Image:
    """A hand that reaches into the picture from a border."""
    h, w = image.shape[:2]
    angle = float(rng.uniform(0, 2 * math.pi))
    unit = float(rng.uniform(0.05, 0.11)) * w
    to = np.array([math.cos(angle), math.sin(angle)])
    side = np.array([-to[1], to[0]])
    palm = np.array([w, h]) * 0.5 - to * float(rng.uniform(0.25, 0.5)) * w
    image = round_body(rng, image, [palm - 12 * unit * to, palm - 2 * unit * to, palm], (2.2 * unit, 2.3 * unit), color, 0.1)
    curl = float(rng.uniform(-0.3, 0.9))
    for number in range(4):
        root = palm + side * (number - 1.5) * 1.15 * unit + to * unit
        way = angle + (number - 1.5) * 0.10 + float(rng.normal(0, 0.06))
        line = [root]
        for joint in range(3):
            way += curl * 0.3 * (1 if rng.random() < 0.8 else -1)
            line.append(line[-1] + unit * (1.9 - 0.35 * joint) * np.array([math.cos(way), math.sin(way)]))
        image = round_body(rng, image, line, (0.72 * unit, 0.55 * unit), color, 0.15)
    root = palm + side * 2.1 * unit
    thumb = [root - to * unit, root + side * 1.2 * unit + to * 0.8 * unit, root + side * 1.2 * unit + to * 2.4 * unit]
    return round_body(rng, image, thumb, (0.85 * unit, 0.6 * unit), color, 0.15)


def trocar(rng: np.random.Generator, size: Size) -> Image:
    """View out of a tube: dark or shiny rings around what lies beyond."""
    h, w = size
    beyond = textured(
        rng,
        filled(size, pick(rng, ((170, 90, 80), (120, 50, 46), (190, 190, 190), (40, 40, 44), (200, 160, 140)), 15)),
        0.25,
        4,
    )
    beyond = defocus(beyond, w / 160)
    at = np.array([w, h]) * rng.normal(0.5, 0.08, 2)
    y, x = np.arange(h, dtype=np.float32)[:, None] - np.float32(at[1]), np.arange(w, dtype=np.float32)[None] - np.float32(at[0])
    radius = np.hypot(x, y * np.float32(rng.uniform(0.85, 1.15))) / np.float32(rng.uniform(0.18, 0.45) * w)
    angle = np.arctan2(y, x)
    rings = np.sin(np.log(np.maximum(radius, 0.05)) * np.float32(rng.uniform(8, 45)))
    sheen = np.clip(np.cos(angle * int(rng.integers(1, 4)) + np.float32(rng.uniform(0, 6))), 0, 1) ** 3
    gain = (
        np.float32(0.5) + np.float32(rng.uniform(0.05, 0.4)) * rings + np.float32(rng.uniform(0, 1.4)) * sheen
    ) / np.maximum(radius, 0.3)
    wall = shade(
        filled(size, pick(rng, ((150, 152, 156), (60, 62, 66), (200, 205, 210), (90, 100, 120), (30, 30, 34)))),
        np.asarray(gain, np.float32),
    )
    cover = np.clip((radius - 1) * np.float32(w / 12), 0, 1)
    return blend(beyond, np.asarray(cover, np.float32), wall)
