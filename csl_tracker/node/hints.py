"""Advice in the words of the way in which a node was started. This module imports no ROS.

The launch files set :data:`LAUNCHED`; without it the node was started by ``ros2 run``, or by what takes the same words.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping

LAUNCHED = "CSL_TRACKER_LAUNCH_FILE"
"""Environment variable: the launch file that started the node."""

IMAGE_ARGUMENT = "CSL_TRACKER_LAUNCH_IMAGE"
"""Environment variable: the argument of that file that names the node's images; empty where none does."""

CAMERA = "CSL_TRACKER_LAUNCH_CAMERA"
"""Environment variable: the camera's name, where that argument holds for several cameras and has ``{camera}`` in its place."""


def launch_file(environ: Mapping[str, str] | None = None) -> str:
    """Name of the launch file that started this process; empty without one."""
    return (os.environ if environ is None else environ).get(LAUNCHED, "")


def set_at_start(name: str, value: str, environ: Mapping[str, str] | None = None) -> str:
    """How a user gives a parameter at the start, for quotes: ``-p device:=cpu``, or ``device:=cpu`` to a launch file."""
    return f"{name}:={value}" if launch_file(environ) else f"-p {name}:={value}"


def remap_at_start(name: str, topic: str, environ: Mapping[str, str] | None = None) -> str:
    """How a user gives a topic at the start, for quotes."""
    return f"{name}:={topic}" if launch_file(environ) else f"-r {name}:={topic}"


def take_images_from(topic: str, image_transport: str = "", environ: Mapping[str, str] | None = None) -> str:
    """How a user gives the topic of the images at the start and, if it is not empty, their transport, for quotes."""
    environ = os.environ if environ is None else environ
    settings = [set_at_start("image_transport", image_transport, environ)] if image_transport else []
    if not launch_file(environ):
        return " ".join([*settings, remap_at_start("image", topic, environ)])
    name, camera = environ.get(IMAGE_ARGUMENT, "image"), environ.get(CAMERA, "")
    if not name:
        return " ".join(["ros2 launch csl_tracker tracker.launch.py", *settings, f"image:={topic}"])
    return " ".join([*settings, f"{name}:={topic.replace(camera, '{camera}') if camera else topic}"])


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that a misspelt one is most like; empty where none is."""
    names = list(known)
    found = difflib.get_close_matches(name, names, 1, 0.6)
    if found:
        return found[0]
    return next((other for other in names if name and (other.startswith(name) or name.startswith(other))), "")


def unknown(names: Iterable[str], known: Iterable[str]) -> str:
    """Names that are not known, each with the nearest that is: ``'hand_eyes' (did you mean hand_eye?)``."""
    known = list(known)
    parts = []
    for name in names:
        meant = nearest(name, known)
        parts.append(f"{name!r} (did you mean {meant}?)" if meant else repr(name))
    return ", ".join(parts)
