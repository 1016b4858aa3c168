"""Detects the layout of a dataset folder by its file names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csl_tracker.datasets.coco_file import is_coco
from csl_tracker.datasets.deeplabcut import find_tables
from csl_tracker.datasets.folders import walk
from csl_tracker.datasets.json_file import load_json
from csl_tracker.datasets.registry import FINDERS
from csl_tracker.datasets.retinal import LANDMARK_NAMES
from csl_tracker.errors import DatasetError

_MAX_DEPTH = 6
_MAX_FILES = 50_000  # enough to see each kind of folder
_MAX_PER_FOLDER = 200


@dataclass(frozen=True)
class Tree:
    """The files below a folder.

    Attributes:
        root: The folder, or a single file.
        paths: Their paths with ``/``, starting with the root's name; only the first files of very large folders.
    """

    root: Path
    paths: tuple[str, ...]

    def first(self, pattern: str) -> str | None:
        """The first path that matches a regular expression, ignoring case."""
        compiled = re.compile(pattern, re.IGNORECASE)
        return next((path for path in self.paths if compiled.search(path)), None)

    def file(self, path: str) -> Path:
        """File system path of a result of :meth:`first`."""
        return self.root.parent / path if self.root.is_file() else self.root / path.partition("/")[2]


@dataclass(frozen=True)
class Detection:
    """A matching layout.

    Attributes:
        layout: Name of the dataset in :data:`csl_tracker.datasets.registry.DATASETS`.
        evidence: The path that identifies it.
    """

    layout: str
    evidence: str


def detect_layouts(root: Path) -> list[Detection]:
    """Layouts that match a folder or a file, the most specific first.

    Raises:
        DatasetError: The path does not exist, or no layout matches.
    """
    if not root.exists():
        raise DatasetError(f"The dataset {root} does not exist; check the path.")
    tree = Tree(root, tuple(_paths(root)))
    found = []
    for layout, detect in DETECTORS.items():
        evidence = detect(tree)
        if evidence:
            found.append(Detection(layout, evidence))
    if not found:
        remedy = "give the folder that holds the dataset, or name its layout with --layout to see what is missing."
        raise DatasetError(f"No known layout fits {root} (looked for {', '.join(DETECTORS)}); {_broken_json(tree) or remedy}")
    return found


def sequence_names(layout: str, root: Path) -> list[str]:
    """Sequence names of a folder if they are known without opening the sequences; else empty.

    Raises:
        DatasetError: The folder does not have this layout.
    """
    return list(FINDERS[layout](root)) if layout in FINDERS else []


def _endovis2017(tree: Tree) -> str | None:
    frames = tree.first(r"(^|/)left_frames/[^/]+\.(png|jpe?g|bmp|tiff?)$")
    truth = tree.first(r"(^|/)ground_truth/[^/]*_labels/[^/]+\.(png|jpe?g|bmp|tiff?)$")
    if frames and truth:
        return truth
    prepared = r"(^|/)(binary_masks|parts_masks|instruments_masks)/frame_?\d+\.[^/]+$"
    return tree.first(r"(^|/)instrument_dataset_\d+/left_frames/[^/]+\.(png|jpe?g|bmp|tiff?)$") or tree.first(prepared)


def _endovis2018(tree: Tree) -> str | None:
    frames = tree.first(r"(^|/)left_frames/[^/]+\.(png|jpe?g|bmp|tiff?)$")
    labels = tree.first(r"(^|/)labels/[^/]+\.(png|jpe?g|bmp|tiff?)$")
    return labels if frames and labels else tree.first(r"(^|/)seq_\d+/left_frames/[^/]+\.(png|jpe?g|bmp|tiff?)$")


def _surgpose(tree: Tree) -> str | None:
    return tree.first(r"(^|/)keypoints_(left|right)\.yaml$")


def _endovis2015_rigid(tree: Tree) -> str | None:
    return tree.first(r"(^|/)img_\d+_(raw|class)\.png$") or tree.first(r"(^|/)instruments?_op_?\d+\.csv$")


def _endovis2015(tree: Tree) -> str | None:
    labels = tree.first(r"(^|/)((left|right)_instrument_)?(segmentation\.(avi|mp4|mkv|mov|m4v|mpe?g)|pose\.txt)$")
    return labels if tree.first(r"(^|/)video\.(avi|mp4|mkv|mov|m4v|mpe?g)$") else None


def _endovis2015_joints(tree: Tree) -> str | None:
    return tree.first(r"(^|/)(train|test)\d+_labels\.json$")


def _deeplabcut(tree: Tree) -> str | None:
    if not tree.first(r"\.csv$"):
        return None
    tables = find_tables(tree.root)
    return str(tables[0]) if tables else None


def _coco(tree: Tree) -> str | None:
    return next((path for path, _ in _coco_files(tree)), None)


def _retinal(tree: Tree) -> str | None:
    """COCO with the three landmarks of the retinal data, in any known spelling."""
    for path, data in _coco_files(tree):
        for category in data.get("categories", ()):
            names = category.get("keypoints") if isinstance(category, dict) else None
            known = {re.sub(r"[\W_]+", "_", str(name).strip().lower()) for name in names or ()}
            if len(known) == len(LANDMARK_NAMES) and all(known & set(spellings) for spellings in LANDMARK_NAMES.values()):
                return path
    return None


def _coco_files(tree: Tree) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in tree.paths:
        if path.lower().endswith(".json"):
            try:
                data = load_json(tree.file(path))
            except DatasetError:
                # Opening the dataset reports the error.
                if tree.root.is_file():
                    yield path, {}
                continue
            if is_coco(data):
                yield path, data


def _broken_json(tree: Tree) -> str:
    """Clause about the first unreadable JSON file; empty if there is none."""
    for path in tree.paths:
        if path.lower().endswith(".json"):
            try:
                load_json(tree.file(path))
            except DatasetError as error:
                text = str(error)
                return text[0].lower() + text[1:]
    return ""


DETECTORS: Mapping[str, Callable[[Tree], str | None]] = {
    "endovis2017": _endovis2017,
    "endovis2018": _endovis2018,
    "surgpose": _surgpose,
    "endovis2015_rigid": _endovis2015_rigid,
    "endovis2015": _endovis2015,
    "endovis2015_joints": _endovis2015_joints,
    "deeplabcut": _deeplabcut,
    "coco": _coco,
    "retinal": _retinal,  # renames landmarks and sequences, so it must be requested explicitly
}
"""Layout -> detector that returns the identifying path or None; the first match wins. ``synthetic`` uses the layout of
``endovis2015``."""


def _paths(root: Path) -> list[str]:
    if root.is_file():
        return [root.name]
    top = root.resolve().name
    found: list[str] = []
    for folder, folders, names in walk(root, _MAX_DEPTH):
        if len(found) >= _MAX_FILES:
            folders.clear()
        # List other files before images, so that the limit drops only images.
        shown = sorted(names, key=lambda name: name.lower().endswith((".png", ".jpg", ".jpeg")))
        parts = folder.relative_to(root).parts
        found += ["/".join((top, *parts, name)) for name in shown[:_MAX_PER_FOLDER]]
    return found
