"""The contents of COCO files, checked and merged by image; see :mod:`csl_tracker.datasets.coco` for how they are read."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from csl_tracker.errors import DatasetError
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

T = TypeVar("T")

_KEYS = ("images", "annotations", "categories")
_MAX_DEPTH = 3
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's prefix of an uploaded file
_EXPORT_PREFIX = re.compile(r"^(person_keypoints|keypoints|instances)_")
_PLAIN_NAMES = frozenset({"annotations", "_annotations.coco", "coco", "instances", "labels", "result", "person_keypoints"})
_EXPECTED = "looked for JSON files with 'images', 'annotations' and 'categories' in it or in its folder annotations"


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


class CocoFiles:
    """What several files say, merged by image.

    Attributes:
        root: Folder below which the images are looked for.
        frames: Image file -> what is known of it.
        landmarks: Names, in the order of the categories.
        categories: Names of those that have masks, in their order.
        skeleton: Pairs of landmarks.
        settings: Sequence -> what the file states of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root if root.is_dir() else root.parent
        self.frames: dict[Path, Frame] = {}
        self.landmarks: list[str] = []
        self.categories: list[str] = []
        self.skeleton: list[tuple[str, str]] = []
        self.settings: dict[str, dict[str, Any]] = {}
        self._by_name: dict[str, list[Path]] | None = None

    def add(self, path: Path, data: Mapping[str, Any]) -> None:
        """Take in one file.

        Args:
            path: Where it lies.
            data: Its contents, an object with the lists ``images``, ``annotations`` and ``categories``.

        Raises:
            DatasetError: It has dangling or repeated ids or values that make no sense, or an image is missing.
        """
        images = self._add_images(path, data["images"])
        categories = _by_id(path, data["categories"], "category", "categories")
        names = _category_names(path, categories)
        for described in categories.values():
            self._add_category(path, described)
        shift = keypoint_origin(path, data) == "corner"
        with_masks = set()
        for annotation in _by_id(path, data["annotations"], "annotation", "annotations").values():
            where = f"annotation {annotation['id']} in {path}"
            frame = _look_up(images, annotation.get("image_id"))
            category = _look_up(categories, annotation.get("category_id"))
            if frame is None or category is None:
                key, kind = ("image_id", "image") if frame is None else ("category_id", "category")
                raise DatasetError(
                    f"The {where} belongs to the {kind} {annotation.get(key)!r}, which that file does not list; remove the"
                    f" annotation, or add the {kind}."
                )
            base, side = names[category["id"]]
            if annotation.get("segmentation"):
                slot = _slot_attribute(annotation) or side
                frame.regions.append(Region(base, annotation["segmentation"], where, slot))
                with_masks.add(base)
            if category.get("keypoints") and annotation.get("keypoints"):
                frame.instruments += _instruments(where, annotation, category["keypoints"], side, shift)
        ordered = [names[key][0] for key in categories]
        self.categories += [n for n in dict.fromkeys(ordered) if n in with_masks and n not in self.categories]
        for stated in _list(data, "sequences"):
            if isinstance(stated, dict) and "name" in stated:
                self.settings.setdefault(str(stated["name"]), stated)

    def _add_images(self, path: Path, records: list[Any]) -> dict[Any, Frame]:
        if not records:
            raise DatasetError(f"The file {path} lists no images; export it again, with the images that were labelled.")
        images, missing = {}, []
        for key, record in _by_id(path, records, "image", "images").items():
            file_name = record.get("file_name")
            if not isinstance(file_name, str) or not file_name:
                raise DatasetError(f"The image {key} in {path} has no file_name; export it again.")
            found = self._locate(path, file_name)
            if found is None:
                missing.append(file_name)
                continue
            images[key] = frame = _frame(path, record, found, self._sequence(path, record))
            known = self.frames.setdefault(found, frame)
            if known is not frame:
                images[key] = self._merge(path, known, frame)
        if missing:
            others = f", nor are {len(missing) - 1} others of its {len(records)}" if len(missing) > 1 else ""
            raise DatasetError(
                f"The image {missing[0]!r} that {path} names is not below {self.root}{others}; put the images there, for"
                " example into a folder images."
            )
        return images

    def _merge(self, path: Path, known: Frame, frame: Frame) -> Frame:
        if known.source == path:
            raise DatasetError(f"The file {path} lists the image {frame.path} twice; give it one id.")
        if None not in (known.size, frame.size) and known.size != frame.size:
            raise DatasetError(
                f"The files {known.source} and {path} state different sizes of the image {frame.path}; remove one."
            )
        known.size = known.size or frame.size
        known.number = frame.number if known.number is None else known.number
        known.stamp_ns = frame.stamp_ns if known.stamp_ns is None else known.stamp_ns
        known.labelled |= frame.labelled
        known.segmented = frame.segmented if known.segmented is None else known.segmented
        known.instanced = frame.instanced if known.instanced is None else known.instanced
        return known

    def _add_category(self, path: Path, category: Mapping[str, Any]) -> None:
        names = category.get("keypoints") or []
        if not isinstance(names, list) or len(set(map(str, names))) != len(names):
            raise DatasetError(
                f"The category {category['name']!r} in {path} has the keypoints {names!r}; give a list of different names."
            )
        parts = _split_slots(names)
        self.landmarks += [name for name in dict.fromkeys(name for _, name in parts) if name not in self.landmarks]
        for pair in _list(category, "skeleton"):
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(i, int) and 1 <= i <= len(names) for i in pair):
                joined = (parts[pair[0] - 1][1], parts[pair[1] - 1][1])
                if joined not in self.skeleton and joined[::-1] not in self.skeleton:
                    self.skeleton.append(joined)

    def _sequence(self, path: Path, record: Mapping[str, Any]) -> str:
        if record.get("sequence"):
            return str(record["sequence"])
        folders = [part for part in _parts(record["file_name"])[:-1] if part not in ("images", "img", "data", "frames")]
        if folders:
            return "/".join(folders)
        stem = _EXPORT_PREFIX.sub("", path.stem)
        return self.root.resolve().name if stem.lower() in _PLAIN_NAMES else stem

    def _locate(self, path: Path, file_name: str) -> Path | None:
        """The image, below the root whatever stands before its name: an absolute path, a URL, a server's folder."""
        parts = _parts(file_name)
        subset = _EXPORT_PREFIX.sub("", path.stem)
        bases = [self.root, path.parent, self.root / "images", path.parent / "images", self.root / "images" / subset]
        for skip in range(len(parts)):
            for base in dict.fromkeys(bases):
                candidate = base.joinpath(*parts[skip:])
                if candidate.is_file():
                    return candidate
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for folder, names in _walk(self.root):
                for name in names:
                    self._by_name[name].append(folder / name)
        for name in (parts[-1:] or [""])[0], _UPLOAD.sub("", (parts[-1:] or [""])[0]):
            if len(self._by_name.get(name, ())) == 1:
                return self._by_name[name][0]
        return None


def read_coco_files(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the COCO files of a folder, or the one that is named, with their contents.

    Raises:
        DatasetError: There are none, or a JSON file is broken.
    """
    if root.is_file():
        data = load_json(root)
        if not is_coco(data):
            raise DatasetError(f"The file {root} is no COCO file: it needs a JSON object with the lists {', '.join(_KEYS)}.")
        yield root, data
        return
    if not root.is_dir():
        raise DatasetError(f"The dataset {root} does not exist; give a COCO file, or a folder: {_EXPECTED}.")
    found = False
    for folder, names in _walk(root):
        for name in names:
            if name.lower().endswith(".json") and is_coco(data := load_json(folder / name)):
                found = True
                yield folder / name, data
    if not found:
        raise DatasetError(f"The folder {root} is no COCO dataset: {_EXPECTED}.")


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DatasetError: It cannot be read, or is cut off or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"The file {path} is no JSON from line {error.lineno} on ({error.msg}); it may be cut off: export or copy it again."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"The file {path} cannot be read ({error}); copy it again.") from error


def is_coco(data: Any) -> bool:
    """Whether the contents of a JSON file are those of a COCO file."""
    return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in _KEYS)


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    for current, folders, names in os.walk(root, followlinks=True):
        folder = Path(current)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(folder.relative_to(root).parts) >= _MAX_DEPTH:
            folders.clear()
        yield folder, sorted(name for name in names if not name.startswith("."))


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


def _parts(file_name: str) -> list[str]:
    """The parts of a path as any system writes it, without drive, root, ``..`` and what a server puts before it."""
    path = file_name.rpartition("?d=")[2].replace("\\", "/")
    return [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".") and not part.endswith(":")]


def _look_up(records: Mapping[Any, T], key: Any) -> T | None:
    return records.get(key) if isinstance(key, int | str) else None


def _by_id(path: Path, records: list[Any], kind: str, key: str) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for index, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("id"), int | str):
            raise DatasetError(f"Entry {index} of '{key}' in {path} has no id; export the file again.")
        if record["id"] in found:
            raise DatasetError(
                f"The file {path} has two entries of '{key}' with the id {record['id']!r}; give every {kind} its own."
            )
        found[record["id"]] = record
    return found


def _category_names(path: Path, categories: Mapping[Any, Mapping[str, Any]]) -> dict[Any, tuple[str, str]]:
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


def _frame(path: Path, record: Mapping[str, Any], image: Path, sequence: str) -> Frame:
    height, width = record.get("height"), record.get("width")
    size = None
    if height or width:
        if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
            raise DatasetError(f"The image {record['id']} in {path} has width {width!r} and height {height!r}; give its px.")
        size = (height, width)
    numbers: list[int | None] = []
    for key in ("frame", "stamp_ns"):
        value = record.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise DatasetError(f"The image {record['id']} in {path} has {key} {value!r}; give a whole number.")
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


def _split_slots(names: list[Any]) -> list[tuple[str, str]]:
    """(slot, landmark) of every keypoint; the slot is empty unless all names have one."""
    parts = [str(name).partition(SLOT_SEPARATOR) for name in names]
    if all(slot and name for slot, _, name in parts):
        return [(_slot(slot.strip()), name.strip()) for slot, _, name in parts]
    return [("", str(name)) for name in names]


def _instruments(where: str, annotation: Mapping[str, Any], names: list[Any], side: str, shift: bool) -> list[Instrument]:
    """The instruments of an annotation: one, or those of the slots in its keypoints' names that have a point."""
    values = annotation["keypoints"]
    try:
        triples = np.array(values, np.float64).reshape(len(names), 3)
    except (TypeError, ValueError):
        raise DatasetError(
            f"The {where} has {len(values) if isinstance(values, list) else 'no list of'} numbers as keypoints and its category"
            f" {len(names)} keypoints; give x, y and v of each."
        ) from None
    points: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for (slot, name), (x, y, v) in zip(_split_slots(names), triples, strict=True):
        if v not in (0, 1, 2) or not np.isfinite((x, y)).all():
            raise DatasetError(f"The {where} has the keypoint {name} with x {x}, y {y} and v {v}; v is 0, 1 or 2.")
        if v:
            point = to_center((x, y)) if shift else np.array((x, y))
            points[slot][name] = (float(point[0]), float(point[1]))
    if set(points) - {""}:
        return [Instrument(where, found, set(found), slot, "", _mean_x(found)) for slot, found in points.items()]
    track = _attributes(annotation).get("track_id", annotation.get("track_id"))
    absent = {str(name) for name in _list(annotation, "keypoints_absent")} & {str(name) for name in names}
    box = [value for value in _list(annotation, "bbox") if isinstance(value, int | float)]
    center = box[0] + box[2] / 2 if len(box) == 4 else np.nan
    return [
        Instrument(
            where=where,
            points=points[""],
            labelled=set(points[""]) | absent,
            slot=_slot_attribute(annotation) or side,
            track="" if track is None else str(track),
            x=_mean_x(points[""]) if points[""] else float(center),
        )
    ]


def _attributes(annotation: Mapping[str, Any]) -> dict[str, Any]:
    given = annotation.get("attributes")
    return {str(key).lower(): value for key, value in given.items()} if isinstance(given, dict) else {}


def _slot_attribute(annotation: Mapping[str, Any]) -> str:
    attributes = _attributes(annotation)
    named = (attributes[key].strip() for key in SLOT_ATTRIBUTES if isinstance(attributes.get(key), str))
    return next((_slot(name) for name in named if name), "")


def _slot(name: str) -> str:
    """A slot as its name says, but left and right however they are written."""
    return name.lower() if name.lower() in SIDES else name


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []


def _mean_x(points: Mapping[str, tuple[float, float]]) -> float:
    return float(np.mean([point[0] for point in points.values()]))
