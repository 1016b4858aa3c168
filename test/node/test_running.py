import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter

from csl_tracker.cli.main import main as command
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


BETWEEN = """
import sys, time
from csl_tracker.node import missing, start

class Node:
    def main():
        print("imported", flush=True)
        time.sleep(60)

missing.import_node = lambda name: Node
sys.exit(start.start("tracker_node"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_the_imports_and_ros_ends_a_node_without_a_word(ros_environment, number):
    process = subprocess.Popen([sys.executable, "-c", BETWEEN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "imported\n"
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert (output, error, process.returncode) == ("", "", 0)


ENDING = """
import atexit, sys, time
from csl_tracker.node import missing, start

class Node:
    def main():
        return 2

@atexit.register
def end():
    print("ending", flush=True)
    time.sleep(1)

missing.import_node = lambda name: Node
sys.exit(start.start("tracker_node"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_ends_keeps_the_status(ros_environment, number):
    process = subprocess.Popen([sys.executable, "-c", ENDING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert (output, error, process.returncode) == ("", "", 2)


FIRST_LINES = """
import sys
from csl_tracker.{module} import start
from csl_tracker.{module}.start import end_quietly_on_signals as install

def install_and_tell(*given):
    taken = install(*given)
    print("begun", flush=True)
    return taken

start.end_quietly_on_signals = install_and_tell
sys.exit(start.{function}())
"""
MOMENTS_S = (0.0, 0.1, 0.3, 0.6, 1.2)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """A bag of a few small frames, in a folder that has them as images, too."""
    folder = tmp_path_factory.mktemp("input")
    (folder / "frames").mkdir()
    for index in range(200):
        cv2.imwrite(str(folder / "frames" / f"{index:03d}.png"), np.full((48, 64, 3), index, np.uint8))
    assert command(["bag", "make", str(folder / "frames"), "--out", str(folder / "bag.mcap")]) == 0
    return folder / "bag.mcap"


@pytest.mark.parametrize(
    ("module", "function", "arguments", "status"),
    [
        ("node", "tracker_node", ["--ros-args", "-p", "device:=cpu", "-p", "warm_up_width:=0"], 0),
        ("node", "stereo_node", [], 0),
        ("node", "replay_node", ["--ros-args", "-p", "bag:=INPUT/bag.mcap", "-p", "loop:=true"], 0),
        ("cli", "main", ["replay", "INPUT/bag.mcap", "--out", "OUT.mcap"], 130),
        ("cli", "main", ["track", "INPUT/frames", "--output", "OUT"], 130),
    ],
)
def test_a_signal_at_any_moment_of_the_start_ends_it_without_a_traceback(
    ros_environment, tmp_path, bag, module, function, arguments, status
):
    """Repeated signals, too: ``ros2 launch`` and the terminal each send one."""
    code = FIRST_LINES.format(module=module, function=function)
    for index, moment_s in enumerate(MOMENTS_S):
        given = [word.replace("INPUT", str(bag.parent)).replace("OUT", str(tmp_path / str(index))) for word in arguments]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "begun\n"
        time.sleep(moment_s)
        for _ in range(1 + index % 3):
            process.send_signal((signal.SIGINT, signal.SIGTERM)[index % 2])
            time.sleep(0.02)
        _, error = process.communicate(timeout=60)
        assert process.returncode == status, f"after {moment_s} s: {error}"
        assert "Traceback" not in error, f"after {moment_s} s: {error}"
        assert "Exception ignored" not in error, f"after {moment_s} s: {error}"


IN_A_FINALISER = """
import sys, time
from csl_tracker.cli import main, start

class Slow:
    def __del__(self):
        print("in a finaliser", flush=True)
        time.sleep(60)

def work(begin):
    begin()
    slow = Slow()
    del slow
    time.sleep(60)
    return 0

main.main = work
sys.exit(start.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_finaliser_is_not_lost(number):
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_FINALISER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in a finaliser\n"
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert (output, error, process.returncode) == ("", "", 130)


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
    assert done.stderr.count("A callback failed (ValueError: out of a callback); the node continues.") == 2
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
