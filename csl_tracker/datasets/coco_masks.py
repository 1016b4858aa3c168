"""COCO masks: run lengths (plain or compressed) and polygons.

Run lengths count pixels column by column, starting with background. The compressed form is that of ``pycocotools``: each run
(from the fourth on, its difference to the run two before) is split into groups of five bits, lowest first; each group is a
printable character starting at ``0``, with bit 5 set if another group follows.

Polygons are in px from the top-left *corner* of the image: it covers [0, width] x [0, height], and the centre of the first
pixel is (0.5, 0.5).

``pycocotools`` fills polygons and writes run lengths. Its C code does not validate input: it crashes on non-finite or distant
vertices, and returns uninitialised memory for incomplete run lengths. This module therefore validates its input and decodes run
lengths with NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, IntArray, Mask
from csl_tracker.pixels import Size

POLYGON_TOLERANCE_PX = 1.0
"""Maximum deviation of an editable polygon from the mask."""
SPECK = 1e-4
"""Minimum area of an editable polygon, as a fraction of the image; removing false specks costs more than they are worth."""

_LEAST = 6  # numbers of a polygon: x and y of three vertices
_FLAT = (0, 2, 4)
_FARTHEST = 1e7
_MAX_OUTLINE_PX = 2_000_000
_MAX_RUN = 7  # characters of a compressed run: 35 bits

_FIRST, _GROUP, _SIGN, _MORE = 48, 0x1F, 0x10, 0x20


def decode_segmentation(segmentation: Any, size: Size) -> Mask | None:
    """Decode an annotation's ``segmentation`` in any form.

    Args:
        segmentation: A list of polygons ``[x, y, x, y, ...]`` (their union) or a single polygon, as some tools write it; a
            mapping with ``size`` and ``counts`` (list or text); empty or None.
        size: (height, width) of the image, px.

    Returns:
        bool (H, W), or None without a mask.

    Raises:
        ValueError: The form is invalid, or the image size differs. The message is a clause.
    """
    if segmentation is None or (isinstance(segmentation, list | Mapping) and not segmentation):
        return None
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, size)
    if not isinstance(segmentation, list):
        raise ValueError(f"is a {type(segmentation).__name__}; a list of polygons or a mapping with size and counts is known")
    polygons = [segmentation] if not isinstance(segmentation[0], list) else segmentation
    return fill_polygons([_vertices(polygon) for polygon in polygons], size)


def without_flat_polygons(segmentation: Any) -> tuple[Any, int]:
    """Remove polygons with fewer than three vertices, which some tools write.

    Returns:
        The remaining ``segmentation`` (None if empty), and the number of removed polygons. Run lengths are not changed.
    """
    if not isinstance(segmentation, list):
        return segmentation, 0
    if segmentation and not any(isinstance(item, list) for item in segmentation):
        return (None, 1) if len(segmentation) in _FLAT else (segmentation, 0)
    kept = [item for item in segmentation if not (isinstance(item, list) and len(item) in _FLAT)]
    return kept or None, len(segmentation) - len(kept)


def decode_rle(rle: Mapping[str, Any], size: Size) -> Mask:
    """Decode plain or compressed run lengths.

    Args:
        rle: ``{"size": [height, width], "counts": [...] or "..."}``.
        size: (height, width) of the image, px.

    Raises:
        ValueError: The runs do not match the image size. The message is a clause.
    """
    stated = rle.get("size")
    if not isinstance(stated, list | tuple) or [*stated] != [*size]:  # 240.0 is 240
        raise ValueError(f"is for an image of [height, width] {stated} and the image has {[*size]}")
    runs = _runs(rle.get("counts"), size)
    total = sum(runs.tolist())  # Python integers do not overflow
    if total != size[0] * size[1]:
        raise ValueError(f"has run lengths of {total} px together and the image has {size[0] * size[1]}")
    values = np.arange(len(runs)) % 2 == 1
    return np.asarray(np.repeat(values, runs).reshape(size[1], size[0]).T)


def encode_rle(mask: npt.ArrayLike) -> dict[str, Any]:
    """Encode a mask as compressed run lengths: ``{"size": [height, width], "counts": "..."}``."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(np.asarray(mask, bool).view(np.uint8)))
    return {"size": [int(length) for length in rle["size"]], "counts": rle["counts"].decode("ascii")}


def fill_polygons(polygons: Sequence[FloatArray], size: Size) -> Mask:
    """Rasterise the union of polygons with COCO's own code.

    Args:
        polygons: (n, 2) each, finite, px from the corner; closed implicitly.
        size: (height, width) of the image, px.

    Returns:
        bool (H, W).

    Raises:
        ValueError: The outline exceeds the limit. The message is a clause.
    """
    from pycocotools import mask as coco

    length = sum(float(np.abs(polygon - np.roll(polygon, 1, axis=0)).max(axis=1).sum()) for polygon in polygons)
    if length > _MAX_OUTLINE_PX:  # pycocotools allocates five points per px
        raise ValueError(f"has polygons with an outline of {length:.0f} px, and {_MAX_OUTLINE_PX} are the limit")
    drawn = coco.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)
    return decode_rle({"size": size, "counts": coco.merge(drawn)["counts"].decode("ascii")}, size)


def mask_to_polygons(mask: npt.ArrayLike, tolerance_px: float = 0.0, smallest_px: float = 0.0) -> list[list[float]]:
    """Convert a mask to polygons for labelling tools.

    A part with a hole is split through the hole, since COCO polygons have no holes.

    Args:
        mask: bool (H, W).
        tolerance_px: Maximum deviation of the simplified outline. With 0, :func:`fill_polygons` restores the mask exactly.
        smallest_px: Minimum area of a part, px.

    Returns:
        One ``[x, y, x, y, ...]`` per part, px from the corner.
    """
    polygons: list[list[float]] = []
    parts = [np.asarray(mask, bool)]
    while parts:
        part = parts.pop()
        # Doubled resolution: the contour encloses exactly the pixel centres. At the original resolution it would pass through
        # the border pixels' centres, half a pixel too far inside.
        fine = cv2.resize(part.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        contours, tree = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        holes = [] if tree is None else [contour for contour, node in zip(contours, tree[0], strict=True) if node[3] >= 0]
        if holes:
            left, _, width, _ = cv2.boundingRect(max(holes, key=cv2.contourArea))
            middle = (left + width // 2) // 2
            for columns in (np.s_[:, : middle + 1], np.s_[:, middle + 1 :]):
                half = np.zeros_like(part)
                half[columns] = part[columns]
                parts.append(half)
            continue
        for contour in contours:
            if cv2.contourArea(contour) < 4 * smallest_px:
                continue
            outline = cv2.approxPolyDP(contour, 2 * tolerance_px, True) if tolerance_px > 0 else contour
            if len(outline) < 3:
                outline = contour
            polygons.append(((outline[:, 0].astype(np.float64) + 0.5) / 2).ravel().tolist())
    return polygons


def polygons_for_people(mask: npt.ArrayLike) -> list[list[float]]:
    """:func:`mask_to_polygons` for manual correction: few vertices, no specks."""
    array = np.asarray(mask, bool)
    return mask_to_polygons(array, POLYGON_TOLERANCE_PX, SPECK * array.size)


def _runs(counts: Any, size: Size) -> IntArray:
    """The run lengths under ``counts``, validated to be non-negative."""
    if isinstance(counts, str):
        if len(counts) > _MAX_RUN * (size[0] * size[1] + 2):
            raise ValueError(f"has {len(counts)} characters of compressed run lengths, more than the image can have")
        runs = _uncompress(counts)
    elif isinstance(counts, list) and all(_is_run(run) for run in counts):
        runs = np.array([min(int(run), 1 << 40) for run in counts], np.int64)  # no run is longer than the image
    else:
        runs = np.array([-1])
    if (runs < 0).any():
        raise ValueError("has no run lengths of whole numbers from 0 under counts")
    return runs


def _is_run(run: Any) -> bool:
    number = isinstance(run, int | float) and not isinstance(run, bool)
    return number and run >= 0 and float(run).is_integer()


def _vertices(polygon: Any) -> FloatArray:
    if not isinstance(polygon, list) or len(polygon) < _LEAST or len(polygon) % 2:
        length = f"{len(polygon)} numbers" if isinstance(polygon, list) else f"a {type(polygon).__name__}"
        raise ValueError(f"has a polygon of {length}; it needs x and y of three vertices or more")
    try:
        if any(isinstance(value, str) for value in polygon):
            raise ValueError
        vertices = np.array(polygon, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"has a polygon that begins {str(polygon)[:40]}; it needs x and y of its vertices, as numbers"
        ) from None
    if not np.isfinite(vertices).all():
        raise ValueError("has a polygon with a vertex that is not finite")
    if np.abs(vertices).max() > _FARTHEST:
        raise ValueError(f"has a polygon with a vertex farther than {_FARTHEST:g} px away")
    return vertices


def _uncompress(text: str) -> IntArray:
    groups = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - _FIRST
    if not ((groups >= 0) & (groups < 2 * _MORE)).all():
        character = next(c for c in text if not 0 <= ord(c) - _FIRST < 2 * _MORE)
        raise ValueError(f"has the character {character!r} in its compressed run lengths, which is none of theirs")
    last = groups < _MORE  # last group of a run
    cut_off = not last[-1:].all()
    last[-1:] = True
    ends = np.flatnonzero(last)
    lengths = np.diff(ends, prepend=-1)
    if (lengths > _MAX_RUN).any():
        raise ValueError("has a compressed run length that is longer than any image")
    if cut_off:
        raise ValueError("has compressed run lengths that are cut off")
    starts = ends - lengths + 1
    places = np.arange(len(groups)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((groups & _GROUP) << 5 * places, starts) if len(starts) else groups
    runs -= np.where(groups[ends] & _SIGN, 1 << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
