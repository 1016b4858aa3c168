"""Recipes of tissue by family: what is painted on a sheet, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from csl_tracker.datasets.rendered.tissue_canvas import (
    Canvas,
    Color,
    blank,
    curve_through,
    lay,
    random_line,
    ridges,
    step,
    vessels,
)
from csl_tracker.datasets.rendered.tissue_marks import cut, print_marks
from csl_tracker.datasets.rendered.tissue_parts import (
    PALE,
    VEINS,
    add_vessels,
    blood,
    blotches,
    char,
    creases,
    drops,
    grain_along,
    hole,
    lobules,
    log_uniform,
    mottle,
    organ,
    pale_lines,
    pick,
    strands,
    undulate,
    wet_film,
)

Paint = Callable[[np.random.Generator, Canvas], None]
"""Draws on a canvas of one colour."""

LIVER: tuple[Color, ...] = (
    (138, 56, 54),
    (120, 44, 48),
    (150, 74, 64),
    (104, 38, 40),
    (180, 122, 96),
    (158, 82, 82),
    (128, 62, 70),
)
FAT: tuple[Color, ...] = (
    (234, 172, 118),
    (242, 190, 144),
    (234, 158, 98),
    (242, 212, 178),
    (222, 164, 130),
    (240, 184, 152),
    (238, 168, 94),
)
BOWEL: tuple[Color, ...] = (
    (208, 146, 136),
    (216, 164, 148),
    (194, 116, 112),
    (220, 178, 154),
    (198, 150, 150),
    (186, 130, 100),
)
MUSCLE: tuple[Color, ...] = ((146, 56, 50), (168, 80, 70), (126, 44, 44), (190, 112, 98), (180, 96, 92))
PINK: tuple[Color, ...] = ((196, 128, 112), (186, 120, 122), (206, 150, 128), (176, 104, 100), (190, 136, 104), (170, 110, 120))
SKIN: tuple[Color, ...] = ((226, 182, 158), (204, 150, 122), (236, 200, 182), (178, 122, 92), (120, 80, 62), (222, 160, 150))
SILICONE: tuple[Color, ...] = (
    (206, 206, 208),
    (160, 162, 168),
    (228, 190, 190),
    (232, 150, 150),
    (196, 100, 100),
    (226, 214, 196),
    (110, 112, 120),
)


def paint_liver(rng: np.random.Generator, canvas: Canvas) -> None:
    """Liver or spleen: fine grain, ochre patches, pale branching lines, smooth or nodular."""
    undulate(rng, canvas, float(rng.uniform(40, 90)), float(rng.uniform(1, 5)))
    mottle(rng, canvas, float(rng.uniform(0.06, 0.18)))
    lobules(rng, canvas, log_uniform(rng, 1.0, 3.0), float(rng.uniform(0.02, 0.12)), float(rng.uniform(0.05, 0.25)))
    if rng.random() < 0.2:
        lobules(rng, canvas, log_uniform(rng, 5, 14), float(rng.uniform(0.3, 1.2)), 0.25)
    if rng.random() < 0.5:
        blotches(
            rng,
            canvas,
            pick(rng, ((170, 110, 60), (176, 150, 84), (190, 120, 90), (80, 30, 50))),
            7,
            float(rng.uniform(0.1, 0.4)),
            0.5,
        )
    if rng.random() < 0.6:
        pale_lines(rng, canvas, log_uniform(rng, 0.2, 0.7))
    creases(rng, canvas, float(rng.uniform(6, 20)), float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.1, 0.7)))


def paint_fat(rng: np.random.Generator, canvas: Canvas) -> None:
    """Yellow lobules with fine vessels between them."""
    undulate(rng, canvas, float(rng.uniform(20, 50)), float(rng.uniform(1, 4)))
    mottle(rng, canvas, float(rng.uniform(0.05, 0.14)))
    mm = log_uniform(rng, 3, 9)
    lobules(rng, canvas, mm, float(rng.uniform(0.18, 0.4)) * mm, float(rng.uniform(0.15, 0.4)))
    lobules(rng, canvas, 0.4 * mm, float(rng.uniform(0.03, 0.10)) * mm, float(rng.uniform(0.03, 0.15)))
    blotches(
        rng,
        canvas,
        pick(rng, ((206, 120, 90), (190, 96, 70), (236, 214, 190))),
        16,
        float(rng.uniform(0.1, 0.5)),
        float(rng.uniform(0.2, 0.6)),
    )
    add_vessels(rng, canvas, int(rng.integers(2, 10)), log_uniform(rng, 0.15, 0.6), float(rng.uniform(0.3, 0.75)))


def paint_smooth(rng: np.random.Generator, canvas: Canvas) -> None:
    """Stomach, uterus, bladder, cooked or pickled organs: smooth, pale pink to tan, with short creases."""
    undulate(rng, canvas, float(rng.uniform(30, 80)), float(rng.uniform(2, 7)))
    mottle(rng, canvas, float(rng.uniform(0.04, 0.12)))
    creases(rng, canvas, float(rng.uniform(20, 60)), float(rng.uniform(0.2, 1.6)), float(rng.uniform(0.2, 0.8)))
    if rng.random() < 0.6:
        blotches(rng, canvas, pick(rng, PINK), 18, float(rng.uniform(0.2, 0.6)), 0.6)
    if rng.random() < 0.6:
        add_vessels(rng, canvas, int(rng.integers(2, 9)), log_uniform(rng, 0.1, 0.5), float(rng.uniform(0.2, 0.6)))
    if rng.random() < 0.5:  # pores
        pores = step(canvas.noise(rng, 1.1, 1), 1.9, 2.4)
        canvas.blend(pores * np.float32(0.5), (90, 40, 36))
        canvas.height -= pores * np.float32(0.08)


def paint_muscle(rng: np.random.Generator, canvas: Canvas) -> None:
    """Fibres in one direction with pale fascia."""
    angle = float(rng.uniform(0, math.pi))
    undulate(rng, canvas, 40, float(rng.uniform(1, 4)))
    grain_along(rng, canvas, angle, float(rng.uniform(0.08, 0.25)))
    mottle(rng, canvas, 0.10)
    if rng.random() < 0.7:
        blotches(rng, canvas, pick(rng, PALE), 35, float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.15, 0.5)))
    if rng.random() < 0.5:
        add_vessels(rng, canvas, int(rng.integers(2, 6)), 0.4, 0.5)


def paint_membrane(rng: np.random.Generator, canvas: Canvas) -> None:
    """Peritoneum: pale, shiny, folded, with vessels shining through."""
    undulate(rng, canvas, 35, float(rng.uniform(1, 4)))
    mottle(rng, canvas, float(rng.uniform(0.04, 0.12)))
    blotches(rng, canvas, pick(rng, PINK + LIVER), 15, float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.3, 0.8)))
    angle = float(rng.uniform(0, math.pi))
    for _ in range(int(rng.integers(1, 4))):
        folds = ridges(rng, canvas, float(rng.uniform(10, 30)))
        canvas.height += np.float32(rng.uniform(0.3, 1.6)) * folds
        canvas.blend(folds * np.float32(rng.uniform(0, 0.5)), pick(rng, PALE))
    if rng.random() < 0.5:
        grain_along(rng, canvas, angle, 0.05)
    add_vessels(rng, canvas, int(rng.integers(2, 10)), log_uniform(rng, 0.15, 0.7), float(rng.uniform(0.3, 0.7)))


def paint_phantom(rng: np.random.Generator, canvas: Canvas) -> None:
    """Silicone or foam: even colour, smooth, matt or glossy."""
    undulate(rng, canvas, float(rng.uniform(50, 150)), float(rng.uniform(0, 4)))
    mottle(rng, canvas, float(rng.uniform(0.0, 0.05)))
    canvas.height += np.float32(rng.uniform(0, 0.03)) * canvas.noise(rng, float(rng.uniform(0.5, 2)), 2)
    canvas.rough += np.float32(rng.uniform(-0.1, 0.35))


Material = tuple[Paint, tuple[Color, ...]]
MATERIALS: dict[str, Material] = {
    "liver": (paint_liver, LIVER),
    "fat": (paint_fat, FAT),
    "bowel": (paint_smooth, BOWEL),
    "smooth": (paint_smooth, PINK),
    "muscle": (paint_muscle, MUSCLE),
    "membrane": (paint_membrane, PALE),
    "phantom": (paint_phantom, SILICONE + SKIN),
}


def painted(rng: np.random.Generator, material: str, size: tuple[int, int], scale: float) -> Canvas:
    """A whole canvas of one material."""
    paint, colors = MATERIALS[material]
    canvas = blank(size, scale, pick(rng, colors, 0.10))
    canvas.materials.add(material)
    canvas.rough[...] = np.float32(rng.uniform(0.2, 0.5))
    paint(rng, canvas)
    return canvas


def neighbours(rng: np.random.Generator, canvas: Canvas, materials: tuple[str, ...], count: int) -> None:
    """Other organs over parts of the canvas."""
    for _ in range(count):
        material = materials[int(rng.integers(len(materials)))]
        organ(rng, canvas, painted(rng, material, canvas.size, canvas.scale), float(rng.uniform(1.5, 14)))


def _liver(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    canvas = painted(rng, "liver", size, scale)
    neighbours(rng, canvas, ("liver", "liver", "membrane", "fat", "smooth"), int(rng.integers(0, 3)))
    strands(rng, canvas, int(rng.choice((0, 1, 2), p=(0.5, 0.35, 0.15))))
    return canvas


def _fat(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    canvas = painted(rng, "fat", size, scale)
    neighbours(rng, canvas, ("fat", "fat", "smooth", "membrane", "muscle"), int(rng.integers(0, 4)))
    strands(rng, canvas, int(rng.choice((0, 1, 2), p=(0.5, 0.35, 0.15))), PALE + VEINS)
    return canvas


def _bowel(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    """Loops of bowel side by side, or a smooth organ that fills the view."""
    canvas = painted(rng, str(rng.choice(("bowel", "smooth", "fat", "membrane"))), size, scale)
    if rng.random() < 0.3:
        neighbours(rng, canvas, ("smooth", "bowel", "smooth"), int(rng.integers(1, 5)))
    else:
        base = pick(rng, BOWEL, 0.08)
        for _ in range(int(rng.integers(2, 6))):
            _loop(rng, canvas, (base[0], base[1], base[2]))
    return canvas


def _loop(rng: np.random.Generator, canvas: Canvas, color: tuple[float, float, float]) -> None:
    """One loop: a thick tube with shallow constrictions, and vessels around it."""
    curve = curve_through(random_line(rng, canvas, float(rng.uniform(0.3, 2.2)), 0.1), canvas.size)
    radius = float(rng.uniform(7, 19))
    waves = np.sin(curve.along * np.float32(rng.uniform(20, 60)) + canvas.noise(rng, 30, 2))
    size = np.float32(radius * canvas.scale) * (1 + np.float32(rng.uniform(0.02, 0.09)) * waves)
    inside = np.clip(1 - (curve.distance / size) ** 2, 0, 1)
    canvas.materials.add("bowel")
    top = blank(canvas.size, canvas.scale, np.clip(np.asarray(color) * np.exp(rng.normal(0, 0.04, 3)), 0, 250))
    mottle(rng, top, float(rng.uniform(0.05, 0.12)))
    paint_smooth(rng, top)
    rim = np.asarray(1 - np.sqrt(inside), np.float32)
    top.tint(1 - np.float32(0.35) * rim**2)
    lift = np.float32(rng.uniform(0, 8) + float(np.quantile(canvas.height[::9, ::9], 0.5)))
    top.height = np.asarray(lift + np.sqrt(inside) * np.float32(0.8 * radius) + np.float32(0.12) * top.height, np.float32)
    canvas.tint(
        1 - np.float32(0.35) * np.exp(-np.maximum(curve.distance - size, 0) / np.float32(3 * canvas.scale)).astype(np.float32)
    )
    lay(canvas, top, step(inside, 0.0, 0.06))


def _muscle(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    canvas = painted(rng, "muscle", size, scale)
    neighbours(rng, canvas, ("muscle", "fat", "membrane", "smooth"), int(rng.integers(0, 4)))
    strands(rng, canvas, int(rng.integers(0, 3)), PALE + MUSCLE)
    return canvas


def _omentum(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    """A thin veil with fat along its vessels over some organ."""
    canvas = painted(rng, str(rng.choice(("bowel", "membrane", "smooth", "liver"))), size, scale)
    top = painted(rng, "fat", size, scale)
    tree = vessels(rng, canvas, int(rng.integers(4, 12)), log_uniform(rng, 0.3, 0.9), 0.09)
    near = cv2.GaussianBlur(tree, (0, 0), float(rng.uniform(1.5, 4)) * scale)
    near = np.asarray(near / (near.max() + np.float32(1e-6)), np.float32)
    islands = step(
        near * 3 + np.float32(0.7) * canvas.noise(rng, 9, 4, 0.6), float(rng.uniform(0.2, 1.0)), float(rng.uniform(1.1, 1.8))
    )
    top.height = np.asarray(0.5 * top.height + canvas.height + np.float32(0.8), np.float32)
    canvas.blend(
        np.full(size, rng.uniform(0.2, 0.6), np.float32), pick(rng, ((226, 190, 170), (230, 200, 150), (216, 170, 160)))
    )
    lay(canvas, top, islands)
    canvas.blend(tree * np.float32(rng.uniform(0.4, 0.85)), pick(rng, VEINS))
    canvas.height += cv2.GaussianBlur(tree, (0, 0), 1.5) * np.float32(0.25)
    return canvas


def _membrane(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    """Peritoneum, ligaments, ducts and vessels: pale, long and round, over pale or dark ground."""
    canvas = painted(rng, str(rng.choice(("membrane", "membrane", "liver", "smooth", "muscle", "fat"))), size, scale)
    neighbours(rng, canvas, ("membrane", "smooth", "liver"), int(rng.integers(0, 3)))
    strands(rng, canvas, int(rng.integers(2, 9)), PALE + PALE + PALE + VEINS + PINK)
    return canvas


def _some(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    recipe = (_liver, _fat, _bowel, _muscle, _membrane)[int(rng.integers(5))]
    return recipe(rng, size, scale)


def _burnt(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    canvas = _some(rng, size, scale)
    for _ in range(int(rng.integers(1, 3))):
        char(rng, canvas, log_uniform(rng, 0.02, 0.30))
    if rng.random() < 0.3:
        drops(rng, canvas, int(rng.integers(2, 20)))
    return canvas


def _bleeding(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    canvas = _some(rng, size, scale)
    blood(rng, canvas, float(rng.uniform(0.08, 0.65)))
    if rng.random() < 0.6:
        drops(rng, canvas, int(rng.integers(3, 40)))
    if rng.random() < 0.25:
        char(rng, canvas, 0.04)
    return canvas


def _cavity(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    canvas = _some(rng, size, scale)
    hole(rng, canvas, log_uniform(rng, 25, 140))
    if rng.random() < 0.4:
        strands(rng, canvas, 1)
    return canvas


def _phantom(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Canvas:
    """A training pad: cuts, printed dots and lines, stitches, raised vessels."""
    canvas = painted(rng, "phantom", size, scale)
    if rng.random() < 0.3:
        neighbours(rng, canvas, ("phantom",), int(rng.integers(1, 3)))
    if rng.random() < 0.3:
        strands(rng, canvas, int(rng.integers(1, 3)), SILICONE + SKIN)
    ink = pick(rng, ((30, 40, 120), (20, 20, 24), (150, 30, 40), (40, 90, 60), (90, 50, 120)))
    for _ in range(int(rng.integers(0, 4))):
        print_marks(rng, canvas, ink)
    for _ in range(int(rng.integers(0, 4))):
        cut(rng, canvas)
    return canvas


RECIPES: dict[str, Callable[[np.random.Generator, tuple[int, int], float], Canvas]] = {
    "liver": _liver,
    "fat": _fat,
    "bowel": _bowel,
    "muscle": _muscle,
    "omentum": _omentum,
    "membrane": _membrane,
    "burnt": _burnt,
    "bleeding": _bleeding,
    "cavity": _cavity,
    "phantom": _phantom,
}


def paint(rng: np.random.Generator, family: str, size: tuple[int, int], scale: float) -> Canvas:
    """Paint a sheet of tissue of one family.

    Args:
        rng: Random generator.
        family: A key of :data:`RECIPES`.
        size: (height, width) of the maps.
        scale: Cells per mm.
    """
    canvas = RECIPES[family](rng, size, scale)
    if family != "phantom" or rng.random() < 0.3:
        wet_film(rng, canvas)
    return canvas
