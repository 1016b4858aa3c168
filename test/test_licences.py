"""docs/licences.md names what the installed wheels bundle, and nothing is claimed that the binaries contradict."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import av
import cv2
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
SITE = Path(cv2.__file__).parents[1]


def _pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+?)(?:;.*3\.11.*)?$", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _libraries(folder: str, package: str) -> dict[str, Path]:
    """Bundled libraries by their names without hash and version."""
    if metadata.version(package) != _pinned(package) or not (SITE / folder).is_dir():
        pytest.skip(f"the page is about the pinned wheel of {package} for Linux on x86-64")
    return {re.split(r"(?:-r0)?-[0-9a-f]{8}|\.so", path.name)[0]: path for path in (SITE / folder).iterdir()}


@pytest.mark.parametrize(
    ("folder", "package", "heading"),
    [("av.libs", "av", "## PyAV"), ("opencv_python_headless.libs", "opencv-python-headless", "## opencv-python-headless")],
)
def test_every_bundled_library_is_named(folder: str, package: str, heading: str) -> None:
    section = PAGE[PAGE.index(heading) :].partition("\n## ")[0] if PAGE.startswith(heading) else PAGE.split(heading)[1]
    section = section.partition("\n## ")[0]
    missing = [name for name in _libraries(folder, package) if not re.search(rf"\b{re.escape(name)}\b", section)]
    assert not missing
    assert _pinned(package) in section.partition("\n")[0]


def test_what_is_said_of_the_binaries_stands_in_them() -> None:
    ours, theirs = _libraries("av.libs", "av"), _libraries("opencv_python_headless.libs", "opencv-python-headless")
    codec = ours["libavcodec"].read_bytes()
    assert {"libx264", "libx265"} <= av.codec.codecs_available
    for words in (b"--enable-version3", b"--enable-libx264", b"--enable-libx265", b"LGPL version 3 or later", b"libx264-"):
        assert words in codec
    assert b"--enable-gpl" not in codec
    other = theirs["libavcodec"].read_bytes()
    assert b"LGPL version 2.1 or later" in other
    assert b"x264" not in other.partition(b"--prefix=")[2][:600]
    assert b"OpenSSL 1.1.1k" in theirs["libcrypto"].read_bytes()
    for name, version in (("OpenEXR", "2.3.0"), ("TIFF", "4.7.1"), ("JPEG 2000", "2.5.3"), ("Protobuf", "3.19.1")):
        assert re.search(rf"{name}:.*{re.escape(version)}", cv2.getBuildInformation()), name


def test_no_module_opens_a_video_by_opencv() -> None:
    sources = (ROOT / "csl_tracker").rglob("*.py")
    assert not [path for path in sources if re.search(r"cv2\.Video(Capture|Writer)", path.read_text(encoding="utf-8"))]
