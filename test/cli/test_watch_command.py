from __future__ import annotations

import sys

import pytest

from csl_tracker.cli.main import main


@pytest.mark.parametrize("missing", ["rclpy", "csl_tracker_msgs.msg", "diagnostic_msgs.msg"])
def test_without_ros_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.delitem(sys.modules, "csl_tracker.node.watcher", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["watch", "--once"]) == 2
    error = capsys.readouterr().err
    assert f"Watching needs ROS 2, and {missing} cannot be imported: source a ROS 2" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--lines", "0"], "--lines is 0; give 1 or more."), (["--timeout", "-1"], "--timeout is -1; give some seconds.")],
)
def test_a_mistake_is_named_before_ros_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["watch", *arguments]) == 2
    assert capsys.readouterr().err == f"csl-tracker: {words}\n"
