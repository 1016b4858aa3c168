"""EndoVis 2015, robotic: video, masks, pose files, and the joints of Du et al. (2018) where their JSON lies beside them.

Known layouts, below any root, mixed as one likes:

* the segmentation zip, ``Segmentation_Robotic_Training/Training/DatasetN/{Video.avi, Segmentation.avi}``;
* the tracking zip, ``Tracking_Robotic_Training/Training/DatasetN/{Video.avi, Pose.txt}``;
* the test zips, ``Segmentation/DatasetN`` and ``Tracking/DatasetN``;
* folders that hold all files of a sequence, ``DatasetN/{Video.avi, Segmentation.avi, Pose.txt, testN_labels.json}``.

Names are known in any letter case, and a video or its masks may be in another container (``Video.mp4``). With two instruments
the files are called ``Left_Instrument_Segmentation.avi``, ``Right_Instrument_Segmentation.avi``,
``Left_Instrument_Pose.txt`` and ``Right_Instrument_Pose.txt``.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.datasets.folders import choose, composed, walk
from csl_tracker.datasets.json_file import load_json
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.pixels import FloatArray, Size
from csl_tracker.video import VideoReader, natural_order

LANDMARKS = ("center", "shaft", "head", "left_clasper", "right_clasper", "end", "tracked_point")
"""``center`` comes from the pose file, all others from the JSON of Du et al."""

CLASSES = ("background", "shaft", "manipulator")
MASK_VALUES = (0, 160, 70)
"""Gray value of each class in the mask videos."""

LENGTH_TOLERANCE = 1
"""Masks of test sequences have up to this many frames more than their pose files; the common length counts."""

JOINTS: Mapping[str, str] = {
    "LeftClasperPoint": "left_clasper",
    "RightClasperPoint": "right_clasper",
    "HeadPoint": "head",
    "ShaftPoint": "shaft",
    "EndPoint": "end",
    "TrackedPoint": "tracked_point",
}
"""Joint class of Du et al. -> landmark name."""

VIDEO = "Video.avi"
_MASKS = {"": "Segmentation.avi", "left": "Left_Instrument_Segmentation.avi", "right": "Right_Instrument_Segmentation.avi"}
_POSES = {"": "Pose.txt", "left": "Left_Instrument_Pose.txt", "right": "Right_Instrument_Pose.txt"}
_CONTAINERS = (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg")
"""Of videos; the first that is there is read."""
_LABELS = re.compile(r"(?:(train|test)(\d+)|.+)_labels\.json$", re.IGNORECASE)
_SPLIT_FOLDERS = {
    "training": {"training", "segmentation_robotic_training", "tracking_robotic_training"},
    "testing": {"testing", "segmentation_robotic_testing", "tracking_robotic_testing", "segmentation", "tracking"},
}
_MAX_POSE_BYTES = 16 << 20
_REFERENCE_JOINTS = ("tracked_point", "shaft", "head")
_MAX_DEPTH = 5
_EXPECTED = (
    "looked for folders with Video.avi beside Segmentation.avi or Pose.txt (or Left_/Right_Instrument_Segmentation.avi and"
    " _Pose.txt), such as ROOT/Dataset1/Video.avi or ROOT/Segmentation_Robotic_Training/Training/Dataset1/Video.avi"
)


@dataclass(frozen=True)
class PoseTrack:
    """One pose file: a row a frame.

    Attributes:
        path: The file.
        centers: float64 (frames, 2), (x, y) of the ring on the shaft, px; NaN where the file says ``-1 -1``.
        shaft_axes: float64 (frames, 2), unit vector along the shaft towards the tip.
        head_axes: float64 (frames, 2), unit vector along the head towards the tip.
        clasper_angles: float64 (frames,), opening of the claspers, degrees.
    """

    path: Path
    centers: FloatArray
    shaft_axes: FloatArray
    head_axes: FloatArray
    clasper_angles: FloatArray

    def __len__(self) -> int:
        return len(self.centers)


def read_poses(path: Path) -> PoseTrack:
    """Read a pose file; CRLF, a byte order mark and a missing last newline are fine.

    Raises:
        DatasetError: The file is missing, empty, or has a line that is not seven finite numbers.
    """
    try:
        if path.stat().st_size > _MAX_POSE_BYTES:
            raise DatasetError(f"The pose file {path} has {path.stat().st_size >> 20} MiB; it needs a line a frame.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"The pose file {path} cannot be read ({error}); copy it again.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DatasetError(f"The pose file {path} is empty; it needs a line a frame.")
    rows = np.empty((len(lines), 7))
    for number, line in enumerate(lines):
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != 7 or not all(map(math.isfinite, values)):
            raise DatasetError(
                f"Line {number + 1} of the pose file {path} reads {line.strip()[:80]!r}; write the seven numbers center_x"
                " center_y shaft_axis_x shaft_axis_y head_axis_x head_axis_y clasper_angle_deg (-1 -1 first where the centre is"
                " not seen)."
            )
        rows[number] = values
    centers = rows[:, :2].copy()
    centers[(centers == -1).all(axis=1)] = np.nan
    return PoseTrack(path, centers, rows[:, 2:4], rows[:, 4:6], rows[:, 6])


def snap_mask(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give every pixel of a lossy mask the class whose gray value is nearest.

    Args:
        gray: uint8 (H, W), values around ``MASK_VALUES``.

    Returns:
        uint8 (H, W), labels in the order of ``CLASSES``.
    """
    return np.take(_SNAP, gray)


_SNAP = np.abs(np.arange(256)[:, None] - np.array(MASK_VALUES)[None, :]).argmin(axis=1).astype(np.uint8)


@dataclass(frozen=True)
class JointLabels:
    """The JSON of Du et al., not yet matched to the instruments of the pose files.

    Attributes:
        path: The file.
        frames: One dict a video frame; instrument id -> landmark name -> (x, y) px. None where nobody looked.
        without_id: One list a video frame of (landmark name, (x, y)) that stand without an instrument id.
    """

    path: Path
    frames: tuple[Mapping[str, Mapping[str, tuple[float, float]]] | None, ...]
    without_id: tuple[tuple[tuple[str, tuple[float, float]], ...], ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Instrument ids that occur, sorted."""
        return tuple(sorted({tool for frame in self.frames if frame for tool in frame}))

    @property
    def names(self) -> frozenset[str]:
        """Landmarks that occur; the others were not part of this annotation."""
        named = {name for frame in self.frames if frame for joints in frame.values() for name in joints}
        return frozenset(named | {name for frame in self.without_id for name, _ in frame})


def read_joints(path: Path) -> JointLabels:
    """Read a JSON of Du et al.: a list, whose entry k belongs to video frame k.

    Of a joint that stands twice in a frame the first counts; keys besides ``class``, ``id``, ``x`` and ``y`` are ignored.

    Raises:
        DatasetError: The file is no such JSON.
    """
    data = load_json(path, "The joint file")
    if not isinstance(data, list):
        raise DatasetError(f"The joint file {path} holds a JSON {type(data).__name__}; it needs a list with an entry a frame.")
    frames: list[Mapping[str, Mapping[str, tuple[float, float]]] | None] = []
    without_id: list[tuple[tuple[str, tuple[float, float]], ...]] = []
    for index, entry in enumerate(data):
        tools: dict[str, dict[str, tuple[float, float]]] = {}
        loose: list[tuple[str, tuple[float, float]]] = []
        annotations = entry.get("annotations") if isinstance(entry, dict) else None
        if not isinstance(annotations, list):
            raise DatasetError(f"Entry {index} of the joint file {path} has no list 'annotations'; copy the file again.")
        for item in annotations:
            try:
                if any(isinstance(item[key], str | bool) for key in ("x", "y")):
                    raise TypeError
                name, point = JOINTS[item["class"]], (float(item["x"]), float(item["y"]))
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(
                    f"Entry {index} of the joint file {path} holds {json.dumps(item)[:120]}; an annotation needs a class of"
                    f" {', '.join(JOINTS)} and numbers x and y."
                ) from error
            if not all(map(math.isfinite, point)):
                raise DatasetError(f"Entry {index} of the joint file {path} has the point {point}; leave unseen joints out.")
            if item.get("id"):
                tools.setdefault(str(item["id"]), {}).setdefault(name, point)
            else:
                loose.append((name, point))
        frames.append(tools if annotations else None)
        without_id.append(tuple(loose))
    return JointLabels(path, tuple(frames), tuple(without_id))


def assign_joints(labels: JointLabels, centers: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Give every instrument of the pose files its joints.

    Ids are matched to instruments over the whole sequence, so that the distance between an id's tracked point (or shaft, or
    head, where there is none) and the instrument's centre is smallest on average. Joints without an id go to the only
    instrument, or in their frame to the instruments whose reference points are nearest.

    Args:
        labels: The joints.
        centers: float64 (frames, instruments, 2), px, NaN where absent.

    Returns:
        float64 (frames, instruments, len(LANDMARKS), 2) px, NaN where there is no point; and bool (frames, instruments,
        len(LANDMARKS)), True where somebody looked. ``center`` stays NaN and False.

    Raises:
        DatasetError: The file annotates more instruments than the sequence has.
    """
    count, instruments = centers.shape[:2]
    ids = labels.ids
    if len(ids) > instruments:
        raise DatasetError(
            f"The joint file {labels.path} annotates the instruments {', '.join(ids)} and the sequence has {instruments} pose"
            " file(s); put the pose file of every instrument beside it, or remove the joints of the others."
        )
    points = np.full((count, instruments, len(LANDMARKS), 2), np.nan)
    labelled = np.zeros((count, instruments, len(LANDMARKS)), bool)
    slot_of = dict(zip(ids, _match_ids(labels, ids, centers), strict=True))
    known = [LANDMARKS.index(name) for name in sorted(labels.names)]
    for index, frame in enumerate(labels.frames[:count]):
        if frame is None:
            continue
        for joint in known:
            labelled[index, :, joint] = True
        for tool, joints in frame.items():
            for name, point in joints.items():
                points[index, slot_of[tool], LANDMARKS.index(name)] = point
        for name in JOINTS.values():
            loose = [point for loose_name, point in labels.without_id[index] if loose_name == name]
            free = [s for s in range(instruments) if np.isnan(points[index, s, LANDMARKS.index(name), 0])]
            for slot, point in _nearest_slots(loose, free, points[index], centers[index]):
                points[index, slot, LANDMARKS.index(name)] = point
    return points, labelled


def _match_ids(labels: JointLabels, ids: tuple[str, ...], centers: FloatArray) -> tuple[int, ...]:
    """Instrument of every id; unknown distances (never seen together) are neutral."""
    sums = np.zeros((len(ids), centers.shape[1]))
    hits = np.zeros_like(sums)
    for index, frame in enumerate(labels.frames[: len(centers)]):
        for row, tool in enumerate(ids):
            joints = (frame or {}).get(tool, {})
            point = next((joints[name] for name in _REFERENCE_JOINTS if name in joints), None)
            if point is not None:
                distance = np.linalg.norm(centers[index] - np.asarray(point), axis=-1)
                seen = np.isfinite(distance)
                sums[row, seen] += distance[seen]
                hits[row, seen] += 1
    mean = np.where(hits > 0, sums / np.maximum(hits, 1), 0.0)
    choices = itertools.permutations(range(centers.shape[1]), len(ids))
    return min(choices, key=lambda choice: sum(mean[row, slot] for row, slot in enumerate(choice)))


def _nearest_slots(
    loose: list[tuple[float, float]], free: list[int], points: FloatArray, centers: FloatArray
) -> list[tuple[int, tuple[float, float]]]:
    """Points without an id -> instruments that lack this joint, so that the distances to their references are smallest."""
    loose = loose[: len(free)]
    references = {}
    for slot in free:
        candidates = [points[slot, LANDMARKS.index(name)] for name in _REFERENCE_JOINTS] + [centers[slot]]
        references[slot] = next((p for p in candidates if np.isfinite(p).all()), np.zeros(2))
    choices = itertools.permutations(free, len(loose))
    best = min(
        choices,
        key=lambda slots: sum(math.dist(point, references[slot]) for slot, point in zip(slots, loose, strict=True)),
    )
    return list(zip(best, loose, strict=True))


@dataclass
class SequenceFiles:
    """Where the files of one sequence lie.

    Attributes:
        name: ``Dataset3``, or ``training/Dataset3`` where the root also has a test sequence of that name.
        video: The frames.
        masks: Instrument (``left``, ``right``, or '' for the only one) -> mask video.
        poses: Instrument -> pose file.
        joints: The JSON of Du et al., if there is one.
    """

    name: str
    video: Path | None = None
    masks: dict[str, Path] = field(default_factory=dict)
    poses: dict[str, Path] = field(default_factory=dict)
    joints: Path | None = None


class EndoVis2015Sequence:
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence`.

    Where the masks of two instruments overlap, the right one, drawn last, wins. The single instrument of a sequence is called
    after the side that it enters from.

    Attributes:
        name: Name within the dataset.
        landmarks: ``LANDMARKS``.
        classes: ``CLASSES``.
        slots: ``("left", "right")``, or one of them.
        fps: Frames a second.
        size: (height, width), px.
        poses: The pose files, one an instrument; empty without.
        files: All files that are read.
        notes: What is odd about the labels and does no harm, a sentence each.
    """

    landmarks = LANDMARKS
    classes = CLASSES
    notes: tuple[str, ...] = ()

    def __init__(self, files: SequenceFiles) -> None:
        """Read the annotations and the headers of the videos.

        Raises:
            DatasetError: A file is broken, or the numbers of frames differ by more than ``LENGTH_TOLERANCE``.
        """
        if files.video is None:
            known = [*files.masks.values(), *files.poses.values()]
            raise DatasetError(f"The sequence {files.name} has {known[0]} but no {VIDEO}; put the video beside it.")
        self.name = files.name
        self._video = VideoReader(files.video)
        self._masks = [VideoReader(files.masks[key], gray=True) for key in sorted(files.masks)]
        self.fps = self._video.fps
        self.size: Size = self._video.size
        self.poses = tuple(read_poses(files.poses[key]) for key in sorted(files.poses))
        self.slots = self._name_slots(files)
        for mask in self._masks:
            if mask.size != self.size:
                raise DatasetError(
                    f"The mask {mask.path} has {mask.size[1]}x{mask.size[0]} px and the video {self._video.path} has"
                    f" {self.size[1]}x{self.size[0]}; they must be of one size."
                )
        self._length = self._common_length()
        labels = read_joints(files.joints) if files.joints else None
        self._landmarks, self._labelled = self._collect_landmarks(labels)
        parts = [files.video, *(m.path for m in self._masks), *(p.path for p in self.poses), files.joints]
        self.files: tuple[Path, ...] = tuple(path for path in parts if path is not None)

    def __len__(self) -> int:
        """Number of frames: the common length of video, masks and poses."""
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples; video and masks are decoded in step, one frame at a time.

        Raises:
            DatasetError: A video cannot be decoded to its end.
        """
        streams = zip(
            self._video.timed(), zip(*self._masks, strict=False) if self._masks else itertools.repeat(()), strict=False
        )
        for index, ((stamp_ns, image), masks) in enumerate(itertools.islice(streams, self._length)):
            label_map = instances = None
            for slot, labels in enumerate(map(snap_mask, masks), start=1):
                tool = labels > 0
                if label_map is None or instances is None:
                    label_map, instances = labels, tool.view(np.uint8)
                else:
                    np.copyto(label_map, labels, where=tool)
                    np.copyto(instances, np.uint8(slot), where=tool)
            yield Sample(
                image=image,
                label_map=label_map,
                landmarks=self._landmarks[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                frame=index,
                stamp_ns=stamp_ns,
                instances=instances if len(masks) == len(self.slots) else None,
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """float64 (frames, instruments, landmarks, 2), px: every frame's landmarks, without decoding the video."""
        return np.array(self._landmarks)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Whether somebody looked: bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)

    def _name_slots(self, files: SequenceFiles) -> tuple[str, ...]:
        sides = tuple(sorted((set(files.poses) or set(files.masks)) - {""}))
        if sides:
            return sides
        axis = np.mean(self.poses[0].shaft_axes[:, 0]) if self.poses else -1.0
        return ("left",) if axis > 0 else ("right",)

    def _common_length(self) -> int:
        counts = {self._video.path: len(self._video)}
        counts |= {mask.path: len(mask) for mask in self._masks}
        counts |= {track.path: len(track) for track in self.poses}
        shortest, longest = min(counts, key=lambda p: counts[p]), max(counts, key=lambda p: counts[p])
        if counts[longest] - counts[shortest] > LENGTH_TOLERANCE:
            raise DatasetError(
                f"{longest} has {counts[longest]} frames and {shortest} has {counts[shortest]}; video, masks and poses of a"
                f" sequence need the same number (a difference of {LENGTH_TOLERANCE} is tolerated): copy the shorter one again."
            )
        return counts[shortest]

    def _collect_landmarks(self, labels: JointLabels | None) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        shape = (self._length, len(self.slots), len(LANDMARKS))
        centers = np.full((self._length, len(self.slots), 2), np.nan)
        for slot, track in enumerate(self.poses):
            centers[:, slot] = track.centers[: self._length]
        if labels is None:
            landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        else:
            beyond = [k for k, frame in enumerate(labels.frames) if frame is not None and k >= self._length + LENGTH_TOLERANCE]
            if beyond:
                raise DatasetError(
                    f"The joint file {labels.path} annotates frame {beyond[0]} and the sequence {self.name} has"
                    f" {self._length} frames; it belongs to another video."
                )
            landmarks, labelled = assign_joints(labels, centers)
        landmarks[:, :, LANDMARKS.index("center")] = centers
        labelled[:, :, LANDMARKS.index("center")] = bool(self.poses)
        height, width = self.size
        with np.errstate(invalid="ignore"):
            outside = ~((landmarks > -0.5) & (landmarks < (width - 0.5, height - 0.5))).all(axis=-1)
        beyond = outside & np.isfinite(landmarks).all(axis=-1)
        if beyond.any():
            frame, _, joint = (int(place[0]) for place in np.nonzero(beyond))
            self.notes = (
                f"{int(beyond.sum())} landmark(s) lie outside the picture of {width}x{height} px and count as out of view, such"
                f" as {LANDMARKS[joint]} of frame {frame}.",
            )
        landmarks[outside] = np.nan
        return landmarks, labelled


def find_sequences(root: str | os.PathLike[str]) -> dict[str, SequenceFiles]:
    """Find the sequences below a folder, or the one in it.

    Files of the same sequence may lie in several folders of the same name (the two zips). Where the root holds a training and a
    test sequence of the same name, names get the prefix ``training/`` or ``testing/``.

    Returns:
        Name -> files, in natural order.

    Raises:
        DatasetError: The folder is missing, holds no sequence, or holds two different files for one purpose.
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
        raise DatasetError(f"The folder {root} is no EndoVis 2015 dataset: {_EXPECTED}.")
    ambiguous = {name for _, name in found if sum(name == other for _, other in found) > 1}
    sequences = {}
    for (split, name), files in found.items():
        _check_kinds(files)
        files.joints = _joints_of(files, split, labels)
        files.name = f"{split or 'unsorted'}/{name}" if name in ambiguous else name
        sequences[files.name] = files
    return dict(sorted(sequences.items(), key=lambda item: (item[0].rpartition("/")[0], natural_order(Path(item[0])))))


def open_endovis2015(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[EndoVis2015Sequence]:
    """Open sequences of an EndoVis 2015 folder.

    Args:
        root: The folder, in any of the layouts named above.
        sequences: Their names; None for all of them.

    Raises:
        DatasetError: The folder is no dataset, a name is unknown, or a file is broken.
    """
    return [EndoVis2015Sequence(files) for _, files in choose(Path(root), find_sequences(root), sequences)]


def find_file(folder: Path, name: str, names: Iterable[str] | None = None) -> Path | None:
    """A file of a sequence by its published name, in any letter case; a video also in another container.

    Args:
        folder: Where it lies.
        name: Its name, such as ``Video.avi``.
        names: The names of the files in the folder; they are looked up when None.
    """
    inside = sorted(path.name for path in folder.iterdir()) if names is None else names
    known = {other.lower(): other for other in sorted(inside, reverse=True)}
    stem, dot, suffix = name.lower().rpartition(".")
    suffixes = _CONTAINERS if f".{suffix}" in _CONTAINERS else (f".{suffix}",)
    return next((folder / known[stem + other] for other in suffixes if dot and stem + other in known), None)


def _split_of(folder: Path) -> str:
    """``training``, ``testing`` or '', by the folder names of the zips nearest above."""
    for part in reversed(folder.resolve().parts[-5:-1]):
        for split, names in _SPLIT_FOLDERS.items():
            if part.lower() in names:
                return split
    return ""


def _put(table: dict[str, Path], key: str, path: Path) -> None:
    if key in table and table[key].samefile(path):
        return  # a link to it
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
    """The JSON in one of the sequence's folders, or the one whose name has the split and the number of the sequence."""
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
