"""Interface of a bag's storage files, implemented for MCAP and SQLite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, TypeVar

T = TypeVar("T", bound="StorageFile")


@dataclass(frozen=True)
class StoredTopic:
    """A topic of a storage file.

    Attributes:
        name: Name.
        msgtype: Type, as in ``sensor_msgs/msg/Image``.
        serialization: ``cdr`` for all of ROS 2's own messages.
        count: Number of messages in this file.
        definition: Definition of the type with all nested types; empty if not recorded.
        definition_format: ``ros2msg`` or ``ros2idl``; other formats are not supported.
        qos: QoS offered by its publishers, YAML; empty if not recorded.
    """

    name: str
    msgtype: str
    serialization: str
    count: int
    definition: str = ""
    definition_format: str = ""
    qos: str = ""


class StoredMessage(NamedTuple):
    """A message: time of reception (ns), topic and data."""

    time_ns: int
    topic: str
    data: bytes


class StorageFault(Exception):
    """A file is truncated or corrupt; everything before the fault has been delivered. The message names the position."""


class StorageFile(ABC):
    """An open storage file of a bag. A context manager.

    Attributes:
        topics: Topics by name.
        start_ns: Time of the first message, ns; None without messages.
        end_ns: Time of the last message, ns; None without messages.
        compression: Internal compression: ``zstd``, ``lz4``, or empty.
        fault: Fault found while opening the file, or empty.
        notes: Unusual but harmless properties.
        metadata: The recorder's copy of ``metadata.yaml``, or empty.
    """

    topics: dict[str, StoredTopic]
    start_ns: int | None = None
    end_ns: int | None = None
    compression: str = ""
    fault: str = ""
    notes: tuple[str, ...] = ()
    metadata: str = ""

    @abstractmethod
    def messages(self, names: Collection[str], start_ns: int | None, stop_ns: int | None) -> Iterator[StoredMessage]:
        """Yield the messages of some topics with ``start_ns <= time < stop_ns`` in order of time.

        Raises:
            StorageFault: After the last readable message of a corrupt file.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file. May be called twice."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
