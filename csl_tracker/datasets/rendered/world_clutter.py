"""Circuit boards, screws, wires and other laboratory clutter."""

from __future__ import annotations

import math
import string

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.rendered.world_shapes import (
    Color,
    Size,
    any_color,
    bent_line,
    drop_shadow,
    filled,
    glare,
    grain,
    homography,
    lay_flat,
    pick,
    round_body,
    textured,
)
from csl_tracker.datasets.rendered.world_surfaces import drape, table

_METAL: tuple[Color, ...] = ((196, 198, 202), (160, 160, 164), (212, 190, 120), (110, 112, 116), (224, 224, 226))
_SOLDER_MASK: tuple[Color, ...] = (
    (24, 90, 50),
    (20, 50, 120),
    (130, 24, 30),
    (20, 22, 24),
    (220, 220, 216),
    (70, 30, 90),
    (40, 110, 60),
)


def circuit(rng: np.random.Generator, size: Size) -> Image:
    """Circuit board: traces, vias, chips, capacitors, connectors, print."""
    mask = pick(rng, _SOLDER_MASK, 6)
    board = textured(rng, filled((480, 640), mask), 0.05, 3)
    gold = pick(rng, ((214, 178, 90), (200, 204, 208)), 6)
    trace = tuple(int(min(255, value * 1.25 + 14)) for value in mask)
    for _ in range(int(rng.integers(20, 70))):
        _trace(rng, board, (trace[0], trace[1], trace[2]), gold)
    for _ in range(int(rng.integers(3, 14))):
        part = (_chip, _chip, _capacitor, _header, _resistors)[int(rng.integers(5))]
        part(rng, board, gold)
    print_color = (20, 20, 20) if sum(mask) > 450 else (235, 235, 230)
    letters = np.array(list(string.ascii_uppercase + string.digits))
    for _ in range(int(rng.integers(3, 16))):
        text = "".join(rng.choice(letters, int(rng.integers(2, 7))))
        at = (int(rng.integers(600)), int(rng.integers(20, 470)))
        cv2.putText(board, text, at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.3, 0.8)), print_color, 1, cv2.LINE_AA)
    image = lay_flat(table(rng, size), board, homography(rng, (480, 640), size, (0.8, 2.4), 0.8), 0.5)
    for _ in range(int(rng.integers(0, 4))):
        image = wire(rng, image)
    return image


def _trace(rng: np.random.Generator, board: Image, color: Color, gold: Color) -> None:
    """A trace that turns by 45 degrees and ends in a via."""
    point = rng.uniform(0, 1, 2) * [640, 480]
    heading = int(rng.integers(8))
    points = [point]
    for _ in range(int(rng.integers(2, 6))):
        angle = heading * math.pi / 4
        point = point + rng.uniform(10, 120) * np.array([math.cos(angle), math.sin(angle)])
        points.append(point)
        heading += int(rng.choice((-1, 1)))
    line = np.rint(np.array(points)).astype(np.int32)
    for lane in range(int(rng.choice((1, 1, 4, 8)))):
        cv2.polylines(board, [line + np.int32(5 * lane)], False, color, int(rng.integers(1, 4)), cv2.LINE_AA)
    end = (int(point[0]), int(point[1]))
    cv2.circle(board, end, 5, gold, -1, cv2.LINE_AA)
    cv2.circle(board, end, 2, (15, 15, 15), -1, cv2.LINE_AA)


def _place(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int, int]:
    w, h = (int(v) for v in rng.integers(low, high, 2))
    return int(rng.integers(0, 640 - w)), int(rng.integers(0, 480 - h)), w, h


def _chip(rng: np.random.Generator, board: Image, gold: Color) -> None:
    x, y, w, h = _place(rng, 30, 130)
    pitch = int(rng.integers(6, 14))
    for p in range(x + 3, x + w - 3, pitch):
        cv2.rectangle(board, (p, y - 8), (p + pitch // 2, y + h + 8), (190, 192, 194), -1)
    if rng.random() < 0.5:
        for p in range(y + 3, y + h - 3, pitch):
            cv2.rectangle(board, (x - 8, p), (x + w + 8, p + pitch // 2), (190, 192, 194), -1)
    body = pick(rng, ((26, 26, 28), (40, 40, 44), (70, 70, 72)), 4)
    cv2.rectangle(board, (x, y), (x + w, y + h), body, -1)
    cv2.line(board, (x, y), (x + w, y), (90, 90, 92), 2)
    cv2.circle(board, (x + 8, y + 8), 3, (80, 80, 80), -1, cv2.LINE_AA)
    cv2.putText(
        board,
        f"{int(rng.integers(1000, 99999))}",
        (x + 6, y + h // 2),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.4,
        (170, 170, 170),
        1,
        cv2.LINE_AA,
    )


def _capacitor(rng: np.random.Generator, board: Image, gold: Color) -> None:
    x, y, w, _ = _place(rng, 16, 60)
    at, radius = (x + w // 2, y + w // 2), w // 2
    cv2.circle(board, (at[0] + 3, at[1] + 3), radius, (8, 8, 8), -1, cv2.LINE_AA)
    cv2.circle(board, at, radius, pick(rng, ((30, 30, 60), (20, 20, 20), (60, 30, 20))), -1, cv2.LINE_AA)
    cv2.circle(board, at, int(radius * 0.85), (190, 192, 194), -1, cv2.LINE_AA)
    cv2.line(board, (at[0] - radius // 2, at[1]), (at[0] + radius // 2, at[1]), (110, 110, 112), 1, cv2.LINE_AA)


def _header(rng: np.random.Generator, board: Image, gold: Color) -> None:
    x, y, w, h = _place(rng, 14, 200)
    h = min(h, 40)
    cv2.rectangle(board, (x, y), (x + w, y + h), pick(rng, ((20, 20, 22), (230, 228, 220), (30, 60, 140))), -1)
    for px in range(x + 7, x + w - 3, 13):
        for py in range(y + 7, y + h - 3, 13):
            cv2.rectangle(board, (px - 2, py - 2), (px + 2, py + 2), gold, -1)


def _resistors(rng: np.random.Generator, board: Image, gold: Color) -> None:
    x, y = int(rng.integers(0, 560)), int(rng.integers(0, 440))
    for number in range(int(rng.integers(2, 9))):
        at = x + number * 14
        cv2.rectangle(board, (at, y), (at + 8, y + 18), (196, 198, 200), -1)
        cv2.rectangle(board, (at, y + 4), (at + 8, y + 14), pick(rng, ((24, 24, 26), (170, 140, 100))), -1)


def wire(rng: np.random.Generator, image: Image) -> Image:
    """One insulated wire or cable."""
    h, w = image.shape[:2]
    radius = float(np.exp(rng.uniform(np.log(0.003), np.log(0.018)))) * w
    color = any_color(rng) if rng.random() < 0.7 else pick(rng, ((24, 24, 26), (230, 230, 228)))
    return round_body(rng, image, bent_line(rng, (h, w), 0.4, 16), (radius, radius), color, float(rng.uniform(0.1, 0.6)))


def wires(rng: np.random.Generator, size: Size) -> Image:
    """A tangle of wires and cables."""
    image = table(rng, size) if rng.random() < 0.7 else drape(rng, size)
    for _ in range(int(rng.integers(3, 7))):
        image = wire(rng, image)
    return image


def hardware(rng: np.random.Generator, size: Size) -> Image:
    """Screws, nuts, washers, gears and plates on a table."""
    h, w = size
    image = table(rng, size)
    cover = np.zeros((h, w), np.uint8)
    unit = float(np.exp(rng.uniform(np.log(0.015), np.log(0.07)))) * w
    parts: list[tuple[int, int, float, int, Color]] = []
    for _ in range(int(rng.integers(6, 26))):
        at = (int(rng.integers(w)), int(rng.integers(h)))
        radius = unit * float(rng.uniform(0.6, 1.8))
        parts.append((*at, radius, int(rng.integers(4)), pick(rng, _METAL, 10)))
        cv2.circle(cover, at, max(1, int(radius)), 255, -1, cv2.LINE_AA)
    image = drop_shadow(image, cover, 0.55)
    for x, y, radius, kind, color in parts:
        (_screw, _nut, _washer, _gear)[kind](rng, image, (x, y), radius, color)
    if rng.random() < 0.5:
        image = wire(rng, image)
    return image


def _polygon(at: tuple[int, int], radii: FloatArray, turn: float) -> npt.NDArray[np.int32]:
    angles = turn + np.linspace(0, 2 * math.pi, len(radii), endpoint=False)
    points = np.array(at) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    return np.asarray(np.rint(points), np.int32)


def _tone(color: Color, gain: float) -> Color:
    values = [int(min(255, value * gain)) for value in color]
    return values[0], values[1], values[2]


def _dome(image: Image, at: tuple[int, int], radius: float, color: Color) -> None:
    """A round head, lighter towards one side."""
    for share, gain in ((1.0, 0.6), (0.9, 0.85), (0.7, 1.0), (0.4, 1.12)):
        offset = int((1 - share) * 0.4 * radius)
        cv2.circle(image, (at[0] - offset, at[1] - offset), max(1, int(radius * share)), _tone(color, gain), -1, cv2.LINE_AA)


def _screw(rng: np.random.Generator, image: Image, at: tuple[int, int], radius: float, color: Color) -> None:
    _dome(image, at, radius, color)
    turn = float(rng.uniform(0, math.pi))
    if rng.random() < 0.4:
        cv2.fillPoly(image, [_polygon(at, np.full(6, 0.5 * radius), turn)], (30, 30, 32), cv2.LINE_AA)
        return
    for number in range(int(rng.integers(1, 3))):
        way = 0.7 * radius * np.array([math.cos(turn + number * math.pi / 2), math.sin(turn + number * math.pi / 2)])
        ends = [(int(at[0] + sign * way[0]), int(at[1] + sign * way[1])) for sign in (-1, 1)]
        cv2.line(image, ends[0], ends[1], (40, 40, 42), max(1, int(radius / 5)), cv2.LINE_AA)


def _nut(rng: np.random.Generator, image: Image, at: tuple[int, int], radius: float, color: Color) -> None:
    turn = float(rng.uniform(0, math.pi))
    cv2.fillPoly(image, [_polygon(at, np.full(6, radius), turn)], _tone(color, 0.7), cv2.LINE_AA)
    _dome(image, at, 0.82 * radius, color)
    cv2.circle(image, at, max(1, int(0.5 * radius)), (34, 34, 36), -1, cv2.LINE_AA)


def _washer(rng: np.random.Generator, image: Image, at: tuple[int, int], radius: float, color: Color) -> None:
    cv2.circle(image, at, max(1, int(radius)), _tone(color, 0.9), max(1, int(0.45 * radius)), cv2.LINE_AA)
    start = float(rng.uniform(0, 360))
    reach = (max(1, int(radius)), max(1, int(radius)))
    cv2.ellipse(image, at, reach, 0, start, start + 60, (250, 250, 250), max(1, int(0.2 * radius)), cv2.LINE_AA)


def _gear(rng: np.random.Generator, image: Image, at: tuple[int, int], radius: float, color: Color) -> None:
    teeth = int(rng.integers(8, 24))
    radii = np.tile([1.0, 1.0, 0.84, 0.84], teeth) * radius
    cv2.fillPoly(image, [_polygon(at, radii, float(rng.uniform(0, 1)))], _tone(color, 0.8), cv2.LINE_AA)
    _dome(image, at, 0.6 * radius, color)
    cv2.circle(image, at, max(1, int(0.2 * radius)), (30, 30, 32), -1, cv2.LINE_AA)


def machine(rng: np.random.Generator, size: Size) -> Image:
    """Plates with holes, panels with buttons and lamps, rows of slots."""
    h, w = size
    image = textured(rng, filled(size, pick(rng, _METAL, 20)), 0.08, 3)
    for _ in range(int(rng.integers(3, 12))):
        x, y = int(rng.uniform(-0.2, 0.9) * w), int(rng.uniform(-0.2, 0.9) * h)
        across, down = int(rng.uniform(0.1, 0.6) * w), int(rng.uniform(0.1, 0.6) * h)
        color = pick(rng, _METAL, 20) if rng.random() < 0.6 else any_color(rng)
        cover = np.zeros((h, w), np.uint8)
        cv2.rectangle(cover, (x, y), (x + across, y + down), 255, -1)
        image = drop_shadow(image, cover, 0.5)
        cv2.rectangle(image, (x, y), (x + across, y + down), color, -1)
        cv2.rectangle(image, (x, y), (x + across, y + down), _tone(color, 1.2), max(1, w // 320))
        if rng.random() < 0.5:
            pitch = max(5, int(rng.uniform(0.02, 0.06) * w))
            for p in range(x + pitch, x + across - pitch, pitch):
                cv2.rectangle(image, (p, y + pitch), (p + pitch // 3, y + max(pitch, down - pitch)), _tone(color, 0.35), -1)
        else:
            for corner in ((x + 8, y + 8), (x + across - 8, y + down - 8), (x + 8, y + down - 8), (x + across - 8, y + 8)):
                _screw(rng, image, corner, max(2.0, 0.012 * w), pick(rng, _METAL))
    image = grain(rng, image, 3)
    return glare(rng, image, 2) if rng.random() < 0.4 else image
