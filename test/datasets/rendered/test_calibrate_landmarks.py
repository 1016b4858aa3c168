"""The calibration of landmarks recovers known positions from synthetic projections."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))

from benchmark.calibrate_landmarks import balanced, center_positions, positions  # noqa: E402
from benchmark.landmark_bundle import (  # noqa: E402
    POINTS,
    SHARED,
    VIEW,
    Setup,
    Tool,
    Views,
    default_shared,
    edge_distances,
    landmarks,
    link_frames,
    project,
)
from benchmark.landmark_fit import Fit, fit, start_views  # noqa: E402
from benchmark.landmark_views import measure_mask, read_model  # noqa: E402
from csl_tracker.arrays import FloatArray  # noqa: E402
from csl_tracker.datasets.rendered.landmarks import (  # noqa: E402
    ENDOVIS,
    Dimensions,
    landmark_positions,
)

TOOL = Tool(radius_mm=4.37, wrist_mm=9.1, ring_mm=-8.8, ears_mm=2.0, jaw_mm=9.65, cheek_mm=3.2)
SETUP = replace(Setup(TOOL, *default_shared(TOOL)), start=(0.8, 3.9))
TRUTH = {"log_focal": np.log(850.0), "tracked": -8.8, "pose": -9.3, "shaft": -2.2, "head": 6.6, "tip": 9.3, "tip_side": 0.4}
COUNT = 40


def shared_truth() -> FloatArray:
    return np.array([TRUTH.get(name, SETUP.mean[k]) for k, name in enumerate(SHARED)])


def random_views(rng: np.random.Generator) -> FloatArray:
    """Two instruments, one from each side, moving about."""
    side = np.arange(COUNT) % 2
    view = np.zeros((COUNT, len(VIEW)))
    columns = {
        "u": np.where(side == 0, 200.0, 480.0) + rng.normal(0, 40, COUNT),
        "v": 290 + rng.normal(0, 60, COUNT),
        "direction": np.where(side == 0, -0.4, -2.9) + rng.normal(0, 0.1, COUNT),
        "elevation": np.where(side == 0, 0.3, 0.65) + rng.normal(0, 0.1, COUNT),
        "log_scale": np.log(np.where(side == 0, 11.0, 9.0)) + rng.normal(0, 0.05, COUNT),
        "roll": rng.uniform(0, 2 * np.pi, COUNT),
        "pitch": rng.normal(0, 0.25, COUNT),
        "yaw": rng.normal(0, 0.25, COUNT),
        "jaw": rng.uniform(0.0, 0.05, COUNT),
        "mask_dx": rng.normal(0, 10, COUNT),
        "mask_dy": rng.normal(0, 10, COUNT),
    }
    for name, values in columns.items():
        view[:, VIEW.index(name)] = values
    return view


def silhouette(view: FloatArray, shared: FloatArray) -> FloatArray:
    """Border of the shaft in the mask: for two points of the axis, the points of its cylinder farthest to either side."""
    links = link_frames(view, shared, SETUP)
    side = np.cross(links.shaft, (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    other = np.cross(links.shaft, side)
    turn = np.linspace(0, 2 * np.pi, 1441)[:, None, None]
    circle = TOOL.radius_mm * (np.cos(turn) * side + np.sin(turn) * other)
    across = np.stack([-np.sin(view[:, 2]), np.cos(view[:, 2])], -1)
    edges = []
    for sign in (1, -1):
        for z in (-30.0, -6.0):
            images = project(links.origin + z * links.shaft + circle, shared, SETUP)
            best = np.argmax(sign * np.einsum("cni,ni->cn", images, across), axis=0)
            edges.append(images[best, np.arange(COUNT)])
    return np.stack(edges, 1) + view[:, None, -2:]


def synthetic(noise_px: float, seed: int = 3) -> tuple[Views, FloatArray]:
    rng = np.random.default_rng(seed)
    view, shared = random_views(rng), shared_truth()
    points = landmarks(view, shared, SETUP)
    points = points + rng.normal(0, noise_px, points.shape)
    edges = silhouette(view, shared) + rng.normal(0, noise_px / 4, (COUNT, 4, 2))
    direction = view[:, 2] + rng.normal(0, 0.01, COUNT)
    views = Views(points, edges, direction, np.arange(COUNT) // 2, np.arange(COUNT) % 2, view[:, VIEW.index("jaw")])
    return views, view


def test_the_silhouette_is_that_of_a_cylinder() -> None:
    views, view = synthetic(0.0)
    assert edge_distances(view, shared_truth(), SETUP, views.edges) == pytest.approx(0, abs=0.25)


def test_bundle_and_rendered_landmarks_agree() -> None:
    """The benchmark fits the positions that the package's definitions place."""
    shared, view = shared_truth(), random_views(np.random.default_rng(1))[:6]
    view[:, -2:] = 0
    images = landmarks(view, shared, SETUP)
    links = link_frames(view, shared, SETUP)
    values = dict(zip(SHARED, shared, strict=True))
    offsets = {
        "center": (0.0, 0.0, values["tracked"]),
        "shaft": (0.0, 0.0, values["shaft"]),
        "head": (values["head"], 0.0, 0.0),
    }
    marks = replace(
        ENDOVIS,
        points=tuple(replace(point, offset_mm=offsets[point.name]) for point in ENDOVIS.points),
        tip_inset_mm=0.0,
    )
    side, tip = 1e-3 * values["tip_side"], 1e-3 * values["tip"]
    for n in range(len(view)):
        pitch_axis = np.cross(links.pitch[n], links.yaw[n])

        def pose(first: FloatArray, second: FloatArray, origin: FloatArray) -> FloatArray:
            matrix = np.eye(4)
            matrix[:3, :3] = np.stack([first, second, np.cross(first, second)], -1)
            matrix[:3, 3] = 1e-3 * origin
            return matrix

        origin, yaw_origin = links.origin[n], links.yaw_origin[n]
        poses = {
            "roll": pose(np.cross(pitch_axis, links.shaft[n]), pitch_axis, origin),
            "pitch": pose(links.pitch[n], links.yaw[n], origin),
            "jaw_1": pose(np.cross(links.jaws[1][n], links.yaw[n]), links.jaws[1][n], yaw_origin),
            "jaw_2": pose(np.cross(links.jaws[0][n], links.yaw[n]), links.jaws[0][n], yaw_origin),
        }
        found = landmark_positions(
            marks, poses, {"jaw_1": (-side, tip, 0.0), "jaw_2": (side, tip, 0.0)}, Dimensions(TOOL.radius_mm, TOOL.cheek_mm)
        )
        expected = project(1e3 * found, shared, SETUP)
        rows = [POINTS.index(name) for name in ("tracked", "shaft", "head")]
        assert expected[:3] == pytest.approx(images[n, rows])
        tips = images[n, [POINTS.index("tip_1"), POINTS.index("tip_2")]]
        assert sorted(expected[3:].tolist()) == pytest.approx(np.array(sorted(tips.tolist())))


def near(view: FloatArray, seed: int = 5) -> Fit:
    """A start near the truth, to skip the slow search over roll angles; the shared positions start at their priors."""
    moved = view + np.random.default_rng(seed).normal(0, 1, view.shape) * (8, 8, 0.05, 0.1, 0.05, 0.3, 0.2, 0.2, 0.01, 8, 8)
    return Fit(moved, SETUP.mean, np.zeros(0))


@pytest.mark.parametrize(("noise_px", "tolerance_mm"), [(0.0, 0.25), (2.0, 0.5)])
def test_the_fit_recovers_known_positions(noise_px: float, tolerance_mm: float) -> None:
    views, view = synthetic(noise_px)
    values = positions(SETUP, views, fit(SETUP, views, near(view)))
    for name in ("shaft", "head", "tip"):
        assert values[name] == pytest.approx(TRUTH[name], abs=tolerance_mm), name
    assert values["tip_side"] == pytest.approx(TRUTH["tip_side"], abs=0.15)
    assert values["center_tracked"] == pytest.approx(TRUTH["tracked"], abs=tolerance_mm)
    assert values["focal_px"] == pytest.approx(850, rel=0.15)


def test_the_search_over_roll_angles_finds_the_pose() -> None:
    """Started without any knowledge of the pose, a view's landmarks are met."""
    views, _ = synthetic(0.0)
    few = views.select(np.arange(COUNT) < 12)
    found = start_views(replace(SETUP, start=(0.8,)), few, shared_truth())
    error = np.hypot(*np.moveaxis(few.points - landmarks(found.view, shared_truth(), SETUP), -1, 0))
    assert np.median(error) < 1.0


def test_points_on_the_surface_do_not_pass_for_points_on_the_axis() -> None:
    views, view = synthetic(2.0)
    inner = SETUP.mean.copy()
    inner[-4:] = 0
    outer = fit(SETUP, views, near(view))
    other = fit(replace(SETUP, mean=inner), views, replace(near(view), shared=inner))
    assert other.cost.sum() > 1.2 * outer.cost.sum()


def test_the_position_of_a_point_on_the_shaft_is_read_back() -> None:
    views, view = synthetic(0.0)
    found = Fit(view, shared_truth(), np.zeros(COUNT))
    z = center_positions(SETUP, views, found, TOOL.radius_mm)["tracked"]
    assert z == pytest.approx(np.full(COUNT, TRUTH["tracked"]), abs=0.05)


def test_instruments_count_equally() -> None:
    values, slot = np.array([1.0, 1.0, 1.0, 3.0]), np.array([0, 0, 0, 1])
    assert balanced(values, slot) == 2.0
    assert balanced(values, slot, np.array([1.0, 1.0, 1.0, 0.0])) == 1.0


def test_a_mask_gives_the_borders_of_the_shaft() -> None:
    labels = np.zeros((120, 200), np.uint8)
    for x in range(4, 140):
        labels[40 - x // 20 : 80 + x // 20, x] = 1
    labels[45:75, 140:180] = 2
    measured = measure_mask(labels, np.array([60.0, 60.0]), np.array([1.0, 0.0]))
    assert measured is not None
    edges, border = measured
    assert edges[0, 1] > 60 > edges[2, 1]
    width = edges[:2, 1] - edges[2:, 1]
    assert width == pytest.approx(40 + 2 * (edges[:2, 0] / 20 - 0.5), abs=1.5)
    assert np.median(border.pixels[:, 0]) == 139
    assert measure_mask(np.zeros((120, 200), np.uint8), np.array([60.0, 60.0]), np.array([1.0, 0.0])) is None


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def cylinder(material: str, radius: float, first: float, last: float, base: int) -> str:
    """A mesh of a tube along z as an OBJ, in units of its file."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    lines = [f"v {radius * np.cos(a)} {radius * np.sin(a)} {z}" for z in (first, last) for a in turn]
    faces = [(k, (k + 1) % 12, 12 + (k + 1) % 12, 12 + k) for k in range(12)]
    lines += [f"usemtl {material}", *(f"f {' '.join(str(base + 1 + k) for k in face)}" for face in faces)]
    lines.append(f"f {' '.join(str(base + 13 + k) for k in range(12))}")
    return "\n".join(lines) + "\n"


def test_dimensions_are_read_from_a_model(tmp_path: Path) -> None:
    """A model of tubes: shaft 4 mm, sleeve to 2 mm with its middle closed, pitch link 3 mm, jaw to 9 mm."""
    folder = tmp_path / "urdf/common/instruments"
    mesh = "package://dvrk_model/meshes/{}.obj"
    template = '<robot xmlns:xacro="x"><xacro:macro name="m"><link name="${{prefix}}{}_link"><visual>{}<geometry>{}</geometry></visual></link>{}</xacro:macro></robot>'  # noqa: E501

    def link(name: str, rpy: str, scale: str, extra: str = "") -> str:
        origin = f'<origin rpy="{rpy}" xyz="0 0 0"/>'
        return template.format(name, origin, f'<mesh filename="{mesh.format(name)}" scale="{scale}"/>', extra)

    joint = '<joint name="wrist_yaw"><origin rpy="0 0 0" xyz="0.0091 0.0 0.0"/></joint>'
    write(folder / "roll/roll_4670.urdf.xacro", link("roll", "0 0 0", "0.1 0.1 0.1"))
    write(folder / "wrist_pitch/wrist_pitch_0091.urdf.xacro", link("wrist_pitch", "0.0 ${PI_2} 0.0", "0.1 0.1 0.1"))
    write(folder / "wrist_yaw/wrist_yaw_0091.urdf.xacro", link("wrist_yaw", "0 0 0", "1 1 1", joint))
    write(folder / "tip/tip_006.urdf.xacro", link("jaw_1", "-${PI_2} 0 0", "1 1 1"))
    tubes = cylinder("tool_shaft", 0.04, -2.0, -0.088, 0) + cylinder("tool_base.002", 0.039, -0.088, 0.02, 24)
    floor = cylinder("tool_base.002", 0.03, -0.05, -0.03, 48)
    write(tmp_path / "meshes/roll.obj", tubes + floor)
    write(tmp_path / "meshes/wrist_pitch.obj", cylinder("tool_wrist", 0.03, 0.0, 0.1, 0))
    write(tmp_path / "meshes/jaw_1.obj", cylinder("jaw", 0.001, 0.0, 0.009, 0))
    model = read_model(tmp_path)
    assert model.tool.radius_mm == pytest.approx(4.0)
    assert model.tool.wrist_mm == pytest.approx(9.1)
    assert model.tool.ring_mm == pytest.approx(-8.8)
    assert model.tool.ears_mm == pytest.approx(2.0)
    assert model.tool.jaw_mm == pytest.approx(9.0)
    assert model.tool.cheek_mm == pytest.approx(3.0)
    assert model.slot_mm == pytest.approx(-3.0)
    assert len(model.files) == 7
