"""Recordings of other systems, named as such: bags of ROS 1, and messages that are serialised otherwise than ROS 2 does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ROS1_MAGIC = b"#ROSBAG V"
_CDR = "cdr"


@dataclass(frozen=True)
class TopicKind:
    """What a bag says of a topic.

    Attributes:
        msgtype: Name of the type, as the recorder wrote it.
        serialization: How the messages are written: ``cdr`` for those of ROS 2.
        definition_format: Language of the type's definition.
    """

    msgtype: str
    serialization: str
    definition_format: str

    @property
    def is_ros1(self) -> bool:
        """Whether its messages are those of ROS 1."""
        return self.serialization == "ros1" or self.definition_format == "ros1msg"


def is_ros1_bag(path: Path) -> bool:
    """Whether a file is a bag of ROS 1, whatever its name."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_ROS1_MAGIC)) == _ROS1_MAGIC
    return False


def ros1_sentence(path: Path) -> str:
    """What to do with a bag file of ROS 1."""
    return f"{path} is a bag of ROS 1; convert it with 'rosbags-convert --src {path} --dst FOLDER'."


def foreign_topics(kinds: Mapping[str, TopicKind]) -> str:
    """Of messages that are none of ROS 2: what they are, and what to do; empty where there are none.

    Args:
        kinds: What the bag says, by topic.
    """
    foreign = {name: kind for name, kind in kinds.items() if kind.is_ros1 or kind.serialization != _CDR}
    if not foreign:
        return ""
    name, kind = min(foreign.items(), key=lambda item: (not item[1].is_ros1, "Image" not in item[1].msgtype, item[0]))
    others = f" (and on {len(foreign) - 1} more)" if len(foreign) > 1 else ""
    if kind.is_ros1:
        written = kind.definition_format or kind.serialization
        return (
            f"the messages on {name}{others} are those of ROS 1 ({kind.msgtype}, {written}); convert"
            " the .bag file that they come from with 'rosbags-convert --src FILE.bag --dst FOLDER'"
        )
    return (
        f"the messages on {name}{others} are {kind.serialization or 'unnamed data'} ({kind.msgtype}), not CDR as in ROS 2;"
        " record the topic of the ROS 2 driver with 'ros2 bag record', or bring them to CDR first"
    )
