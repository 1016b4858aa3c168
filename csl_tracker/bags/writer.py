"""Write bags with ``rosbags``, under a temporary name until they are complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from csl_tracker.bags.folder import METADATA
from csl_tracker.errors import BagError
from csl_tracker.messages.types import typestore
from csl_tracker.output import AtomicOutput

STORAGES = {"mcap": (StoragePlugin.MCAP, ".mcap"), "sqlite3": (StoragePlugin.SQLITE3, ".db3")}
"""rosbag2's storage name -> plugin and file suffix."""

# The newest metadata version that Humble can read, which expects the QoS as text with numbers.
_METADATA_VERSION: Literal[8] = 8
_FOREVER = QosTime(9223372036, 854775807)


def qos(reliable: bool, depth: int) -> Qos:
    """A publisher's offered QoS, which ``ros2 bag play`` will offer."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


class BagWriter(AtomicOutput):
    """Writes a bag under a temporary name; closing renames it to ``path``.

    A path that ends in ``.mcap`` or ``.db3`` becomes a single file and replaces an older one; any other path becomes a bag
    folder with ``metadata.yaml`` and must not exist. About 1 MiB of messages is buffered. If the context ends with an error,
    Ctrl-C included, nothing is left behind.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        storage: str | None = None,
        compress: bool = False,
        custom: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Open the temporary file.

        Args:
            path: See above.
            storage: ``mcap`` or ``sqlite3``; None to decide by the suffix, mcap for a folder.
            compress: Compress the chunks of an mcap file with zstd: label maps shrink to 1/100, camera images hardly. Ignored
                for sqlite3.
            custom: Custom data for ``metadata.yaml``.
            overwrite: Replace an existing bag folder once the new bag is complete.

        Raises:
            BagError: The path exists as a folder, cannot be written, or has the suffix of another storage.
        """
        self.path = Path(path)
        by_suffix = next((name for name, (_, suffix) in STORAGES.items() if suffix == self.path.suffix), None)
        self.storage = storage or by_suffix or "mcap"
        if self.storage not in STORAGES or by_suffix not in (None, self.storage):
            raise BagError(
                f"The bag {self.path} cannot be written with the storage {self.storage!r}; choose one of {', '.join(STORAGES)},"
                " and a name with its suffix (.mcap, .db3) or without a suffix."
            )
        self._single = by_suffix is not None
        replaces = overwrite and (self.path / METADATA).is_file()
        if (self.path.is_dir() and not replaces) or (self.path.is_file() and not self._single):
            raise BagError(
                f"The bag {self.path} cannot be written, since a folder or file of that name exists; remove it first."
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._work = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        except OSError as error:
            raise BagError(f"The bag {self.path} cannot be written ({error.strerror}); choose another place.") from error
        # rosbags names the file after its folder, and the metadata inside the file repeats that name.
        name = self.path.stem if self._single else self.path.name
        plugin = STORAGES[self.storage][0]
        self._writer = Writer(self._work / name, version=_METADATA_VERSION, storage_plugin=plugin)
        for key, value in (custom or {}).items():
            self._writer.set_custom_data(key, value)
        if compress and plugin is StoragePlugin.MCAP:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}
        self._counts: dict[str, int] = {}
        self._open = True
        try:
            with self._disk_errors():
                self._writer.open()
        except BaseException:
            self.abort()
            raise

    def add_topic(self, topic: str, msgtype: str, *, reliable: bool = True, depth: int = 10) -> None:
        """Add a topic with the definition of its type.

        Args:
            topic: Name with leading slash.
            msgtype: Type, as in ``sensor_msgs/msg/Image``.
            reliable: Reliability offered by the publisher.
            depth: Queue depth of the publisher.

        Raises:
            BagError: The type is unknown, the topic exists, or the disk is full.
        """
        if msgtype not in typestore().fielddefs:
            raise BagError(f"The topic {topic} cannot be written: the message type {msgtype!r} is unknown.")
        try:
            with self._disk_errors():
                self._connections[topic] = self._writer.add_connection(
                    topic, msgtype, typestore=typestore(), offered_qos_profiles=[qos(reliable, depth)]
                )
        except WriterError as error:
            raise BagError(f"The topic {topic} cannot be added to {self.path}: {error}") from error
        self._counts[topic] = 0

    @property
    def counts(self) -> dict[str, int]:
        """Messages written so far, by topic."""
        return dict(self._counts)

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Write a message of :func:`csl_tracker.messages.types.typestore`'s classes.

        Args:
            topic: A topic of :meth:`add_topic`.
            message: The message.
            time_ns: Time of reception, ns.
        """
        self.write_raw(topic, typestore().serialize_cdr(message, self._connections[topic].msgtype), time_ns)

    def write_raw(self, topic: str, data: bytes | memoryview, time_ns: int) -> None:
        """Write a serialised message (CDR).

        Raises:
            BagError: The disk is full.
        """
        with self._disk_errors():
            self._writer.write(self._connections[topic], time_ns, data)
        self._counts[topic] += 1

    def close(self) -> None:
        """Complete the bag and rename it.

        Raises:
            BagError: The disk is full.
        """
        if not self._open:
            return
        try:
            with self._disk_errors():
                self._writer.close()
                finished = self._writer.path
                file = finished / f"{finished.name}{STORAGES[self.storage][1]}"
                if self.path.is_dir():
                    os.replace(self.path, self._work / "older")  # deleted with the working folder
                os.replace(file if self._single else finished, self.path)
        finally:
            self.abort()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Convert errors of the system or SQLite to BagError."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise BagError(f"Writing the bag {self.path} failed ({reason}); make room on the disk.") from error

    def abort(self) -> None:
        """Delete the bag unless it is closed."""
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):
                self._writer.abort()
            shutil.rmtree(self._work, ignore_errors=True)
