"""Tools as rigid parts on links, moved by joints.

The frames of the links follow the dVRK's model: ``roll`` ends the shaft, with z along the shaft towards the tip; ``pitch`` and
``yaw`` are the wrist; ``jaw_1`` and ``jaw_2`` are the claspers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.rendered.transforms import rotation_about, transform

SHAFT, SLEEVE, WRIST, CLASPER = 1, 2, 3, 4
"""Labels of the parts in a bank: the shaft's tube, the metal sleeve at its end, the wrist, the claspers."""

Joints = Mapping[str, float]
"""Joint angles, rad, by the names of :class:`Joint`: ``pitch``, ``yaw``, ``jaw``; missing ones are 0."""


@dataclass(frozen=True)
class Mesh:
    """Triangles; every three rows are one of them.

    Attributes:
        vertices: float32 (3 n, 3), m.
        normals: float32 (3 n, 3); None for flat triangles.
    """

    vertices: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Part:
    """A rigid piece with one finish.

    Attributes:
        link: Name of the link that carries it.
        finish: Kind of surface: ``shaft``, ``sleeve``, ``metal``, ``rope``, ``amber``, ``plastic``.
        label: ``SHAFT``, ``SLEEVE``, ``WRIST`` or ``CLASPER``.
        mesh: In the link's frame.
    """

    link: str
    finish: str
    label: int
    mesh: Mesh


@dataclass(frozen=True)
class Joint:
    """How a link sits on its parent.

    Attributes:
        parent: Name of the parent link.
        origin: Pose of the link's frame in the parent's at angle 0, float64 (4, 4), m.
        axis: Axis of rotation in the link's frame.
        angle: Name of the joint angle; empty for a fixed link.
        factor: Multiplies the angle.
    """

    parent: str
    origin: FloatArray
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    angle: str = ""
    factor: float = 1.0


@dataclass(frozen=True)
class Tool:
    """An instrument.

    Attributes:
        name: Name of the tool, such as ``dvrk_006``.
        family: Tools of one family look alike; a family can be held out of the training.
        parts: The pieces.
        joints: By link, parents before children; ``roll`` is the root and has none.
        tips: Link and point, m in its frame, of each clasper tip: two, one, or none.
        limits: Range of each joint angle, rad; missing ones are fixed at 0.
        landmarks: Link and point, m in its frame, of landmarks that do not lie where they lie on a da Vinci needle driver.
        shaft_radius: Radius of the shaft, m.
        cheek: Distance from the middle of the wrist to its outer face along the yaw axis, m.
    """

    name: str
    family: str
    parts: tuple[Part, ...]
    joints: Mapping[str, Joint]
    tips: tuple[tuple[str, FloatArray], ...] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    landmarks: Mapping[str, tuple[str, FloatArray]] = field(default_factory=dict)
    shaft_radius: float = 0.00437
    cheek: float = 0.00321

    def links(self, angles: Joints) -> dict[str, FloatArray]:
        """Pose of each link in the frame of ``roll``, float64 (4, 4), m."""
        poses = {"roll": np.eye(4)}
        for name, joint in self.joints.items():
            turned = (
                transform(rotation_about(joint.axis, joint.factor * angles.get(joint.angle, 0.0))) if joint.angle else np.eye(4)
            )
            poses[name] = poses[joint.parent] @ joint.origin @ turned
        return poses
