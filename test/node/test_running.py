import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter

from csl_tracker.errors import ConfigError
from csl_tracker.node.running import run

pytestmark = pytest.mark.ros


def raising(error):
    def work():
        raise error

    return work


def use_after_shutdown():
    rclpy.shutdown()
    rclpy.create_node("late")


@pytest.mark.parametrize(
    ("work", "status", "words"),
    [
        (lambda: None, 0, ""),
        (raising(KeyboardInterrupt()), 130, ""),
        (raising(ExternalShutdownException()), 130, ""),
        (use_after_shutdown, 130, ""),
        (raising(ConfigError("The rate is -1; give 0 or more.")), 2, "name: The rate is -1; give 0 or more.\n"),
        (raising(InvalidParameterTypeException(Parameter("rate", value="fast"), "double")), 2, "name: "),
    ],
)
def test_how_a_process_ends(ros_environment, capsys, work, status, words):
    assert run("name", work, ["program"], interrupted=130) == status
    error = capsys.readouterr().err
    assert error.startswith(words)
    assert error.count("\n") == (1 if words else 0)
    assert not rclpy.ok()


def test_malformed_arguments(ros_environment, capsys):
    assert run("name", lambda: None, ["program", "--ros-args", "-p", "no assignment"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_defect_stays_a_defect(ros_environment):
    with pytest.raises(ZeroDivisionError):
        run("name", lambda: 1 // 0, ["program"])
    assert not rclpy.ok()
