"""Finds the files of EndoVis 2015.

Supported layouts, below any root and in any combination:

* the segmentation zip, ``Segmentation_Robotic_Training/Training/DatasetN/{Video.avi, Segmentation.avi}``;
* the tracking zip, ``Tracking_Robotic_Training/Training/DatasetN/{Video.avi, Pose.txt}``;
* the test zips, ``Segmentation/DatasetN`` and ``Tracking/DatasetN``;
* folders with all files of a sequence, ``DatasetN/{Video.avi, Segmentation.avi, Pose.txt, testN_labels.json}``.

Names are case-insensitive, and videos and masks may use another container (``Video.mp4``). With two instruments, the files are
``Left_Instrument_Segmentation.avi``, ``Right_Instrument_Segmentation.avi``, ``Left_Instrument_Pose.txt`` and
``Right_Instrument_Pose.txt``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from csl_tracker.datasets.folders import composed, walk
from csl_tracker.errors import DatasetError
from csl_tracker.natural_order import natural_order

VIDEO = "Video.avi"
_MASKS = {"": "Segmentation.avi", "left": "Left_Instrument_Segmentation.avi", "right": "Right_Instrument_Segmentation.avi"}
_POSES = {"": "Pose.txt", "left": "Left_Instrument_Pose.txt", "right": "Right_Instrument_Pose.txt"}
_CONTAINERS = (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg")
"""Video containers in order of preference."""
_LABELS = re.compile(r"(?:(train|test)(\d+)|.+)_labels\.json$", re.IGNORECASE)
_SPLIT_FOLDERS = {
    "training": {"training", "segmentation_robotic_training", "tracking_robotic_training"},
    "testing": {"testing", "segmentation_robotic_testing", "tracking_robotic_testing", "segmentation", "tracking"},
}
_MAX_DEPTH = 5
_EXPECTED = (
    "looked for folders with Video.avi beside Segmentation.avi or Pose.txt (or Left_/Right_Instrument_Segmentation.avi and"
    " _Pose.txt), such as ROOT/Dataset1/Video.avi or ROOT/Segmentation_Robotic_Training/Training/Dataset1/Video.avi"
)


@dataclass
class SequenceFiles:
    """File paths of one sequence.

    Attributes:
        name: ``Dataset3``, or ``training/Dataset3`` if the root also has a test sequence of that name.
        video: The frames.
        masks: Instrument (``left``, ``right``, or '' for a single one) -> mask video.
        poses: Instrument -> pose file.
        joints: The JSON of Du et al., or None.
    """

    name: str
    video: Path | None = None
    masks: dict[str, Path] = field(default_factory=dict)
    poses: dict[str, Path] = field(default_factory=dict)
    joints: Path | None = None


def find_sequences(root: str | os.PathLike[str]) -> dict[str, SequenceFiles]:
    """Find the sequences in or below a folder.

    Files of one sequence may be in several folders of the same name (the two zips). If a training and a test sequence have the
    same name, names get the prefix ``training/`` or ``testing/``.

    Returns:
        Name -> files, in natural order.

    Raises:
        DatasetError: The folder is missing, has no sequence, or has conflicting files.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"The dataset folder {root} does not exist; {_EXPECTED}.")
    found: dict[tuple[str, str], SequenceFiles] = {}
    labels: list[Path] = []
    for folder, _, names in walk(root, _MAX_DEPTH):
        labels += [folder / name for name in names if _LABELS.match(name)]
        video = find_file(folder, VIDEO, names)
        masks = {key: path for key, name in _MASKS.items() if (path := find_file(folder, name, names)) is not None}
        poses = {key: path for key, name in _POSES.items() if (path := find_file(folder, name, names)) is not None}
        if video is None and not masks and not poses:
            continue
        name = composed((folder.resolve() if folder == root else folder).name)
        files = found.setdefault((_split_of(folder), name), SequenceFiles(name))
        files.video = files.video or video
        for table, paths in ((files.masks, masks), (files.poses, poses)):
            for key, path in paths.items():
                _put(table, key, path)
    if not found:
        raise DatasetError(f"The folder {root} is not an EndoVis 2015 dataset: {_EXPECTED}.")
    ambiguous = {name for _, name in found if sum(name == other for _, other in found) > 1}
    sequences = {}
    for (split, name), files in found.items():
        _check_kinds(files)
        files.joints = _joints_of(files, split, labels)
        files.name = f"{split or 'unsorted'}/{name}" if name in ambiguous else name
        sequences[files.name] = files
    return dict(sorted(sequences.items(), key=lambda item: (item[0].rpartition("/")[0], natural_order(Path(item[0])))))


def find_file(folder: Path, name: str, names: Iterable[str] | None = None) -> Path | None:
    """Find a file by its published name, ignoring case; videos may use another container.

    Args:
        folder: The folder.
        name: The name, such as ``Video.avi``.
        names: The file names in the folder; None lists the folder.
    """
    inside = sorted(path.name for path in folder.iterdir()) if names is None else names
    known = {other.lower(): other for other in sorted(inside, reverse=True)}
    stem, dot, suffix = name.lower().rpartition(".")
    suffixes = _CONTAINERS if f".{suffix}" in _CONTAINERS else (f".{suffix}",)
    return next((folder / known[stem + other] for other in suffixes if dot and stem + other in known), None)


def _split_of(folder: Path) -> str:
    """``training``, ``testing`` or '', from the nearest parent folder with a name of the zips."""
    for part in reversed(folder.resolve().parts[-5:-1]):
        for split, names in _SPLIT_FOLDERS.items():
            if part.lower() in names:
                return split
    return ""


def _put(table: dict[str, Path], key: str, path: Path) -> None:
    if key in table and table[key].samefile(path):
        return  # a link to the same file
    if key in table:
        raise DatasetError(
            f"Both {table[key]} and {path} serve the same sequence; keep one, or choose a root that has only one."
        )
    table[key] = path


def _check_kinds(files: SequenceFiles) -> None:
    for table in (files.masks, files.poses):
        keys = set(table)
        if keys not in ({""}, {"left", "right"}, set()):
            raise DatasetError(
                f"The sequence {files.name} has only {', '.join(str(table[k]) for k in sorted(keys))}; it needs one file"
                " for the only instrument, or Left_Instrument_* and Right_Instrument_* for two."
            )


def _joints_of(files: SequenceFiles, split: str, labels: list[Path]) -> Path | None:
    """The JSON in a folder of the sequence, or the one whose name has its split and number."""
    own = {p.parent for p in (files.video, *files.masks.values(), *files.poses.values()) if p is not None}
    beside = [path for path in labels if path.parent in own]
    if len(beside) > 1:
        raise DatasetError(
            f"The sequence {files.name} has the joint files {beside[0]} and {beside[1]}; keep the one of its video."
        )
    if beside:
        return beside[0]
    number = re.search(r"(\d+)$", files.name)
    if not split or not number:
        return None
    wanted = f"{split.removesuffix('ing')}{int(number[1])}_labels.json"
    return next((path for path in labels if path.name.lower() == wanted), None)
