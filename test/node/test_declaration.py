"""Parameters as they are given at the start, on real command lines."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from csl_tracker.node import replay_node, stereo_node, tracker_node
from csl_tracker.node.declaration import shared_names, unused_files

pytestmark = pytest.mark.ros

MAINS = {"tracker_node": tracker_node.main, "stereo_node": stereo_node.main, "replay_node": replay_node.main}


@pytest.mark.parametrize(
    ("node", "name", "meant"),
    [
        ("tracker_node", "hand_eyes", ""),
        ("tracker_node", "max_instrument", "max_instruments"),
        ("stereo_node", "hand_eyes", "hand_eye"),
        ("stereo_node", "min_confidense", "min_confidence"),
        ("replay_node", "bags", "bag"),
    ],
)
@pytest.mark.parametrize("way", ["-p", "own section", "section of any namespace"])
def test_an_unknown_parameter_is_refused_with_the_nearest_name(ros_environment, tmp_path, capfd, node, name, meant, way):
    file = tmp_path / "mine.yaml"
    section = f"/{node}" if way == "own section" else f"/**/{node}"
    file.write_text(f"{section}:\n  ros__parameters:\n    {name}: x\n")
    given = ["-p", f"{name}:=x"] if way == "-p" else ["--params-file", str(file)]
    assert MAINS[node]([node, "--ros-args", *given]) == 2
    error = capfd.readouterr().err
    assert f"{node}: {node} has no parameter '{name}'" in error
    assert f"did you mean {meant}?" in error if meant else "did you mean" not in error
    assert "Traceback" not in error


def test_what_a_file_gives_to_all_nodes_may_be_meant_for_others(ros_environment, tmp_path, capfd):
    file = tmp_path / "robot.yaml"
    file.write_text("/**:\n  ros__parameters:\n    arm: PSM1\n    weights: /nowhere\n    use_sim_time: false\n")
    assert tracker_node.main(["tracker_node", "--ros-args", "--params-file", str(file)]) == 2
    error = capfd.readouterr().err
    assert "which this node does not have: 'arm'." in error
    assert "/nowhere" in error


def test_an_integer_is_taken_for_a_double(ros_environment, tmp_path, capfd):
    file = tmp_path / "mine.yaml"
    file.write_text("/**/tracker_node:\n  ros__parameters:\n    rate_limit: 20\n    weights: /nowhere\n")
    arguments = ["tracker_node", "--ros-args", "--params-file", str(file), "-p", "expected_rate:=15"]
    assert tracker_node.main(arguments) == 2
    assert "/nowhere" in capfd.readouterr().err, "and nothing else is wrong"
    assert stereo_node.main(["stereo_node", "--ros-args", "-p", "min_confidence:=2"]) == 2
    assert "min_confidence" in capfd.readouterr().err, "its range holds"


def test_a_file_that_is_for_nodes_of_another_name_is_named(ros_environment, tmp_path, capfd):
    file = tmp_path / "other.yaml"
    file.write_text("/scope/other_node:\n  ros__parameters:\n    device: cpu\n")
    arguments = ["tracker_node", "--ros-args", "--params-file", str(file), "-p", "weights:=/nowhere"]
    assert tracker_node.main(arguments) == 2
    assert (
        f"{file} is ignored: it has no section for a node named tracker_node (its sections: /scope/other_node)"
        in capfd.readouterr().err
    )


def test_a_file_that_is_not_there_is_one_sentence(ros_environment, capfd):
    assert tracker_node.main(["tracker_node", "--ros-args", "--params-file", "/nowhere/mine.yaml"]) == 2
    error = capfd.readouterr().err
    assert "/nowhere/mine.yaml" in error
    assert "Traceback" not in error
    assert "\ntracker_node: " in error


def test_whose_parameters_a_file_holds(tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text(
        "/**:\n  ros__parameters: {a: 1, b: {c: 2}}\n"
        "/cam:\n  x_node:\n    ros__parameters: {a: 3}\n"
        "y_node:\n  ros__parameters: {d: 4}\n"
    )
    arguments = ["x_node", "--ros-args", "--params-file", str(file), "-p", "e:=1", "-p", "x_node:f:=2"]
    assert shared_names("x_node", arguments) == {"b.c", "d"}
    assert unused_files("x_node", arguments) == {}
    assert shared_names("x_node", ["x_node", "--ros-args", "--params-file", str(tmp_path / "none")]) == set()
