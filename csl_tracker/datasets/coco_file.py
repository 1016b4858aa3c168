"""Validates COCO files and merges them by image; see :mod:`csl_tracker.datasets.coco` for the interpretation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from csl_tracker.datasets.coco_masks import without_flat_polygons
from csl_tracker.datasets.coco_records import (
    Frame,
    Region,
    category_names,
    identity_of,
    keypoint_origin,
    list_of,
    read_frame,
    read_instruments,
    records_by_id,
    slot_attribute,
    split_slots,
    whole_number,
)
from csl_tracker.datasets.folders import FileFinder, composed, spellings, walk
from csl_tracker.datasets.json_file import load_json
from csl_tracker.errors import DatasetError

MAX_NAMES = 1000
"""Maximum categories per file, and keypoints per category."""
MAX_INSTRUMENTS = 100
"""Maximum instruments per image."""

_KEYS = ("images", "annotations", "categories")
_MAX_DEPTH = 3
_EXPORT_PREFIX = re.compile(r"^(person_keypoints|keypoints|instances)_")
_PLAIN_NAMES = frozenset({"annotations", "_annotations.coco", "coco", "instances", "labels", "result", "person_keypoints"})
_LABEL_FOLDERS = frozenset({"annotations", "labels"})
_EXPECTED = "looked for JSON files with 'images', 'annotations' and 'categories' in it or in its folder annotations"


Record = TypeVar("Record")


class CocoFiles:
    """The contents of several files, merged by image.

    Attributes:
        root: Search folder for images.
        frames: Image file -> its labels.
        landmarks: Landmark names, in the order of the categories.
        categories: Names of the categories with masks, in order.
        skeleton: Pairs of landmarks.
        settings: (JSON file, sequence) -> settings from the file.
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
        """Add the contents of one file.

        Args:
            path: The file.
            data: Its contents, with the lists ``images``, ``annotations`` and ``categories``.

        Raises:
            DatasetError: It has dangling or duplicate ids or invalid values, or an image is missing.
        """
        images = self._add_images(path, data["images"])
        categories = records_by_id(path, data["categories"], "category", "categories")
        if len(categories) > MAX_NAMES:
            raise DatasetError(f"The file {path} has {len(categories)} categories, and {MAX_NAMES} are the limit.")
        names = category_names(path, categories)
        for described in categories.values():
            self._add_category(path, described)
        shift = keypoint_origin(path, data) == "corner"
        with_masks = set()
        for annotation in records_by_id(path, data["annotations"], "annotation", "annotations").values():
            where = f"annotation {annotation['id']} in {path}"
            frame = _referred_to(annotation, "image", images, where)
            category = _referred_to(annotation, "category", categories, where)
            base, side = names[identity_of(category["id"])]
            segmentation, flat = without_flat_polygons(annotation.get("segmentation"))
            if flat:
                frame.flat.append((where, flat))
            if segmentation:
                slot = slot_attribute(annotation) or side
                frame.regions.append(Region(base, segmentation, where, slot))
                with_masks.add(base)
            if category.get("keypoints") and annotation.get("keypoints"):
                if len(frame.instruments) >= MAX_INSTRUMENTS:
                    raise DatasetError(
                        f"The image {frame.path} has more than {MAX_INSTRUMENTS} instruments in {path}, which is the limit."
                    )
                frame.instruments += read_instruments(where, annotation, category["keypoints"], side, shift)
        ordered = [names[key][0] for key in categories]
        self.categories += [n for n in dict.fromkeys(ordered) if n in with_masks and n not in self.categories]
        for stated in list_of(data, "sequences"):
            if isinstance(stated, dict) and "name" in stated:
                self.settings[path, composed(str(stated["name"]))] = stated

    def _add_images(self, path: Path, records: list[Any]) -> dict[Any, Frame]:
        if not records:
            raise DatasetError(f"The file {path} lists no images; export it again, with the images that were labelled.")
        images, missing = {}, []
        for key, record in records_by_id(path, records, "image", "images").items():
            file_name = record.get("file_name")
            if not isinstance(file_name, str) or not file_name:
                raise DatasetError(f"The image {key} in {path} has no file_name; export it again.")
            subset = _EXPORT_PREFIX.sub("", path.stem)
            folders = [self.root, path.parent]
            if path.parent.name.lower() in _LABEL_FOLDERS and path.parent.parent not in folders and path.parent != self.root:
                folders = [path.parent.parent, *folders]  # one of several datasets
            bases = [*folders, *(folder / "images" for folder in folders), self.root / "images" / subset]
            found = self._finder.find(file_name, more_bases=bases)
            if found is None:
                missing.append(file_name)
                if len(missing) >= MAX_NAMES:
                    break  # enough for the message
                continue
            images[key] = frame = read_frame(path, record, found, self._sequence(path, record))
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
                f"The category {category['name']!r} in {path} has the keypoints {str(names)[:200]}; give a list of different"
                " names."
            )
        if len(names) > MAX_NAMES:
            raise DatasetError(
                f"The category {category['name']!r} in {path} has {len(names)} keypoints, and {MAX_NAMES} are the limit."
            )
        parts = split_slots(names)
        self.landmarks += [name for name in dict.fromkeys(name for _, name in parts) if name not in self.landmarks]
        for pair in list_of(category, "skeleton")[:MAX_NAMES]:
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
        """Prefix equal sequence names with their folders if their files and images are in different folders.

        Several files with labels of one sequence refer to images in the same folder. In contrast, eighteen folders with an
        ``annotations.json`` each are eighteen sequences.
        """
        groups: dict[str, dict[Path, set[Path]]] = defaultdict(lambda: defaultdict(set))
        for frame in self.frames.values():
            groups[frame.sequence][frame.source.parent].add(frame.path.parent)
        for name, folders in groups.items():
            parts: list[tuple[set[Path], set[Path]]] = []  # (folders of JSON files, folders of their common images)
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
    """Yield (path, contents) of a COCO file, or of all COCO files in a folder.

    Raises:
        DatasetError: There is no COCO file, or a JSON file is broken.
    """
    if root.is_file():
        data = load_json(root)
        if not is_coco(data):
            raise DatasetError(f"The file {root} is not a COCO file: it needs a JSON object with the lists {', '.join(_KEYS)}.")
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
        raise DatasetError(f"The folder {root} is not a COCO dataset: {_EXPECTED}.")


def is_coco(data: Any) -> bool:
    """Whether JSON contents have the structure of a COCO file."""
    return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in _KEYS)


def _referred_to(annotation: Mapping[str, Any], kind: str, records: Mapping[Any, Record], where: str) -> Record:
    """The image or category of an annotation.

    Raises:
        DatasetError: The id is unknown.
    """
    value = annotation.get(f"{kind}_id")
    record = records.get(identity_of(value))
    if record is None:
        text = " (a text, not a number)" if isinstance(value, str) else ""
        text = " (no whole number)" if isinstance(value, float) and identity_of(value) is None else text
        raise DatasetError(
            f"The {where} belongs to the {kind} {value!r}{text}, which that file does not list; remove the annotation, or add"
            f" the {kind}."
        )
    return record
