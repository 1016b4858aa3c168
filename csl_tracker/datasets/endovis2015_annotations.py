"""Annotations of EndoVis 2015: pose files, mask videos, and the joints of Du et al. (2018)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.json_file import load_json
from csl_tracker.errors import DatasetError
from csl_tracker.text_files import read_text

LANDMARKS = ("center", "shaft", "head", "left_clasper", "right_clasper", "end", "tracked_point")
"""``center`` comes from the pose file, all others from the JSON of Du et al."""

CLASSES = ("background", "shaft", "manipulator")
MASK_VALUES = (0, 160, 70)
"""Gray value of each class in the mask videos."""

JOINTS: Mapping[str, str] = {
    "LeftClasperPoint": "left_clasper",
    "RightClasperPoint": "right_clasper",
    "HeadPoint": "head",
    "ShaftPoint": "shaft",
    "EndPoint": "end",
    "TrackedPoint": "tracked_point",
}
"""Joint class of Du et al. -> landmark name."""

Point = tuple[float, float]
"""(x, y), px."""
Joints = Mapping[str, Mapping[str, Point]]
"""Instrument id -> landmark name -> point."""

_MAX_POSE_BYTES = 16 << 20
_REFERENCE_JOINTS = ("tracked_point", "shaft", "head")


@dataclass(frozen=True)
class PoseTrack:
    """One pose file, one row per frame.

    Attributes:
        path: The file.
        centers: float64 (frames, 2), (x, y) of the ring on the shaft, px; NaN for ``-1 -1`` in the file.
        shaft_axes: float64 (frames, 2), unit vector along the shaft towards the tip.
        head_axes: float64 (frames, 2), unit vector along the head towards the tip.
        clasper_angles: float64 (frames,), opening angle of the claspers, degrees.
    """

    path: Path
    centers: FloatArray
    shaft_axes: FloatArray
    head_axes: FloatArray
    clasper_angles: FloatArray

    def __len__(self) -> int:
        return len(self.centers)


def read_poses(path: Path) -> PoseTrack:
    """Read a pose file; accepts UTF-16, CRLF, a byte order mark and a missing last newline.

    Raises:
        DatasetError: The file is missing or empty, or a line does not have seven finite numbers.
    """
    try:
        if path.stat().st_size > _MAX_POSE_BYTES:
            raise DatasetError(f"The pose file {path} has {path.stat().st_size >> 20} MiB; it needs a line a frame.")
        lines = read_text(path).splitlines()
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
    """Assign each pixel of a lossy mask to the class with the nearest gray value.

    Args:
        gray: uint8 (H, W), values around ``MASK_VALUES``.

    Returns:
        uint8 (H, W), labels in the order of ``CLASSES``.
    """
    return np.take(_SNAP, gray)


_SNAP = np.abs(np.arange(256)[:, None] - np.array(MASK_VALUES)[None, :]).argmin(axis=1).astype(np.uint8)


@dataclass(frozen=True)
class JointLabels:
    """The JSON of Du et al., before matching to the instruments of the pose files.

    Attributes:
        path: The file.
        frames: Per video frame: instrument id -> landmark name -> (x, y) px; None if not annotated.
        without_id: Per video frame: (landmark name, (x, y)) of joints without an instrument id.
    """

    path: Path
    frames: tuple[Joints | None, ...]
    without_id: tuple[tuple[tuple[str, Point], ...], ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Sorted instrument ids."""
        return tuple(sorted({tool for frame in self.frames if frame for tool in frame}))

    @property
    def names(self) -> frozenset[str]:
        """Annotated landmarks."""
        named = {name for frame in self.frames if frame for joints in frame.values() for name in joints}
        return frozenset(named | {name for frame in self.without_id for name, _ in frame})


def read_joints(path: Path) -> JointLabels:
    """Read a JSON of Du et al.: a list whose entry k belongs to video frame k.

    The first of duplicate joints is used; keys other than ``class``, ``id``, ``x`` and ``y`` are ignored.

    Raises:
        DatasetError: The file is not such a JSON.
    """
    data = load_json(path, "The joint file")
    if not isinstance(data, list):
        raise DatasetError(f"The joint file {path} holds a JSON {type(data).__name__}; it needs a list with an entry a frame.")
    entries = [_read_entry(entry, f"Entry {index} of the joint file {path}") for index, entry in enumerate(data)]
    return JointLabels(path, tuple(tools for tools, _ in entries), tuple(loose for _, loose in entries))


def _read_entry(entry: Any, where: str) -> tuple[Joints | None, tuple[tuple[str, Point], ...]]:
    """The joints of one frame by instrument id (None if not annotated), and those without an id."""
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(annotations, list):
        raise DatasetError(f"{where} has no list 'annotations'; copy the file again.")
    tools: dict[str, dict[str, Point]] = {}
    loose: list[tuple[str, Point]] = []
    for item in annotations:
        name, point = _read_joint(item, where)
        if item.get("id"):
            tools.setdefault(str(item["id"]), {}).setdefault(name, point)
        else:
            loose.append((name, point))
    return (tools if annotations else None), tuple(loose)


def _read_joint(item: Any, where: str) -> tuple[str, Point]:
    """Landmark and point of one annotation."""
    try:
        if any(isinstance(item[key], str | bool) for key in ("x", "y")):
            raise TypeError
        name, point = JOINTS[item["class"]], (float(item["x"]), float(item["y"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{where} holds {json.dumps(item)[:120]}; an annotation needs a class of {', '.join(JOINTS)} and numbers x and y."
        ) from error
    if not all(map(math.isfinite, point)):
        raise DatasetError(f"{where} has the point {point}; leave unseen joints out.")
    return name, point


def assign_joints(labels: JointLabels, centers: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Assign the joints to the instruments of the pose files.

    Ids are matched to instruments over the whole sequence by the minimum mean distance between the id's tracked point (else
    shaft, else head) and the instrument's centre. Joints without an id go to the only instrument, or to the nearest instrument
    in their frame.

    Args:
        labels: The joints.
        centers: float64 (frames, instruments, 2), px, NaN if absent.

    Returns:
        Points, float64 (frames, instruments, len(LANDMARKS), 2) px, NaN if absent; and the annotation mask, bool (frames,
        instruments, len(LANDMARKS)). ``center`` stays NaN and False.

    Raises:
        DatasetError: The file has more instruments than the sequence.
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
    """Instrument of each id; unknown distances (never visible together) count as 0."""
    from csl_tracker.assignment import assign  # lazy: imports SciPy, which other layouts do not need

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
    return tuple(assign(mean))


def _nearest_slots(loose: list[Point], free: list[int], points: FloatArray, centers: FloatArray) -> list[tuple[int, Point]]:
    """Assign points without an id to instruments that lack this joint, by minimum distance to their reference points."""
    from csl_tracker.assignment import assign

    loose = loose[: len(free)]
    references = []
    for slot in free:
        candidates = [points[slot, LANDMARKS.index(name)] for name in _REFERENCE_JOINTS] + [centers[slot]]
        references.append(next((p for p in candidates if np.isfinite(p).all()), np.zeros(2)))
    distances = [[math.dist(point, reference) for reference in references] for point in loose]
    columns = assign(np.reshape(distances, (len(loose), len(free))))
    return [(free[column], point) for column, point in zip(columns, loose, strict=True)]
