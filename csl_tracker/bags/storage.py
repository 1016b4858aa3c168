"""The interface of the storage files of a bag, implemented for MCAP and SQLite."""

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
        name: Its name.
        msgtype: Its type, as in ``sensor_msgs/msg/Image``.
        serialization: ``cdr`` for all that ROS 2 records by itself.
        count: Number of messages in this file.
        definition: Text of the type's definition with all types in it; empty where the recorder had none.
        definition_format: ``ros2msg`` or ``ros2idl``; anything else is not known here.
        qos: Quality of service that its publishers offered, YAML; empty where it was not recorded.
    """

    name: str
    msgtype: str
    serialization: str
    count: int
    definition: str = ""
    definition_format: str = ""
    qos: str = ""


class StoredMessage(NamedTuple):
    """A message of a storage file: the time of its reception (ns), its topic and its bytes."""

    time_ns: int
    topic: str
    data: bytes


class StorageFault(Exception):
    """A file ends early or is broken inside; everything readable before has been given out. The text names the place."""


class StorageFile(ABC):
    """One file of a bag, open for reading. A context manager.

    Attributes:
        topics: The topics, by their names.
        start_ns: Time of the first message, ns; None without any.
        end_ns: Time of the last message, ns; None without any.
        compression: Of its inside: ``zstd``, ``lz4``, or empty.
        fault: What is wrong with the file, as far as opening it shows.
        notes: What is unusual about the file without hindering its use.
        metadata: The text of ``metadata.yaml`` as the recorder repeats it inside the file; empty without.
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
        """Yield the messages of some topics with ``start_ns <= time < stop_ns`` in the order of time.

        Raises:
            StorageFault: After the last readable message, where the file is broken.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file. May be called twice."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
