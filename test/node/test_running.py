import os
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
        (raising(KeyboardInterrupt()), 0, ""),
        (raising(ExternalShutdownException()), 0, ""),
        (use_after_shutdown, 0, ""),
        (raising(ConfigError("The rate is -1; give 0 or more.")), 2, "name: The rate is -1; give 0 or more.\n"),
        (raising(InvalidParameterTypeException(Parameter("rate", value="fast"), "double")), 2, "name: "),
    ],
)
def test_how_a_process_ends(ros_environment, capsys, work, status, words):
    assert run("name", work, ["program"]) == status
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["-m", "csl_tracker.node.start", "tracker_node"], 0),
        (["-m", "csl_tracker.node.start", "stereo_node"], 0),
        (["-m", "csl_tracker.node.tracker_node"], 0),
        (["-m", "csl_tracker.node.replay_node"], 0),
        (["-m", "csl_tracker.cli.start", "info"], 130),
    ],
)
def test_a_signal_while_python_imports_ends_it_without_a_word(ros_environment, tmp_path, command, status, number):
    """The first module that takes time tells that it is being imported, and then takes very long."""
    slow = "import sys, time; print('importing', flush=True); time.sleep(60)"
    for name in ("numpy", "argparse"):
        (tmp_path / f"{name}.py").write_text(slow)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert (output, error, process.returncode) == ("", "", status)


CALLBACKS = """
import sys
from rclpy.node import Node
import rclpy
from csl_tracker.node.running import run, spin

def work():
    node = Node("clumsy")
    calls = []
    def fall():
        calls.append(1)
        if len(calls) == 3:
            print("went on", flush=True)
            rclpy.shutdown()
        raise ValueError("out of a callback")
    node.create_timer(0.01, fall)
    spin(node)

sys.exit(run("name", work, ["program"]))
"""


def test_an_error_in_a_callback_is_logged_and_the_node_lives(ros_environment):
    done = subprocess.run([sys.executable, "-c", CALLBACKS], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("went on\n", 0)
    assert done.stderr.count("A callback failed (ValueError: out of a callback); the node goes on.") == 2
    assert "Traceback" not in done.stderr


STUCK = """
import sys, threading, time
from csl_tracker.node.running import leave_stuck_threads, run

def work():
    threading.Thread(target=time.sleep, args=(600,)).start()
    leave_stuck_threads()

sys.exit(run("name", work, ["program"]))
"""


def test_a_thread_that_does_not_end_does_not_keep_the_process(ros_environment):
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_malformed_arguments(ros_environment, capsys):
    assert run("name", lambda: None, ["program", "--ros-args", "-p", "no assignment"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_defect_stays_a_defect(ros_environment):
    with pytest.raises(ZeroDivisionError):
        run("name", lambda: 1 // 0, ["program"])
    assert not rclpy.ok()
