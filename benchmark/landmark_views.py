"""Inputs of :mod:`benchmark.calibrate_landmarks`: dimensions of a dvrk_model tool, and annotated views of EndoVis 2015."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from benchmark.landmark_bundle import Tool, Views
from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.endovis2015 import EndoVis2015Sequence
from csl_tracker.datasets.endovis2015_annotations import LANDMARKS, snap_mask
from csl_tracker.datasets.endovis2015_files import find_sequences
from csl_tracker.video import VideoReader

SHAFT, MANIPULATOR = 1, 2
_ANNOTATED = ("tracked_point", "shaft", "head", "left_clasper", "right_clasper", "center")
"""Landmarks of the dataset in the order of ``benchmark.landmark_bundle.POINTS``."""
_BIN_PX = 4
_MIN_BINS = 5
_MIN_BORDER = 10
_EDGE_NOISE_PX = 0.7


@dataclass(frozen=True)
class Model:
    """A dvrk_model tool.

    Attributes:
        tool: Its dimensions.
        slot_mm: Bottom of the slot between the ears of the roll link, along its z.
        files: All files read.
    """

    tool: Tool
    slot_mm: float
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Border:
    """Pixels of the shaft's mask that touch the manipulator's, px (n, 2)."""

    pixels: FloatArray


def read_model(root: Path, roll: str = "4670", wrist: str = "0091", tip: str = "006") -> Model:
    """Dimensions of a tool of dvrk_model.

    Raises:
        OSError: A file is missing.
    """
    folder = root / "urdf/common/instruments"
    files = {
        "roll": folder / f"roll/roll_{roll}.urdf.xacro",
        "wrist_pitch": folder / f"wrist_pitch/wrist_pitch_{wrist}.urdf.xacro",
        "wrist_yaw": folder / f"wrist_yaw/wrist_yaw_{wrist}.urdf.xacro",
        "jaw_1": folder / f"tip/tip_{tip}.urdf.xacro",
    }
    trees = {name: _macro(path) for name, path in files.items()}
    meshes = {name: _mesh(trees[name], name, root) for name in ("roll", "wrist_pitch", "jaw_1")}
    triangles = {name: 1e3 * found[1] for name, found in meshes.items()}
    materials = {name: found[2] for name, found in meshes.items()}
    tube = triangles["roll"][materials["roll"] == "tool_shaft"].reshape(-1, 3)
    sleeve = triangles["roll"][np.char.startswith(materials["roll"], "tool_base")]
    wrist_mm = 1e3 * _numbers(_find(_joint(trees["wrist_yaw"], "wrist_yaw"), "origin").get("xyz", ""))[0]
    # The pitch link's frame has its x along the link and its y along the yaw axis.
    tool = Tool(
        radius_mm=float(np.hypot(tube[:, 0], tube[:, 1]).max()),
        wrist_mm=float(wrist_mm),
        ring_mm=float(tube[:, 2].max()),
        ears_mm=float(sleeve[..., 2].max()),
        jaw_mm=float(triangles["jaw_1"][..., 1].max()),
        cheek_mm=float(np.abs(triangles["wrist_pitch"][..., 1]).max()),
    )
    read = [*files.values(), *(found[0] for found in meshes.values())]
    return Model(tool, _slot(sleeve), tuple(read))


def _slot(sleeve: FloatArray) -> float:
    """Height with the largest area of surface that faces the tip in the middle of the roll link."""
    normal = np.cross(sleeve[:, 1] - sleeve[:, 0], sleeve[:, 2] - sleeve[:, 0])
    area = np.linalg.norm(normal, axis=-1) / 2
    middle = sleeve.mean(1)
    up = (np.abs(normal[:, 2]) > 1.8 * area) & (middle[:, 2] > -7.0) & (middle[:, 2] < 1.0)
    edges = np.arange(-7.0, 1.1, 0.25)
    total, _ = np.histogram(middle[up, 2], edges, weights=area[up])
    best = int(np.argmax(total))
    chosen = up & (middle[:, 2] >= edges[best]) & (middle[:, 2] <= edges[best + 1])
    return float(np.average(middle[chosen, 2], weights=area[chosen]))


def _macro(path: Path) -> ElementTree.Element:
    text = path.read_text(encoding="utf-8").replace("xacro:", "").replace("${prefix}", "")
    macro = ElementTree.fromstring(re.sub(r"<include[^>]*/>", "", text)).find("macro")
    assert macro is not None, path
    return macro


def _find(parent: ElementTree.Element, path: str) -> ElementTree.Element:
    found = parent.find(path)
    assert found is not None, path
    return found


def _joint(macro: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(joint for joint in macro.findall("joint") if joint.get("name") == name)


def _numbers(text: str) -> FloatArray:
    known = {"${PI_2}": math.pi / 2, "-${PI_2}": -math.pi / 2, "${PI}": math.pi, "-${PI}": -math.pi}
    return np.array([known[word] if word in known else float(word) for word in text.split()])


def _mesh(macro: ElementTree.Element, link: str, root: Path) -> tuple[Path, FloatArray, npt.NDArray[np.str_]]:
    """File, triangles (n, 3, 3) m in the link's frame, and the material of each triangle."""
    element = next(item for item in macro.findall("link") if item.get("name") == f"{link}_link")
    visual = _find(element, "visual")
    origin, mesh = _find(visual, "origin"), _find(visual, "geometry/mesh")
    roll, pitch, yaw = _numbers(origin.get("rpy", "0 0 0"))
    rotation = _about(2, yaw) @ _about(1, pitch) @ _about(0, roll)
    path = root / mesh.get("filename", "").removeprefix("package://dvrk_model/")
    triangles, materials = _read_obj(path)
    scaled = triangles * _numbers(mesh.get("scale", "1 1 1"))
    return path, scaled @ rotation.T + _numbers(origin.get("xyz", "0 0 0")), materials


def _about(axis: int, angle: float) -> FloatArray:
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[[first, second], [first, second]] = math.cos(angle)
    matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
    return matrix


def _read_obj(path: Path) -> tuple[FloatArray, npt.NDArray[np.str_]]:
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    materials: list[str] = []
    material = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(word) for word in rest.split()[:3]])
        elif kind == "usemtl":
            material = rest.strip()
        elif kind == "f":
            corner = [int(word.split("/")[0]) - 1 for word in rest.split()]
            fan = [(corner[0], corner[k], corner[k + 1]) for k in range(1, len(corner) - 1)]
            faces += fan
            materials += [material] * len(fan)
    return np.array(vertices)[np.array(faces)], np.array(materials)


def read_views(data: Path, sequence: str) -> tuple[Views, list[Border], tuple[Path, ...]]:
    """Views with joints, a pose and a shaft in the mask that is long enough; their borders; and the files."""
    files = find_sequences(data)[sequence]
    opened = EndoVis2015Sequence(files)
    points = opened.all_landmarks[:, :, [LANDMARKS.index(name) for name in _ANNOTATED]]
    needed = np.isfinite(points[:, :, [0, 1, 2, 5]]).all(axis=(2, 3))
    rows: list[tuple[FloatArray, FloatArray, float, int, int, float]] = []
    borders: list[Border] = []
    for slot, key in enumerate(sorted(files.masks)):
        track = opened.poses[slot]
        for frame, gray in enumerate(_frames(files.masks[key], len(opened))):
            if not needed[frame, slot]:
                continue
            axis = track.shaft_axes[frame]
            measured = measure_mask(snap_mask(gray), track.centers[frame], axis)
            if measured is None:
                continue
            angle = float(np.arctan2(axis[1], axis[0]))
            jaw = math.radians(track.clasper_angles[frame]) / 2
            rows.append((points[frame, slot], measured[0], angle, frame, slot, jaw))
            borders.append(measured[1])
    if not rows:
        raise ValueError(f"The sequence {sequence} has no view with joints, a pose and a mask.")
    views = Views(*(np.array(column) for column in zip(*rows, strict=True)))
    return views, borders, opened.files


def _frames(path: Path, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    for frame, gray in enumerate(VideoReader(path, gray=True)):
        if frame >= count:
            return
        yield gray


def measure_mask(labels: npt.NDArray[np.uint8], center: FloatArray, axis: FloatArray) -> tuple[FloatArray, Border] | None:
    """The shaft's two borders as lines, and its border with the manipulator.

    Args:
        labels: uint8 (H, W), classes of one instrument.
        center: A point on the shaft, px.
        axis: Unit vector along the shaft towards the tip.

    Returns:
        Two points on each side, (4, 2) px; first the side to the right of the axis as seen in the image, each time from the far
        end to the tip; and the border. None if too little of the shaft is seen.
    """
    across = np.array([-axis[1], axis[0]])
    touching = np.zeros(labels.shape, bool)
    tip = labels == MANIPULATOR
    touching[1:] |= tip[:-1]
    touching[:-1] |= tip[1:]
    touching[:, 1:] |= tip[:, :-1]
    touching[:, :-1] |= tip[:, 1:]
    border = np.argwhere((labels == SHAFT) & touching)[:, ::-1].astype(float)
    if len(border) < _MIN_BORDER:
        return None
    pixels = np.argwhere(labels == SHAFT)[:, ::-1]
    height, width = labels.shape
    cut = ((pixels <= 1) | (pixels >= (width - 2, height - 2))).any(axis=1)
    along, off = (pixels - center) @ axis, (pixels - center) @ across
    bins = np.floor(along / _BIN_PX).astype(int)
    last = np.percentile((border - center) @ axis, 2) - _BIN_PX
    rows = []
    for number in np.unique(bins):
        inside = bins == number
        if (number + 1) * _BIN_PX <= last and not (cut & inside).any():
            rows.append(((number + 0.5) * _BIN_PX, off[inside].max() + 0.5, off[inside].min() - 0.5))
    if len(rows) < _MIN_BINS:
        return None
    table = np.array(rows)
    ends = table[[0, -1], 0]
    edges = [center + t * axis + np.polyval(_line(table[:, 0], table[:, k]), t) * across for k in (1, 2) for t in ends]
    return np.array(edges), Border(border)


def _line(x: FloatArray, y: FloatArray) -> FloatArray:
    """Robust straight line: coefficients for ``numpy.polyval``."""
    weight = np.ones(len(x))
    for _ in range(10):
        line = np.polyfit(x, y, 1, w=weight)
        weight = (1 + ((y - np.polyval(line, x)) / _EDGE_NOISE_PX) ** 2) ** -0.25
    return line
