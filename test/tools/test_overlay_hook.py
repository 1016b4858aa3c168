"""The hook that shows the virtual environment what colcon built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import overlay_hook
import pytest

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def make_overlay(root: Path) -> Path:
    for name in overlay_hook.PACKAGES:
        index = root / name / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True)
        (index / name).touch()
        (root / name / "lib" / PYTHON / "site-packages").mkdir(parents=True)
    return root


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return make_overlay(tmp_path / "install")


@pytest.fixture
def venv(tmp_path: Path) -> tuple[str, str]:
    site = tmp_path / "venv" / "lib" / PYTHON / "site-packages"
    (site / "ros_rcl.libs").mkdir(parents=True)
    return str(tmp_path / "venv"), str(site)


def test_prefixes_libraries_and_modules_are_added(overlay: Path, venv: tuple[str, str]) -> None:
    changes, modules = overlay_hook.overlay_environment(str(overlay), {"LD_LIBRARY_PATH": "/opt/mine"}, *venv, PYTHON)
    prefix, site = venv
    assert changes["AMENT_PREFIX_PATH"].split(":") == [f"{overlay}/csl_tracker", f"{overlay}/csl_tracker_msgs", prefix]
    assert changes["LD_LIBRARY_PATH"].split(":") == [
        f"{overlay}/csl_tracker/lib",
        f"{overlay}/csl_tracker_msgs/lib",
        f"{prefix}/lib",
        f"{site}/ros_rcl.libs",
        "/opt/mine",
    ]
    assert modules == [f"{overlay}/csl_tracker_msgs/lib/{PYTHON}/site-packages"]


def test_nothing_changes_the_second_time(overlay: Path, venv: tuple[str, str]) -> None:
    changes, _ = overlay_hook.overlay_environment(str(overlay), {}, *venv, PYTHON)
    again, _ = overlay_hook.overlay_environment(str(overlay), changes, *venv, PYTHON)
    assert again == {}


def test_without_wheels_the_sourced_ros_is_left_as_it_is(overlay: Path, tmp_path: Path) -> None:
    sourced = {"AMENT_PREFIX_PATH": "/opt/ros/jazzy", "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib"}
    changes, _ = overlay_hook.overlay_environment(str(overlay), sourced, str(tmp_path), str(tmp_path / "site"), PYTHON)
    assert changes["AMENT_PREFIX_PATH"] == f"{overlay}/csl_tracker:{overlay}/csl_tracker_msgs:/opt/ros/jazzy"
    assert changes["LD_LIBRARY_PATH"] == f"{overlay}/csl_tracker/lib:{overlay}/csl_tracker_msgs/lib:/opt/ros/jazzy/lib"


def test_a_workspace_that_the_user_has_sourced_wins(overlay: Path, venv: tuple[str, str], tmp_path: Path) -> None:
    other = make_overlay(tmp_path / "workspace")
    sourced = {"AMENT_PREFIX_PATH": f"{other}/csl_tracker:{other}/csl_tracker_msgs"}
    changes, modules = overlay_hook.overlay_environment(str(overlay), sourced, *venv, PYTHON)
    assert str(overlay) not in changes["AMENT_PREFIX_PATH"]
    assert str(overlay) not in changes["LD_LIBRARY_PATH"]
    assert modules == []


def test_what_the_hook_of_another_environment_set_is_taken_out(overlay: Path, venv: tuple[str, str], tmp_path: Path) -> None:
    other = make_overlay(tmp_path / "other" / "install")
    inherited, _ = overlay_hook.overlay_environment(str(other), {}, str(tmp_path / "other" / ".venv"), venv[1], PYTHON)
    inherited["LD_LIBRARY_PATH"] += ":/opt/mine"
    changes, modules = overlay_hook.overlay_environment(str(overlay), inherited, *venv, PYTHON)
    assert "/other/" not in changes["AMENT_PREFIX_PATH"] + changes["LD_LIBRARY_PATH"]
    assert changes["LD_LIBRARY_PATH"].endswith(":/opt/mine")
    assert len(modules) == 1


@pytest.mark.parametrize("broken", [{}, {"AMENT_PREFIX_PATH": "", "LD_LIBRARY_PATH": ":"}])
def test_an_overlay_that_was_not_built_adds_nothing(tmp_path: Path, broken: dict[str, str]) -> None:
    changes, modules = overlay_hook.overlay_environment(str(tmp_path / "none"), broken, str(tmp_path), str(tmp_path), PYTHON)
    assert changes.get("AMENT_PREFIX_PATH", "") == ""
    assert changes.get("LD_LIBRARY_PATH", "") == ""
    assert modules == []


SCRIPT = """
import os, sys
sys.path.insert(0, {tools!r})
import overlay_hook
overlay_hook.activate({overlay!r})
print(os.getpid(), os.environ.get("LD_LIBRARY_PATH", ""), sys.argv[1:], sep="|")
"""


@pytest.mark.parametrize("switched_off", [False, True])
def test_activate_restarts_python_once_and_keeps_its_arguments(overlay: Path, switched_off: bool) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", overlay_hook.SWITCH_OFF)
    }
    environment = {name: value for name, value in environment.items() if not name.startswith("_CSL_TRACKER")}
    environment["AMENT_PREFIX_PATH"] = ""
    if switched_off:
        environment[overlay_hook.SWITCH_OFF] = "1"
    script = SCRIPT.format(tools=str(Path(overlay_hook.__file__).parent), overlay=str(overlay))
    # -S: without the environment's own hook
    command = [sys.executable, "-S", "-c", script, "a b", "c"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=30)
    pid, libraries, arguments = output.strip().split("|")
    assert process.returncode == 0
    assert int(pid) == process.pid
    assert (f"{overlay}/csl_tracker_msgs/lib" in libraries) is not switched_off
    assert arguments == "['a b', 'c']"
