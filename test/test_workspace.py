"""A colcon workspace from scratch, as a ROS user makes it: build, source, use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import setup_env

ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCES = (".git", ".venv", ".work", "build", "install", "log", "output", "__pycache__", "*.egg-info", ".*_cache")
BASE_PATHS = ["--base-paths", "src", "src/csl_tracker/csl_tracker_msgs"]

pytestmark = [pytest.mark.slow, pytest.mark.ros]


def run(command: list[str], workspace: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=workspace, env=dict(environment), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sourced(script: str) -> list[str]:
    return ["bash", "-c", f"source install/setup.bash && {script}"]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    distro = os.environ.get("ROS_DISTRO") or None
    return setup_env.colcon_environment(Path(sys.prefix), distro, setup_env.clean_environment(os.environ))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    for package in ("rclpy", "colcon_core"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT, folder / "src" / "csl_tracker", ignore=shutil.ignore_patterns(*NOT_SOURCES))
    models = folder / "src" / "csl_tracker" / "csl_tracker" / "models"
    models.mkdir(exist_ok=True)
    (models / "probe.safetensors").touch()
    run([sys.executable, "-m", "colcon", "build", *BASE_PATHS], folder, environment)
    return folder


def test_colcon_knows_both_packages_as_ament_packages(workspace: Path, environment: dict[str, str]) -> None:
    listing = run([sys.executable, "-m", "colcon", "list", *BASE_PATHS], workspace, environment)
    kinds = {line.split("\t")[0]: line.split("\t")[2] for line in listing.splitlines()}
    assert kinds == {"csl_tracker": "(ros.ament_python)", "csl_tracker_msgs": "(ros.ament_cmake)"}


@pytest.mark.parametrize("folder", ["launch", "config"])
def test_data_files_are_installed(workspace: Path, folder: str) -> None:
    wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.*")}
    share = workspace / "install" / "csl_tracker" / "share" / "csl_tracker"
    assert wanted
    assert {path.relative_to(share) for path in (share / folder).rglob("*.*")} == wanted


def test_the_models_are_installed_with_the_python_package(workspace: Path) -> None:
    source = workspace / "src" / "csl_tracker" / "csl_tracker" / "models"
    (folder,) = (workspace / "install" / "csl_tracker").glob("**/*-packages/csl_tracker/models")
    assert {path.name for path in folder.iterdir()} == {path.name for path in source.iterdir()}
    assert "probe.safetensors" in os.listdir(folder)


def test_the_messages_are_imported_from_the_workspace(workspace: Path, environment: dict[str, str]) -> None:
    script = (
        "import csl_tracker, csl_tracker_msgs.msg as m; from rclpy.serialization import deserialize_message, serialize_message;"
        "a = m.InstrumentPoseArray(model='x', poses=[m.InstrumentPose(landmarks=[m.Landmark(name='center')])]);"
        "assert deserialize_message(serialize_message(a), m.InstrumentPoseArray) == a;"
        "print(csl_tracker.__file__, m.__file__, sep='\\n')"
    )
    # Without the switch, so that the hook of the environment has to give way to the sourced workspace.
    plain = {name: value for name, value in environment.items() if name != "CSL_TRACKER_NO_OVERLAY"}
    output = run(sourced(f'"{sys.executable}" -c "{script}"'), workspace, plain)
    assert [Path(line).is_relative_to(workspace / "install") for line in output.splitlines()] == [True, True]


def test_the_node_runs_from_the_workspace_and_names_weights_that_are_not_there(
    workspace: Path, environment: dict[str, str]
) -> None:
    node = workspace / "install" / "csl_tracker" / "lib" / "csl_tracker" / "tracker_node"
    assert os.access(node, os.X_OK)
    command = sourced(f"'{node}' --ros-args -p weights:=/nowhere/model.safetensors")
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "/nowhere/model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_ament_index_lists_both_packages(workspace: Path, environment: dict[str, str]) -> None:
    script = "from ament_index_python import get_package_prefix as p; print(p('csl_tracker'), p('csl_tracker_msgs'))"
    output = run(sourced(f'"{sys.executable}" -c "{script}"'), workspace, environment)
    assert output.split() == [str(workspace / "install" / name) for name in ("csl_tracker", "csl_tracker_msgs")]
