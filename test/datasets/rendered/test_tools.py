import numpy as np
import pytest

from csl_tracker.datasets.rendered.dvrk_model import DvrkModel
from csl_tracker.datasets.rendered.parametric import PARAMETRIC
from csl_tracker.datasets.rendered.sprites import ToolState
from csl_tracker.datasets.rendered.tool import CLASPER, SHAFT, SLEEVE, WRIST
from csl_tracker.datasets.rendered.transforms import facing, rotation_about, rotation_rpy, transform
from csl_tracker.errors import DatasetError

CATALOGUE = """
instruments:
  '400006': {roll: '4670', wrist_pitch: '0091', wrist_yaw: '0091', tip: '006', name: Large Needle Driver}
  '400001': {roll: '4162', wrist_pitch: '0091', wrist_yaw: '0091', tip: '001', name: without meshes}
"""
LINK = (
    '<robot name="r" xmlns:xacro="http://www.ros.org/wiki/xacro"><xacro:macro name="m" params="prefix">{}</xacro:macro></robot>'
)
JOINT = '<joint name="{name}" type="{type}"><axis xyz="0 0 1"/><origin rpy="{rpy}" xyz="{xyz}"/>{limit}{mimic}</joint>'
VISUAL = (
    '<link name="${{prefix}}{name}"><visual><geometry><mesh filename="package://dvrk_model/{mesh}" scale="1 1 1"/></geometry>'
    "</visual></link>"
)
MESH = (
    "usemtl tool_{}\n"
    + "".join(f"v {x} {y} {z}\n" for x, y, z in ((-1, 0, 0), (1, 0, 0), (0, 10, 0)))
    + "f 1 2 3\n"
    + "# \n" * 120
)


def write_model(root):
    """A model of one needle driver with a triangle for each piece, in m."""
    folder = root / "urdf/common/instruments"
    limit = '<limit lower="-1.2" upper="1.3"/>'
    turned = "-${PI_2} -${PI_2} 0.0"
    descriptions = {
        "roll/roll_4670": VISUAL.format(name="roll_link", mesh="meshes/instruments/roll/4670/roll_4670.obj"),
        "wrist_pitch/wrist_pitch_0091": JOINT.format(
            name="wrist_pitch", type="revolute", rpy=turned, xyz="0 0 0", limit=limit, mimic=""
        )
        + VISUAL.format(name="wrist_pitch_link", mesh="meshes/instruments/wrist_pitch/0091/wrist_pitch_0091.obj"),
        "wrist_yaw/wrist_yaw_0091": JOINT.format(
            name="wrist_yaw", type="revolute", rpy=turned, xyz="0.009 0 0", limit=limit, mimic=""
        ),
        "tip/tip_006": JOINT.format(name="jaw", type="revolute", rpy="0 0 0", xyz="0 0 0", limit=limit, mimic="")
        + "".join(
            JOINT.format(
                name=f"jaw_{k}",
                type="revolute",
                rpy="0 0 0",
                xyz="0 0 0",
                limit="",
                mimic=f'<mimic joint="jaw" multiplier="{factor}"/>',
            )
            + VISUAL.format(name=f"jaw_{k}_link", mesh=f"meshes/instruments/tip/006/tip_006_{k}.obj")
            for k, factor in ((1, "0.5"), (2, "-0.5"))
        ),
    }
    for name, text in descriptions.items():
        path = folder / f"{name}.urdf.xacro"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LINK.format(text))
    (folder / "instruments.yaml").write_text(CATALOGUE)
    for mesh, material in (
        ("roll/4670/roll_4670", "shaft"),
        ("wrist_pitch/0091/wrist_pitch_0091", "wrist"),
        ("tip/006/tip_006_1", "jaw_left"),
        ("tip/006/tip_006_2", "jaw_right"),
    ):
        path = root / f"meshes/instruments/{mesh}.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MESH.format(material).replace("10", "0.01").replace("-1 0 0", "-0.001 0 0").replace("v 1 ", "v 0.001 "))
    return root


def test_a_folder_that_is_no_model_is_refused_with_the_way_to_get_one(tmp_path):
    with pytest.raises(DatasetError, match=r"git clone https://github\.com/jhu-dvrk/dvrk_model"):
        DvrkModel(tmp_path)
    write_model(tmp_path)
    (tmp_path / "meshes/instruments/tip/006/tip_006_1.obj").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DatasetError, match="no instrument with all of its meshes"):
        DvrkModel(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("tip/tip_006", "<robot", "<!DOCTYPE a><robot", "defines entities"),
        ("tip/tip_006", "</robot>", "", "is not XML"),
        ("wrist_pitch/wrist_pitch_0091", 'name="wrist_pitch"', 'name="other"', "no joint 'wrist_pitch'"),
        ("wrist_yaw/wrist_yaw_0091", "0.009 0 0", "${evil()} 0 0", "is not understood"),
        ("roll/roll_4670", "package://dvrk_model/meshes", "package://dvrk_model/../../meshes", "does not lie in the model"),
        ("roll/roll_4670", "package://dvrk_model/", "/etc/", "does not lie in the model"),
    ],
)
def test_a_broken_description_is_refused(tmp_path, file, old, new, words):
    path = write_model(tmp_path) / f"urdf/common/instruments/{file}.urdf.xacro"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=words):
        DvrkModel(tmp_path).tool("006")


def test_an_instrument_has_its_parts_joints_tips_and_limits(tmp_path):
    model = DvrkModel(write_model(tmp_path))
    assert model.tips == ("006",)
    with pytest.raises(DatasetError, match="no tip '001'; it has 006"):
        model.tool("001")
    tool = model.tool("006")
    assert [(part.link, part.label) for part in tool.parts] == [
        ("roll", SHAFT),
        ("pitch", WRIST),
        ("jaw_1", CLASPER),
        ("jaw_2", CLASPER),
    ]
    assert tool.family == "needle driver"
    assert tool.limits == {"pitch": (-1.2, 1.3), "yaw": (-1.2, 1.3), "jaw": (-1.2, 1.3)}
    np.testing.assert_allclose([point for _, point in tool.tips], [[0, 0.01, 0]] * 2, atol=1e-9)


def test_joints_move_the_links_as_the_model_says(tmp_path):
    tool = DvrkModel(write_model(tmp_path)).tool("006")
    links = tool.links({})
    np.testing.assert_allclose(links["yaw"][:3, 3], (0, 0, 0.009), atol=1e-12)
    np.testing.assert_allclose(links["jaw_1"] @ [0, 0.01, 0, 1], (0, 0, 0.019, 1), atol=1e-12)  # the tip lies ahead
    opened = tool.links({"jaw": 0.6})
    tips = [(opened[name] @ [0, 0.01, 0, 1])[:3] - opened["yaw"][:3, 3] for name in ("jaw_1", "jaw_2")]
    assert np.arccos(tips[0] @ tips[1] / 1e-4) == pytest.approx(0.6)
    bent = tool.links({"pitch": 0.4})
    ahead = (bent["yaw"][:3, 3]) / 0.009
    assert np.arccos(ahead[2]) == pytest.approx(0.4)


@pytest.mark.parametrize("kind", PARAMETRIC)
def test_parametric_tools_are_the_same_for_the_same_seed_and_have_valid_parts(kind):
    first, second = (PARAMETRIC[kind](np.random.default_rng(5)) for _ in range(2))
    links = first.links({name: high for name, (_, high) in first.limits.items()})
    assert {part.label for part in first.parts} <= {SHAFT, SLEEVE, WRIST, CLASPER}
    for part, again in zip(first.parts, second.parts, strict=True):
        np.testing.assert_array_equal(part.mesh.vertices, again.mesh.vertices)
        assert np.isfinite(part.mesh.vertices).all()
        assert part.link in links
    for link, point in first.tips:
        claspers = np.concatenate([part.mesh.vertices for part in first.parts if part.link == link])
        assert np.linalg.norm(claspers - point, axis=1).min() < 0.0015


@pytest.mark.parametrize("kind", ["needle_driver", "forceps", "grasper", "scissors"])
def test_the_landmarks_of_a_tool_follow_one_another_along_it(kind):
    tool = PARAMETRIC[kind](np.random.default_rng(2))
    pose = transform(facing(np.array([1.0, 0, 0]), 0.3), np.array([0.0, 0, 0.08]))
    links = {name: pose @ link for name, link in tool.links({"jaw": 0.3}).items()}
    state = ToolState.of(tool, links, {"jaw": 0.3})
    again = ToolState.from_json(state.to_json())
    points = again.endovis_points()
    np.testing.assert_allclose(points, state.endovis_points())
    x = points[:, 0]
    assert x[0] < x[1] < x[2] < min(x[3], x[4])


@pytest.mark.parametrize(("kind", "unknown"), [("hook", {3, 4}), ("suction", {0, 1, 2, 3, 4})])
def test_landmarks_that_a_tool_does_not_have_are_unknown(kind, unknown):
    tool = PARAMETRIC[kind](np.random.default_rng(2))
    pose = transform(translation=np.array([0.0, 0, 0.1]))
    state = ToolState.of(tool, {name: pose @ link for name, link in tool.links({}).items()}, {})
    assert set(np.flatnonzero(~np.isfinite(state.endovis_points()).all(axis=1))) == unknown


def test_rotations_are_those_of_urdf():
    np.testing.assert_allclose(rotation_rpy(0, 0, np.pi / 2) @ [1, 0, 0], (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(rotation_rpy(np.pi / 2, 0, np.pi / 2) @ [0, 1, 0], (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(
        rotation_rpy(0.1, 0.2, 0.3),
        rotation_about((0, 0, 1), 0.3) @ rotation_about((0, 1, 0), 0.2) @ rotation_about((1, 0, 0), 0.1),
    )
    direction = np.array([0.6, 0.0, 0.8])
    np.testing.assert_allclose(facing(direction, 1.1)[:, 2], direction)
    assert np.linalg.det(facing(direction, 1.1)) == pytest.approx(1)
