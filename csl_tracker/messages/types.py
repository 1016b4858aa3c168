"""Message types for bags without ROS, from the ``.msg`` files of ``csl_tracker_msgs``."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from csl_tracker.errors import BagError

MESSAGE_PACKAGE = "csl_tracker_msgs"


def _candidates() -> Iterator[Path]:
    """Possible folders of the .msg files: next to the sources, in ROS installations, then in this package's installation."""
    here = Path(__file__).resolve()
    yield here.parents[2] / MESSAGE_PACKAGE / "msg"
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        yield Path(prefix) / "share" / MESSAGE_PACKAGE / "msg"
    spec = importlib.util.find_spec(MESSAGE_PACKAGE)
    if spec is not None and spec.origin is not None:  # PREFIX/lib/pythonX.Y/site-packages/PACKAGE/__init__.py
        for parent in Path(spec.origin).resolve().parents[1:6]:
            yield parent / "share" / MESSAGE_PACKAGE / "msg"
    for root in (Path(sys.prefix), *here.parents[2:7]):  # pip installs into PREFIX/share or TARGET/share
        yield root / "share" / "csl_tracker" / "msg"


def message_folder() -> Path:
    """Find the folder of the ``.msg`` files.

    Raises:
        BagError: ``csl_tracker_msgs`` is neither next to the sources nor installed.
    """
    for folder in _candidates():
        if any(folder.glob("*.msg")):
            return folder
    raise BagError(
        f"The message definitions of {MESSAGE_PACKAGE} are neither next to the sources nor in AMENT_PREFIX_PATH;"
        " build the package with colcon and source its install/setup.bash."
    )


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """All message types of ROS 2 Jazzy and of ``csl_tracker_msgs``.

    Raises:
        BagError: ``csl_tracker_msgs`` is neither next to the sources nor installed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted(message_folder().glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(encoding="utf-8"), f"{MESSAGE_PACKAGE}/msg/{path.stem}"))
    return store
