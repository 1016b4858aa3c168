import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from csl_tracker.node import processes
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment

SPARE = (215, 216, 217)
"""Domains that no other test is given; their ports lie above the ephemeral ones of Linux, 32768 to 60999."""


def test_a_domain_is_given_once_while_there_are_others(monkeypatch):
    monkeypatch.setattr(processes, "_DOMAINS", list(SPARE))
    monkeypatch.setattr(processes, "_reserved", {})
    code = (
        "from csl_tracker.node import processes\n"
        f"processes._DOMAINS = {list(SPARE)}\n"
        "print(processes.free_domain_id(), flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        taken = int(other.stdout.readline())
        assert {free_domain_id(), free_domain_id()} == {*SPARE} - {taken}
        other.communicate("\n")
    for reservation in processes._reserved.values():
        reservation.close()


def test_a_domain_in_use_is_not_free(monkeypatch):
    monkeypatch.setattr(processes, "_DOMAINS", [218, 219])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * 218 + 10))
        assert {free_domain_id() for _ in range(10)} == {219}


@pytest.mark.parametrize(
    ("environ", "own_profile"),
    [
        ({}, True),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, False),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"}, False),
    ],
)
def test_the_environment_is_private_and_keeps_the_users_profile(environ, own_profile):
    made = private_environment(7, {"ROS_LOCALHOST_ONLY": "0", "HOME": "/h", **environ})
    assert (made["ROS_DOMAIN_ID"], made["ROS_AUTOMATIC_DISCOVERY_RANGE"], made["HOME"]) == ("7", "LOCALHOST", "/h")
    assert "ROS_LOCALHOST_ONLY" not in made
    assert made.get("FASTRTPS_DEFAULT_PROFILES_FILE", "").endswith("fastdds_large_shm.xml") == own_profile


@pytest.mark.parametrize(("distro", "localhost_only"), [("humble", "1"), ("jazzy", None)])
def test_on_humble_the_older_switch_keeps_to_this_machine(distro, localhost_only):
    made = private_environment(7, {"ROS_DISTRO": distro, "ROS_LOCALHOST_ONLY": "0"})
    assert made.get("ROS_LOCALHOST_ONLY") == localhost_only


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (3, "3"), (0.0, "0.0"), (1e-7, "1e-07"), ("1.5", "'1.5'"), ("it's", "'it''s'"), ([1, 2], "[1, 2]")],
)
def test_parameters_keep_their_type_on_the_command_line(value, text):
    assert processes._yaml(value) == text


SCRIPTS = {
    "polite": "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: exit(7))\nprint('up', flush=True)\ntime.sleep(60)",
    "deaf": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)",
}


@pytest.mark.parametrize(("script", "status"), [("polite", 7), ("deaf", -signal.SIGKILL)])
def test_a_process_is_stopped_at_the_end_of_its_context(tmp_path, monkeypatch, script, status):
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/script.py\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "script.py").write_text(SCRIPTS[script])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with NodeProcess("nothing", {}, log=tmp_path / "log") as process:
        end = time.monotonic() + 10
        while "up" not in process.output():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert process.poll() is None
        assert os.getsid(process.pid) != os.getsid(0), "Ctrl-C in the terminal must not reach it"
        assert process.stop(timeout_s=1.0) == status
    assert process.complaint() == "up"
