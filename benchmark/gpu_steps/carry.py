"""Makes the folder that ``benchmark/gpu.py --wheels`` takes: ROS 2 from its wheels, and csl_tracker_msgs, for this Python.

    python benchmark/gpu_steps/carry.py FOLDER

The Python that runs it has to be of the version that the machine with the GPU has, in a virtual environment with
``requirements/build.txt``, ``requirements/ros_wheels.txt`` and rosbags; it needs a compiler. The head of benchmark/gpu.py has
the commands. FOLDER gets one archive: the files that the wheels have installed, each content once, without what only a build
needs and what that machine has already (numpy, PyYAML).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = "csl_tracker_msgs"
NOT_CARRIED = ("numpy", "pyyaml", "setuptools", "empy", "lark-parser")
"""On every machine that has torch, or needed to build messages alone."""
_RUN_TIME = re.compile(r"^# Run time.*?\n(.*?)^# To build", re.MULTILINE | re.DOTALL)
_BUILD_ALONE = re.compile(
    r"^(include|bin)/|/cmake/|\.(pyc|cmake|h|hpp|hxx|idl|msg|srv|action|json|em|in|a)$|\.dist-info/RECORD$"
)


def archive_name(version: tuple[int, int]) -> str:
    """Of the archive for a version of Python."""
    return f"ros_python{version[0]}.{version[1]}.tar.xz"


def wanted(root: Path = ROOT) -> list[str]:
    """The node's requirements that are ROS's, and rosbags, from which the images are played."""
    section = _RUN_TIME.search((root / "requirements" / "ros_wheels.txt").read_text(encoding="utf-8"))
    assert section is not None
    return [*(line for line in section[1].splitlines() if not line.startswith("#")), "rosbags"]


def closure(requirements: Sequence[str]) -> list[metadata.Distribution]:
    """All that these need, as it is installed here, without what is not carried."""
    from packaging.requirements import Requirement

    todo, seen = [Requirement(text) for text in requirements], set()
    found: dict[str, metadata.Distribution] = {}
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        key = (name, tuple(sorted(requirement.extras)))
        if key in seen or name in NOT_CARRIED:
            continue
        seen.add(key)
        found[name] = metadata.distribution(name)
        for text in found[name].requires or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                todo.append(inner)
    return [found[name] for name in sorted(found)]


def build_messages(folder: Path) -> Path:
    """Build csl_tracker_msgs with colcon below a folder; where it is installed."""
    import sysconfig

    import numpy

    sys.path.insert(0, str(ROOT / "tools"))
    import setup_env

    venv = Path(sys.prefix)
    setup_env.repair_cmake(venv, sysconfig.get_path("include"), numpy.get_include())
    command = [sys.executable, "-m", "colcon", "--log-base", f"{folder}/log", "build", "--paths", str(ROOT / MESSAGES)]
    command += ["--build-base", f"{folder}/build", "--install-base", f"{folder}/install", "--cmake-args"]
    command += ["-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release", "-Wno-dev"]
    command += [f"-DPython3_EXECUTABLE={sys.executable}", "-DPython3_FIND_VIRTUALENV=ONLY"]
    subprocess.run(command, env=setup_env.colcon_environment(venv, None, os.environ), check=True)
    return folder / "install" / MESSAGES


def files(distributions: Sequence[metadata.Distribution], messages: Path) -> Iterator[tuple[Path, str]]:
    """Every file that is carried, and its name in the archive."""
    prefix = Path(sys.prefix).resolve()
    for distribution in distributions:
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file))).resolve()
            if path.is_file() and path.is_relative_to(prefix):
                yield path, path.relative_to(prefix).as_posix()
    for path in sorted(messages.rglob("*")):
        if path.is_file():
            yield path, f"{MESSAGES}/{path.relative_to(messages).as_posix()}"


def pack(archive: Path, found: Iterator[tuple[Path, str]]) -> None:
    """Write the archive; a file whose content is in it already becomes a link."""
    first: dict[str, str] = {}
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path, name in found:
            if _BUILD_ALONE.search(name):
                continue
            entry = tar.gettarinfo(path, name)
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            entry.type = tarfile.REGTYPE
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in first:
                entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first[digest], 0
                tar.addfile(entry)
                continue
            first[digest] = name
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)


def main() -> int:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder: Path = parser.parse_args().folder.resolve()
    distributions = closure(wanted())
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / archive_name((sys.version_info[0], sys.version_info[1]))
    with tempfile.TemporaryDirectory() as temporary:
        pack(archive, files(distributions, build_messages(Path(temporary))))
    print(f"{archive}: {len(distributions)} packages and {MESSAGES}, {archive.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
