"""The set-up: what it says when something is missing, what it does again, and what it leaves alone."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import setup_env

ROOT = Path(__file__).resolve().parents[2]

HERE = {
    "version": list(sys.version_info[:3]),
    "implementation": "CPython",
    "executable": sys.executable,
    "in_venv": True,
    "venv": True,
    "rclpy": False,
    "include": sysconfig.get_path("include"),
}


def make_program(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make_python(folder: Path, name: str, **changes: Any) -> Path:
    """A program that answers the probe as an interpreter of another kind would."""
    return make_program(folder, name, f"cat <<'END'\n{json.dumps({**HERE, **changes})}\nEND")


@pytest.mark.parametrize(
    ("changes", "programs", "distro", "names"),
    [
        ({"venv": False}, ("cmake", "make", "gcc", "g++"), None, ("venv module", "apt install python3.")),
        ({}, ("make", "gcc", "g++"), None, ("cmake", "apt install cmake")),
        ({}, ("cmake", "gcc", "g++"), None, ("make", "apt install make")),
        ({}, ("cmake", "make", "g++"), None, ("a C compiler", "build-essential")),
        ({}, ("cmake", "make", "gcc"), None, ("a C++ compiler", "build-essential")),
        ({"include": "/nowhere"}, ("cmake", "make", "gcc", "g++"), None, ("/nowhere/Python.h", "-dev")),
        ({}, ("cmake", "make", "gcc", "g++"), "jazzy", ("rosidl_default_generators", "ros-jazzy-rosidl-default-generators")),
    ],
    ids=["venv", "cmake", "make", "cc", "c++", "headers", "sourced without generators"],
)
def test_what_is_missing_is_named_with_its_remedy(
    tmp_path: Path, changes: dict[str, Any], programs: tuple[str, ...], distro: str | None, names: tuple[str, ...]
) -> None:
    include = tmp_path / "include"
    include.mkdir()
    (include / "Python.h").touch()
    for name in programs:
        make_program(tmp_path / "bin", name)
    environment = {"PATH": str(tmp_path / "bin"), "AMENT_PREFIX_PATH": str(tmp_path)}
    with pytest.raises(setup_env.SetupError) as caught:
        setup_env.check_tools({**HERE, "include": str(include), **changes}, environment, distro)
    message = str(caught.value)
    assert all(name in message for name in names), message
    assert message.endswith(".")
    assert "\n" not in message


def test_a_wished_compiler_is_looked_for(tmp_path: Path) -> None:
    for name in ("cmake", "make", "gcc", "g++"):
        make_program(tmp_path, name)
    with pytest.raises(setup_env.SetupError, match=r"C\+\+ compiler \(icpx\)"):
        setup_env.check_tools(HERE, {"PATH": str(tmp_path), "CXX": "icpx -O2"}, None)


@pytest.mark.parametrize(
    ("changes", "distro", "reason"),
    [
        (None, None, "does not run"),
        ({"version": [3, 9, 2]}, None, "Python 3.9.2"),
        ({"version": [3, 15, 0]}, None, "Python 3.15.0"),
        ({"implementation": "PyPy"}, None, "PyPy"),
        ({"version": [3, 12, 3]}, "jazzy", "cannot import the rclpy of the sourced ROS 2 jazzy"),
    ],
)
def test_a_python_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any] | None, distro: str | None, reason: str
) -> None:
    path = make_program(tmp_path, "python", "exit 1") if changes is None else make_python(tmp_path, "python", **changes)
    with pytest.raises(setup_env.SetupError, match=reason) as caught:
        setup_env.choose_python(str(path), distro, {"PATH": os.environ["PATH"]})
    assert "make PYTHON=" in str(caught.value)


def test_without_a_wish_the_first_python_that_fits_is_taken(tmp_path: Path) -> None:
    make_python(tmp_path, "python3", version=[3, 8, 1])
    make_python(tmp_path, "python3.12", version=[3, 12, 3], executable="the 3.12")
    found = setup_env.choose_python(None, None, {"PATH": f"{tmp_path}:/bin"})
    assert tuple(found["version"][:2]) in setup_env.SUPPORTED


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "NewConnectionError: x: Temporary failure in name resolution\nERROR: No matching distribution found for numpy",
            "network",
        ),
        ("ERROR: No matching distribution found for ros-rclpy==7.1.6", "no wheel of ros-rclpy==7.1.6"),
        (
            "ERROR: Cannot install av==18.1.0 because these package versions have conflicting dependencies.",
            "no wheel of av==18.1.0",
        ),
        (
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.",
            "read its output",
        ),
        ("error: something else", "read its output in"),
    ],
)
def test_the_failure_of_pip_is_explained(output: str, words: str) -> None:
    message = setup_env.explain_pip(output, HERE, Path("packages.log"))
    assert words in message
    assert message.endswith(".")


def make_package(site: Path, name: str, *, installer: bool = True, record: bool = True, files: bool = True) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    if files:
        (site / f"{name}.py").touch()
    if installer:
        (info / "INSTALLER").write_text("pip\n")
    if record:
        (info / "RECORD").write_text(f"{name}.py,sha256=x,0\n__pycache__/{name}.pyc,,\n{name}-1.0.dist-info/METADATA,,\n")


def test_only_what_pip_had_not_finished_is_forgotten(tmp_path: Path) -> None:
    make_package(tmp_path, "whole")
    make_package(tmp_path, "no_record", record=False)
    make_package(tmp_path, "no_installer", installer=False)
    make_package(tmp_path, "file_missing", files=False)
    (tmp_path / "~orch").mkdir()
    removed = setup_env.forget_half_installed(tmp_path)
    assert removed == ["file_missing-1.0.dist-info", "no_installer-1.0.dist-info", "no_record-1.0.dist-info"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["whole-1.0.dist-info"]


def test_cmake_files_get_the_paths_of_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "some_msgs" / "cmake"
    folder.mkdir(parents=True)
    original = (
        'DIRECTORIES "/opt/python/cp312-cp312/include/python3.12;'
        '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include" "/opt/other"\n'
    )
    (folder / "targets.cmake").write_text(original)
    (folder / "clean.cmake").write_text('set(x "/usr/include")\n')
    assert setup_env.repair_cmake(tmp_path, "/usr/include/python3.12", "/np\\1/include") == 1
    assert (folder / "targets.cmake").read_text() == 'DIRECTORIES "/usr/include/python3.12;/np\\1/include" "/opt/other"\n'
    assert setup_env.repair_cmake(tmp_path, "/usr/include/python3.12", "/np\\1/include") == 0


def test_the_environment_is_cleared_of_another_virtual_environment() -> None:
    environ = {
        "PATH": "/bin",
        "ROS_DISTRO": "",
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        "_CSL_TRACKER_OVERLAY": "/other/install:/other/.venv",
        "VIRTUAL_ENV": "/other/.venv",
        "AMENT_PREFIX_PATH": "/other/install/csl_tracker:/opt/ros/jazzy",
        "LD_LIBRARY_PATH": "/third/lib/python3.11/site-packages/ros_rcl.libs:/third/lib:/other/.venv/lib:/opt/mine",
    }
    clean = setup_env.clean_environment(environ)
    assert clean["AMENT_PREFIX_PATH"] == "/opt/ros/jazzy"
    assert clean["LD_LIBRARY_PATH"] == "/opt/mine"
    assert clean["CSL_TRACKER_NO_OVERLAY"] == "1"
    assert not {"VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "_CSL_TRACKER_OVERLAY"} & set(clean)


def test_a_stamp_depends_on_every_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    both = [tmp_path / "a.txt", tmp_path / "b.txt"]
    base = setup_env.digest(tmp_path, both, "jazzy")
    assert base == setup_env.digest(tmp_path, both[::-1], "jazzy")
    assert base != setup_env.digest(tmp_path, both, None)
    assert base != setup_env.digest(tmp_path, both[:1], "jazzy")
    (tmp_path / "b.txt").write_text("three")
    assert base != setup_env.digest(tmp_path, both, "jazzy")


@pytest.mark.parametrize("state", ["no pip", "not an environment", "no interpreter", "system packages"])
def test_a_broken_environment_does_not_fit(tmp_path: Path, state: str) -> None:
    venv = tmp_path / ".venv"
    if state == "not an environment":
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)
    else:
        options = ["--system-site-packages"] if state == "system packages" else []
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", *options, str(venv)], check=True)
    if state == "no interpreter":
        (venv / "bin" / "python").unlink()
    environment = setup_env.clean_environment(os.environ)
    assert not setup_env.environment_fits(venv, None, None, environment)


def run_copy(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the set-up that lies in an otherwise empty project."""
    (root / "tools").mkdir(parents=True, exist_ok=True)
    for name in ("setup_env.py", "overlay_hook.py"):
        (root / "tools" / name).write_bytes((ROOT / "tools" / name).read_bytes())
    for name in ("setup.py", "setup.cfg", "package.xml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / "requirements").mkdir(exist_ok=True)
    for name in (*setup_env.REQUIREMENTS, setup_env.CONSTRAINTS, setup_env.WHEELS):
        (root / "requirements" / f"{name}.txt").write_text("")
    return subprocess.run(
        [sys.executable, str(root / "tools" / "setup_env.py")],
        env={**setup_env.clean_environment(os.environ), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_exit_code_is_2_and_nothing_is_made_when_a_tool_is_missing(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(os.path.realpath(sys.executable))
    done = run_copy(tmp_path / "project", PATH=str(programs))
    assert done.returncode == setup_env.EXIT_USER_ERROR
    assert done.stderr.startswith("setup: cmake")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "project" / ".venv").exists()


def test_the_requirements_and_the_package_agree() -> None:
    """What setup.py asks for is pinned in requirements/, so that both ways of installing bring the same."""
    pinned = {
        re.split(r"[=<>\[;]", line)[0].strip().lower()
        for name in ("build", "runtime", "train", "render", "dev")
        for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    text = (ROOT / "setup.py").read_text()
    blocks = re.findall(r"(?:install_requires=|\"\w+\": )\[(.*?)\]", text, re.DOTALL)
    asked = {re.split(r"[=<>]", item)[0].lower() for block in blocks for item in re.findall(r'"([^"]+)"', block)}
    asked -= {"py.typed", "models/*.safetensors", "models/*.md"}
    asked = {name for name in asked if not name.endswith(" ")}  # entry points
    assert len(asked) > 15
    assert asked - pinned == set()
