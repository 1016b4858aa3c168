"""Tools made from a few numbers: a wristed needle driver and forceps, and hand-held laparoscopic tools.

They need no files. Their links are those of :mod:`csl_tracker.datasets.rendered.tool`; hand-held tools have a rigid wrist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.rendered.shapes import joined, lathe, loft, tube
from csl_tracker.datasets.rendered.tool import CLASPER, SHAFT, SLEEVE, WRIST, Joint, Mesh, Part, Tool
from csl_tracker.datasets.rendered.transforms import rotation_rpy, transform

Tips = tuple[tuple[str, FloatArray], ...]

_SLEEVE = 0.0088  # m, as the dVRK's model has it
_SHAFT_LENGTH = 0.45  # m; its far end is out of view
_WRIST_ROTATION = rotation_rpy(-math.pi / 2, -math.pi / 2, 0.0)  # as in the dVRK's model: x, then y, along the tool
_CHEEK = 0.45  # radii from the middle of a wrist to the middle of a cheek
_CHEEK_FACE = 0.7  # radii to its outer face
_WRISTED_LIMITS = {"pitch": (-1.3, 1.3), "yaw": (-1.3, 1.3), "jaw": (0.0, 1.2)}


def _joints(wrist: float, jaws: int, wristed: bool) -> dict[str, Joint]:
    found = {
        "pitch": Joint("roll", transform(_WRIST_ROTATION), angle="pitch" if wristed else ""),
        "yaw": Joint("pitch", transform(_WRIST_ROTATION, (wrist, 0.0, 0.0)), angle="yaw" if wristed else ""),
    }
    for k in range(jaws):
        found[f"jaw_{k + 1}"] = Joint("yaw", np.eye(4), angle="jaw", factor=0.5 - k)
    if not jaws:
        found["jaw"] = Joint("yaw", np.eye(4))
    return found


def _shaft(radius: float, sleeve: float, finish: str) -> list[Part]:
    """The tube up to a ring, and the metal sleeve beyond it, m."""
    ring = -sleeve
    body = lathe(np.array([-_SHAFT_LENGTH, ring - 1e-4, ring]), np.array([radius, radius, 0.97 * radius]))
    end = lathe(
        np.array([ring, ring + 0.15 * sleeve, -0.25 * sleeve, 0.1 * sleeve]), np.array([0.96, 0.96, 0.94, 0.7]) * radius
    )
    return [Part("roll", finish, SHAFT, body), Part("roll", "sleeve", SLEEVE, end)]


def _wrist(radius: float, wrist: float) -> list[Part]:
    """The pitch link: two cheeks with a pin at each end; x runs along the tool."""
    x = np.array([-0.35, -0.15, 0.2, 0.75, 1.05, 1.2]) * wrist
    halves = np.array([[0.16, 0.3], [0.22, 0.5], [0.26, 0.62], [0.26, 0.6], [0.22, 0.45], [0.14, 0.2]]) * radius
    cheeks = [loft(0, x, np.full((6, 2), (side * _CHEEK * radius, 0.0)), halves, 3.0) for side in (-1, 1)]
    bridge = loft(0, np.array([0.2, 0.3, 0.55, 0.65]) * wrist, np.zeros((4, 2)), np.full((4, 2), 0.55 * radius), 3.0)
    ends = np.array([-0.75, 0.75]) * radius
    pins = [
        loft(2, ends, np.zeros((2, 2)), np.full((2, 2), 0.2 * radius)),  # of the pitch joint
        loft(1, ends, np.full((2, 2), (0.0, wrist)), np.full((2, 2), 0.2 * radius)),  # of the yaw joint
    ]
    return [Part("pitch", "metal", WRIST, joined(*cheeks, bridge)), Part("pitch", "metal", WRIST, joined(*pins))]


def _jaw(side: int, length: float, thick: float, wide: float, curve: float, taper: float) -> Mesh:
    """A clasper along y: its inner face lies on x = 0, and it bends towards z."""
    y = np.array([-0.12, 0.0, 0.12, 0.3, 0.6, 0.85, 0.97, 1.0]) * length
    shrink = np.interp(y / length, [-0.12, 0.1, 1.0], [0.9, 1.0, taper])
    ends = np.array([0.6, 0.95, 1, 1, 1, 1, 0.75, 0.3])
    x_half = 0.5 * thick * shrink * ends
    z_half = 0.5 * wide * shrink * ends
    centers = np.stack([curve * length * np.clip(y / length, 0, 1) ** 2, side * -(x_half + 2e-5)], axis=1)
    return loft(1, y, centers, np.stack([z_half, x_half], axis=1), 3.0)


def _loop_jaw(side: int, length: float, thick: float, wide: float) -> Mesh:
    """A fenestrated clasper: a frame around a window."""
    turn = np.linspace(0, 2 * np.pi, 48)
    y = length * (0.5 - 0.5 * np.cos(turn))
    z = 0.5 * (wide - thick) * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.5
    frame = tube(np.stack([np.full(48, side * -0.5 * thick), y, z], axis=1)[:-1], 0.5 * thick)
    centers = np.full((3, 2), (0.0, side * -0.5 * thick))
    root = loft(1, np.array([-0.1, 0.0, 0.15]) * length, centers, np.full((3, 2), 0.5 * thick))
    return joined(frame, root)


def _clip_jaw(side: int, length: float, thick: float) -> Mesh:
    """A clip applier's clasper: a bow that ends in a parallel rail."""
    t = np.linspace(0, 1, 24)
    bow = np.interp(t, [0, 0.25, 0.5, 1], [0.0, 0.16, 0.16, 0.05]) * length
    return tube(np.stack([side * -(bow + 0.5 * thick), t * length, np.zeros(24)], axis=1), 0.5 * thick, 1.6)


def _claspers(make: Callable[[int], Mesh], finish: str = "metal") -> list[Part]:
    return [Part(f"jaw_{k + 1}", finish, CLASPER, make(1 - 2 * k)) for k in range(2)]


def _tips(length: float, curve: float = 0.0, apart: float = 0.0) -> Tips:
    return tuple((f"jaw_{k + 1}", np.array([-(1 - 2 * k) * apart, length, curve * length])) for k in range(2))


def _marks(sleeve: float, wrist: float) -> Mapping[str, tuple[str, FloatArray]]:
    """Landmarks of a tool with another wrist: the ring, the middle between ring and hinge, and the hinge."""
    return {
        "center": ("roll", np.array([0.0, 0.0, -sleeve])),
        "shaft": ("roll", np.array([0.0, 0.0, 0.5 * (wrist - sleeve)])),
        "head": ("yaw", np.zeros(3)),
    }


@dataclass(frozen=True)
class _Held:
    """The shaft and the hinge of a hand-held tool of 3 to 10 mm; lengths in m."""

    radius: float
    sleeve: float
    wrist: float
    parts: tuple[Part, ...]


def _draw_held(rng: np.random.Generator) -> _Held:
    radius = float(rng.choice([0.0025, 0.005, 0.0016, 0.004], p=[0.6, 0.2, 0.05, 0.15]))
    sleeve, wrist = radius * rng.uniform(1.2, 4.0), radius * rng.uniform(0.8, 2.0)
    finish = str(rng.choice(["shaft", "metal", "plastic"], p=[0.5, 0.4, 0.1]))
    along = np.array([-0.4, 0.0, 0.8, 1.15]) * wrist
    halves = np.array([[0.8, 0.9], [0.8, 0.9], [0.55, 0.85], [0.3, 0.5]]) * radius
    hinge = Part("pitch", "metal", WRIST, loft(0, along, np.zeros((4, 2)), halves, 2.6))
    return _Held(radius, sleeve, wrist, (*_shaft(radius, sleeve, finish), hinge))


def _wristed(name: str, parts: list[Part], radius: float, wrist: float, tips: Tips) -> Tool:
    joints = _joints(wrist, 2, True)
    return Tool(name, name.replace("_", " "), tuple(parts), joints, tips, _WRISTED_LIMITS, {}, radius, _CHEEK_FACE * radius)


def _hand_held(name: str, family: str, held: _Held, parts: list[Part], tips: Tips, widest: float = 0.0) -> Tool:
    """A hand-held tool; without a widest opening, rad, it has one rigid jaw."""
    joints = _joints(held.wrist, 2 if widest else 0, False)
    limits = {"jaw": (0.0, widest)} if widest else {}
    marks = _marks(held.sleeve, held.wrist)
    return Tool(name, family, (*held.parts, *parts), joints, tips, limits, marks, held.radius, held.radius)


def needle_driver(rng: np.random.Generator) -> Tool:
    """A wristed needle driver with short, stout claspers."""
    radius, wrist, length = rng.uniform(0.0038, 0.0044), rng.uniform(0.0085, 0.0105), rng.uniform(0.009, 0.013)
    thick, wide, taper = rng.uniform(0.0018, 0.0026), rng.uniform(0.0025, 0.0036), rng.uniform(0.45, 0.8)
    parts = _shaft(radius, _SLEEVE, "shaft") + _wrist(radius, wrist)
    parts += _claspers(lambda side: _jaw(side, length, thick, wide, 0.0, taper))
    return _wristed("needle_driver", parts, radius, wrist, _tips(length))


def forceps(rng: np.random.Generator) -> Tool:
    """Wristed forceps with long claspers, plain or fenestrated."""
    radius, wrist, length = rng.uniform(0.0038, 0.0044), rng.uniform(0.0085, 0.0115), rng.uniform(0.016, 0.026)
    thick, wide, taper = rng.uniform(0.0014, 0.0024), rng.uniform(0.003, 0.0052), rng.uniform(0.3, 0.8)
    curve = rng.uniform(-0.15, 0.15)
    loop = rng.random() < 0.5
    claspers, tips = _plain_or_loop(loop, length, thick, wide, curve, taper)
    return _wristed("forceps", [*_shaft(radius, _SLEEVE, "shaft"), *_wrist(radius, wrist), *claspers], radius, wrist, tips)


def _plain_or_loop(loop: bool, length: float, thick: float, wide: float, curve: float, taper: float) -> tuple[list[Part], Tips]:
    if loop:
        return _claspers(lambda side: _loop_jaw(side, length, thick, wide)), _tips(length, 0.0, 0.5 * thick)
    return _claspers(lambda side: _jaw(side, length, thick, wide, curve, taper)), _tips(length, curve)


def grasper(rng: np.random.Generator) -> Tool:
    """A hand-held grasper."""
    held = _draw_held(rng)
    length, thick = held.radius * rng.uniform(4, 10), held.radius * rng.uniform(0.5, 0.9)
    wide, curve, taper = held.radius * rng.uniform(0.9, 1.7), rng.choice([0.0, rng.uniform(-0.3, 0.3)]), rng.uniform(0.4, 1.0)
    claspers, tips = _plain_or_loop(rng.random() < 0.4, length, thick, wide, curve, taper)
    return _hand_held("grasper", "hand-held grasper", held, claspers, tips, 1.3)


def scissors(rng: np.random.Generator) -> Tool:
    """Hand-held scissors with thin, often curved blades."""
    held = _draw_held(rng)
    length, curve = held.radius * rng.uniform(4, 8), rng.choice([0.0, rng.uniform(0.1, 0.35)], p=[0.3, 0.7])
    thick, wide = held.radius * rng.uniform(0.5, 0.8), held.radius * rng.uniform(0.3, 0.6)
    claspers = _claspers(lambda side: _jaw(side, length, thick, wide, curve, 0.25))
    return _hand_held("scissors", "hand-held scissors", held, claspers, _tips(length, curve), 1.0)


def clip_applier(rng: np.random.Generator) -> Tool:
    """A hand-held clip applier."""
    held = _draw_held(rng)
    length, thick = held.radius * rng.uniform(3, 5), held.radius * rng.uniform(0.3, 0.5)
    tips = _tips(length, 0.0, 0.05 * length + 0.5 * thick)
    return _hand_held("clip_applier", "clip applier", held, _claspers(lambda side: _clip_jaw(side, length, thick)), tips, 0.5)


def hook(rng: np.random.Generator) -> Tool:
    """A hand-held cautery hook: a bent wire with one tip."""
    held = _draw_held(rng)
    length, wire = held.radius * rng.uniform(2.5, 6), held.radius * rng.uniform(0.16, 0.35)
    turn, bend = np.linspace(0, 1, 16), rng.uniform(1.2, 1.9)
    rest = length * rng.uniform(0.25, 0.5)
    arc = rest * np.stack([1 - np.cos(bend * turn), np.sin(bend * turn)], axis=1) + (0.0, 0.5 * length)
    line = np.concatenate([[[0.0, 0.0], [0.0, 0.5 * length - 1e-6]], arc])
    curve = np.column_stack([line, np.zeros(len(line))])
    collar = loft(1, np.array([-0.1, 0.25]) * length, np.zeros((2, 2)), np.full((2, 2), min(2.2 * wire, 0.9 * held.radius)))
    parts = [
        Part("jaw", "metal", CLASPER, tube(curve, wire)),
        Part("jaw", str(rng.choice(["plastic", "metal"])), CLASPER, collar),
    ]
    return _hand_held("hook", "hand-held hook", held, parts, (("jaw", curve[-1].copy()),))


def suction(rng: np.random.Generator) -> Tool:
    """A suction tube: a shaft with a rounded, sometimes narrower end, and no landmarks."""
    radius = float(rng.choice([0.0025, 0.005, 0.0035]))
    end = rng.uniform(0.4, 1.0)
    along = np.array([-_SHAFT_LENGTH, -0.03, -0.02, -0.002, 0.0])
    body = lathe(along, radius * np.array([1.0, 1.0, end, end, 0.75 * end]))
    mouth = lathe(np.array([-0.0005, 0.0002]), radius * end * np.array([0.6, 0.6]))
    nowhere = {name: ("roll", np.full(3, np.nan)) for name in ("center", "shaft", "head")}
    parts = (Part("roll", str(rng.choice(["metal", "shaft", "plastic"])), SHAFT, body), Part("roll", "rope", SHAFT, mouth))
    return Tool("suction", "suction tube", parts, _joints(0.002, 0, False), (), {}, nowhere, radius, radius)


PARAMETRIC: Mapping[str, Callable[[np.random.Generator], Tool]] = {
    "needle_driver": needle_driver,
    "forceps": forceps,
    "grasper": grasper,
    "scissors": scissors,
    "clip_applier": clip_applier,
    "hook": hook,
    "suction": suction,
}
"""Kind -> function that draws a tool of that kind."""
