import signal
import subprocess
import sys
import time

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


WORK = """
import sys, time
from csl_tracker.node.running import run

def work():
    try:
        print("at work", flush=True)  # within: the signal may come right behind it
        time.sleep(60)
    finally:
        time.sleep(1)
        print("cleaned up", flush=True)

sys.exit(run("name", work, ["program"]))
"""


def test_a_second_interrupt_does_not_break_the_clean_up(ros_environment):
    """The terminal and ``ros2 launch`` each send SIGINT to the node."""
    process = subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    output, error = process.communicate(timeout=30)
    assert (output, error, process.returncode) == ("cleaned up\n", "", 0)


def test_malformed_arguments(ros_environment, capsys):
    assert run("name", lambda: None, ["program", "--ros-args", "-p", "no assignment"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_defect_stays_a_defect(ros_environment):
    with pytest.raises(ZeroDivisionError):
        run("name", lambda: 1 // 0, ["program"])
    assert not rclpy.ok()
