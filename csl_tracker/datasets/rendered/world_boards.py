"""Flat things in perspective: calibration boards, paper, rulers, peg boards."""

from __future__ import annotations

import math
import string

import cv2
import numpy as np

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.rendered.world_shapes import (
    Color,
    Size,
    any_color,
    around,
    defocus,
    drop_shadow,
    filled,
    glare,
    grain,
    homography,
    lay_flat,
    pick,
    textured,
)
from csl_tracker.datasets.rendered.world_surfaces import GLOVE, SKIN, drape, hand, room, table

_PAPER: tuple[Color, ...] = ((240, 240, 238), (228, 226, 216), (210, 212, 216), (244, 238, 220))


def _ground(rng: np.random.Generator, size: Size) -> Image:
    kind = rng.random()
    if kind < 0.3:
        return filled(size, pick(rng, ((8, 8, 10), (20, 16, 18), (2, 2, 2)), 2))
    return (drape, table, room)[int(rng.integers(3))](rng, size)


def _on_ground(rng: np.random.Generator, size: Size, board: Image, span: tuple[float, float]) -> Image:
    """A board on a table or a drape, or held in a hand."""
    image = _ground(rng, size)
    held = rng.random() < 0.25
    if held and rng.random() < 0.5:
        image = hand(rng, image, pick(rng, SKIN + GLOVE))
    image = lay_flat(image, board, homography(rng, (board.shape[0], board.shape[1]), size, span), float(rng.uniform(0, 0.6)))
    if held:
        image = hand(rng, image, pick(rng, SKIN + GLOVE))
    if rng.random() < 0.4:
        image = glare(rng, image, int(rng.integers(1, 4)))
    return image


def chessboard(rng: np.random.Generator, size: Size) -> Image:
    """Chessboard with a margin, often on a coloured plate."""
    rows, columns, cell = int(rng.integers(4, 13)), int(rng.integers(4, 15)), 40
    dark, light = pick(rng, ((20, 20, 22), (10, 10, 10), (50, 46, 52))), pick(rng, _PAPER)
    board = filled((rows * cell, columns * cell), light)
    for row in range(rows):
        for column in range(columns):
            if (row + column) % 2:
                board[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = dark
    return _on_ground(rng, size, _framed(rng, board, light), (0.5, 2.2))


def _framed(rng: np.random.Generator, board: Image, paper: Color) -> Image:
    margin = int(rng.uniform(0, 0.25) * min(board.shape[:2]))
    board = np.asarray(cv2.copyMakeBorder(board, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=paper), np.uint8)
    if rng.random() < 0.5:
        plate = int(rng.uniform(0.01, 0.12) * min(board.shape[:2]))
        board = np.asarray(
            cv2.copyMakeBorder(board, plate, plate, plate, plate, cv2.BORDER_CONSTANT, value=any_color(rng)), np.uint8
        )
    return textured(rng, board, float(rng.uniform(0, 0.05)), 3)


def circle_grid(rng: np.random.Generator, size: Size) -> Image:
    """Grid of dots, straight or staggered, dark on light or light on dark."""
    rows, columns, cell = int(rng.integers(4, 12)), int(rng.integers(4, 12)), 48
    ink, paper = pick(rng, ((20, 20, 22),)), pick(rng, _PAPER)
    if rng.random() < 0.25:
        ink, paper = paper, ink
    board = filled((rows * cell, columns * cell), paper)
    staggered = rng.random() < 0.5
    radius = int(cell * rng.uniform(0.15, 0.4))
    for row in range(rows):
        for column in range(columns):
            x = int((column + 0.5 + (0.5 if staggered and row % 2 else 0)) * cell)
            cv2.circle(board, (x, int((row + 0.5) * cell)), radius, ink, -1, cv2.LINE_AA)
    return _on_ground(rng, size, _framed(rng, board, paper), (0.5, 2.0))


def marker_board(rng: np.random.Generator, size: Size) -> Image:
    """Chessboard with square markers in its white cells, or a sheet of markers."""
    rows, columns, cell = int(rng.integers(3, 8)), int(rng.integers(3, 10)), 64
    sheet = rng.random() < 0.4
    board = filled((rows * cell, columns * cell), (235, 235, 233))
    for row in range(rows):
        for column in range(columns):
            at = board[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
            if not sheet and (row + column) % 2:
                at[...] = 18
                continue
            bits = np.zeros((6, 6), np.uint8)
            bits[1:5, 1:5] = rng.integers(0, 2, (4, 4)) * 235
            at[8:-8, 8:-8] = cv2.resize(bits, (cell - 16, cell - 16), interpolation=cv2.INTER_NEAREST)[..., None]
    return _on_ground(rng, size, _framed(rng, board, (235, 235, 233)), (0.5, 2.0))


def paper(rng: np.random.Generator, size: Size) -> Image:
    """Sheet with text, tables and figures."""
    h, w = (700, 540) if rng.random() < 0.6 else (540, 700)
    sheet = filled((h, w), pick(rng, _PAPER))
    ink = pick(rng, ((20, 20, 24), (40, 40, 90), (90, 90, 94)))
    letters = string.ascii_letters + string.digits + "    "
    step = int(rng.integers(14, 46))
    for y in range(2 * step, h - step, step):
        kind = rng.random()
        text = "".join(letters[k] for k in rng.integers(len(letters), size=int(rng.integers(3, 60))))
        if kind < 0.75:
            font = int(rng.choice((cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)))
            cv2.putText(sheet, text, (int(rng.integers(10, 60)), y), font, step / 36, ink, max(1, step // 22), cv2.LINE_AA)
        elif kind < 0.85:
            cv2.line(sheet, (20, y), (w - 20, y), ink, 1, cv2.LINE_AA)
        elif kind < 0.9:
            cv2.rectangle(
                sheet,
                (int(rng.integers(10, w // 2)), y - step),
                (int(rng.integers(w // 2, w - 5)), y + step),
                any_color(rng),
                -1,
            )
    return _on_ground(rng, size, sheet, (0.7, 2.6))


def ruler(rng: np.random.Generator, size: Size) -> Image:
    """Ruler with ticks and numbers, of paper, plastic or steel, on some ground."""
    image = _ground(rng, size)
    for _ in range(int(rng.integers(1, 3))):
        height = int(rng.integers(60, 160))
        strip = filled((height, 900), pick(rng, ((240, 238, 230), (236, 214, 90), (190, 192, 196), (90, 150, 200)), 10))
        ink = (20, 20, 24)
        for number, x in enumerate(range(10, 900, 9)):
            length = height // 2 if number % 10 == 0 else height // 3 if number % 5 == 0 else height // 5
            cv2.line(strip, (x, 0), (x, length), ink, 1 if number % 10 else 2)
            if number % 10 == 0:
                cv2.putText(
                    strip, str(number // 10), (x + 3, height - 8), cv2.FONT_HERSHEY_SIMPLEX, height / 140, ink, 1, cv2.LINE_AA
                )
        image = lay_flat(image, strip, homography(rng, (height, 900), size, (0.8, 2.5), 0.7), 0.4)
    return image


def peg_board(rng: np.random.Generator, size: Size) -> Image:
    """Training board with pegs and coloured rings or blocks."""
    h, w = size
    board = textured(
        rng,
        filled((480, 640), pick(rng, ((30, 30, 34), (230, 230, 228), (60, 90, 160), (170, 140, 110), (120, 160, 90)), 14)),
        0.05,
        3,
    )
    for x in range(60, 640, 120):
        for y in range(60, 480, 120):
            cv2.circle(board, (x, y), 12, (15, 15, 15), -1, cv2.LINE_AA)
    matrix = homography(rng, (480, 640), size, (0.9, 2.0), 0.7)
    image = lay_flat(_ground(rng, size), board, matrix, 0.5)
    places = np.array([(x, y) for x in range(60, 640, 120) for y in range(60, 480, 120)], float)
    view = cv2.perspectiveTransform(places[None], matrix)[0]
    unit = float(np.linalg.norm(view[4] - view[0])) / 120  # px of the view per px of the board
    lean = np.array([rng.normal(0, 20), -rng.uniform(25, 70)]) * unit
    metal = pick(rng, ((200, 200, 204), (230, 230, 232), (60, 60, 64), (200, 60, 60)))
    for point in view[np.argsort(view[:, 1])]:
        if rng.random() < 0.35:
            _ring(rng, image, point, 42 * unit)
        _peg(image, point, lean, max(1.0, 8 * unit), metal)
        if rng.random() < 0.35:
            _ring(rng, image, point + 0.4 * lean, 34 * unit)
    return defocus(image, w / 1000) if h > 100 else image


def _peg(image: Image, foot: FloatArray, lean: FloatArray, radius: float, color: Color) -> None:
    for share, gain in ((1.0, 0.45), (0.7, 0.8), (0.35, 1.1)):
        tone = tuple(int(min(255, value * gain)) for value in color)
        ends = [tuple(round(float(v)) for v in p) for p in (foot, foot + lean)]
        cv2.line(image, ends[0], ends[1], tone, max(1, round(2 * radius * share)), cv2.LINE_AA)


def _ring(rng: np.random.Generator, image: Image, at: FloatArray, radius: float) -> None:
    """A rubber ring, seen at a slant."""
    centre = (int(at[0]), int(at[1]))
    axes = (max(2, int(radius)), max(1, int(radius * rng.uniform(0.5, 0.9))))
    turn = float(rng.uniform(-20, 20))
    color = pick(
        rng, ((210, 40, 40), (40, 90, 200), (240, 200, 40), (50, 160, 80), (240, 240, 236), (240, 120, 30), (150, 60, 160))
    )
    thick = max(2, int(radius * rng.uniform(0.3, 0.6)))
    box = around(image, np.array([at]), radius + thick)
    if box is None:
        return
    part = np.ascontiguousarray(image[box])
    cover = np.zeros(part.shape[:2], np.uint8)
    inside = (centre[0] - box[1].start, centre[1] - box[0].start)
    cv2.ellipse(cover, inside, axes, turn, 0, 360, 255, thick, cv2.LINE_AA)
    image[box] = drop_shadow(part, cover, 0.4, 0.012 * image.shape[1] / part.shape[1])
    for share, gain in ((1.0, 0.55), (0.75, 0.8), (0.45, 1.0)):
        tone = tuple(int(value * gain) for value in color)
        cv2.ellipse(image, centre, axes, turn, 0, 360, tone, max(1, int(thick * share)), cv2.LINE_AA)
    start = float(rng.uniform(0, 360))
    cv2.ellipse(image, centre, axes, turn, start, start + 50, (255, 255, 255), max(1, thick // 6), cv2.LINE_AA)


def resolution_chart(rng: np.random.Generator, size: Size) -> Image:
    """Star and line patterns, colour patches."""
    board = filled((480, 640), pick(rng, _PAPER))
    cx, cy = (int(v) for v in rng.integers(120, 360, 2))
    for number in range(36):
        a, b = 2 * math.pi * number / 36, 2 * math.pi * (number + 0.5) / 36
        wedge = np.array(
            [(cx, cy), (cx + 110 * math.cos(a), cy + 110 * math.sin(a)), (cx + 110 * math.cos(b), cy + 110 * math.sin(b))]
        )
        cv2.fillPoly(board, [np.rint(wedge).astype(np.int32)], (15, 15, 15), cv2.LINE_AA)
    for number in range(24):
        x, y = 380 + 40 * (number % 6), 60 + 40 * (number // 6)
        cv2.rectangle(board, (x, y), (x + 34, y + 34), any_color(rng), -1)
    for number in range(40):
        cv2.line(board, (380 + number * 6, 260), (380 + number * 6, 420), (15, 15, 15), 1 + number // 14)
    return _on_ground(rng, size, grain(rng, board, 2), (0.7, 2.0))
