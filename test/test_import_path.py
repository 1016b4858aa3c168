"""Files that lie in the working directory are data: none of them is ever imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from csl_tracker import import_path
from csl_tracker.import_path import python_command, safe_environment

ROOT = Path(__file__).parents[1]
TRAPS = ("argparse", "json", "logging", "numpy", "cv2", "yaml", "torch", "safetensors", "av", "tqdm", "multiprocessing")
ROS_TRAPS = ("cv_bridge", "sensor_msgs", "vision_msgs", "foxglove_msgs", "openvino", "onnxruntime", "onnx")
RAN = "RAN FROM THE WORKING DIRECTORY"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder with modules that must not be run."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in (*TRAPS, *ROS_TRAPS):
        (folder / f"{name}.py").write_text(f"import sys\nsys.stderr.write({RAN!r})\nraise SystemExit(99)\n")
    return folder


def run(command: list[str], folder: Path, path: str = str(ROOT), **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": path, **changes}, capture_output=True, text=True, timeout=120
    )


def test_the_traps_work(trap: Path) -> None:
    assert RAN in run([sys.executable, "-c", "import yaml"], trap).stderr


@pytest.mark.parametrize("path", ["{root}", "{root}:", ":{root}"], ids=["plain", "empty entry last", "empty entry first"])
def test_a_command_imports_nothing_from_there(trap: Path, tmp_path: Path, path: str) -> None:
    script = tmp_path / "csl-tracker"  # as pip and colcon write it
    script.write_text("import sys\nfrom csl_tracker.cli.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    as_module = [sys.executable, "-m", "csl_tracker.cli.main"]
    for start in ([sys.executable, str(script)], as_module):
        if start is as_module and path.startswith(":"):
            continue  # runpy itself is then looked for there, before anything of ours
        done = run([*start, "bag", "info", "missing"], trap, path.format(root=ROOT))
        assert (RAN in done.stderr, done.returncode) == (False, 2), done.stderr
        assert "The bag missing does not exist" in done.stderr


@pytest.mark.parametrize("make", [python_command, "3.10"])
@pytest.mark.parametrize(
    ("kind", "what"),
    [("-c", "import sys, yaml; print(sys.argv[1:])"), ("-m", "csl_tracker.messages.topics"), ("-m", "folder.tool")],
)
def test_a_process_that_is_started_imports_nothing_from_there(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., list[str]] | str, kind: str, what: str
) -> None:
    package = tmp_path / "folder"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tool.py").write_text("import sys, yaml\nassert __name__ == '__main__'\nprint(sys.argv[1:])\n")
    if make == "3.10":
        monkeypatch.setattr(import_path.sys, "version_info", (3, 10, 0))
    command = python_command(kind, what, "a b", "-c")
    done = run(command, trap, f"{ROOT}:{tmp_path}")
    assert (RAN in done.stderr, done.returncode) == (False, 0), done.stderr
    assert done.stdout in ("['a b', '-c']\n", "")


def test_what_a_program_starts_follows(trap: Path) -> None:
    """As the workers of a training do that Python starts anew."""
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 starts the processes of multiprocessing with the working directory on their path")
    script = trap.parent / "tracker_node"
    script.write_text(
        "import csl_tracker, multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(int, ('7',)))\n"
    )
    done = run([sys.executable, str(script)], trap)
    assert (done.stdout, RAN in done.stderr) == ("7\n", False), done.stderr


FIND = "import logging; logging.basicConfig(level=20)\nfrom csl_tracker.node.cv_bridge import find_cv_bridge\n"


@pytest.mark.parametrize("registered", [False, True])
def test_a_cv_bridge_in_the_working_directory_is_not_run(trap: Path, tmp_path: Path, registered: bool) -> None:
    for name in TRAPS:
        (trap / f"{name}.py").unlink()
    real = tmp_path / "ros" / "lib"
    (real / "cv_bridge").mkdir(parents=True)
    (real / "cv_bridge" / "__init__.py").write_text("raise ImportError('the real one')")
    if registered:
        marker = tmp_path / "ros" / "share" / "ament_index" / "resource_index" / "packages" / "cv_bridge"
        marker.parent.mkdir(parents=True)
        marker.touch()
    found = {}
    for first in ("", "import sys; sys.path.remove('')\n"):
        command = [sys.executable, "-c", first + FIND + "print(find_cv_bridge())"]
        done = run(command, trap, f"{ROOT}:{real}", AMENT_PREFIX_PATH=str(tmp_path / "ros"))
        assert (done.stdout, RAN in done.stderr) == ("None\n", False), done.stderr
        found[first] = done.stderr
    assert all("not a package of the ROS 2" in text for text in list(found.values())[: 1 if registered else 2])
    assert ("the real one" in list(found.values())[1]) == registered


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", {"PYTHONPATH": str(ROOT)}),
        (str(ROOT), {}),
        (f":{ROOT}:/ros:", {"PYTHONPATH": f"{ROOT}:/ros"}),
        ("/ros", {"PYTHONPATH": f"/ros:{ROOT}"}),
    ],
)
def test_children_find_this_package_and_no_empty_entry(given: str, expected: dict[str, str]) -> None:
    assert safe_environment({"PYTHONPATH": given}) == {"PYTHONSAFEPATH": "1", **expected}


def test_a_library_leaves_the_path_as_it_is(trap: Path) -> None:
    for name in TRAPS:
        (trap / f"{name}.py").unlink()
    (trap / "my_helpers.py").write_text("ANSWER = 42")
    done = run([sys.executable, "-c", "import csl_tracker, my_helpers; print(my_helpers.ANSWER)"], trap)
    assert done.stdout == "42\n", done.stderr
