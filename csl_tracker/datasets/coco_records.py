"""The records of COCO files, each checked: images, annotations and categories.

:mod:`csl_tracker.datasets.coco_file` merges them by image.
"""

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
"""Categories whose pixels are neither trained on nor scored."""
SLOT_ATTRIBUTES = ("slot", "side", "instrument")
SIDES = ("left", "right")
SLOT_SEPARATOR = ":"
"""Where keypoints are named ``SLOT:LANDMARK``, one annotation holds those of all instruments, as Label Studio exports them."""
UNKNOWN_SLOT = "unknown"
"""Slot of a mask of which nobody knows whose it is."""
LONE_SLOT = "instrument"
"""Slot of an instrument that is alone in its sequence and that nothing calls left or right."""


@dataclass(frozen=True)
class Region:
    """A mask, not yet decoded.

    Attributes:
        category: Name of its category, without left or right where there is one for either side.
        segmentation: As it stands in the file.
        where: What to call the annotation in messages.
        slot: Whose it is; empty where nothing says so.
    """

    category: str
    segmentation: Any
    where: str
    slot: str


@dataclass
class Instrument:
    """Keypoints of one instrument in one image.

    Attributes:
        where: What to call the annotation in messages.
        points: Landmark -> (x, y) px, integers being pixel centres; those with a place alone.
        labelled: Landmarks that somebody looked for.
        slot: Name of the instrument; empty until it has one.
        track: Its identity over time in the tool; empty without.
        x: Mean x of the points, else of the box; NaN without either.
    """

    where: str
    points: dict[str, tuple[float, float]]
    labelled: set[str]
    slot: str
    track: str
    x: float


@dataclass
class Frame:
    """Everything the files say about one image.

    Attributes:
        path: The image file.
        size: (height, width) as stated, px; None where it is not.
        sequence: Name of its sequence.
        number: Of the frame, where it is stated.
        stamp_ns: Time since the start of the sequence, ns, where it is stated.
        labelled: Somebody looked, even where there is no annotation.
        segmented: Whether its masks were drawn, where that is stated.
        instanced: Whether its masks tell whose they are, where that is stated.
        source: The JSON file.
        instruments: Its keypoints.
        regions: Its masks, the uppermost last.
        flat: Annotations with polygons of fewer than three vertices, and the number of those.
        stated: Name of the sequence before :meth:`CocoFiles.part_sequences` gave it another; empty where it did not.
        parted: Whether it did.
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
    """Where keypoints of a file have their origin: ``center`` or ``corner`` of the first pixel.

    CVAT writes an ``info`` and a licence whose texts are all empty, Label Studio calls itself the contributor.

    Raises:
        DatasetError: ``info.keypoint_origin`` is something else.
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
    """An id as it is compared: 1.0 is the whole number 1; None for what is no id."""
    if isinstance(value, str):
        return value
    return whole_number(value)


def whole_number(value: Any) -> int | None:
    """The whole number that a value is, 320.0 included; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def records_by_id(path: Path, records: list[Any], kind: str, key: str) -> dict[Any, dict[str, Any]]:
    """Records by their ids, of which none may be missing or stand twice.

    Raises:
        DatasetError: One does, or is no whole number.
    """
    found: dict[Any, dict[str, Any]] = {}
    for index, record in enumerate(records):
        value = record.get("id") if isinstance(record, dict) else None
        identity = identity_of(value)
        if identity is None:
            problem = "has no id" if value is None else f"has the id {value!r}, which is no whole number"
            raise DatasetError(f"Entry {index} of '{key}' in {path} {problem}; export the file again.")
        if identity in found:
            raise DatasetError(
                f"The file {path} has two entries of '{key}' with the id {identity!r}; give every {kind} its own."
            )
        found[identity] = record
    return found


def category_names(path: Path, categories: Mapping[Any, Mapping[str, Any]]) -> dict[Any, tuple[str, str]]:
    """Id -> name without the side, and the side: of categories of instruments, and of those that exist for both sides."""
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
    """What a record of an image says.

    Raises:
        DatasetError: Its size, frame or time is no whole number, or the image is too large.
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
    """(slot, landmark) of every keypoint; the slot is empty unless all names have one."""
    parts = [str(name).partition(SLOT_SEPARATOR) for name in names]
    if all(slot and name for slot, _, name in parts):
        return [(_slot(slot.strip()), name.strip()) for slot, _, name in parts]
    return [("", str(name)) for name in names]


def read_instruments(where: str, annotation: Mapping[str, Any], names: list[Any], side: str, shift: bool) -> list[Instrument]:
    """The instruments of an annotation: one, or those of the slots in its keypoints' names that have a point."""
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
                    f"The {where} has the keypoint {name} with x {x}, y {y} and v {v:g}; x or y is no number: label that point"
                    " again, or give it v 0."
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
    """The instrument that an annotation says it is of; empty where it does not."""
    attributes = _attributes(annotation)
    named = (attributes[key].strip() for key in SLOT_ATTRIBUTES if isinstance(attributes.get(key), str))
    return next((_slot(name) for name in named if name), "")


def _slot(name: str) -> str:
    """A slot as its name says, but left and right however they are written."""
    return name.lower() if name.lower() in SIDES else name


def list_of(record: Mapping[str, Any], key: str) -> list[Any]:
    """The list under a key; empty where there is none."""
    value = record.get(key)
    return value if isinstance(value, list) else []


def _mean_x(points: Mapping[str, tuple[float, float]]) -> float:
    return float(np.mean([point[0] for point in points.values()]))
