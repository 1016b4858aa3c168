"""A node that lacks something says what, and how it is mended."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from csl_tracker.node import missing
from csl_tracker.node.start import NODES

# A Python in which one package cannot be imported, and that runs a node as ``python -m`` does.
WITHOUT = """
import runpy, sys
sys.modules[sys.argv[1]] = None
sys.argv = sys.argv[2:]
runpy.run_module("csl_tracker.node." + sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("csl_tracker_msgs", "run 'colcon build --base-paths src src/csl_tracker/csl_tracker_msgs' in your workspace"),
        ("rclpy", "source the setup.bash of a ROS 2"),
    ],
)
def test_a_node_without_ros_or_messages_ends_with_a_sentence(node: str, package: str, words: str) -> None:
    if package == "csl_tracker_msgs":
        pytest.importorskip("rclpy")
    command = [sys.executable, "-c", WITHOUT, package, node, "--ros-args", "-p", "bag:=x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{node}: ")
    assert done.stderr.count("\n") == 1
    assert package in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("csl_tracker_msgs.msg", "No module named 'csl_tracker_msgs.msg'", "colcon build --base-paths src"),
        ("diagnostic_msgs", "No module named 'diagnostic_msgs'", "ROS 2's package diagnostic_msgs"),
        ("rclpy._rclpy_pybind11", "libpython3.12.so.1.0: no such file\nThe C extension", "libpython3.12.so.1.0: no such file"),
        ("torch", "No module named 'torch'", "install it with 'pip install "),
        (None, "libGL.so.1: cannot open shared object file", "libGL.so.1"),
    ],
)
def test_the_remedy_fits_what_is_missing(name: str | None, text: str, words: str) -> None:
    sentence = missing.explain(ImportError(text, name=name))
    assert words in sentence
    assert "\n" not in sentence


def test_messages_of_another_python_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(package: str) -> None:
        raise RuntimeError(f"Could not import 'rosidl_typesupport_c' for package '{package}'")

    for name in ("rclpy", "csl_tracker_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "rosidl_generator_py", SimpleNamespace(import_type_support=fail))  # type: ignore[arg-type]
    with pytest.raises(missing.MissingPackageError, match=r"cannot be loaded by Python 3\.\d+ \(Could not import"):
        missing.demand_ros()


@pytest.mark.ros
def test_with_ros_and_messages_a_node_is_imported() -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("csl_tracker_msgs")
    assert callable(missing.import_node("replay_node").main)
