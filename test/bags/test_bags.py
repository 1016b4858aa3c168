import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from csl_tracker.bags.frame_writer import RecordedFrame, video_frames, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.errors import BagError
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message, label_map
from csl_tracker.messages.poses import (
    GroundTruth,
    bag_types,
    make_header,
    make_pose_array,
    read_truth_array,
)
from csl_tracker.messages.types import typestore
from csl_tracker.results import TrackingResult
from csl_tracker.video import VideoReader, VideoWriter

RNG = np.random.default_rng(3)


def truth(frame: int) -> GroundTruth:
    return GroundTruth(("left",), ("center",), np.array([[[frame + 0.25, 2.0]]]), np.array([[True]]), (12, 16))


def frames(count: int = 5, labelled: bool = True) -> list[RecordedFrame]:
    return [
        RecordedFrame(
            RNG.integers(0, 256, (12, 16, 3), np.uint8),
            1_000_000_000 + 40_000_000 * index,
            RNG.integers(0, 3, (12, 16), np.uint8) if labelled else None,
            truth(index) if labelled else None,
        )
        for index in range(count)
    ]


def test_a_missing_bag(tmp_path):
    with pytest.raises(BagError, match=r"does not exist"):
        BagReader(tmp_path / "none.mcap")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mcap", b"", "broken"),
        ("text.mcap", b"hello world, this is no bag at all, not even a short one", "broken"),
        ("text.db3", b"hello", "broken"),
        ("video.avi", b"RIFF", "no bag"),
        ("old.bag", b"#ROSBAG V2.0", "ROS 1"),
        ("begun.mcap", None, "broken"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    if content is None:
        write_frames(tmp_path / "whole.mcap", frames())
        content = (tmp_path / "whole.mcap").read_bytes()[:60]
    path.write_bytes(content)
    with pytest.raises(BagError, match=words) as caught:
        BagReader(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(("metadata", "words"), [(None, "metadata.yaml"), ("{", "broken"), ("a: 1", "broken")])
def test_a_broken_folder_is_one_sentence(tmp_path, metadata, words):
    folder = tmp_path / "bag"
    folder.mkdir()
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    with pytest.raises(BagError, match=words):
        BagReader(folder)


def test_damage_in_the_middle_is_noticed_when_it_is_read(tmp_path):
    write_frames(tmp_path / "a.mcap", frames())
    raw = bytearray((tmp_path / "a.mcap").read_bytes())
    raw[60:2000] = b"\xff" * 1940
    (tmp_path / "a.mcap").write_bytes(raw)
    with BagReader(tmp_path / "a.mcap") as bag, pytest.raises(BagError, match="broken"):
        list(bag.frames())


@pytest.mark.parametrize(
    ("written", "choice", "words"),
    [
        ([], None, "has no images"),
        ([topics.TRUTH_SEGMENTATION], None, "has no images"),
        (["/a", "/b"], None, "/a, /b; name one"),
        (["/a", "/b"], "/c", "no images on /c; it has images on /a, /b"),
    ],
)
def test_the_image_topic_must_be_clear(tmp_path, written, choice, words):
    path = _images(tmp_path / "a.mcap", written)
    with BagReader(path) as bag, pytest.raises(BagError, match=words):
        bag.image_topic(choice)


@pytest.mark.parametrize(
    ("written", "choice", "found"),
    [
        (["/a"], None, "/a"),
        (["/a", "/b"], "/b", "/b"),
        (["/a", topics.IMAGE], None, topics.IMAGE),
        (["/a", topics.TRUTH_SEGMENTATION, topics.SEGMENTATION], None, "/a"),
    ],
)
def test_the_image_topic_is_found(tmp_path, written, choice, found):
    with BagReader(_images(tmp_path / "a.mcap", written)) as bag:
        assert bag.image_topic(choice) == found


def _images(path: Path, names: list[str]) -> Path:
    with BagWriter(path) as bag:
        bag.add_topic("/chatter", "std_msgs/msg/String")
        bag.write("/chatter", typestore().types["std_msgs/msg/String"](data="hello"), 1)
        for name in names:
            bag.add_topic(name, topics.IMAGE_TYPE)
            bag.write(name, image_message(np.zeros((2, 2), np.uint8), 7), 7)
    return path


@pytest.mark.parametrize("name", ["bag.mcap", "bag"])
@pytest.mark.parametrize("labelled", [True, False])
def test_frames_come_back_bit_for_bit(tmp_path, name, labelled):
    sent = frames(5, labelled)
    assert write_frames(tmp_path / name, iter(sent), 5) == 5
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with BagReader(tmp_path / name) as bag:
        got = list(bag.frames())
        assert len(got) == bag.count(topics.IMAGE) == 5
        for frame, expected in zip(got, sent, strict=True):
            image = bag.deserialize(frame.image)
            assert (image.encoding, image.step, image.header.frame_id) == ("rgb8", 48, "camera")
            np.testing.assert_array_equal(image.data.reshape(12, 16, 3), expected.image)
            assert frame.stamp_ns == frame.image.stamp_ns == frame.image.time_ns == expected.stamp_ns
            if labelled:
                np.testing.assert_array_equal(label_map(bag.deserialize(frame.truth_segmentation)), expected.label_map)
                np.testing.assert_equal(asdict(read_truth_array(bag.deserialize(frame.truth_poses))), asdict(expected.truth))
            else:
                assert frame.truth_poses is None
                assert frame.truth_segmentation is None


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_bags_of_others_are_read_whatever_their_storage(tmp_path, plugin):
    """Another writer, topic and order: the annotation comes after its image, and one image has none."""
    image_type, array_type = topics.IMAGE_TYPE, topics.POSES_TYPE
    with Writer(tmp_path / "bag", version=9, storage_plugin=plugin) as bag:
        camera = bag.add_connection("/davinci/left/image_raw", image_type, typestore=typestore())
        annotation = bag.add_connection(topics.TRUTH_POSES, array_type, typestore=typestore())
        for index in range(4):
            image = image_message(np.full((3, 4, 3), index, np.uint8), index * 10)
            bag.write(camera, 1000 + index, typestore().serialize_cdr(image, image_type))
            if index != 2:
                header = make_header(bag_types(), index * 10, "")
                message = make_pose_array(bag_types(), header, TrackingResult((), None, (3, 4), 0.0), "")
                bag.write(annotation, 1001 + index, typestore().serialize_cdr(message, array_type))
    with BagReader(tmp_path / "bag") as bag:
        got = list(bag.frames())
    assert [frame.truth_poses is None for frame in got] == [False, False, True, False]
    assert [frame.stamp_ns for frame in got] == [1000, 10, 20, 30], "a stamp of 0 is none: the time of recording stands in"


def test_quality_of_service_is_recorded_as_offered(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.add_topic("/reliable", "std_msgs/msg/String", depth=3)
        bag.add_topic("/effort", "std_msgs/msg/String", reliable=False, depth=1)
    with AnyReader([tmp_path / "a.mcap"]) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles[0] for c in reader.connections}
    assert (offered["/reliable"].reliability.name, offered["/reliable"].depth) == ("RELIABLE", 3)
    assert (offered["/effort"].reliability.name, offered["/effort"].depth) == ("BEST_EFFORT", 1)


class Stop(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("name", ["bag.mcap", "bag"])
@pytest.mark.parametrize("error", [Stop, ValueError])
def test_an_interrupted_writer_leaves_nothing_behind(tmp_path, name, error):
    def broken():
        yield from frames(3)
        raise error

    with pytest.raises(error):
        write_frames(tmp_path / name, broken())
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    write_frames(tmp_path / "a.mcap", frames(2))
    before = (tmp_path / "a.mcap").read_bytes()
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.add_topic("/chatter", "std_msgs/msg/String")
        assert (tmp_path / "a.mcap").read_bytes() == before
    assert (tmp_path / "a.mcap").read_bytes() != before


def test_a_folder_in_the_way_is_refused(tmp_path):
    write_frames(tmp_path / "bag", frames(1))
    with pytest.raises(BagError, match="remove it"):
        BagWriter(tmp_path / "bag")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BagError, match="cannot be written"):
        BagWriter(tmp_path / "a.mcap")


@pytest.mark.parametrize(
    ("msgtype", "twice", "words"), [("foo_msgs/msg/Bar", False, "is unknown"), ("std_msgs/msg/String", True, "once")]
)
def test_a_topic_must_be_new_and_of_a_known_type(tmp_path, msgtype, twice, words):
    with BagWriter(tmp_path / "a.mcap") as bag:
        if twice:
            bag.add_topic("/a", msgtype)
        with pytest.raises(BagError, match=words):
            bag.add_topic("/a", msgtype)


def test_a_video_becomes_evenly_spaced_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=20) as video:
        for index in range(4):
            video.write(np.full((48, 64, 3), 50 * index, np.uint8))
    assert [f.stamp_ns for f in video_frames(VideoReader(tmp_path / "a.mp4"))] == [
        1_000_000_000 + 50_000_000 * i for i in range(4)
    ]
    assert len(list(video_frames(VideoReader(tmp_path / "a.mp4"), limit=2))) == 2


@pytest.mark.parametrize("room", [0, 3_000, 40_000])
@pytest.mark.parametrize("name", ["a.mcap", "a.db3", "folder"])
@pytest.mark.parametrize("storage", [None, "sqlite3"])
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(tmp_path, full_disk, name, storage, room):
    if storage is not None and name != "folder":
        pytest.skip("goes by the suffix")
    older = None if name == "folder" else b"older"
    if older is not None:
        (tmp_path / name).write_bytes(older)
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)

    def fill() -> None:
        with BagWriter(tmp_path / name, storage=storage) as bag:
            bag.add_topic(topics.IMAGE, topics.IMAGE_TYPE)
            for index in range(40):
                bag.write(topics.IMAGE, image_message(noise, index), index)

    with pytest.raises(BagError, match=r"Writing the bag .* failed \(.+\); make room on the disk"), full_disk(room):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ([] if older is None else [name])
    if older is not None:
        assert (tmp_path / name).read_bytes() == older
