"""A colcon workspace from scratch, as a ROS user makes it: build, source, use; and the package without ROS."""

from __future__ import annotations

import os
import runpy
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
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the repository in ``src``, and nothing built."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT, folder / "src" / "csl_tracker", ignore=shutil.ignore_patterns(*NOT_SOURCES))
    models = folder / "src" / "csl_tracker" / "csl_tracker" / "models"
    models.mkdir(exist_ok=True)
    (models / "probe.safetensors").touch()
    return folder


@pytest.fixture(scope="module")
def workspace(cloned: Path, environment: dict[str, str]) -> Path:
    """The workspace built by a plain ``colcon build``, with the link to the messages that the README makes."""
    for package in ("rclpy", "colcon_core"):
        pytest.importorskip(package)
    (cloned / "src" / "csl_tracker_msgs").symlink_to("csl_tracker/csl_tracker_msgs")
    run([sys.executable, "-m", "colcon", "build"], cloned, environment)
    return cloned


@pytest.mark.parametrize("option", ["--merge-install", "--symlink-install"])
def test_a_build_without_the_messages_fails_with_the_command_that_builds_them(
    cloned: Path, environment: dict[str, str], option: str
) -> None:
    for package in ("rclpy", "colcon_core"):
        pytest.importorskip(package)
    # On bases of its own, and of this package alone, as colcon finds it without the link.
    bases = [f"{word}={cloned / option.strip('-')}/{word[2:9].strip('-')}" for word in ("--install-base", "--build-base")]
    command = [sys.executable, "-m", "colcon", "build", "--paths", "src/csl_tracker", option, *bases]
    done = subprocess.run(command, cwd=cloned, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("csl_tracker: ")]
    assert len(said) == 1, done.stderr
    assert "its messages, csl_tracker_msgs, are not built" in said[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "prefix", "command", "workspace"),
    [
        ("ws/src/csl_tracker", "ws/install/csl_tracker", "src src/csl_tracker/csl_tracker_msgs", "ws"),
        ("ws/src/csl_tracker", "ws/install", "src src/csl_tracker/csl_tracker_msgs", "ws"),
        ("ws/src/lab/tracker", "ws/install/csl_tracker", "src src/lab/tracker/csl_tracker_msgs", "ws"),
        ("ws/csl_tracker", "ws/install/csl_tracker", ". csl_tracker/csl_tracker_msgs", "ws"),
        ("csl_tracker", "csl_tracker/install/csl_tracker", ". csl_tracker_msgs", "csl_tracker"),
        ("code/csl_tracker", "ws/install/csl_tracker", "ROOT/code/csl_tracker ROOT/code/csl_tracker/csl_tracker_msgs", "ws"),
    ],
)
def test_the_command_fits_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, prefix: str, command: str, workspace: str
) -> None:
    code = tmp_path / source
    (code / "csl_tracker").mkdir(parents=True)
    shutil.copy(ROOT / "setup.py", code)
    shutil.copy(ROOT / "csl_tracker" / "__init__.py", code / "csl_tracker")
    monkeypatch.setattr("setuptools.setup", lambda **arguments: None)
    monkeypatch.syspath_prepend(tmp_path / "colcon_distutils_commands")  # what colcon has there
    monkeypatch.setattr(sys, "argv", ["setup.py", "install", "--prefix", str(tmp_path / prefix)])
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/nowhere")
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(code / "setup.py"))
    sentence = str(caught.value)
    wanted = f"run 'colcon build --base-paths {command.replace('ROOT', str(tmp_path))}' in {tmp_path / workspace}"
    assert wanted in sentence
    assert ("ln -s" in sentence) == (source not in ("csl_tracker", "code/csl_tracker"))

    isolated = prefix.endswith("/csl_tracker")
    built = (tmp_path / prefix).parent / "csl_tracker_msgs" if isolated else tmp_path / prefix
    (built / "share" / "csl_tracker_msgs").mkdir(parents=True)
    (built / "share" / "csl_tracker_msgs" / "package.xml").touch()
    runpy.run_path(str(code / "setup.py"))  # messages that were built before are found


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["install", "--prefix", "/x/csl_tracker"], "elsewhere"),
        (["--help", "develop"], "colcon_distutils_commands"),
        (["develop", "--uninstall"], "colcon_distutils_commands"),
        (["egg_info"], "colcon_distutils_commands"),
    ],
)
def test_what_is_no_build_of_colcon_needs_no_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], folder: str
) -> None:
    done = []
    monkeypatch.setattr("setuptools.setup", lambda **arguments: done.append(arguments["name"]))
    monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.setattr(sys, "argv", ["setup.py", *arguments])
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    runpy.run_path(str(ROOT / "setup.py"))
    assert done == ["csl_tracker"]


def test_pip_installs_the_package_without_ros(cloned: Path, tmp_path: Path) -> None:
    given = {name: value for name, value in setup_env.clean_environment(os.environ).items() if not name.startswith("AMENT")}
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    run([*pip, str(tmp_path), str(cloned / "src" / "csl_tracker")], cloned, given)
    assert (tmp_path / "csl_tracker" / "cli" / "main.py").exists()
    assert os.access(tmp_path / "bin" / "csl-tracker", os.X_OK)


def test_csl_tracker_is_on_the_path_of_a_sourced_workspace(workspace: Path, environment: dict[str, str]) -> None:
    output = run(sourced("which csl-tracker && csl-tracker --version"), workspace, environment)
    command, version = output.splitlines()
    assert Path(command).is_relative_to(workspace / "install")
    assert version.startswith("csl-tracker ")


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
