"""A bag on disk: a single storage file, or a folder with storage files and ``metadata.yaml``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from csl_tracker.bags.foreign import is_ros1_bag, ros1_sentence
from csl_tracker.bags.limits import MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_TOPICS, MAX_UNPACKED_RATIO, MIN_UNPACKED_BYTES
from csl_tracker.bags.mcap_file import McapFile
from csl_tracker.bags.sqlite_file import SqliteFile
from csl_tracker.bags.storage import StorageFault, StorageFile
from csl_tracker.errors import BagError, ConfigError
from csl_tracker.natural_order import natural_order
from csl_tracker.text import excerpt
from csl_tracker.yaml_files import YamlError, parse_yaml, spelled

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

METADATA = "metadata.yaml"
_KINDS: dict[str, type[McapFile] | type[SqliteFile]] = {".mcap": McapFile, ".db3": SqliteFile}
_ZSTD = ".zstd"
_UNPACKED_PART = 1 << 20


@dataclass(frozen=True)
class BagFolder:
    """The files and metadata of a bag.

    Attributes:
        path: The file or folder.
        files: Storage files in recording order.
        compression_mode: ``file`` or ``message`` for rosbag2's own compression, else empty.
        topics: Topic -> (type, number of messages) from ``metadata.yaml``; empty without it.
        start_ns: Time of the first message from ``metadata.yaml``, ns; None without it.
        end_ns: Time of the last message from ``metadata.yaml``, ns; None without it.
        custom: The recorder's custom data.
        notes: Unusual properties.
    """

    path: Path
    files: tuple[Path, ...]
    compression_mode: str = ""
    topics: dict[str, tuple[str, int]] = field(default_factory=dict)
    start_ns: int | None = None
    end_ns: int | None = None
    custom: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def open_folder(path: Path) -> BagFolder:
    """Find the files of a bag.

    Raises:
        BagError: The path does not exist or is not a ROS 2 bag.
    """
    if not path.exists():
        raise BagError(f"The bag {path} does not exist; check the path.")
    if path.is_file() and (path.suffix == ".bag" or is_ros1_bag(path)):
        raise BagError(ros1_sentence(path))
    if path.is_file():
        if _kind(path) is None:
            raise BagError(f"The file {path} is no bag; name an .mcap or .db3 file, or a bag folder.")
        return BagFolder(path, (path,))
    if (path / METADATA).is_file():
        return _by_metadata(path)
    files = tuple(sorted((item for item in path.iterdir() if _kind(item) is not None), key=natural_order))
    if not files:
        old = next((item for item in sorted(path.iterdir()) if item.is_file() and is_ros1_bag(item)), None)
        if old is not None:
            raise BagError(ros1_sentence(old))
        raise BagError(f"The folder {path} is no bag: it has neither {METADATA} nor .mcap or .db3 files; check the path.")
    note = f"it has no {METADATA}, as after an interrupted recording ('ros2 bag reindex' creates one)"
    return BagFolder(path, files, notes=(note,))


@contextmanager
def open_storage(path: Path) -> Iterator[StorageFile]:
    """Open one file of a bag; a compressed file is unpacked into a temporary folder while it is open.

    Raises:
        StorageFault: Nothing in it can be read.
        OSError: It cannot be opened, or there is no space to unpack it.
    """
    kind = _kind(path)
    assert kind is not None
    if path.suffix != _ZSTD:
        with kind(path) as storage:
            yield storage
        return
    with tempfile.TemporaryDirectory(prefix="csl_tracker.") as folder:
        unpacked = Path(folder) / path.stem
        fault = _unpack(path, unpacked)
        try:
            storage = kind(unpacked)
        except StorageFault as error:
            raise StorageFault(fault or str(error)) from error
        with storage:
            storage.fault = fault or storage.fault
            yield storage


def _unpack(packed: Path, unpacked: Path) -> str:
    """Decompress as much of a file as possible; returns a description of the fault, or an empty string."""
    decompressor = zstd.ZstdDecompressor()
    limit = max(MIN_UNPACKED_BYTES, MAX_UNPACKED_RATIO * packed.stat().st_size)
    with packed.open("rb") as source, unpacked.open("wb") as target:
        try:
            while part := source.read(1 << 16):
                while part or not (decompressor.eof or decompressor.needs_input):
                    if decompressor.eof:  # another frame follows
                        decompressor = zstd.ZstdDecompressor()
                    limit -= target.write(decompressor.decompress(part, max_length=_UNPACKED_PART))
                    if limit < 0:
                        target.truncate(0)
                        return f"it unpacks to more than {MAX_UNPACKED_RATIO} times its size, unlike any recording"
                    part = decompressor.unused_data if decompressor.eof else b""
        except zstd.ZstdError as error:
            return f"its zstd compression is broken: {error}"
    return "" if decompressor.eof else "its zstd compression was cut off"


def _kind(path: Path) -> type[McapFile] | type[SqliteFile] | None:
    name = path.name.removesuffix(_ZSTD)
    return _KINDS.get(PurePath(name).suffix)


def _by_metadata(path: Path) -> BagFolder:
    """Read ``metadata.yaml``, versions 1 to 9."""
    file = path / METADATA
    with file.open("rb") as stream:
        raw = stream.read(MAX_METADATA_BYTES + 1)
    try:
        content = parse_yaml(raw, max_bytes=MAX_METADATA_BYTES)
        information = content["rosbag2_bagfile_information"]
        # Up to version 3 the folder's name precedes the file's.
        files = tuple(path / _file_name(name) for name in information["relative_file_paths"])
        topics: dict[str, tuple[str, int]] = {}
        for entry in information["topics_with_message_count"]:
            topic = entry["topic_metadata"]
            name, kind = (spelled(topic[key], key) for key in ("name", "type"))
            if max(len(name), len(kind)) > MAX_NAME_BYTES or len(topics) >= MAX_TOPICS:
                raise ValueError(f"it has more than {MAX_TOPICS} topics, or a name longer than {MAX_NAME_BYTES}")
            topics[name] = (kind, topics.get(name, ("", 0))[1] + int(entry["message_count"]))
        mode = str(information.get("compression_mode") or "").lower()
        form = str(information.get("compression_format") or "").lower()
        start = int(information["starting_time"]["nanoseconds_since_epoch"])
        duration = int(information["duration"]["nanoseconds"])
        custom = _texts(information.get("custom_data"))
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BagError(
            f"The file {file} is broken ({type(error).__name__}: {excerpt(error)}); recreate it with 'ros2 bag"
            f" reindex {path}', or name the bag's .mcap or .db3 file itself."
        ) from error
    if len(set(files)) != len(files):
        raise BagError(f"The bag {path} names a file twice in its {METADATA}; recreate it with 'ros2 bag reindex {path}'.")
    missing = [name.name for name in files if not name.is_file()]
    if missing or not files:
        listed = ", ".join(missing) or "storage files"
        raise BagError(f"The bag {path} lacks {listed}, which its {METADATA} names; copy the whole folder again.")
    unknown = [name.name for name in files if _kind(name) is None]
    if unknown:
        raise BagError(f"The bag {path} stores its messages in {unknown[0]}; only .mcap and .db3 files can be read.")
    if mode not in ("", "none", "file", "message", "storage") or (mode in ("file", "message") and form != "zstd"):
        raise BagError(f"The bag {path} has the unknown compression '{excerpt(form or mode, 40)}'; record it with zstd.")
    any_message = any(count for _, count in topics.values())
    return BagFolder(
        path,
        files,
        mode if mode in ("file", "message") else "",
        topics,
        start if any_message else None,
        start + duration if any_message else None,
        custom,
    )


def _file_name(name: Any) -> str:
    """The last part of a path in the metadata.

    Raises:
        ValueError: The path points outside the folder.
    """
    parts = PurePath(spelled(name, "a file's path"))
    if parts.is_absolute() or ".." in parts.parts or not parts.name:
        raise ValueError(f"the path '{excerpt(name)}' points outside the bag's folder")
    return parts.name


def custom_notes(metadata: str) -> dict[str, str]:
    """Custom data from the metadata inside a storage file; empty if it cannot be parsed."""
    try:
        return _texts((parse_yaml(metadata, max_bytes=MAX_METADATA_BYTES) or {}).get("custom_data"))
    except (YamlError, ConfigError, AttributeError, TypeError):
        return {}


def _texts(custom: Any) -> dict[str, str]:
    """Custom data as strings by key."""
    return {spelled(key, "a note's name"): spelled(value, "a note") for key, value in (custom or {}).items()}
