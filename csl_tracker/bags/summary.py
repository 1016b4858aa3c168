"""Topics, counts, times and problems of a bag, over all its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from csl_tracker.bags.errors import damaged_file, unreadable_file
from csl_tracker.bags.folder import BagFolder, custom_notes, open_storage
from csl_tracker.bags.limits import MAX_TOPICS
from csl_tracker.bags.storage import StorageFault, StorageFile
from csl_tracker.errors import BagError


@dataclass
class TopicSummary:
    """A topic over all files of a bag; see :class:`csl_tracker.bags.storage.StoredTopic` for the attributes."""

    msgtype: str
    serialization: str = "cdr"
    count: int = 0
    definition: str = ""
    definition_format: str = ""
    qos: str = ""


@dataclass
class BagSummary:
    """Content of a bag.

    Attributes:
        topics: Topics by name.
        start_ns: Time of the first message, ns; None for an empty bag.
        end_ns: Time of the last message, ns; None for an empty bag.
        compression: Kinds of compression, such as ``file: zstd`` or ``chunks: lz4``.
        custom: The recorder's custom data.
        problems: Faults and unusual properties, as sentences.
    """

    topics: dict[str, TopicSummary] = field(default_factory=dict)
    start_ns: int | None = None
    end_ns: int | None = None
    compression: list[str] = field(default_factory=list)
    custom: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_definitions(self, storage: StorageFile) -> None:
        """Add a file's topics, without its messages.

        Raises:
            StorageFault: The bag has too many topics.
        """
        for name, stored in storage.topics.items():
            if len(self.topics) >= MAX_TOPICS and name not in self.topics:
                raise StorageFault(f"the bag has more than {MAX_TOPICS} topics")
            topic = self.topics.setdefault(name, TopicSummary(stored.msgtype, stored.serialization))
            if not topic.definition and stored.msgtype == topic.msgtype:
                topic.definition, topic.definition_format = stored.definition, stored.definition_format
            topic.qos = topic.qos or stored.qos

    def add_file(self, file: Path, storage: StorageFile) -> None:
        """Add a file's topics, counts, times, notes and faults.

        Raises:
            StorageFault: The bag has too many topics.
        """
        self.add_definitions(storage)
        self.custom = {**custom_notes(storage.metadata), **self.custom}
        for name, stored in storage.topics.items():
            topic = self.topics[name]
            topic.count += stored.count
            if stored.msgtype != topic.msgtype:
                self.problems.append(
                    f"The topic {name} has messages of {stored.msgtype} in {file}, and of {topic.msgtype} elsewhere."
                )
        if storage.compression and f"chunks: {storage.compression}" not in self.compression:
            self.compression.append(f"chunks: {storage.compression}")
        self.problems += [f"The file {file} is unusual: {note}." for note in storage.notes]
        if storage.fault:
            self.problems.append(str(damaged_file(file, storage.fault)))
        if storage.start_ns is not None and storage.end_ns is not None:
            self.start_ns = storage.start_ns if self.start_ns is None else min(self.start_ns, storage.start_ns)
            self.end_ns = storage.end_ns if self.end_ns is None else max(self.end_ns, storage.end_ns)


def summarize(folder: BagFolder) -> BagSummary:
    """Read the index of every file, or all records if there is none.

    Raises:
        BagError: Nothing can be read.
    """
    summary = BagSummary(
        custom=dict(folder.custom),
        problems=[f"The bag {folder.path} is unusual: {note}." for note in folder.notes],
        compression=[f"{folder.compression_mode}: zstd"] if folder.compression_mode else [],
    )
    compressed = [file for file in folder.files if file.suffix == ".zstd"]
    broken: BagError | None = None
    for file in folder.files:
        if file in compressed:
            continue
        try:
            with open_storage(file) as storage:
                summary.add_file(file, storage)
        except (StorageFault, OSError) as error:
            broken = unreadable_file(file, error)
            summary.problems.append(str(broken))
    if compressed:
        _add_compressed(summary, folder, compressed)
    if broken is not None and not any(topic.count for topic in summary.topics.values()):
        raise broken
    return summary


def _add_compressed(summary: BagSummary, folder: BagFolder, compressed: list[Path]) -> None:
    """Add compressed files from ``metadata.yaml``, since unpacking is slow, or else by unpacking them.

    Raises:
        BagError: There is no metadata and a file cannot be read.
    """
    if folder.topics:
        summary.topics = {name: TopicSummary(kind, count=count) for name, (kind, count) in folder.topics.items()}
        summary.start_ns, summary.end_ns = folder.start_ns, folder.end_ns
        return
    for file in compressed:  # a single compressed file, or an interrupted recording
        try:
            with open_storage(file) as storage:
                summary.add_file(file, storage)
        except (StorageFault, OSError) as error:
            raise unreadable_file(file, error) from error
