"""Procedural backgrounds that show no tissue: boards, drapes, clutter, rooms, blind frames.

No picture shows an instrument, so every pixel's label is background.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.datasets.rendered import world_boards, world_clutter, world_plain, world_surfaces
from csl_tracker.datasets.rendered.world_shapes import Size, defocus, grain, lamp

_Draw = Callable[[np.random.Generator, Size], Image]

_LIT: dict[str, _Draw] = {
    "chessboard": world_boards.chessboard,
    "circle_grid": world_boards.circle_grid,
    "marker_board": world_boards.marker_board,
    "resolution_chart": world_boards.resolution_chart,
    "paper": world_boards.paper,
    "ruler": world_boards.ruler,
    "peg_board": world_boards.peg_board,
    "drape": world_surfaces.drape,
    "gauze": world_surfaces.gauze,
    "table": world_surfaces.table,
    "drawn_skin": world_surfaces.drawn_skin,
    "room": world_surfaces.room,
    "gloves": world_surfaces.gloves,
    "trocar": world_surfaces.trocar,
    "circuit": world_clutter.circuit,
    "wires": world_clutter.wires,
    "hardware": world_clutter.hardware,
    "machine": world_clutter.machine,
}
_PLAIN: dict[str, _Draw] = {
    "black": world_plain.black,
    "red_out": world_plain.red_out,
    "white_out": world_plain.white_out,
    "gradient": world_plain.gradient,
    "noise": world_plain.noise,
    "screen": world_plain.screen,
    "smear": world_plain.smear,
}

FAMILIES: tuple[str, ...] = (*_LIT, *_PLAIN)
"""Names of the kinds of backgrounds; pictures of one can be held out."""

_PLAIN_SHARE = 0.2
"""Share of frames that show nothing, if no family is asked for."""


@dataclass(frozen=True, eq=False)
class WorldPicture:
    """A picture without instruments.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        family: One of :data:`FAMILIES`.
    """

    image: Image
    family: str


def draw_world(rng: np.random.Generator, size: Size, family: str | None = None) -> WorldPicture:
    """Draw a background.

    Args:
        rng: Random generator; the same state gives the same picture.
        size: (height, width), px.
        family: One of :data:`FAMILIES`; None draws one.

    Raises:
        ValueError: Unknown family.
    """
    if family is None:
        group = _PLAIN if rng.random() < _PLAIN_SHARE else _LIT
        family = tuple(group)[int(rng.integers(len(group)))]
    if family in _PLAIN:
        return WorldPicture(_PLAIN[family](rng, size), family)
    if family not in _LIT:
        raise ValueError(f"Unknown background family '{family}'; known: {', '.join(FAMILIES)}.")
    return WorldPicture(_seen(rng, _LIT[family](rng, size)), family)


def _seen(rng: np.random.Generator, image: Image) -> Image:
    """Light, focus, saturation and noise of a camera."""
    w = image.shape[1]
    image = lamp(rng, image)
    if rng.random() < 0.5:
        image = defocus(image, float(np.exp(rng.uniform(np.log(0.3), np.log(5)))) * w / 640)
    if rng.random() < 0.3:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        share = float(rng.uniform(0.2, 0.8))
        image = np.asarray(cv2.addWeighted(image, share, cv2.merge((grey, grey, grey)), 1 - share, 0), np.uint8)
    return grain(rng, image, float(rng.uniform(0, 5)))
