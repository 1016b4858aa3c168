"""Instruments of the dVRK's model, https://github.com/jhu-dvrk/dvrk_model (MIT licence).

The user gives a copy; commit 138663f has the meshes as plain files. Its ``.urdf.xacro`` files are read as XML: each holds one
macro with joints and links, and its numbers are literals or ``${PI}`` and ``${PI_2}``.
"""

from __future__ import annotations

import math
import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.rendered.tool import CLASPER, SHAFT, SLEEVE, WRIST, Joint, Mesh, Part, Tool
from csl_tracker.datasets.rendered.transforms import rotation_rpy, transform
from csl_tracker.datasets.rendered.wavefront import read_obj
from csl_tracker.errors import DatasetError
from csl_tracker.paths import user_path
from csl_tracker.yaml_files import read_yaml

COMMIT = "138663f"
HOW_TO_GET = (
    f"get the model with 'git clone https://github.com/jhu-dvrk/dvrk_model && git -C dvrk_model checkout {COMMIT}', and give"
    " its folder"
)
_CONSTANTS = {"PI": math.pi, "PI_2": math.pi / 2}
_NUMBER = re.compile(r"([+-]?)\$\{(PI|PI_2)\}")
_MIN_MESH_BYTES = 300  # smaller files are pointers of Git LFS
_TIP_SHARE = 0.005  # of a clasper's vertices, the farthest from the yaw axis: they are averaged
_MIN_JAW_RANGE = 0.1  # rad; one clip applier states its opening in m
_JAW_RANGE = (0.0, 1.0)
_FAMILIES = {
    "006": "needle driver",
    "049": "forceps",
    "093": "forceps",
    "172": "bipolar forceps",
    "179": "scissors",
    "183": "hook",
    "184": "spatula",
    "194": "needle driver",
    "309": "needle driver",
    "327": "bipolar forceps",
}


@dataclass(frozen=True)
class _Description:
    """Where the files of an instrument lie, by kind of piece."""

    tip: str
    pitch: str
    yaw: str


class DvrkModel:
    """The instruments of a copy of the model.

    Args:
        root: The copy's folder.

    Raises:
        DatasetError: It holds no instruments with meshes.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = user_path(root)
        self._folder = self.root / "urdf" / "common" / "instruments"
        catalogue = self._folder / "instruments.yaml"
        if not catalogue.is_file():
            raise DatasetError(f"There is no {catalogue}; {HOW_TO_GET}.")
        data = read_yaml(catalogue, "The list of instruments")
        self._known: dict[str, _Description] = {}
        for entry in (data.get("instruments") or {}).values() if isinstance(data, dict) else ():
            found = _Description(*(str(entry.get(key, "")) for key in ("tip", "wrist_pitch", "wrist_yaw")))
            if found.tip not in self._known and self._complete(found):
                self._known[found.tip] = found
        self._rolls = sorted(path.name for path in (self.root / "meshes/instruments/roll").glob("*") if path.is_dir())
        if not self._known or not self._rolls:
            raise DatasetError(f"{self.root} has no instrument with all of its meshes; {HOW_TO_GET}.")

    @property
    def tips(self) -> tuple[str, ...]:
        """Names of the tips of all instruments with meshes."""
        return tuple(sorted(self._known))

    def tool(self, tip: str) -> Tool:
        """An instrument by the name of its tip, such as ``006`` for the large needle driver.

        Raises:
            DatasetError: The tip is unknown, or a file is broken.
        """
        if tip not in self._known:
            raise DatasetError(f"The model at {self.root} has no tip {tip!r}; it has {', '.join(self.tips)}.")
        files = self._known[tip]
        macros = {
            "roll": self._macro("roll", self._rolls[0]),
            "pitch": self._macro("wrist_pitch", files.pitch),
            "yaw": self._macro("wrist_yaw", files.yaw),
            "tip": self._macro("tip", tip),
        }
        joints = {
            "pitch": _joint(_find(macros["pitch"], "wrist_pitch"), "roll", "pitch"),
            "yaw": _joint(_find(macros["yaw"], "wrist_yaw"), "pitch", "yaw"),
        }
        parts = self._parts(macros["roll"], "roll_link", "roll", SHAFT)
        parts += self._parts(macros["pitch"], "wrist_pitch_link", "pitch", WRIST)
        parts += self._parts(macros["yaw"], "wrist_yaw_link", "yaw", WRIST)
        tips: list[tuple[str, FloatArray]] = []
        for name in ("jaw_1", "jaw_2", "jaw"):
            joint = macros["tip"].find(f"joint[@name='{name}']")
            if joint is None:
                continue
            pieces = self._parts(macros["tip"], f"{name}_link", name, CLASPER)
            if not pieces:
                continue
            mimic = joint.find("mimic")
            moving = joint.get("type") == "revolute"
            joints[name] = _joint(
                joint, "yaw", "jaw" if moving else "", 1.0 if mimic is None else float(mimic.get("multiplier", "1"))
            )
            parts += pieces
            tips.append((name, _farthest([piece.mesh for piece in pieces])))
        limits = {key: _limits(macros[key]) for key in ("pitch", "yaw")}
        if len(tips) == 2:
            low, high = _limits(macros["tip"])
            limits["jaw"] = (low, high) if high - low > _MIN_JAW_RANGE else _JAW_RANGE
        return Tool(f"dvrk_{tip}", _FAMILIES.get(tip, f"dvrk_{tip}"), tuple(parts), joints, tuple(tips), limits)

    def _complete(self, files: _Description) -> bool:
        base = self.root / "meshes" / "instruments"
        pieces = list((base / "tip" / files.tip).glob("*.obj")) if files.tip else []
        pieces += [base / "wrist_pitch" / files.pitch / f"wrist_pitch_{files.pitch}.obj"]
        described = all(
            (self._folder / kind / f"{kind}_{name}.urdf.xacro").is_file()
            for kind, name in (("tip", files.tip), ("wrist_pitch", files.pitch), ("wrist_yaw", files.yaw))
        )
        return described and len(pieces) > 1 and all(_is_mesh(piece) for piece in pieces)

    def _macro(self, kind: str, name: str) -> ElementTree.Element:
        path = self._folder / kind / f"{kind}_{name}.urdf.xacro"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"The description {path} cannot be read; {HOW_TO_GET}.") from error
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise DatasetError(f"The description {path} defines entities, which are not read; {HOW_TO_GET}.")
        try:
            macro = ElementTree.fromstring(text.replace("${prefix}", "")).find("{*}macro")
        except ElementTree.ParseError as error:
            raise DatasetError(f"The description {path} is not XML: {error}.") from error
        if macro is None:
            raise DatasetError(f"The description {path} has no xacro macro; {HOW_TO_GET}.")
        return macro

    def _parts(self, macro: ElementTree.Element, link: str, name: str, label: int) -> list[Part]:
        found = []
        for visual in macro.findall(f"link[@name='{link}']/visual"):
            mesh = visual.find("geometry/mesh")
            if mesh is None:
                continue
            path = self._path(mesh.get("filename", ""))
            if not _is_mesh(path):
                continue  # some wrists are a plain pin, whose mesh is not in the model
            scale = np.array(_numbers(mesh.get("scale", "1 1 1")))
            for material, triangles in read_obj(path, _origin(visual), scale).items():
                finish = _finish(material, label)
                found.append(Part(name, finish, SLEEVE if label == SHAFT and finish != "shaft" else label, triangles))
        return found

    def _path(self, name: str) -> Path:
        relative = name.removeprefix("package://dvrk_model/")
        path = (self.root / relative).resolve()
        if relative == name or not path.is_relative_to(self.root.resolve()):
            raise DatasetError(f"The mesh {name!r} of the model at {self.root} does not lie in the model.")
        return path


def _is_mesh(path: Path) -> bool:
    return path.is_file() and path.stat().st_size >= _MIN_MESH_BYTES


def _finish(material: str, label: int) -> str:
    name = material.lower()
    if "shaft" in name:
        return "shaft"
    if "rope" in name:
        return "rope"
    if "transparent" in name and "non_transparent" not in name:
        return "amber"
    return "sleeve" if label == SHAFT else "metal"


def _numbers(text: str) -> list[float]:
    found = []
    for word in text.split():
        constant = _NUMBER.fullmatch(word)
        try:
            found.append(float(f"{constant[1]}{_CONSTANTS[constant[2]]}") if constant else float(word))
        except ValueError as error:
            raise DatasetError(f"The model has the number {word!r}, which is not understood; {HOW_TO_GET}.") from error
    return found


def _origin(element: ElementTree.Element) -> FloatArray:
    origin = element.find("origin")
    if origin is None:
        return np.eye(4)
    return transform(rotation_rpy(*_numbers(origin.get("rpy", "0 0 0"))), np.array(_numbers(origin.get("xyz", "0 0 0"))))


def _find(macro: ElementTree.Element, name: str) -> ElementTree.Element:
    joint = macro.find(f"joint[@name='{name}']")
    if joint is None:
        raise DatasetError(f"The model has no joint {name!r} in {macro.get('name')}; {HOW_TO_GET}.")
    return joint


def _joint(joint: ElementTree.Element, parent: str, angle: str, factor: float = 1.0) -> Joint:
    axis = joint.find("axis")
    x, y, z = _numbers("0 0 1" if axis is None else axis.get("xyz", "0 0 1"))
    return Joint(parent, _origin(joint), (x, y, z), angle, factor)


def _limits(macro: ElementTree.Element) -> tuple[float, float]:
    limit = macro.find("joint/limit")
    if limit is None:
        return 0.0, 0.0
    return _numbers(limit.get("lower", "0"))[0], _numbers(limit.get("upper", "0"))[0]


def _farthest(meshes: list[Mesh]) -> FloatArray:
    """Mean of the vertices that lie farthest from the origin, which is on the yaw axis; float64 (3,), m."""
    vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float64)
    distance = np.linalg.norm(vertices, axis=1)
    return np.asarray(vertices[distance >= np.quantile(distance, 1 - _TIP_SHARE) - 1e-5].mean(axis=0), np.float64)
