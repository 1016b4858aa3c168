"""Advice in the syntax of the command that started the node: ``ros2 run`` or a launch file. This module imports no ROS.

The launch files set :data:`LAUNCHED`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping

LAUNCHED = "CSL_TRACKER_LAUNCH_FILE"
"""Environment variable: name of the launch file that started the node."""

IMAGE_ARGUMENT = "CSL_TRACKER_LAUNCH_IMAGE"
"""Environment variable: launch argument that names the node's images; empty if there is none."""

CAMERA = "CSL_TRACKER_LAUNCH_CAMERA"
"""Environment variable: the camera's name if that argument holds for several cameras, with ``{camera}`` in its place."""


def launch_file(environ: Mapping[str, str] | None = None) -> str:
    """Name of the launch file that started this process; empty if there was none."""
    return (os.environ if environ is None else environ).get(LAUNCHED, "")


def set_at_start(name: str, value: str, environ: Mapping[str, str] | None = None) -> str:
    """How to set a parameter at start: ``-p device:=cpu``, or ``device:=cpu`` for a launch file."""
    return f"{name}:={value}" if launch_file(environ) else f"-p {name}:={value}"


def remap_at_start(name: str, topic: str, environ: Mapping[str, str] | None = None) -> str:
    """How to remap a topic at start."""
    return f"{name}:={topic}" if launch_file(environ) else f"-r {name}:={topic}"


def take_images_from(topic: str, image_transport: str = "", environ: Mapping[str, str] | None = None) -> str:
    """How to set the image topic at start and, unless empty, its transport."""
    environ = os.environ if environ is None else environ
    settings = [set_at_start("image_transport", image_transport, environ)] if image_transport else []
    if not launch_file(environ):
        return " ".join([*settings, remap_at_start("image", topic, environ)])
    name, camera = environ.get(IMAGE_ARGUMENT, "image"), environ.get(CAMERA, "")
    if not name:
        return " ".join(["ros2 launch csl_tracker tracker.launch.py", *settings, f"image:={topic}"])
    return " ".join([*settings, f"{name}:={topic.replace(camera, '{camera}') if camera else topic}"])


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most similar to a misspelt one; empty if none is similar."""
    names = list(known)
    found = difflib.get_close_matches(name, names, 1, 0.6)
    if found:
        return found[0]
    return next((other for other in names if name and (other.startswith(name) or name.startswith(other))), "")


def unknown(names: Iterable[str], known: Iterable[str]) -> str:
    """A list of unknown names with suggestions: ``'hand_eyes' (did you mean hand_eye?)``."""
    known = list(known)
    parts = []
    for name in names:
        meant = nearest(name, known)
        parts.append(f"{name!r} (did you mean {meant}?)" if meant else repr(name))
    return ", ".join(parts)
