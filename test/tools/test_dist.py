"""The wheel in an environment that has its declared requirements and nothing else: no ROS, no sources."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import numpy as np
from csl_tracker.tracker import Tracker
from csl_tracker.weights import find_weights
assert "site-packages" in sys.modules["csl_tracker"].__file__, sys.modules["csl_tracker"].__file__
result = Tracker.from_weights(find_weights(""), device="cpu").track(np.zeros((240, 320, 3), np.uint8))
assert result.label_map.shape == (240, 320)
try:
    import rclpy
except ImportError:
    print("tracked without ROS")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the tracked files, so that nothing is written into the checkout, and what `make dist` builds of it."""
    folder = tmp_path_factory.mktemp("dist")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listing:
        pytest.skip("this is no git checkout")
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def requirements_of(wheel: Path) -> set[str]:
    """Names of the distributions that the wheel needs, with what these need, as they are installed here."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        waiting = re.findall(r"^Requires-Dist: (.*)$", archive.read(name).decode(), re.MULTILINE)
    found: set[str] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name not in found:
            found.add(name)
            waiting += metadata.requires(name) or []
    return found


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """An environment with the wheel and links to its requirements."""
    wheel, _ = built
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    for name in requirements_of(wheel):
        distribution = metadata.distribution(name)
        for entry in {Path(file).parts[0] for file in distribution.files or [] if ".." not in Path(file).parts}:
            if entry != "__pycache__" and not (site_packages / entry).exists():
                os.symlink(distribution.locate_file(entry), site_packages / entry)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder


def run(environment, *command, **given):
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "OMP_NUM_THREADS", "TMPDIR")}
    program, *words = command
    done = subprocess.run(
        [str(environment / "bin" / program), *words], env=clean, capture_output=True, text=True, check=False, **given
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_tracks_a_frame_in_an_environment_without_ros(environment, tmp_path):
    assert run(environment, "python", "-c", PROGRAM, cwd=tmp_path) == "tracked without ROS\n"


def test_its_command_makes_and_reads_a_bag_without_ros(environment, tmp_path):
    cv2 = pytest.importorskip("cv2")
    numpy = pytest.importorskip("numpy")
    (tmp_path / "frames").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), numpy.full((60, 80, 3), 40 * index, numpy.uint8))
    run(environment, "csl-tracker", "bag", "make", "frames", "--out", "b.mcap", cwd=tmp_path)
    assert "/camera/image_raw" in run(environment, "csl-tracker", "bag", "info", "b.mcap", cwd=tmp_path)


def test_the_sdist_has_what_the_wheel_is_made_of(built):
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as source:
        packaged = {name for name in archive.namelist() if name.startswith("csl_tracker/")}
        names = {member.name.partition("/")[2] for member in source.getmembers()}
    assert packaged - names == set()
    tracked = subprocess.run(["git", "ls-files", "csl_tracker"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    left_out = {name for name in tracked.split("\n") if (ROOT / name).is_file()} - packaged
    assert left_out == set()
