"""The Fast DDS profile: when it is used, and that it makes the shared-memory segment grow."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from csl_tracker.node.fastdds import PROFILE_NAME, PROFILE_VARIABLES, SEGMENT_BYTES, find_profile, large_image_environment
from csl_tracker.node.processes import private_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "environ",
    [
        {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"},
    ],
)
def test_a_choice_of_the_user_is_left_alone(environ: dict[str, str], tmp_path: Path) -> None:
    assert large_image_environment(environ, tmp_path) == {}


@pytest.mark.parametrize("name", ["DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml"])
def test_a_profile_in_the_working_directory_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("<dds/>")
    assert large_image_environment({}, tmp_path) == {}


@pytest.mark.parametrize("environ", [{}, {"RMW_IMPLEMENTATION": ""}, {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}])
def test_both_names_are_set(environ: dict[str, str], tmp_path: Path) -> None:
    path = str(ROOT / "config" / PROFILE_NAME)
    assert large_image_environment(environ, tmp_path) == dict.fromkeys(PROFILE_VARIABLES, path)


def test_the_profile_names_the_size(tmp_path: Path) -> None:
    profile = find_profile({})
    assert profile is not None
    sizes = [element.text for element in ElementTree.parse(profile).iter() if element.tag.endswith("segment_size")]
    assert sizes == [str(SEGMENT_BYTES)]


SEGMENTS = """
import os, rclpy
from pathlib import Path
before = set(Path("/dev/shm").glob("fastrtps_*"))
rclpy.init(args=[])
node = rclpy.create_node("segment")
publisher = node.create_publisher(__import__("std_msgs.msg").msg.Header, "x", 1)
mine = {}
for line in Path("/proc/self/maps").read_text().splitlines():
    name = line.split()[-1]
    if name.startswith("/dev/shm/fastrtps_") and not name.endswith("_el"):
        mine[name] = os.stat(name).st_size
print(max(mine.values(), default=0))
node.destroy_node()
rclpy.shutdown()
"""


@pytest.mark.ros
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no shared memory here")
@pytest.mark.skipif(
    not os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"), reason="another RMW is chosen"
)
@pytest.mark.parametrize("profile", [False, True])
def test_the_segment_really_grows(profile: bool) -> None:
    pytest.importorskip("rclpy")
    environ = {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}
    environ = private_environment(101, environ)
    if not profile:
        environ = {name: value for name, value in environ.items() if name not in PROFILE_VARIABLES}
    done = subprocess.run([sys.executable, "-c", SEGMENTS], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    size = int(done.stdout.splitlines()[-1])
    assert size > 0, "no segment was found"
    assert (size >= SEGMENT_BYTES) is profile


def test_the_file_of_parameters_holds_the_defaults_of_the_node() -> None:
    from csl_tracker.node.tracker_parameters import PARAMETERS

    given = yaml.safe_load((ROOT / "config" / "tracker.yaml").read_text())["/**/tracker_node"]["ros__parameters"]
    assert given == {name: parameter.default for name, parameter in PARAMETERS.items()}
