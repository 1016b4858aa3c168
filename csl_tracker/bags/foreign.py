"""Detect recordings of other systems: ROS 1 bags, and messages that are not serialised as CDR."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ROS1_MAGIC = b"#ROSBAG V"
_CDR = "cdr"


@dataclass(frozen=True)
class TopicKind:
    """The message format of a topic.

    Attributes:
        msgtype: Message type as recorded.
        serialization: ``cdr`` for ROS 2.
        definition_format: Language of the type's definition.
    """

    msgtype: str
    serialization: str
    definition_format: str

    @property
    def is_ros1(self) -> bool:
        """Whether its messages are ROS 1 messages."""
        return self.serialization == "ros1" or self.definition_format == "ros1msg"


def is_ros1_bag(path: Path) -> bool:
    """Whether a file is a ROS 1 bag, independent of its name."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_ROS1_MAGIC)) == _ROS1_MAGIC
    return False


def ros1_sentence(path: Path) -> str:
    """The error message for a ROS 1 bag."""
    return f"{path} is a bag of ROS 1; convert it with 'rosbags-convert --src {path} --dst FOLDER'."


def foreign_topics(kinds: Mapping[str, TopicKind]) -> str:
    """Describe topics with messages that are not ROS 2's, with the remedy; empty if there are none.

    Args:
        kinds: Message formats by topic.
    """
    foreign = {name: kind for name, kind in kinds.items() if kind.is_ros1 or kind.serialization != _CDR}
    if not foreign:
        return ""
    name, kind = min(foreign.items(), key=lambda item: (not item[1].is_ros1, "Image" not in item[1].msgtype, item[0]))
    others = f" (and on {len(foreign) - 1} more)" if len(foreign) > 1 else ""
    if kind.is_ros1:
        form = kind.definition_format or kind.serialization
        return (
            f"the messages on {name}{others} are ROS 1 messages ({kind.msgtype}, {form}); convert"
            " their original .bag file with 'rosbags-convert --src FILE.bag --dst FOLDER'"
        )
    return (
        f"the messages on {name}{others} are {kind.serialization or 'unnamed data'} ({kind.msgtype}), not CDR as in ROS 2;"
        " record the topic of the ROS 2 driver with 'ros2 bag record', or convert them to CDR"
    )
