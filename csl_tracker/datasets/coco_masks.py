"""Masks as COCO writes them: run lengths, plain or compressed, and polygons.

Run lengths count the pixels column by column, beginning with background. Their compressed form is the text of
``pycocotools``: every run (from the fourth on, its difference to the run two before) in groups of five bits, lowest first,
each group a printable character from ``0`` on with bit 5 set where another group follows.

Polygons are in px from the top-left *corner* of the image, so that it covers [0, width] x [0, height] and the centre of the
first pixel is (0.5, 0.5). A pixel belongs to a polygon when its centre does, by the even-odd rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.pixels import FloatArray, Size

Mask = npt.NDArray[np.bool_]

POLYGON_TOLERANCE_PX = 1.0
"""How far a polygon for people may run from the mask."""
SPECK = 1e-4
"""Share of the image below which a part of a mask is no polygon for people: removing a false one costs more than it gives."""

_LEAST = 6  # numbers of a polygon: x and y of three vertices
_FLAT = (0, 2, 4)
_FARTHEST = 1e7
_MAX_CROSSINGS = 5_000_000
_MAX_RUN = 7  # characters of a compressed run: 35 bits

_FIRST, _GROUP, _SIGN, _MORE = 48, 0x1F, 0x10, 0x20


def decode_segmentation(segmentation: Any, size: Size) -> Mask | None:
    """The mask of an annotation's ``segmentation``, in any of its forms.

    Args:
        segmentation: A list of polygons ``[x, y, x, y, ...]``, or one bare polygon, as some tools write it: their union counts;
            a mapping with ``size`` and ``counts`` as a list or a text; empty or None.
        size: (height, width) of the image, px.

    Returns:
        bool (H, W), or None where there is no mask.

    Raises:
        ValueError: It is none of these, or for an image of another size. The message is the end of a sentence.
    """
    if segmentation is None or (isinstance(segmentation, list | Mapping) and not segmentation):
        return None
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, size)
    if not isinstance(segmentation, list):
        raise ValueError(f"is a {type(segmentation).__name__}; a list of polygons or a mapping with size and counts is known")
    polygons = [segmentation] if not isinstance(segmentation[0], list) else segmentation
    mask = np.zeros(size, bool)
    for polygon in polygons:
        mask |= fill_polygon(_vertices(polygon), size)
    return mask


def without_flat_polygons(segmentation: Any) -> tuple[Any, int]:
    """A ``segmentation`` without polygons of fewer than three vertices, which have no area and which tools leave behind.

    Returns:
        What is left, None where that is nothing; and how many were left out. Run lengths stay as they are.
    """
    if not isinstance(segmentation, list):
        return segmentation, 0
    if segmentation and not any(isinstance(item, list) for item in segmentation):
        return (None, 1) if len(segmentation) in _FLAT else (segmentation, 0)
    kept = [item for item in segmentation if not (isinstance(item, list) and len(item) in _FLAT)]
    return kept or None, len(segmentation) - len(kept)


def decode_rle(rle: Mapping[str, Any], size: Size) -> Mask:
    """The mask of plain or compressed run lengths.

    Args:
        rle: ``{"size": [height, width], "counts": [...] or "..."}``.
        size: (height, width) of the image, px.

    Raises:
        ValueError: The runs do not fill the image, or are for another size. The message is the end of a sentence.
    """
    stated = rle.get("size")
    if not isinstance(stated, list | tuple) or [*stated] != [*size]:  # 240.0 is 240
        raise ValueError(f"is for an image of [height, width] {stated} and the image has {[*size]}")
    counts = rle.get("counts")
    if isinstance(counts, str):
        if len(counts) > _MAX_RUN * (size[0] * size[1] + 2):
            raise ValueError(f"has {len(counts)} characters of compressed run lengths, more than the image can have")
        counts = _uncompress(counts)
    if not isinstance(counts, list) or not all(_is_run(run) for run in counts):
        raise ValueError("has no run lengths of whole numbers from 0 under counts")
    counts = [int(run) for run in counts]
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"has run lengths of {sum(counts)} px together and the image has {size[0] * size[1]}")
    values = np.arange(len(counts)) % 2 == 1
    return np.asarray(np.repeat(values, counts).reshape(size[1], size[0]).T)


def encode_rle(mask: npt.ArrayLike) -> dict[str, Any]:
    """Compressed run lengths of a mask: ``{"size": [height, width], "counts": "..."}``."""
    array = np.asarray(mask, bool)
    flat = array.T.ravel()
    changes = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)
    return {"size": [int(array.shape[0]), int(array.shape[1])], "counts": _compress(runs)}


def fill_polygon(vertices: npt.ArrayLike, size: Size) -> Mask:
    """The pixels whose centres lie in a polygon, by the even-odd rule.

    Args:
        vertices: (n, 2), px from the corner; the last one is joined to the first.
        size: (height, width) of the image, px.

    Returns:
        bool (H, W).

    Raises:
        ValueError: Its edges cross more rows than any outline does. The message is the end of a sentence.
    """
    height, width = size
    start = np.asarray(vertices, np.float64)
    end = np.roll(start, -1, axis=0)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    # Rows whose centre line y + 0.5 is crossed: low <= y + 0.5 < high, so that a shared vertex counts once.
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
    counts = last - first
    if counts.sum() > _MAX_CROSSINGS:
        raise ValueError(f"has a polygon whose edges cross rows {counts.sum()} times, and {_MAX_CROSSINGS} are the limit")
    edge = np.repeat(np.arange(len(start)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (rows + 0.5 - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    crossings = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    toggles = np.zeros((height, width + 1), np.int64)
    np.add.at(toggles, (rows, columns), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :width] % 2 == 1)


def mask_to_polygons(mask: npt.ArrayLike, tolerance_px: float = 0.0, smallest_px: float = 0.0) -> list[list[float]]:
    """Polygons whose union is a mask, for tools in which people move vertices.

    A part with a hole is cut in two through the hole, since a polygon of COCO has none.

    Args:
        mask: bool (H, W).
        tolerance_px: Leave out vertices as long as the outline moves by no more than this. With 0 :func:`fill_polygon`
            gives the mask back.
        smallest_px: Leave out parts of a smaller area than this, px.

    Returns:
        One ``[x, y, x, y, ...]`` a part, px from the corner.
    """
    polygons: list[list[float]] = []
    parts = [np.asarray(mask, bool)]
    while parts:
        part = parts.pop()
        # The outline through the quarters of the pixels encloses their centres and no others; through the centres of the border
        # pixels it would run a half pixel too far inside.
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
    """Polygons of a mask to correct by hand: few vertices, and no specks; as :func:`mask_to_polygons` gives them."""
    array = np.asarray(mask, bool)
    return mask_to_polygons(array, POLYGON_TOLERANCE_PX, SPECK * array.size)


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


def _uncompress(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - _FIRST
        if not 0 <= group < 2 * _MORE:
            raise ValueError(f"has the character {character!r} in its compressed run lengths, which is none of theirs")
        value |= (group & _GROUP) << shift
        shift += 5
        if group & _MORE:
            if shift > 5 * _MAX_RUN:
                raise ValueError("has a compressed run length that is longer than any image")
            continue
        if group & _SIGN:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("has compressed run lengths that are cut off")
    return runs


def _compress(runs: Sequence[int]) -> str:
    return "".join(_groups(run - (runs[index - 2] if index > 2 else 0) for index, run in enumerate(runs)))


def _groups(values: Iterable[int]) -> Iterable[str]:
    for value in values:
        more = True
        while more:
            group = value & _GROUP
            value >>= 5
            more = value != (-1 if group & _SIGN else 0)
            yield chr(_FIRST + (group | _MORE if more else group))
