"""Training frames composed from a bank: sprites over tissue, over the procedural worlds, and crops of whole scenes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, FloatArray, LabelMap
from csl_tracker.datasets.blending import color_row, three_channels
from csl_tracker.datasets.rendered.bank import Bank
from csl_tracker.datasets.rendered.placement import Placed, draw_matrix, place
from csl_tracker.datasets.rendered.world import draw_world
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic.clutter import add_clutter
from csl_tracker.datasets.synthetic.noise import smooth
from csl_tracker.datasets.synthetic.tissue import light, render_tissue
from csl_tracker.instruments import ENDOVIS
from csl_tracker.pixels import Size

_SCENE_SHARE = 0.25  # of the frames, where the bank has whole scenes
_BACKGROUND_SHARES = {"tissue": 0.55, "drawn": 0.2, "world": 0.25}
_COUNTS = {"tissue": (0.1, 0.42, 0.36, 0.09, 0.03), "drawn": (0.1, 0.42, 0.36, 0.09, 0.03), "world": (0.45, 0.3, 0.2, 0.05)}
_LANDMARKS = len(ENDOVIS.landmarks)
_HEAD, _CENTER, _TIPS = ENDOVIS.landmarks.index("head"), ENDOVIS.landmarks.index("center"), (3, 4)
_TO_ENDOVIS = np.array([0, 1, 1, 2, 2], np.uint8)
"""Class of each part: the metal sleeve at the shaft's end belongs to the shaft."""
_OCCLUSION_M = 0.001
_APART = 0.2  # image widths between the wrists of two sprites


def compose_frame(bank: Bank, seed: int, size: Size) -> Sample:
    """Compose a frame; the same bank, seed and size give the same frame.

    Args:
        bank: The bank.
        seed: Of the frame.
        size: (height, width), px.

    Raises:
        DatasetError: A shard of the bank is broken.
    """
    rng = np.random.default_rng((seed, 21))
    if bank.scenes and (rng.random() < _SCENE_SHARE or not bank.sprites):
        return _crop_of_scene(rng, bank, seed, size)
    return _composition(rng, bank, seed, size)


def _composition(rng: np.random.Generator, bank: Bank, seed: int, size: Size) -> Sample:
    kinds = [kind for kind in _BACKGROUND_SHARES if kind != "tissue" or bank.tissue]
    shares = np.array([_BACKGROUND_SHARES[kind] for kind in kinds])
    kind = str(kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))])
    image = _background(rng, bank, kind, size)
    counts = _COUNTS[kind]
    count = int(rng.choice(len(counts), p=counts)) if bank.sprites else 0
    placed: list[Placed] = []
    taken: list[FloatArray] = []
    points, depths = np.full((count, _LANDMARKS, 2), np.nan), np.full((count, _LANDMARKS), np.nan)
    for k in range(count):
        sprite = bank.sprite(int(rng.integers(len(bank.sprites))))
        target = _free(rng, size, taken)
        taken.append(target)
        matrix = draw_matrix(rng, sprite, size, target)
        placed.append(place(sprite, matrix, size))
        found = sprite.tool.endovis_points()
        projected = sprite.view.project(found)
        points[k] = projected @ matrix[:, :2].T + matrix[:, 2]
        depths[k] = found[:, 2] / placed[k].depth_divisor
    image, parts, instances, depth = _stack(rng, image, placed)
    if rng.random() < 0.1:
        _thread_in_front(rng, image)
    return _sample(_camera(rng, image), parts, instances, depth, points, depths, seed)


def _free(rng: np.random.Generator, size: Size, taken: Sequence[FloatArray]) -> FloatArray:
    h, w = size
    target = np.zeros(2)
    for _ in range(8):
        target = np.array([w, h]) * (0.5 + rng.normal(0, 0.2, 2))
        if all(np.linalg.norm(target - other) > _APART * w for other in taken) or rng.random() < 0.1:
            break
    return np.asarray(target, np.float64)


def _background(rng: np.random.Generator, bank: Bank, kind: str, size: Size) -> Float32Array:
    h, w = size
    if kind == "world":
        return np.asarray(draw_world(rng, size).image, np.float32)
    if kind == "drawn":
        color, height = render_tissue(rng, size)
        if rng.random() < 0.6:
            add_clutter(rng, color, height)
        return light(rng, color, height, rng.uniform(-1.2, 0.6), int(rng.integers(2**31)), np.zeros(2))
    picture = bank.tissue_picture(int(rng.integers(len(bank.tissue)))).image
    matrix = _cover(rng, (picture.shape[0], picture.shape[1]), size, (1.0, 2.2))
    shrinks = np.sqrt(abs(np.linalg.det(matrix[:, :2]))) < 1
    flags = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    warped = cv2.warpAffine(picture, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    tinted = warped.astype(np.float32) * color_row(np.exp(rng.normal(0, 0.1, 3)), w)
    if rng.random() < 0.35:
        add_clutter(rng, tinted, np.zeros(size, np.float32))
    return np.asarray(tinted, np.float32)


def _cover(rng: np.random.Generator, source: Size, size: Size, zooms: tuple[float, float]) -> FloatArray:
    """Draw a similarity that maps a picture over a frame, float64 (2, 3); corners may be reflected."""
    h, w = size
    zoom = max(w / source[1], h / source[0]) * np.exp(rng.uniform(*np.log(zooms)))
    angle = rng.uniform(-0.4, 0.4) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    middle, target = (
        (np.array(source[::-1]) - 1) / 2,
        (np.array([w, h]) - 1) / 2 + rng.uniform(-0.15, 0.15, 2) * np.array([w, h]),
    )
    return np.concatenate([linear, (target - linear @ middle)[:, None]], axis=1)


def _stack(
    rng: np.random.Generator, image: Float32Array, placed: Sequence[Placed]
) -> tuple[Float32Array, LabelMap, LabelMap, Float32Array]:
    """Lay the tools over the background, the nearest one in front at every pixel, with shadows."""
    h, w = image.shape[:2]
    parts, instances = np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
    depth = np.full((h, w), np.inf, np.float32)
    ambient = image.mean(axis=(0, 1)) / max(1.0, float(image.mean()))
    tint, shadow = rng.uniform(0.0, 0.35), rng.uniform(0.15, 0.75)
    # Far tools first: a near one may hide them, and its shadow falls on them.
    seen = [k for k, one in enumerate(placed) if one.mask.any()]
    for k in sorted(seen, key=lambda k: -float(np.median(placed[k].depth[placed[k].mask]))):
        one = placed[k]
        image = _shadowed(rng, image, one.alpha, shadow)
        front = np.where(one.mask, one.depth, np.inf) < depth
        hidden = one.mask & ~front
        alpha = np.where(hidden, 0, one.alpha).astype(np.float32)
        color = _looks(rng, one.color, (1 + tint * (ambient - 1)).astype(np.float32))
        color = np.minimum(np.where(hidden[..., None], 0, color), 255 * alpha[..., None])
        image = image * three_channels(1 - alpha) + color
        parts[front], instances[front], depth[front] = one.labels[front], k + 1, one.depth[front]
    return np.asarray(image, np.float32), parts, instances, depth


def _shadowed(rng: np.random.Generator, image: Float32Array, alpha: Float32Array, strength: float) -> Float32Array:
    h, w = alpha.shape
    spread = w * rng.uniform(0.006, 0.03)
    small = cv2.GaussianBlur(cv2.resize(alpha, (w // 2, h // 2), interpolation=cv2.INTER_AREA), (0, 0), spread / 2)
    x, y = rng.normal(0.2, 0.8) * spread, rng.uniform(-0.3, 1.4) * spread
    shade = cv2.warpAffine(small, np.array([[2.0, 0, x + 0.5], [0, 2.0, y + 0.5]]), (w, h), flags=cv2.INTER_LINEAR)
    return image * three_channels(np.asarray(1 - np.float32(strength) * shade, np.float32))


def _looks(rng: np.random.Generator, color: Float32Array, cast: Float32Array) -> Float32Array:
    """Exposure, gamma, reflected light, and dirt of one tool; premultiplied, 0..255."""
    h, w = color.shape[:2]
    gain, gamma = np.exp(rng.normal(-0.1, 0.35)), np.exp(rng.uniform(-0.2, 0.6))
    out = 255 * np.clip(color * np.float32(gain / 255), 0, 1) ** np.float32(gamma) * cast
    out = out * np.clip(
        1 + np.float32(rng.uniform(0, 0.25)) * smooth(rng, (h, w), rng.uniform(3, 20)).reshape(h, w, 1), 0.4, 1.6
    )
    if rng.random() < 0.3:
        blood = np.array([rng.uniform(0.35, 0.7), rng.uniform(0.03, 0.1), rng.uniform(0.03, 0.12)], np.float32)
        if rng.random() < 0.25:
            blood = np.full(3, rng.uniform(0.03, 0.12), np.float32)  # soot
        amount = np.clip((smooth(rng, (h, w), rng.uniform(8, 40)).reshape(h, w, 1) - rng.uniform(0.2, 1.6)) * 1.5, 0, 1)
        amount = amount * np.float32(rng.uniform(0.4, 0.95))
        out = out * (1 - amount + amount * blood)
    return np.asarray(out, np.float32)


def _thread_in_front(rng: np.random.Generator, image: Float32Array) -> None:
    """A thin suture or a needle across everything; too thin to change the labels."""
    h, w = image.shape[:2]
    turn = np.linspace(0, rng.uniform(0.5, 1.4) * np.pi, 40) + rng.uniform(0, 2 * np.pi)
    radius = w * rng.uniform(0.05, 0.5)
    middle = np.array([rng.uniform(0, w), rng.uniform(0, h)])
    line = middle + radius * np.stack([np.cos(turn), rng.uniform(0.3, 1) * np.sin(turn)], axis=1)
    tone = float(rng.choice([rng.uniform(10, 60), rng.uniform(150, 250)]))
    cv2.polylines(image, [np.rint(line * 16).astype(np.int32)], False, (tone, tone, tone), 1, cv2.LINE_AA, 4)


def _camera(rng: np.random.Generator, image: Float32Array) -> LabelMap:
    """Colour balance, exposure, vignette, blur and noise of the camera, mild; uint8 (h, w, 3)."""
    h, w = image.shape[:2]
    image = image * color_row(np.exp(rng.normal(0, 0.06, 3)) * np.exp(rng.normal(0, 0.15)), w)
    if rng.random() < 0.5:
        rows = ((np.arange(h, dtype=np.float32) - h / 2) / w)[:, None]
        columns = ((np.arange(w, dtype=np.float32) - w / 2) / w)[None]
        image = image * three_channels(1 - np.float32(rng.uniform(0, 0.8)) * np.minimum((rows**2 + columns**2) * 2.2, 0.9))
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.25, 1.0) * w / 320), np.float32)
    noise = rng.standard_normal((h, w, 3), np.float32)
    image = image + np.float32(rng.uniform(0, 5)) * cv2.GaussianBlur(noise, (0, 0), 0.6)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _crop_of_scene(rng: np.random.Generator, bank: Bank, seed: int, size: Size) -> Sample:
    h, w = size
    scene = bank.scene(int(rng.integers(len(bank.scenes))))
    matrix = _cover(rng, (scene.image.shape[0], scene.image.shape[1]), size, (0.95, 1.6))
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    def warped(plane: LabelMap) -> LabelMap:
        return np.asarray(cv2.warpAffine(plane, matrix, (w, h), flags=cv2.INTER_NEAREST), np.uint8)

    image = cv2.warpAffine(scene.image, matrix, (w, h), flags=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    depth = cv2.warpAffine(scene.depth, matrix, (w, h), flags=cv2.INTER_NEAREST)
    found = [tool.endovis_points() for tool in scene.tools]
    points = np.array([scene.view.project(one) @ matrix[:, :2].T + matrix[:, 2] for one in found]).reshape(-1, _LANDMARKS, 2)
    depths = np.array([one[:, 2] for one in found]).reshape(-1, _LANDMARKS)
    noisy = _camera(rng, image.astype(np.float32))
    return _sample(noisy, warped(scene.labels), warped(scene.instances), np.asarray(depth, np.float32), points, depths, seed)


def _sample(
    image: LabelMap,
    parts: LabelMap,
    instances: LabelMap,
    depth: Float32Array,
    points: FloatArray,
    depths: FloatArray,
    seed: int,
) -> Sample:
    """Turn parts into classes, order the tips, and drop landmarks out of view or behind another tool or tissue."""
    h, w = parts.shape
    labelled = np.isfinite(depths)
    anchors = points[:, ENDOVIS.anchor].copy()
    points = np.array([_ordered(one) for one in points]).reshape(points.shape)
    inside = (points > -0.5).all(axis=-1) & (points[..., 0] < w - 0.5) & (points[..., 1] < h - 0.5)
    for k, name in np.argwhere(inside):
        x, y = np.rint(points[k, name]).astype(int)
        if instances[y, x] != k + 1 and 0 < depth[y, x] < depths[k, name] - _OCCLUSION_M:  # by a tool, or by tissue
            inside[k, name] = False
    return Sample(
        image,
        _TO_ENDOVIS[parts],
        np.where(inside[..., None], points, np.nan),
        labelled,
        "rendered",
        seed,
        0,
        instances,
        anchors,
    )


def _ordered(points: FloatArray) -> FloatArray:
    """Swap the tips if the first is not the left one, seen along the shaft."""
    axis = points[_HEAD] - points[_CENTER]
    sides = axis[0] * (points[list(_TIPS), 1] - points[_HEAD, 1]) - axis[1] * (points[list(_TIPS), 0] - points[_HEAD, 0])
    if np.isfinite(sides).all() and sides[0] > sides[1]:
        points = points.copy()
        points[list(_TIPS)] = points[list(_TIPS[::-1])]
    return points
