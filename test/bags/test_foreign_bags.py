"""Bags as others record them, written by other libraries than the one that is read with: mcap, rosbags, plain SQLite."""

import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as RosbagWriter

from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.info import describe_bag
from csl_tracker.bags.reader import BagReader
from csl_tracker.errors import BagError
from csl_tracker.messages import topics
from csl_tracker.messages.images import compressed_message, image_message, message_to_rgb
from csl_tracker.messages.types import typestore

STEP = 40_000_000
START = 1_700_000_000_000_000_000
COUNT = 12


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (24, 32, 3), np.uint8)


def cdr(index: int) -> bytes:
    return bytes(typestore().serialize_cdr(image_message(picture(index), START + index * STEP), topics.IMAGE_TYPE))


def write_mcap(path: Path, first: int = 0, last: int = COUNT, topic: str = "/endoscope/image_raw", **options) -> Path:
    """Images beside a topic whose type nobody knows, as rosbag2 writes one without a definition."""
    with path.open("wb") as file:
        writer = Writer(file, **{"chunk_size": 8000, **options})
        writer.start("ros2", "other")
        text, _ = typestore().generate_msgdef(topics.IMAGE_TYPE, ros_version=2)
        qos = {"offered_qos_profiles": "- history: 1\n  depth: 5\n  reliability: 1"}
        images = writer.register_channel(topic, "cdr", writer.register_schema(topics.IMAGE_TYPE, "ros2msg", text.encode()), qos)
        arm = writer.register_channel("/arm", "cdr", writer.register_schema("dvrk_msgs/msg/Arm", "unknown", b""))
        gui = writer.register_channel("/gui", "json", writer.register_schema("Gui", "jsonschema", b"{}"))
        for index in range(first, last):
            stamp = START + index * STEP
            writer.add_message(arm, stamp, b"\x00\x01\x00\x00anything", stamp)
            writer.add_message(images, stamp, cdr(index), stamp)
            writer.add_message(gui, stamp, b"{}", stamp)
        writer.finish()
    return path


def read(path: Path, **bounds) -> tuple[list[int], BagError | None]:
    """Indices of the images, each compared bit for bit, and the error that ended it."""
    found, damage = [], None
    with BagReader(path) as bag:
        stream = bag.frames(None, **bounds)
        while True:
            try:
                frame = next(stream, None)
            except DamagedBagError as error:
                damage = error
                break
            if frame is None:
                break
            index = (frame.stamp_ns - START) // STEP
            message = bag.deserialize(frame.image)
            np.testing.assert_array_equal(message.data, picture(index).reshape(-1))
            found.append(index)
    return found, damage


VARIANTS = {
    "plain": {"compression": CompressionType.NONE},
    "lz4": {"compression": CompressionType.LZ4},
    "zstd": {"compression": CompressionType.ZSTD},
    "no index": {"index_types": IndexType.NONE, "use_statistics": False, "repeat_channels": False, "repeat_schemas": False},
    "no chunks": {"use_chunking": False},
    "no statistics": {"use_statistics": False},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_an_mcap_file_is_read_however_it_was_written(tmp_path, options):
    path = write_mcap(tmp_path / "a.mcap", **options)
    assert read(path) == (list(range(COUNT)), None)
    with BagReader(path) as bag:
        assert bag.types == {"/endoscope/image_raw": topics.IMAGE_TYPE, "/arm": "dvrk_msgs/msg/Arm", "/gui": "Gui"}
        assert [bag.count(name) for name in bag.types] == [COUNT] * 3
        assert [bag.defined(name) for name in bag.types] == [True, False, False]
        assert (bag.start_ns, bag.end_ns) == (START, START + (COUNT - 1) * STEP)
        assert "depth: 5" in bag.qos("/endoscope/image_raw")
        assert len(list(bag.messages())) == 3 * COUNT


@pytest.mark.parametrize("topic", ["/arm", "/gui"])
def test_a_missing_definition_is_named_when_it_is_needed(tmp_path, topic):
    with BagReader(write_mcap(tmp_path / "a.mcap")) as bag:
        message = next(bag.messages([topic]))
        with pytest.raises(BagError, match=rf"messages on {topic} of the bag .*a\.mcap cannot be read.*definition.*omit that"):
            bag.deserialize(message)


def write_own_type(path: Path, kind: str, text: str, data: bytes) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "other")
        channel = writer.register_channel("/a", "cdr", writer.register_schema(kind, "ros2msg", text.encode()))
        writer.add_message(channel, START, data, START)
        writer.finish()
    return path


def test_a_type_of_the_recorder_is_read_by_its_own_definition(tmp_path):
    text = "uint8 KIND=7\nuint32 count\nInner inner\n" + "=" * 80 + "\nMSG: lab_msgs/Inner\nfloat64 value\n"
    data = b"\x00\x01\x00\x00" + (3).to_bytes(4, "little") + bytes(4) + np.float64(2.5).tobytes()
    with BagReader(write_own_type(tmp_path / "a.mcap", "lab_msgs/msg/Outer", text, data)) as bag:
        message = bag.deserialize(next(bag.messages()))
    assert (message.count, message.inner.value) == (3, 2.5)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"start_s": 0.08}, range(2, COUNT)),
        ({"end_s": 0.08}, range(3)),
        ({"start_s": 0.1, "end_s": 0.2}, range(3, 6)),
        ({"start_s": 9.0}, range(0)),
    ],
)
@pytest.mark.parametrize("variant", ["zstd", "no index"])
def test_a_part_of_the_time(tmp_path, variant, bounds, expected):
    path = write_mcap(tmp_path / "a.mcap", **VARIANTS[variant])
    assert read(path, **bounds) == (list(expected), None)


@pytest.mark.parametrize("variant", ["plain", "lz4", "zstd", "no chunks"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.3])
def test_a_file_that_was_cut_off_gives_what_it_has_and_then_says_so(tmp_path, variant, share):
    whole = write_mcap(tmp_path / "whole.mcap", **VARIANTS[variant]).read_bytes()
    path = tmp_path / "cut.mcap"
    path.write_bytes(whole[: int(len(whole) * share)])
    found, damage = read(path)
    assert found == list(range(len(found)))
    assert len(found) >= int(COUNT * share) - 4, "all but the chunk at the end"
    assert str(path) in str(damage)
    assert "byte" in str(damage)
    assert "mcap recover" in str(damage)
    with BagReader(path) as bag:
        assert bag.problems == [str(damage)]
        assert bag.count("/endoscope/image_raw") == len(found)


def test_a_file_that_lacks_its_index_alone_is_whole(tmp_path):
    path = write_mcap(tmp_path / "a.mcap")
    path.write_bytes(path.read_bytes()[:-20])
    assert read(path) == (list(range(COUNT)), None)
    with BagReader(path) as bag:
        assert "no index" in bag.problems[0]


def test_damage_in_the_middle_of_an_indexed_file(tmp_path):
    path = write_mcap(tmp_path / "a.mcap", **VARIANTS["zstd"])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 500] = b"\xff" * 500
    path.write_bytes(raw)
    found, damage = read(path)
    assert found == list(range(len(found)))
    assert 2 <= len(found) < COUNT
    assert "chunk at byte" in str(damage)


def write_rosbag(folder: Path, plugin: StoragePlugin, mode: CompressionMode) -> None:
    writer = RosbagWriter(folder, version=8, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        camera = writer.add_connection("/endoscope/image_raw", topics.IMAGE_TYPE, typestore=typestore())
        for index in range(COUNT):
            writer.write(camera, START + index * STEP, cdr(index))


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_what_rosbag2_compresses(tmp_path, plugin, mode):
    write_rosbag(tmp_path / "bag", plugin, mode)
    assert read(tmp_path / "bag") == (list(range(COUNT)), None)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.compression == [f"{mode.name.lower()}: zstd"]
        assert bag.count("/endoscope/image_raw") == COUNT
    (tmp_path / "bag" / "metadata.yaml").unlink()  # as after a recording that was killed
    assert read(tmp_path / "bag") == (list(range(COUNT)), None)


def test_the_last_file_of_a_killed_recording_is_not_compressed_yet(tmp_path):
    write_rosbag(tmp_path / "bag", StoragePlugin.MCAP, CompressionMode.FILE)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    write_mcap(tmp_path / "bag" / "bag_1.mcap", COUNT, COUNT + 2)
    assert read(tmp_path / "bag")[0] == list(range(COUNT + 2))
    with BagReader(tmp_path / "bag") as bag:
        assert bag.count("/endoscope/image_raw") == COUNT + 2


def split(folder: Path) -> Path:
    """Two files, as ``ros2 bag record --max-bag-duration`` writes them."""
    folder.mkdir()
    write_mcap(folder / "bag_0.mcap", 0, 5)
    write_mcap(folder / "bag_1.mcap", 5, COUNT)
    counts = [("/endoscope/image_raw", topics.IMAGE_TYPE), ("/arm", "dvrk_msgs/msg/Arm"), ("/gui", "Gui")]
    information = {
        "version": 9,
        "storage_identifier": "mcap",
        "relative_file_paths": ["bag_0.mcap", "bag_1.mcap"],
        "duration": {"nanoseconds": (COUNT - 1) * STEP},
        "starting_time": {"nanoseconds_since_epoch": START},
        "message_count": 3 * COUNT,
        "topics_with_message_count": [
            {"topic_metadata": {"name": name, "type": kind, "serialization_format": "cdr"}, "message_count": COUNT}
            for name, kind in counts
        ],
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    return folder


def test_a_split_bag_is_one(tmp_path):
    folder = split(tmp_path / "bag")
    assert read(folder) == (list(range(COUNT)), None)
    assert read(folder, start_s=0.16, end_s=0.24) == ([4, 5, 6], None)


def test_a_recording_that_was_killed_has_no_metadata_and_an_open_last_file(tmp_path):
    folder = split(tmp_path / "bag")
    (folder / "metadata.yaml").unlink()
    last = folder / "bag_1.mcap"
    last.write_bytes(last.read_bytes()[:-4000])
    found, damage = read(folder)
    assert found[:5] == [0, 1, 2, 3, 4]
    assert found == list(range(len(found)))
    assert str(last) in str(damage)
    with BagReader(folder) as bag:
        assert "no metadata.yaml" in bag.problems[0]
        assert bag.problems[1] == str(damage)


def replace_by_folders(folder: Path) -> None:
    (folder / "metadata.yaml").unlink()
    for file in folder.iterdir():
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "bag_1.mcap").unlink(), r"lacks bag_1\.mcap"),
        (lambda folder: (folder / "metadata.yaml").write_text("a: ["), r"metadata\.yaml is broken"),
        (lambda folder: replace_by_folders(folder), r"bag_[01]\.mcap cannot be read \(Is a directory; check"),
        (lambda folder: (folder / "bag_0.mcap").rename(folder / "bag_0.bin"), r"lacks bag_0\.mcap"),
    ],
    ids=["file gone", "metadata broken", "folders", "file renamed"],
)
def test_a_folder_that_is_not_whole_is_one_sentence(tmp_path, change, words):
    folder = split(tmp_path / "bag")
    change(folder)
    with pytest.raises(BagError, match=words):
        BagReader(folder)


def test_a_database_that_was_cut_off(tmp_path):
    write_rosbag(tmp_path / "bag", StoragePlugin.SQLITE3, CompressionMode.NONE)
    database = tmp_path / "bag" / "bag.db3"
    database.write_bytes(database.read_bytes()[: -6 * 4096])
    try:
        found, damage = read(database)
    except BagError as error:  # by where the cut falls, its tables are gone too
        found, damage = [], error
    assert found == list(range(len(found)))
    assert len(found) < COUNT
    assert str(database) in str(damage)


def test_a_database_of_the_first_version(tmp_path):
    path = tmp_path / "old.db3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)")
        database.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
        database.execute("INSERT INTO topics VALUES(1, '/camera', ?, 'cdr')", (topics.IMAGE_TYPE,))
        for index in reversed(range(COUNT)):
            database.execute("INSERT INTO messages VALUES(NULL, 1, ?, ?)", (START + index * STEP, cdr(index)))
    database.close()
    assert read(path) == (list(range(COUNT)), None)


def test_a_topic_of_another_type_is_no_image(tmp_path):
    with BagReader(write_mcap(tmp_path / "a.mcap")) as bag, pytest.raises(BagError, match="has type dvrk_msgs/msg/Arm"):
        bag.image_topic("/arm")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (["/cam/image", "/cam/image/compressed"], "/cam/image"),
        (["/cam/image", "/tracker_node/overlay", "/or1/tracker_node/segmentation/color"], "/cam/image"),
        (["/cam/image", "/depth/compressedDepth"], "/cam/image"),
    ],
)
def test_pictures_that_are_no_camera_are_no_choice(tmp_path, written, found):
    with RosbagWriter(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name in written:
            writer.write(writer.add_connection(name, topics.IMAGE_TYPE, typestore=typestore()), START, cdr(0))
    with BagReader(tmp_path / "bag") as bag:
        assert bag.image_topic() == found


def test_a_message_that_does_not_fit_its_type_is_named_with_its_time(tmp_path):
    with RosbagWriter(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.write(writer.add_connection("/cam", topics.IMAGE_TYPE, typestore=typestore()), START, cdr(0)[:50])
    with BagReader(tmp_path / "bag") as bag:
        frame = next(bag.frames())
        with pytest.raises(BagError, match=r"on /cam of the bag .*, recorded at 0\.000 s, is broken: its 50 bytes"):
            bag.deserialize(frame.image)


def test_one_compressed_file_by_itself(tmp_path):
    write_rosbag(tmp_path / "bag", StoragePlugin.MCAP, CompressionMode.FILE)
    alone = tmp_path / "alone.mcap.zstd"
    shutil.move(tmp_path / "bag" / "bag.mcap.zstd", alone)
    assert read(alone) == (list(range(COUNT)), None)
    alone.write_bytes(alone.read_bytes()[:-3000])
    with pytest.raises(BagError, match=r"alone\.mcap\.zstd cannot be read, its zstd compression was cut off"):
        BagReader(alone)


def write_other(path: Path, msgtype: str, encoding: str, serialization: str, profile: str, data: bytes = b"{}") -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile, "other")
        schema = writer.register_schema(msgtype, encoding, b"std_msgs/Header header\nstring format\nuint8[] data\n")
        channel = writer.register_channel("/cam/image_raw/compressed", serialization, schema)
        for index in range(3):
            writer.add_message(channel, START + index * STEP, data, START + index * STEP)
        writer.finish()
    return path


@pytest.mark.parametrize(
    ("msgtype", "encoding", "serialization", "profile", "words"),
    [
        (
            "sensor_msgs/CompressedImage",
            "ros1msg",
            "ros1",
            "ros1",
            r"compressed are ROS 1 messages \(sensor_msgs/CompressedImage, ros1msg\); convert .* 'rosbags-convert",
        ),
        ("sensor_msgs/msg/CompressedImage", "ros1msg", "ros1", "", "are ROS 1 messages"),
        ("foxglove.CompressedImage", "protobuf", "protobuf", "", r"are protobuf \(foxglove.CompressedImage\), not CDR"),
        ("foxglove.CompressedImage", "jsonschema", "json", "", r"are json \(foxglove.CompressedImage\), not CDR"),
        ("sensor_msgs/msg/CompressedImage", "flatbuffer", "flatbuffer", "", "are flatbuffer"),
    ],
)
def test_messages_of_other_systems_are_named(tmp_path, msgtype, encoding, serialization, profile, words):
    bag = BagReader(write_other(tmp_path / "a.mcap", msgtype, encoding, serialization, profile))
    with pytest.raises(BagError, match=rf"has no images .*{words}"):
        bag.image_topic()
    with pytest.raises(BagError, match=words):
        bag.image_topic("/cam/image_raw/compressed")
    for check in (False, True):
        assert any(re.search(words, problem) for problem in describe_bag(bag, message_to_rgb, check)["problems"])


def test_a_type_of_ros_2_without_its_middle_part(tmp_path):
    data = typestore().serialize_cdr(compressed_message(picture(0), 95, START), topics.COMPRESSED_TYPE)
    bag = BagReader(write_other(tmp_path / "a.mcap", "sensor_msgs/CompressedImage", "ros2msg", "cdr", "ros2", bytes(data)))
    first = next(bag.frames())
    assert message_to_rgb(bag.deserialize(first.image)).shape == picture(0).shape


@pytest.mark.parametrize("name", ["a.bag", "a.mcap", "a.db3", "recording", "folder/a.bag"])
def test_a_bag_of_ros_1_is_named_whatever_its_name(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    path = tmp_path / (name.partition("/")[0])
    with pytest.raises(BagError, match=rf"{name} is a bag of ROS 1; convert it with 'rosbags-convert --src"):
        BagReader(path)
