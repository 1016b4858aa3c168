"""Things drawn on a sheet of tissue: wet film, strands, neighbouring organs, char, blood, holes."""

from __future__ import annotations

import math

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array
from csl_tracker.datasets.rendered.tissue_canvas import (
    Canvas,
    Color,
    Curve,
    blank,
    cells,
    curve_through,
    fibres,
    grid,
    lay,
    random_line,
    ridges,
    smooth_plane,
    soften,
    step,
    vessels,
)

PALE: tuple[Color, ...] = (
    (228, 206, 190),
    (214, 184, 172),
    (208, 200, 196),
    (236, 220, 178),
    (196, 166, 160),
    (228, 196, 192),
    (180, 166, 176),
    (190, 182, 190),
    (222, 200, 160),
)
VEINS: tuple[Color, ...] = ((88, 24, 40), (70, 36, 66), (120, 34, 36), (100, 50, 70), (140, 60, 50))


def pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: float = 0.06) -> tuple[float, float, float]:
    """One of the colours, slightly changed; sRGB."""
    change = np.exp(rng.normal(0, spread) + rng.normal(0, 0.35 * spread, 3))
    value = np.clip(np.asarray(colors[int(rng.integers(len(colors)))]) * change, 0, 245)
    return float(value[0]), float(value[1]), float(value[2])


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform number."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def mottle(rng: np.random.Generator, canvas: Canvas, strength: float = 0.10) -> None:
    """Uneven colour at several sizes, stronger in green and blue than in red, as blood makes it."""
    plane = np.zeros(canvas.size, np.float32)
    for mm, share in ((25.0, 0.8), (6.0, 0.6), (0.9, 0.35)):
        plane += canvas.noise(rng, mm, 3) * np.float32(strength * share)
    red, green = np.exp(np.float32(0.6) * plane), np.exp(plane)
    canvas.color *= cv2.merge((red, green, green))


def blotches(
    rng: np.random.Generator, canvas: Canvas, color: tuple[float, float, float], mm: float, share: float, strength: float
) -> None:
    """Patches of another colour that cover about a share of the canvas, with soft or sharp borders."""
    field = canvas.noise(rng, mm, 4, 0.5)
    edge = float(np.quantile(field[::7, ::7], 1 - share))
    canvas.blend(step(field, edge - 0.2, edge + float(rng.uniform(0.3, 2.0))) * np.float32(strength), color)


def wet_film(rng: np.random.Generator, canvas: Canvas) -> None:
    """Small bumps, strong in some places and faint in others: they break highlights into clusters of short lines."""
    patches = step(canvas.noise(rng, float(rng.uniform(10, 30)), 2), float(rng.uniform(-1.5, 0.5)), float(rng.uniform(0.8, 2)))
    strength = log_uniform(rng, 0.25, 1.6)
    fine = log_uniform(rng, 0.7, 2.2)
    bumps = canvas.noise(rng, fine, 2, 0.4) * np.float32(0.030 * fine) + canvas.noise(rng, 4 * fine, 2) * np.float32(
        0.05 * fine
    )
    canvas.height += bumps * (np.float32(0.15) + patches) * np.float32(strength)
    canvas.rough += np.float32(0.08) * smooth_plane(rng, canvas.size, 6)


def undulate(rng: np.random.Generator, canvas: Canvas, mm: float, amount: float) -> None:
    """Large soft relief."""
    canvas.height += np.float32(amount) * canvas.noise(rng, mm, 2, 0.35)


def creases(rng: np.random.Generator, canvas: Canvas, mm: float, depth: float, share: float = 0.5) -> None:
    """Short, sharp, winding furrows that come and go."""
    line = ridges(rng, canvas, mm) ** float(rng.uniform(1.2, 3))
    line = np.asarray(line * step(canvas.noise(rng, 1.5 * mm, 2), float(0.9 - 2 * share), float(2.9 - 2 * share)), np.float32)
    canvas.height -= np.float32(depth) * line
    canvas.tint(1 - np.float32(rng.uniform(0.1, 0.5)) * line**2)


def add_vessels(
    rng: np.random.Generator, canvas: Canvas, trees: int, radius_mm: float, strength: float, raised: float = 0.4
) -> None:
    """Fine branching vessels in one colour."""
    cover = vessels(rng, canvas, trees, radius_mm)
    canvas.blend(cover * np.float32(strength), pick(rng, VEINS))
    canvas.height += cover * np.float32(raised * radius_mm)


def pale_lines(rng: np.random.Generator, canvas: Canvas, radius_mm: float) -> None:
    """Pale branching scars or bile ducts, broken up along their length."""
    cover = vessels(rng, canvas, int(rng.integers(1, 5)), radius_mm, 0.09)
    cover = cover * step(canvas.noise(rng, 6, 2), -0.6, 0.8)
    canvas.blend(cover * np.float32(rng.uniform(0.3, 0.7)), pick(rng, PALE))


def strand(rng: np.random.Generator, canvas: Canvas, radius_mm: float, color: tuple[float, float, float], bend: float) -> None:
    """A ligament, duct, fold or large vessel: a long round body that lies on the tissue or bridges it."""
    curve = curve_through(random_line(rng, canvas, bend), canvas.size)
    r = np.float32(radius_mm * canvas.scale)
    wobble = float(rng.uniform(0.0, 0.2))
    size = r * (
        1
        + np.float32(wobble) * _along_noise(rng, curve.along, 7)
        + np.float32(rng.normal(0, 0.25)) * (curve.along - np.float32(0.5))
    )
    if rng.random() < 0.1:
        size = size * np.sqrt(np.clip(1 - np.abs(2 * curve.along - 1) ** 4, 0, 1))
    root = np.exp(-curve.along / np.float32(rng.uniform(0.02, 0.05)))  # where it starts in view, it grows out of the tissue
    size = size * (1 + np.float32(rng.uniform(0.3, 1.2)) * root)
    across = curve.distance + np.float32(0.05) * r * canvas.noise(rng, max(1.0, radius_mm), 2)
    inside = np.clip(1 - (across / np.maximum(size, 0.5)) ** 2, 0, 1)
    cover = step(inside, 0.0, float(rng.uniform(0.08, 0.5)))
    if rng.random() < 0.3:  # thin membrane: the ground shows through
        cover = cover * np.float32(rng.uniform(0.55, 0.9))
    top = _strand_look(rng, canvas, curve, size, color)
    under = soften(canvas.height, max(1.0, float(rng.uniform(1, 4)) * float(r)))
    lift = float(rng.uniform(0.0, 1.2)) * radius_mm
    body = np.float32(lift) + np.sqrt(inside) * np.float32(radius_mm * rng.uniform(0.4, 1.1))
    top.height = np.asarray(under + (1 - root) * body, np.float32)
    top.height += np.float32(0.03 * radius_mm) * canvas.noise(rng, max(1.0, 0.5 * radius_mm), 2)
    lay(canvas, top, np.asarray(cover * (1 - np.float32(0.8) * root), np.float32))


def _along_noise(rng: np.random.Generator, along: Float32Array, count: int) -> Float32Array:
    """Smooth noise in one coordinate."""
    values = cv2.resize(rng.standard_normal((1, count)).astype(np.float32), (512, 1), interpolation=cv2.INTER_CUBIC)[0]
    return np.asarray(values[np.clip(along * 511, 0, 511).astype(np.int32)], np.float32)


def _strand_look(
    rng: np.random.Generator, canvas: Canvas, curve: Curve, size: Float32Array, color: tuple[float, float, float]
) -> Canvas:
    """Colour of a strand: fibres along it, blotches, a few vessels, a darker or redder rim."""
    top = blank(canvas.size, canvas.scale, color)
    values = rng.standard_normal((48, 14)).astype(np.float32)
    u = curve.along * np.float32(values.shape[1] - 1)
    v = (curve.across / np.maximum(size, 1) * np.float32(0.5) + np.float32(0.5)) * np.float32(values.shape[0] - 1)
    streaks = cv2.remap(
        values, np.asarray(u, np.float32), np.asarray(v, np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    top.tint(np.exp(np.float32(rng.uniform(0.02, 0.14)) * streaks))
    mottle(rng, top, float(rng.uniform(0.05, 0.2)))
    if rng.random() < 0.5:
        blotches(
            rng,
            top,
            pick(rng, ((150, 60, 55), (200, 120, 110), (120, 60, 80), (226, 196, 120))),
            8,
            float(rng.uniform(0.1, 0.5)),
            0.6,
        )
    if rng.random() < 0.5:
        add_vessels(rng, top, int(rng.integers(4, 14)), float(rng.uniform(0.15, 0.4)), 0.6)
    rim = step(np.asarray(curve.distance / np.maximum(size, 1), np.float32), 0.5, 1.0)
    top.blend(rim * np.float32(rng.uniform(0, 0.5)), pick(rng, ((160, 80, 75), (120, 60, 60), (200, 150, 140))))
    top.rough[...] = np.float32(rng.uniform(0.25, 0.5))
    return top


def strands(rng: np.random.Generator, canvas: Canvas, count: int, colors: tuple[Color, ...] = PALE) -> None:
    """Several strands, from cords to bodies as thick as an instrument's shaft (8 mm) and thicker."""
    for _ in range(count):
        radius = log_uniform(rng, 0.8, 8.0)
        bend = float(abs(rng.normal(0, 0.35 + 1.2 / (radius + 0.5))))
        strand(rng, canvas, radius, pick(rng, colors), bend)


def organ(rng: np.random.Generator, canvas: Canvas, top: Canvas, lift: float) -> None:
    """Lay a neighbouring organ over one side of the canvas, with a rounded, winding border."""
    curve = curve_through(random_line(rng, canvas, float(rng.uniform(0.2, 1.5)), 0.0), canvas.size)
    wave = canvas.noise(rng, float(rng.uniform(15, 50)), 3, 0.4) * np.float32(rng.uniform(0.5, 4))
    far = np.asarray(curve.across / np.float32(canvas.scale) + wave, np.float32)
    dome = np.float32(lift) * (1 - np.exp(-np.maximum(far, 0) / np.float32(rng.uniform(1.5, 9)))).astype(np.float32)
    level = float(np.quantile(canvas.height[::9, ::9], 0.6))
    top.height = np.asarray(np.float32(0.4) * top.height + dome + np.float32(level), np.float32)
    rim = np.exp(-np.maximum(far, 0) / np.float32(1.2)).astype(np.float32)
    top.tint(1 - np.float32(rng.uniform(0, 0.4)) * rim)
    shade = np.exp(-np.maximum(-far, 0) / np.float32(3)).astype(np.float32)
    canvas.tint(1 - np.float32(0.35) * shade)
    lay(canvas, top, step(far, 0.0, float(rng.uniform(0.3, 0.9))))


def char(rng: np.random.Generator, canvas: Canvas, share: float) -> None:
    """Burnt spots: a pale rim of cooked tissue, brown, then a rough, patchy black crust."""
    field = canvas.noise(rng, log_uniform(rng, 12, 45), 5, 0.5)
    edge = float(np.quantile(field[::7, ::7], 1 - share))
    pale = step(field, edge - float(rng.uniform(0.5, 1.2)), edge - 0.1)
    canvas.blend(pale * np.float32(rng.uniform(0.3, 0.8)), pick(rng, ((222, 200, 168), (206, 176, 140), (198, 172, 156))))
    ragged = field + np.float32(0.12) * canvas.noise(rng, 2.0, 3, 0.6)
    brown = step(ragged, edge - 0.35, edge + 0.25)
    canvas.blend(brown * np.float32(rng.uniform(0.6, 0.9)), pick(rng, ((130, 82, 44), (106, 64, 40), (150, 100, 60))))
    crust = step(ragged, edge + 0.05, edge + 0.8) * step(canvas.noise(rng, 3, 3, 0.6), -1.4, 0.4)
    canvas.blend(crust * np.float32(0.9), pick(rng, ((40, 30, 26), (32, 28, 28), (58, 40, 30))))
    canvas.height += crust * (np.float32(0.10) * canvas.noise(rng, 1.2, 3, 0.6) - np.float32(0.6))
    canvas.rough += brown * np.float32(0.3)


def blood(rng: np.random.Generator, canvas: Canvas, share: float) -> None:
    """Blood that fills the low places with a level, glossy surface and stains what is above."""
    soft = soften(canvas.height, max(1.0, 0.5 * canvas.scale))
    low = soft + np.float32(0.5) * canvas.noise(rng, 10, 3)
    level = float(np.quantile(low[::7, ::7], share))
    spread = float(soft.std()) + 0.2
    pool = step(-low, -level - 0.03 * spread, -level + 0.10 * spread)
    stain = step(-low, -level - 1.2 * spread, -level) * step(canvas.noise(rng, 6, 4, 0.6), -0.5, 1.2)
    canvas.blend(stain * np.float32(rng.uniform(0.2, 0.7)), pick(rng, ((150, 24, 22), (130, 20, 24), (165, 40, 34))))
    canvas.blend(
        pool * np.float32(rng.uniform(0.85, 0.97)), pick(rng, ((112, 14, 16), (92, 14, 18), (130, 22, 22), (74, 14, 18)))
    )
    surface = np.maximum(soft, np.float32(level)) + np.float32(0.02) * canvas.noise(rng, 4, 2)
    canvas.height += pool * (surface - canvas.height)
    canvas.rough += pool * (np.float32(0.1) - canvas.rough)


def drops(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Drops and short runs of blood."""
    h, w = canvas.size
    cover = np.zeros((h, w), np.uint8)
    for _ in range(count):
        radius = max(1.0, log_uniform(rng, 0.3, 2.0) * canvas.scale)
        at = (int(rng.integers(w)), int(rng.integers(h)))
        axes = (max(1, round(radius)), max(1, round(radius * float(rng.uniform(0.5, 3)))))
        cv2.ellipse(cover, at, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(cover, (0, 0), max(0.7, 0.25 * canvas.scale)).astype(np.float32) / np.float32(255)
    soft = step(soft + np.float32(0.15) * canvas.noise(rng, 1.5, 2), 0.35, 0.7)
    canvas.blend(soft * np.float32(0.9), pick(rng, ((125, 8, 10), (150, 16, 14), (96, 8, 12))))
    canvas.height += soft * np.float32(0.25)
    canvas.rough -= soft * np.float32(0.2)


def hole(rng: np.random.Generator, canvas: Canvas, depth: float) -> None:
    """A deep hole with winding, folded walls; its inside is redder and, lit from the lens, dark."""
    h, w = canvas.size
    columns, rows = grid((h, w))
    at = rng.uniform(0.3, 0.7, 2)
    reach = float(rng.uniform(0.22, 0.5)) * min(h, w)
    dx, dy = (columns - np.float32(at[0] * w)) * np.float32(rng.uniform(0.5, 1.1)), rows - np.float32(at[1] * h)
    radius = np.hypot(dx, dy) / np.float32(reach)
    angle = np.arctan2(dy, dx)
    wave = np.float32(1) + np.float32(0.06) * canvas.noise(rng, 18, 2, 0.3)
    for count in (2, 3, 5):
        turn = np.float32(rng.uniform(0, 6.28)) + np.float32(rng.uniform(0, 2)) * radius
        wave = wave + np.float32(rng.normal(0, 0.3 / count)) * np.sin(count * angle + turn)
    radius = np.asarray(radius * np.maximum(wave, 0.3), np.float32)
    slope: Float32Array = np.clip((1 - radius) / np.float32(rng.uniform(0.5, 1.0)), 0, 1)
    deep = 1 - (1 - slope ** np.float32(rng.uniform(0.8, 1.6))) ** np.float32(rng.uniform(1.2, 2))
    rim = np.exp(-(((radius - 1) / np.float32(0.12)) ** 2)).astype(np.float32)
    terraces = np.sin(radius * np.float32(rng.uniform(8, 26)) + 2 * canvas.noise(rng, 15, 2))
    canvas.height += np.float32(rng.uniform(0, 3)) * rim - np.float32(depth) * deep
    canvas.height += np.float32(rng.uniform(0.5, 2.5)) * step(deep, 0.0, 0.2) * (1 - step(deep, 0.6, 0.95)) * terraces
    canvas.color *= np.exp(-deep[..., None] * np.array([0.4, 0.9, 0.85], np.float32) * np.float32(rng.uniform(0.4, 1.6)))
    canvas.tint(1 - np.float32(rng.uniform(0.1, 0.5)) * step(deep, 0.6, 1.0))


def lobules(rng: np.random.Generator, canvas: Canvas, mm: float, height: float, shade: float) -> None:
    """Rounded lobules with dark furrows between them."""
    border, tone = cells(rng, canvas, mm, float(rng.uniform(0.15, 0.4)))
    round_ = np.sqrt(np.clip(border, 0, 1))
    canvas.height += np.float32(height) * round_ * (1 + np.float32(0.25) * tone)
    canvas.tint((1 - np.float32(shade) * (1 - round_)) * np.exp(np.float32(0.06) * tone))


def grain_along(rng: np.random.Generator, canvas: Canvas, angle: float, strength: float) -> None:
    """Muscle fibres: coarse bundles and fine streaks along a direction."""
    for length, width, share in ((40.0, 2.5, 0.6), (25.0, 0.7, 0.5)):
        streaks = fibres(rng, canvas, angle, length, width)
        canvas.tint(np.exp(np.float32(strength * share) * streaks))
        canvas.height += np.float32(0.12 * width * share) * streaks
