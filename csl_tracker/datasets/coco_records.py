"""Validates the records of COCO files; :mod:`csl_tracker.datasets.coco_file` merges them by image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.errors import DatasetError
from csl_tracker.image_files import size_problem
from csl_tracker.pixels import Size, to_center

BACKGROUND = "background"
IGNORE_NAMES = frozenset({"ignore", "ignored", "void", "unlabeled"})
"""Categories ignored in training and evaluation."""
SLOT_ATTRIBUTES = ("slot", "side", "instrument")
SIDES = ("left", "right")
SLOT_SEPARATOR = ":"
"""Keypoints named ``SLOT:LANDMARK`` put all instruments in one annotation, as in Label Studio exports."""
UNKNOWN_SLOT = "unknown"
"""Slot of a mask with an unknown instrument."""
LONE_SLOT = "instrument"
"""Slot of a single instrument without a side."""


@dataclass(frozen=True)
class Region:
    """An encoded mask.

    Attributes:
        category: Category name, without left/right if both exist.
        segmentation: The value in the file.
        where: Name of the annotation in messages.
        slot: Slot of its instrument; empty if unknown.
    """

    category: str
    segmentation: Any
    where: str
    slot: str


@dataclass
class Instrument:
    """Keypoints of one instrument in one image.

    Attributes:
        where: Name of the annotation in messages.
        points: Landmark -> (x, y) px, integers are pixel centres; only landmarks with a position.
        labelled: Annotated landmarks, including absent ones.
        slot: Slot name; empty until assigned.
        track: Track id of the labelling tool; empty without.
        x: Mean x of the points, else centre of the box; NaN without either.
    """

    where: str
    points: dict[str, tuple[float, float]]
    labelled: set[str]
    slot: str
    track: str
    x: float


@dataclass
class Frame:
    """All labels of one image.

    Attributes:
        path: The image file.
        size: Stated (height, width), px, or None.
        sequence: Name of its sequence.
        number: Stated frame number, or None.
        stamp_ns: Stated time since the start of the sequence, ns, or None.
        labelled: The image is annotated even if it has no annotations.
        segmented: Stated flag: masks were drawn; or None.
        instanced: Stated flag: masks have instruments; or None.
        source: The JSON file.
        instruments: Its keypoints.
        regions: Its masks, the uppermost last.
        flat: Annotations with polygons of fewer than three vertices, and their number.
        stated: Original sequence name if :meth:`CocoFiles.part_sequences` renamed it; otherwise empty.
        parted: Whether it was renamed.
    """

    path: Path
    size: Size | None
    sequence: str
    number: int | None
    stamp_ns: int | None
    labelled: bool
    segmented: bool | None
    instanced: bool | None
    source: Path
    instruments: list[Instrument] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    flat: list[tuple[str, int]] = field(default_factory=list)
    stated: str = ""
    parted: bool = False


def keypoint_origin(path: Path, data: Mapping[str, Any]) -> str:
    """Origin of keypoint coordinates: ``center`` or ``corner`` of the first pixel.

    CVAT is detected by an ``info`` with only empty texts, Label Studio by its contributor entry.

    Raises:
        DatasetError: ``info.keypoint_origin`` is invalid.
    """
    info = data.get("info")
    if not isinstance(info, dict):
        return "center"
    stated = info.get("keypoint_origin")
    if stated is not None:
        if stated not in ("center", "corner"):
            raise DatasetError(f"The file {path} has the keypoint_origin {stated!r}; write center or corner.")
        return str(stated)
    from_cvat = {"contributor", "description", "url", "version"} <= set(info) and not any(info.values())
    return "corner" if from_cvat or info.get("contributor") == "Label Studio" else "center"


def identity_of(value: Any) -> int | str | None:
    """Normalise an id (1.0 becomes 1); None if invalid."""
    if isinstance(value, str):
        return value
    return whole_number(value)


def whole_number(value: Any) -> int | None:
    """Convert to int, including 320.0; None if not a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def records_by_id(path: Path, records: list[Any], kind: str, key: str) -> dict[Any, dict[str, Any]]:
    """Index records by id.

    Raises:
        DatasetError: An id is missing, duplicate, or not a whole number.
    """
    found: dict[Any, dict[str, Any]] = {}
    for index, record in enumerate(records):
        value = record.get("id") if isinstance(record, dict) else None
        identity = identity_of(value)
        if identity is None:
            problem = "has no id" if value is None else f"has the id {value!r}, which is not a whole number"
            raise DatasetError(f"Entry {index} of '{key}' in {path} {problem}; export the file again.")
        if identity in found:
            raise DatasetError(
                f"The file {path} has two entries of '{key}' with the id {identity!r}; give every {kind} its own."
            )
        found[identity] = record
    return found


def category_names(path: Path, categories: Mapping[Any, Mapping[str, Any]]) -> dict[Any, tuple[str, str]]:
    """Id -> (name without side, side), for instruments and for categories that exist for both sides."""
    split = {}
    for key, category in categories.items():
        if not isinstance(category.get("name"), str):
            raise DatasetError(f"The category {key} in {path} has no name; give it one.")
        words = [word for word in re.split(r"[\W_]+", category["name"]) if word]
        sides = [word.lower() for word in words if word.lower() in SIDES]
        base = "_".join(word for word in words if word.lower() not in SIDES) or LONE_SLOT
        split[key] = (base, sides[0]) if len(sides) == 1 else (category["name"], "")
    both = Counter(base for base, side in set(split.values()) if side)
    names = {}
    for key, category in categories.items():
        base, side = split[key]
        names[key] = (base, side) if side and (category.get("keypoints") or both[base] == 2) else (category["name"], "")
    return names


def read_frame(path: Path, record: Mapping[str, Any], image: Path, sequence: str) -> Frame:
    """Parse an image record.

    Raises:
        DatasetError: Size, frame or time is not a whole number, or the image is too large.
    """
    size = None
    if record.get("height") or record.get("width"):
        height, width = whole_number(record.get("height")), whole_number(record.get("width"))
        if height is None or width is None or height < 1 or width < 1:
            raise DatasetError(
                f"The image {record['id']} in {path} has width {record.get('width')!r} and height {record.get('height')!r};"
                " give whole numbers of px."
            )
        size = (height, width)
        problem = size_problem(size)
        if problem is not None:
            raise DatasetError(f"The image {record['id']} in {path} cannot be read: {problem}; give its true size.")
    numbers: list[int | None] = []
    for key in ("frame", "stamp_ns"):
        value = whole_number(record.get(key))
        if value is None and record.get(key) is not None:
            raise DatasetError(f"The image {record['id']} in {path} has {key} {record[key]!r}; give a whole number.")
        numbers.append(value)
    flags = [None if record.get(key) is None else bool(record[key]) for key in ("segmented", "instances")]
    return Frame(
        path=image,
        size=size,
        sequence=sequence,
        number=numbers[0],
        stamp_ns=numbers[1],
        labelled=bool(record.get("labelled")),
        segmented=flags[0],
        instanced=flags[1],
        source=path,
    )


def split_slots(names: list[Any]) -> list[tuple[str, str]]:
    """(slot, landmark) of each keypoint; slots are empty unless all names have one."""
    parts = [str(name).partition(SLOT_SEPARATOR) for name in names]
    if all(slot and name for slot, _, name in parts):
        return [(_slot(slot.strip()), name.strip()) for slot, _, name in parts]
    return [("", str(name)) for name in names]


def read_instruments(where: str, annotation: Mapping[str, Any], names: list[Any], side: str, shift: bool) -> list[Instrument]:
    """The instruments of an annotation: one, or one per slot with a point if keypoint names contain slots."""
    values = annotation["keypoints"]
    try:
        _refuse_texts(where, values)
        triples = np.array(values, np.float64).reshape(len(names), 3)
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(
            f"The {where} has {len(values) if isinstance(values, list) else 'no list of'} numbers as keypoints and its category"
            f" {len(names)} keypoints; give x, y and v of each."
        ) from None
    points: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for (slot, name), (x, y, v) in zip(split_slots(names), triples, strict=True):
        if v not in (0, 1, 2):
            raise DatasetError(f"The {where} has the keypoint {name} with x {x}, y {y} and v {v}; v is 0, 1 or 2.")
        if v:
            if not np.isfinite((x, y)).all():
                raise DatasetError(
                    f"The {where} has the keypoint {name} with x {x}, y {y} and v {v:g}; x or y is not a number: label that"
                    " point again, or give it v 0."
                )
            point = to_center((x, y)) if shift else np.array((x, y))
            points[slot][name] = (float(point[0]), float(point[1]))
    if set(points) - {""}:
        return [Instrument(where, found, set(found), slot, "", _mean_x(found)) for slot, found in points.items()]
    track = _attributes(annotation).get("track_id", annotation.get("track_id"))
    absent = {str(name) for name in list_of(annotation, "keypoints_absent")} & {str(name) for name in names}
    box = [value for value in list_of(annotation, "bbox") if isinstance(value, int | float)]
    center = box[0] + box[2] / 2 if len(box) == 4 else np.nan
    return [
        Instrument(
            where=where,
            points=points[""],
            labelled=set(points[""]) | absent,
            slot=slot_attribute(annotation) or side,
            track="" if track is None else str(track),
            x=_mean_x(points[""]) if points[""] else float(center),
        )
    ]


def _refuse_texts(where: str, values: Any) -> None:
    text = next((value for value in values if isinstance(value, str)), None) if isinstance(values, list) else None
    if text is not None:
        raise DatasetError(f"The {where} has the text {text[:40]!r} among its keypoints; give x, y and v as numbers.")


def _attributes(annotation: Mapping[str, Any]) -> dict[str, Any]:
    given = annotation.get("attributes")
    return {str(key).lower(): value for key, value in given.items()} if isinstance(given, dict) else {}


def slot_attribute(annotation: Mapping[str, Any]) -> str:
    """The slot attribute of an annotation; empty without."""
    attributes = _attributes(annotation)
    named = (attributes[key].strip() for key in SLOT_ATTRIBUTES if isinstance(attributes.get(key), str))
    return next((_slot(name) for name in named if name), "")


def _slot(name: str) -> str:
    """Normalise the case of left and right."""
    return name.lower() if name.lower() in SIDES else name


def list_of(record: Mapping[str, Any], key: str) -> list[Any]:
    """The list under a key; empty if missing."""
    value = record.get(key)
    return value if isinstance(value, list) else []


def _mean_x(points: Mapping[str, tuple[float, float]]) -> float:
    return float(np.mean([point[0] for point in points.values()]))
