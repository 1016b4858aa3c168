"""Skeleton and colours of a sequence's landmarks and classes, for drawing and export."""

from __future__ import annotations

from csl_tracker.datasets.sample import Sequence
from csl_tracker.instruments import INSTRUMENT_SETS, MAX_NAME_LENGTH, Color, InstrumentSet
from csl_tracker.text import printable


def skeleton_of(sequence: Sequence) -> tuple[tuple[str, str], ...]:
    """Skeleton of a sequence: its own, or the matching pairs of the built-in instrument sets."""
    own: tuple[tuple[str, str], ...] = getattr(sequence, "skeleton", ())
    if own:
        return own
    known = [pair for instruments in INSTRUMENT_SETS.values() for pair in instruments.skeleton]
    return tuple(dict.fromkeys(pair for pair in known if set(pair) <= set(sequence.landmarks)))


def instruments_of(sequence: Sequence) -> InstrumentSet | None:
    """Names, skeleton and colours of a sequence; None if it has neither landmarks nor classes."""
    if not sequence.landmarks and len(sequence.classes) < 2:
        return None
    marks: dict[str, Color] = {}
    areas: dict[str, Color] = {}
    for known in INSTRUMENT_SETS.values():
        marks |= dict(zip(known.landmarks, known.landmark_colors, strict=False))
        areas |= dict(zip(known.classes, known.class_colors, strict=False))
    return InstrumentSet(
        landmarks=tuple(map(_shown, sequence.landmarks)),
        classes=tuple(map(_shown, sequence.classes)),
        skeleton=tuple((_shown(a), _shown(b)) for a, b in skeleton_of(sequence)),
        landmark_colors=_colors(sequence.landmarks, marks),
        class_colors=_colors(sequence.classes, areas),
    )


def _shown(name: str) -> str:
    """A name from a file for drawing: printable and cut to the maximum length."""
    return printable(name, lines=False)[:MAX_NAME_LENGTH]


def _colors(names: tuple[str, ...], known: dict[str, Color]) -> tuple[Color, ...]:
    free = [color for color in _PALETTE if color not in {known[name] for name in names if name in known}]
    unknown = [name for name in names if name not in known]
    chosen = {name: free[index % len(free)] for index, name in enumerate(unknown)}
    return tuple(known.get(name) or chosen[name] for name in names)


_PALETTE: tuple[Color, ...] = (
    (230, 60, 60),
    (255, 255, 255),
    (180, 80, 255),
    (70, 120, 255),
    (255, 170, 30),
    (40, 210, 210),
    (255, 110, 180),
    (200, 220, 60),
    (150, 110, 70),
    (160, 160, 255),
)
