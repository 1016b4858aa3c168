"""Projection of jointed instruments with annotated landmarks; used by :mod:`benchmark.landmark_fit`.

Each view of an instrument has its own pose, joint angles and offset of the mask. All views share the focal length and the
positions of the landmarks on the tool. Lengths are mm, image coordinates px, angles rad; the camera is a pinhole with its
principal point at the image centre. Links are those of dvrk_model: ``roll`` (z along the shaft to the tip), ``pitch`` (x to the
yaw axis), ``yaw`` and the jaws (y to the tip).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from csl_tracker.arrays import FloatArray

VIEW = ("u", "v", "direction", "elevation", "log_scale", "roll", "pitch", "yaw", "jaw", "mask_dx", "mask_dy")
"""Parameters of one view: image of the roll link's origin, direction of the shaft in the image, its elevation away from the
camera, log of px per mm at the origin, joint angles, and the shift of the mask against the picture."""
SHARED = (
    "log_focal",
    "tracked",
    "pose",
    "shaft",
    "head",
    "tip",
    "tip_side",
    "tracked_out",
    "pose_out",
    "shaft_out",
    "head_out",
)
"""Shared parameters: position of ``tracked``, ``pose`` and ``shaft`` along the roll link's z, of ``head`` along the pitch
link's x, of the tips along the jaw's y and to the jaw's outer side. ``_out`` is the distance from the link's axis to the
annotated point on the surface that faces the camera: for ``head`` along the yaw axis, for the others around the shaft."""
POINTS = ("tracked", "shaft", "head", "tip_1", "tip_2", "pose")
_SHIFT = VIEW.index("mask_dx")


@dataclass(frozen=True)
class Tool:
    """Dimensions of a tool, read from its model.

    Attributes:
        radius_mm: Radius of the shaft.
        wrist_mm: Distance from the pitch axis to the yaw axis.
        ring_mm: End of the shaft's tube along z of the roll link: the ring between tube and metal sleeve.
        ears_mm: Distal end of the roll link along its z.
        jaw_mm: Distance from the yaw axis to the end of the jaws.
        cheek_mm: Distance from the middle of the pitch link to its outer face, along the yaw axis.
    """

    radius_mm: float
    wrist_mm: float
    ring_mm: float
    ears_mm: float
    jaw_mm: float
    cheek_mm: float


@dataclass(frozen=True)
class Views:
    """Annotations of N views.

    Attributes:
        points: float64 (N, len(POINTS), 2), px, NaN if not annotated. ``pose`` belongs to the mask, the others to the picture.
        edges: float64 (N, 4, 2), px: two points on the mask's border on each side of the shaft.
        direction: float64 (N,), direction of the shaft in the image, rad.
        frame: int (N,), frame number.
        slot: int (N,), instrument.
        jaw: float64 (N,), angle of each jaw to the middle, rad.
    """

    points: FloatArray
    edges: FloatArray
    direction: FloatArray
    frame: FloatArray
    slot: FloatArray
    jaw: FloatArray

    def __len__(self) -> int:
        return len(self.points)

    def select(self, keep: FloatArray) -> Views:
        """Views by index or mask."""
        return Views(**{item.name: getattr(self, item.name)[keep] for item in fields(self)})

    def without(self, *names: str) -> Views:
        """The views with these points removed."""
        points = self.points.copy()
        points[:, [POINTS.index(name) for name in names]] = np.nan
        return replace(self, points=points)


@dataclass(frozen=True)
class Setup:
    """Everything that a fit does not change.

    Attributes:
        tool: Dimensions.
        mean: Prior mean of the shared parameters, in the order of ``SHARED``.
        sigma: Prior deviation of the shared parameters; 0 keeps one fixed.
        point_px: Deviation of each of ``POINTS``.
        edge_px: Deviation of the mask's border.
        size: (height, width) of the image.
        aspect: px per mm in x relative to y.
        angle_rad: Prior deviation of pitch and yaw.
        jaw_rad: Prior deviation of a jaw's angle.
        shift_px: Prior deviation of the mask's offset.
        elevation_rad: Prior deviation of the shaft's elevation.
        start: Roll angles that every view is started from.
    """

    tool: Tool
    mean: FloatArray
    sigma: FloatArray
    point_px: tuple[float, ...] = (4.0, 4.0, 5.0, 4.0, 4.0, 2.0)
    edge_px: float = 1.5
    size: tuple[int, int] = (576, 720)
    aspect: float = 1.0
    angle_rad: float = 0.5
    jaw_rad: float = 0.03
    shift_px: float = 15.0
    elevation_rad: float = 0.8
    start: tuple[float, ...] = tuple(k * math.pi / 4 for k in range(8))

    @property
    def principal(self) -> FloatArray:
        """Image centre, px."""
        return np.array([(self.size[1] - 1) / 2, (self.size[0] - 1) / 2])


@dataclass(frozen=True)
class Frames:
    """Links in the camera's frame, each (N, 3).

    Attributes:
        origin: Origin of the roll and pitch links, mm.
        shaft: z of the roll link.
        pitch: x of the pitch link.
        yaw: Yaw axis, y of the pitch link.
        yaw_origin: Origin of the yaw link and the jaws, mm.
        jaws: y of the jaws.
    """

    origin: FloatArray
    shaft: FloatArray
    pitch: FloatArray
    yaw: FloatArray
    yaw_origin: FloatArray
    jaws: tuple[FloatArray, FloatArray]


def default_shared(tool: Tool) -> tuple[FloatArray, FloatArray]:
    """Prior mean and deviation of the shared parameters.

    ``tracked`` marks the ring and a tip the end of a jaw. These two features of the model anchor the lengths; the other
    positions are nearly free. The focal length is that of common da Vinci endoscopes at this image size.
    """
    mean = [np.log(780.0), tool.ring_mm, tool.ring_mm, -1.0, tool.wrist_mm / 2, tool.jaw_mm - 0.4, 0.5]
    mean += [tool.radius_mm, tool.radius_mm, tool.radius_mm, tool.cheek_mm]
    sigma = [0.15, 0.1, 4.0, 6.0, 6.0, 0.3, 0.5, 0.0, 0.0, 0.0, 0.0]
    return np.array(mean), np.array(sigma)


def link_frames(view: FloatArray, shared: FloatArray, setup: Setup) -> Frames:
    """Links of N views.

    Args:
        view: float64 (N, len(VIEW)).
        shared: float64 (len(SHARED),).
        setup: Dimensions and camera.
    """
    u, v, direction, elevation, log_scale, roll, pitch, yaw, jaw = view[:, :_SHIFT].T
    focal = np.exp(shared[0])
    depth = focal / np.exp(log_scale)
    center = setup.principal
    origin = np.stack([(u - center[0]) / setup.aspect * depth / focal, (v - center[1]) * depth / focal, depth], -1)
    along = np.stack([np.cos(direction) * np.cos(elevation), np.sin(direction) * np.cos(elevation), np.sin(elevation)], -1)
    side = np.stack([-np.sin(direction), np.cos(direction), np.zeros_like(direction)], -1)
    other = np.cross(along, side)
    x = _turn(side, other, roll)
    y = _turn(other, -side, roll)
    pitch_x, pitch_y = _turn(along, x, pitch), _turn(x, -along, pitch)  # pitch turns about the roll link's y
    half = yaw + jaw, yaw - jaw  # yaw and jaws turn about the pitch link's y
    jaws = tuple(np.cos(a)[:, None] * pitch_x + np.sin(a)[:, None] * y for a in half)
    return Frames(origin, along, pitch_x, pitch_y, origin + setup.tool.wrist_mm * pitch_x, (jaws[0], jaws[1]))


def landmarks(view: FloatArray, shared: FloatArray, setup: Setup) -> FloatArray:
    """Images of ``POINTS``, float64 (N, len(POINTS), 2), px; ``pose`` is shifted with the mask."""
    links = link_frames(view, shared, setup)
    values = dict(zip(SHARED, shared, strict=True))
    found = [
        _outwards(links.origin + values["tracked"] * links.shaft, links.shaft, values["tracked_out"]),
        _outwards(links.origin + values["shaft"] * links.shaft, links.shaft, values["shaft_out"]),
        _facing(links.origin + values["head"] * links.pitch, links.yaw, values["head_out"]),
        links.yaw_origin + values["tip"] * links.jaws[0] - values["tip_side"] * np.cross(links.yaw, links.jaws[0]),
        links.yaw_origin + values["tip"] * links.jaws[1] + values["tip_side"] * np.cross(links.yaw, links.jaws[1]),
        _outwards(links.origin + values["pose"] * links.shaft, links.shaft, values["pose_out"]),
    ]
    image = project(np.stack(found, 1), shared, setup)
    image[:, POINTS.index("pose")] += view[:, _SHIFT:]
    return image


def axial_images(view: FloatArray, shared: FloatArray, setup: Setup, z_mm: FloatArray, out_mm: float) -> FloatArray:
    """Images in the picture of K points along z of the roll link, moved ``out_mm`` to the camera: (N, K, 2), px."""
    links = link_frames(view, shared, setup)
    axis = np.repeat(links.shaft[:, None], len(z_mm), 1)
    return project(_outwards(links.origin[:, None] + z_mm[:, None] * axis, axis, out_mm), shared, setup)


def project(points: FloatArray, shared: FloatArray, setup: Setup) -> FloatArray:
    """Pinhole images of points in mm, float64 (..., 2), px."""
    focal = np.exp(shared[0])
    scaled = focal * points[..., :2] / points[..., 2:]
    return scaled * (setup.aspect, 1.0) + setup.principal


def edge_distances(view: FloatArray, shared: FloatArray, setup: Setup, edges: FloatArray) -> FloatArray:
    """Distances of the mask's border points to the silhouette of the shaft, float64 (N, 4), px.

    The planes through the camera that touch a cylinder of radius r about the axis have normals n with n.d = 0 and n.p = +-r.
    """
    links = link_frames(view, shared, setup)
    axis, origin = links.shaft, links.origin
    foot = origin - np.sum(origin * axis, -1, keepdims=True) * axis
    reach = np.linalg.norm(foot, axis=-1, keepdims=True)
    near = foot / reach
    across = np.cross(axis, near)
    ratio = setup.tool.radius_mm / reach
    focal = np.exp(shared[0])
    shifted = (edges - view[:, None, _SHIFT:] - setup.principal) / (setup.aspect, 1.0) / focal
    rays = np.concatenate([shifted, np.ones((*shifted.shape[:-1], 1))], -1)
    out = np.empty(edges.shape[:2])
    for row, sign in ((slice(0, 2), 1.0), (slice(2, 4), -1.0)):
        normal = sign * ratio * near + np.sqrt(1 - ratio**2) * across
        out[:, row] = focal * np.einsum("nkc,nc->nk", rays[:, row], normal) / np.hypot(normal[:, 0], normal[:, 1])[:, None]
    return out


def residuals(view: FloatArray, shared: FloatArray, setup: Setup, data: Views) -> FloatArray:
    """Residuals divided by their deviations, (N, R): points, edges, then priors of the view; 0 where not annotated."""
    points = (data.points - landmarks(view, shared, setup)) / np.array(setup.point_px)[:, None]
    edges = edge_distances(view, shared, setup, data.edges) / setup.edge_px
    priors = [
        view[:, VIEW.index("pitch")] / setup.angle_rad,
        view[:, VIEW.index("yaw")] / setup.angle_rad,
        (view[:, VIEW.index("jaw")] - data.jaw) / setup.jaw_rad,
        view[:, _SHIFT] / setup.shift_px,
        view[:, _SHIFT + 1] / setup.shift_px,
        view[:, VIEW.index("elevation")] / setup.elevation_rad,
    ]
    return np.nan_to_num(np.concatenate([points.reshape(len(view), -1), edges, np.stack(priors, -1)], -1))


def _turn(first: FloatArray, second: FloatArray, angle: FloatArray) -> FloatArray:
    return np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second


def _outwards(points: FloatArray, axis: FloatArray, distance: float) -> FloatArray:
    """Move points off their axis towards the camera."""
    across = -points + np.sum(points * axis, -1, keepdims=True) * axis
    return points + distance * across / np.linalg.norm(across, axis=-1, keepdims=True)


def _facing(points: FloatArray, axis: FloatArray, distance: float) -> FloatArray:
    """Move points along an axis, in whichever sense leads to the camera."""
    return points - distance * np.sign(np.sum(points * axis, -1, keepdims=True)) * axis
