"""Rules for the whole checkout that no single module can keep."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LARGEST_FILE = 12 * 1024 * 1024
ROS_MODULES = re.compile(
    r"rclpy|launch|launch_ros|ros2cli|ament_index_python|cv_bridge|message_filters|tf2_ros|\w+_msgs|(builtin|rcl)_interfaces"
)
CHALLENGE_DATA = re.compile(
    r"(^|/)(Video\.avi|(\w+_)?Segmentation\.avi|(\w+_)?Pose\.txt|(train|test)\d_labels\.json)$|\.avi$|\.bag$"
)


def tracked(*suffixes: str) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def calls(path: Path, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield node


def keyword(call: ast.Call, name: str) -> object:
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def test_files_are_there() -> None:
    assert len(tracked(".py")) > 20, "without files the rules below would hold by themselves"


def test_no_tracked_file_is_too_large() -> None:
    assert {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked() if path.stat().st_size > LARGEST_FILE} == {}


def test_only_the_node_imports_ros() -> None:
    core = [path for path in tracked(".py") if path.is_relative_to(ROOT / "csl_tracker")]
    outside = [path for path in core if not path.is_relative_to(ROOT / "csl_tracker" / "node")]
    found = [
        (str(path.relative_to(ROOT)), name)
        for path in outside
        for name in imports(path)
        if ROS_MODULES.fullmatch(name.split(".")[0])
    ]
    assert found == []


def test_nothing_is_unpickled() -> None:
    sources = [path for path in tracked(".py") if not path.is_relative_to(ROOT / "test") and ".ci" not in path.parts]
    for path in sources:
        assert not {"pickle", "dill", "joblib", "cloudpickle"} & {name.split(".")[0] for name in imports(path)}, path
        for call in calls(path, "torch.load"):
            assert keyword(call, "weights_only") is True, f"{path}:{call.lineno}: torch.load without weights_only=True"
        for call in calls(path, "np.load", "numpy.load"):
            assert not keyword(call, "allow_pickle"), f"{path}:{call.lineno}: numpy.load with allow_pickle"


def test_no_challenge_data_is_tracked() -> None:
    assert [str(path.relative_to(ROOT)) for path in tracked() if CHALLENGE_DATA.search(str(path.relative_to(ROOT)))] == []


def test_no_tracked_file_equals_one_of_the_private_data() -> None:
    folder = os.environ.get("CSL_TRACKER_ENDOVIS15")
    if not folder:
        pytest.skip("CSL_TRACKER_ENDOVIS15 names no private data here")
    private: dict[int, list[Path]] = {}
    for path in Path(folder).rglob("*"):
        if path.is_file() and path.stat().st_size > 0:
            private.setdefault(path.stat().st_size, []).append(path)
    for path in tracked():
        for other in private.get(path.stat().st_size, []):
            assert hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(other.read_bytes()).digest(), (path, other)


def test_no_machine_path_is_tracked() -> None:
    pattern = re.compile(re.escape(str(ROOT)) + r"\b|" + re.escape(str(Path.home())) + r"/")
    texts = tracked(".py", ".md", ".txt", ".yaml", ".json", ".toml", ".cfg", ".xml", ".msg", "")
    found = [
        path
        for path in texts
        if path != Path(__file__).resolve() and pattern.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert [str(path.relative_to(ROOT)) for path in found] == []


def test_a_second_setup_does_no_work() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}
    start = time.monotonic()
    done = subprocess.run(["make", "setup"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - start < 2.0
