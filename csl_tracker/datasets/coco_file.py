"""The contents of COCO files, checked and merged by image; see :mod:`csl_tracker.datasets.coco` for how they are read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.datasets.coco_masks import without_flat_polygons
from csl_tracker.datasets.folders import FileFinder, composed, spellings, walk
from csl_tracker.datasets.json_file import load_json
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

_KEYS = ("images", "annotations", "categories")
_MAX_DEPTH = 3
_EXPORT_PREFIX = re.compile(r"^(person_keypoints|keypoints|instances)_")
_PLAIN_NAMES = frozenset({"annotations", "_annotations.coco", "coco", "instances", "labels", "result", "person_keypoints"})
_LABEL_FOLDERS = frozenset({"annotations", "labels"})
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


class CocoFiles:
    """What several files say, merged by image.

    Attributes:
        root: Folder below which the images are looked for.
        frames: Image file -> what is known of it.
        landmarks: Names, in the order of the categories.
        categories: Names of those that have masks, in their order.
        skeleton: Pairs of landmarks.
        settings: (JSON file, sequence) -> what the file states of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root if root.is_dir() else root.parent
        self.frames: dict[Path, Frame] = {}
        self.landmarks: list[str] = []
        self.categories: list[str] = []
        self.skeleton: list[tuple[str, str]] = []
        self.settings: dict[tuple[Path, str], dict[str, Any]] = {}
        self._finder = FileFinder(self.root, (self.root,), _MAX_DEPTH)

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
            frame = images.get(_identity(annotation.get("image_id")))
            category = categories.get(_identity(annotation.get("category_id")))
            if frame is None or category is None:
                key, kind = ("image_id", "image") if frame is None else ("category_id", "category")
                value = annotation.get(key)
                text = " (a text, not a number)" if isinstance(value, str) else ""
                text = " (no whole number)" if isinstance(value, float) and _identity(value) is None else text
                raise DatasetError(
                    f"The {where} belongs to the {kind} {value!r}{text}, which that file does not list; remove the annotation,"
                    f" or add the {kind}."
                )
            base, side = names[_identity(category["id"])]
            segmentation, flat = without_flat_polygons(annotation.get("segmentation"))
            if flat:
                frame.flat.append((where, flat))
            if segmentation:
                slot = _slot_attribute(annotation) or side
                frame.regions.append(Region(base, segmentation, where, slot))
                with_masks.add(base)
            if category.get("keypoints") and annotation.get("keypoints"):
                frame.instruments += _instruments(where, annotation, category["keypoints"], side, shift)
        ordered = [names[key][0] for key in categories]
        self.categories += [n for n in dict.fromkeys(ordered) if n in with_masks and n not in self.categories]
        for stated in _list(data, "sequences"):
            if isinstance(stated, dict) and "name" in stated:
                self.settings[path, composed(str(stated["name"]))] = stated

    def _add_images(self, path: Path, records: list[Any]) -> dict[Any, Frame]:
        if not records:
            raise DatasetError(f"The file {path} lists no images; export it again, with the images that were labelled.")
        images, missing = {}, []
        for key, record in _by_id(path, records, "image", "images").items():
            file_name = record.get("file_name")
            if not isinstance(file_name, str) or not file_name:
                raise DatasetError(f"The image {key} in {path} has no file_name; export it again.")
            subset = _EXPORT_PREFIX.sub("", path.stem)
            folders = [self.root, path.parent]
            if path.parent.name.lower() in _LABEL_FOLDERS and path.parent.parent not in folders and path.parent != self.root:
                folders = [path.parent.parent, *folders]  # of a dataset among others
            bases = [*folders, *(folder / "images" for folder in folders), self.root / "images" / subset]
            found = self._finder.find(file_name, more_bases=bases)
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
            ends = [whole_number(end) for end in pair] if isinstance(pair, list) else []
            known = [parts[end - 1][1] for end in ends if end is not None and 1 <= end <= len(names)]
            if len(ends) == len(known) == 2:
                joined = (known[0], known[1])
                if joined not in self.skeleton and joined[::-1] not in self.skeleton:
                    self.skeleton.append(joined)

    def _sequence(self, path: Path, record: Mapping[str, Any]) -> str:
        if record.get("sequence"):
            return composed(str(record["sequence"]))
        ways = spellings(record["file_name"])
        folders = [part for part in ways[-1][:-1] if part not in ("images", "img", "data", "frames")] if ways else []
        if folders:
            return composed("/".join(folders))
        stem = _EXPORT_PREFIX.sub("", path.stem)
        return composed(self.root.resolve().name if stem.lower() in _PLAIN_NAMES else stem)

    def part_sequences(self) -> None:
        """Give sequences of one name their folders' names where they are of different files and images.

        Labels of one sequence may come in several files, and those name images of one folder. Eighteen folders with an
        ``annotations.json`` each are eighteen sequences.
        """
        groups: dict[str, dict[Path, set[Path]]] = defaultdict(lambda: defaultdict(set))
        for frame in self.frames.values():
            groups[frame.sequence][frame.source.parent].add(frame.path.parent)
        for name, folders in groups.items():
            parts: list[tuple[set[Path], set[Path]]] = []  # folders of JSON files, and of the images that they share
            for source, images in folders.items():
                same = [part for part in parts if part[1] & images]
                parts = [part for part in parts if part not in same]
                parts.append(({source}.union(*(part[0] for part in same)), images.union(*(part[1] for part in same))))
            for sources, _ in parts if len(parts) > 1 else ():
                source = min(sources)
                above = source.parent if source.name.lower() in _LABEL_FOLDERS and source != self.root else source
                place = composed(above.relative_to(self.root).as_posix())
                own = self.root.resolve().name
                new = name if place == "." else place if name == own or name in place.split("/") else f"{place}/{name}"
                for frame in self.frames.values():
                    if frame.sequence == name and frame.source.parent in sources and not frame.parted:
                        frame.stated, frame.sequence, frame.parted = name, new, True


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
    for folder, _, names in walk(root, _MAX_DEPTH):
        for name in names:
            if name.lower().endswith(".json") and is_coco(data := load_json(folder / name)):
                found = True
                yield folder / name, data
    if not found:
        raise DatasetError(f"The folder {root} is no COCO dataset: {_EXPECTED}.")


def is_coco(data: Any) -> bool:
    """Whether the contents of a JSON file are those of a COCO file."""
    return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in _KEYS)


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


def _identity(value: Any) -> int | str | None:
    """An id as it is compared: 1.0 is the whole number 1; None for what is no id."""
    if isinstance(value, str):
        return value
    return whole_number(value)


def whole_number(value: Any) -> int | None:
    """The whole number that a value is, 320.0 included; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def _by_id(path: Path, records: list[Any], kind: str, key: str) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for index, record in enumerate(records):
        value = record.get("id") if isinstance(record, dict) else None
        identity = _identity(value)
        if identity is None:
            problem = "has no id" if value is None else f"has the id {value!r}, which is no whole number"
            raise DatasetError(f"Entry {index} of '{key}' in {path} {problem}; export the file again.")
        if identity in found:
            raise DatasetError(
                f"The file {path} has two entries of '{key}' with the id {identity!r}; give every {kind} its own."
            )
        found[identity] = record
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
        _refuse_texts(where, values)
        triples = np.array(values, np.float64).reshape(len(names), 3)
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(
            f"The {where} has {len(values) if isinstance(values, list) else 'no list of'} numbers as keypoints and its category"
            f" {len(names)} keypoints; give x, y and v of each."
        ) from None
    points: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for (slot, name), (x, y, v) in zip(_split_slots(names), triples, strict=True):
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


def _refuse_texts(where: str, values: Any) -> None:
    text = next((value for value in values if isinstance(value, str)), None) if isinstance(values, list) else None
    if text is not None:
        raise DatasetError(f"The {where} has the text {text[:40]!r} among its keypoints; give x, y and v as numbers.")


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
