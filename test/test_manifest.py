"""The two package.xml against the code: what is used is declared once, and what is optional is said to be so."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from csl_tracker import __version__

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = {"csl_tracker": ROOT / "package.xml", "csl_tracker_msgs": ROOT / "csl_tracker_msgs" / "package.xml"}
OPTIONAL = {"cv_bridge", "vision_msgs", "foxglove_msgs", "rviz2", "image_proc"}
NOT_IMPORTED = {"ros2launch", "launch"}
"""What runs the launch files."""

ROS = re.compile(r"\w+_(msgs|srvs|interfaces)|rclpy|ament_index_python|launch|launch_ros|cv_bridge")


def dependencies(package: str) -> list[str]:
    root = ElementTree.parse(MANIFESTS[package]).getroot()
    return [str(entry.text) for entry in root if entry.tag.endswith("depend")]


def used() -> set[str]:
    """ROS packages that the code imports or the launch files start programs of."""
    found = set()
    for path in [path for folder in ("csl_tracker", "launch", "examples") for path in (ROOT / folder).rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
        if path.is_relative_to(ROOT / "launch"):
            found |= set(re.findall(r'get_package_prefix\("(\w+)"\)', text))
        found |= set(re.findall(r'^PACKAGE = "(\w+)"', text, re.MULTILINE))
    return {name for name in found if ROS.fullmatch(name) or name in OPTIONAL}


@pytest.mark.parametrize("package", MANIFESTS)
def test_no_package_is_declared_twice(package: str) -> None:
    assert [name for name, count in Counter(dependencies(package)).items() if count > 1] == []


@pytest.mark.parametrize("package", MANIFESTS)
def test_the_version_is_the_projects(package: str) -> None:
    assert ElementTree.parse(MANIFESTS[package]).getroot().findtext("version") == __version__


def test_what_is_used_is_declared_and_the_other_way_round() -> None:
    declared = {name for name in dependencies("csl_tracker") if not name.startswith("python3-")}
    assert declared - NOT_IMPORTED == used() - OPTIONAL - NOT_IMPORTED
    assert declared >= NOT_IMPORTED


def test_optional_packages_are_used_and_documented() -> None:
    assert used() >= OPTIONAL
    manifest, page = MANIFESTS["csl_tracker"].read_text(), (ROOT / "docs" / "install.md").read_text()
    for name in OPTIONAL:
        assert f"{name}: " in manifest, f"package.xml does not say what {name} is for"
        assert f"| `{name}` |" in page, f"docs/install.md does not say what {name} is for"
