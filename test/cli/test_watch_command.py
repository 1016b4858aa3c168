from __future__ import annotations

import sys

import pytest

from csl_tracker.cli.main import main


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("rclpy", "source the setup.bash of a ROS 2"),
        ("csl_tracker_msgs.msg", "run 'colcon build --base-paths src src/csl_tracker/csl_tracker_msgs'"),
        ("diagnostic_msgs.msg", "source the setup.bash of a ROS 2"),
    ],
)
def test_without_ros_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str, words: str
) -> None:
    if missing != "rclpy":
        pytest.importorskip("rclpy")
    monkeypatch.delitem(sys.modules, "csl_tracker.node.watcher", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["watch", "--once"]) == 2
    error = capsys.readouterr().err
    assert missing.partition(".")[0] in error
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lines", "0"], "--lines is 0; give 1 or more."),
        (["--timeout", "-1"], "--timeout is -1; give a positive number of seconds."),
    ],
)
def test_a_mistake_is_named_before_ros_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["watch", *arguments]) == 2
    assert capsys.readouterr().err == f"csl-tracker: {words}\n"
