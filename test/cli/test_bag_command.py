"""``csl-tracker bag``: what it writes is read back by the independent mcap and rosbags libraries."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.cli.main import main
from csl_tracker.datasets.endovis2015 import open_endovis2015
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message
from csl_tracker.messages.poses import bag_types, make_header, read_truth_array
from csl_tracker.messages.types import typestore
from csl_tracker.video import VideoReader, VideoWriter

FRAMES = 3
SIZE = (64, 80)
CALIBRATION = {
    "image_width": 80,
    "image_height": 64,
    "camera_name": "left",
    "camera_matrix": {"rows": 3, "cols": 3, "data": [90.0, 0, 40, 0, 91, 32, 0, 0, 1]},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, -0.2, 0, 0, 0]},
    "rectification_matrix": {"rows": 3, "cols": 3, "data": [1.0, 0, 0, 0, 1, 0, 0, 0, 1]},
    "projection_matrix": {"rows": 3, "cols": 4, "data": [90.0, 0, 40, 0, 0, 91, 32, 0, 0, 0, 1, 0]},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    for number in (1, 2):
        write_endovis2015(SyntheticSequence(number, FRAMES, SIZE, 25.0, name=f"Dataset{number}"), root)
    return root


@pytest.fixture
def video(tmp_path) -> Path:
    with VideoWriter(tmp_path / "a.mp4", fps=20) as writer:
        for index in range(FRAMES):
            writer.write(np.full((*SIZE, 3), 60 * index, np.uint8))
    return tmp_path / "a.mp4"


def write_calibration(path: Path, **changes: object) -> Path:
    content = {key: value for key, value in {**CALIBRATION, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["NOWHERE", "--out", "OUT"], "nowhere does not exist"),
        (["EMPTY", "--out", "OUT"], "no dataset of a known layout"),
        (["DATASET", "--out", "OUT"], r"contains 2 sequences (Dataset1, Dataset2); name one"),
        (["DATASET", "--sequence", "Dataset7", "--out", "OUT"], "Dataset7"),
        (["VIDEO", "--out", "OUT", "--jpeg", "0"], "--jpeg is 0"),
        (["VIDEO", "--out", "OUT", "--frames", "0"], "--frames is 0"),
        (["VIDEO", "--out", "VIDEO"], "exists; give --overwrite"),
        (["VIDEO", "--out", "OUT.db3", "--storage", "mcap"], "cannot be written with the storage 'mcap'"),
        (["VIDEO", "--out", "OUT", "--camera-info", "NOWHERE"], "calibration"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_bag(tmp_path, dataset, video, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    places = {
        "NOWHERE": tmp_path / "nowhere",
        "EMPTY": tmp_path / "empty",
        "DATASET": dataset,
        "VIDEO": video,
        "OUT": tmp_path / "out",
        "OUT.db3": tmp_path / "out.db3",
    }
    assert main(["bag", "make", *(str(places.get(word, word)) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "empty"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_width": 640}, "left.yaml is for images of 640x64 px, but the frames have 80x64 px"),
        ({"camera_matrix": None}, "has no camera_matrix"),
        ({"camera_matrix": "none"}, "is not a YAML file of camera_calibration"),
        ({"distortion_model": "thin_prism"}, "'thin_prism' of camera_info is not known"),
    ],
)
def test_a_calibration_that_cannot_be_is_one_sentence(tmp_path, video, capsys, changes, words):
    calibration = write_calibration(tmp_path / "left.yaml", **changes)
    assert main(["bag", "make", str(video), "--out", str(tmp_path / "out"), "--camera-info", str(calibration)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_dataset_becomes_a_bag_that_others_read(tmp_path, dataset, storage):
    out = tmp_path / "bag"
    source = ["bag", "make", str(dataset), "--sequence", "Dataset2", "--out", str(out), "--storage", storage]
    assert main(source) == 0
    expected = list(open_endovis2015(dataset, ["Dataset2"])[0])
    with AnyReader([out]) as reader:
        connections = {connection.topic: connection for connection in reader.connections}
        assert {topic: c.msgtype for topic, c in connections.items()} == {
            topics.IMAGE: topics.IMAGE_TYPE,
            topics.TRUTH_POSES: topics.POSES_TYPE,
            topics.TRUTH_SEGMENTATION: topics.IMAGE_TYPE,
        }
        assert all(connection.msgdef.data and connection.digest for connection in connections.values())
        assert {connection.ext.offered_qos_profiles[0].reliability.name for connection in connections.values()} == {"RELIABLE"}
        got = {topic: [] for topic in connections}
        for connection, time_ns, data in reader.messages():
            got[connection.topic].append((time_ns, reader.deserialize(data, connection.msgtype)))
    for index, sample in enumerate(expected):
        stamp = 1_000_000_000 + 40_000_000 * index
        for topic in got:
            time_ns, message = got[topic][index]
            assert time_ns == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
        np.testing.assert_array_equal(got[topics.IMAGE][index][1].data, sample.image.reshape(-1))
        np.testing.assert_array_equal(got[topics.TRUTH_SEGMENTATION][index][1].data, sample.label_map.reshape(-1))
        truth = read_truth_array(got[topics.TRUTH_POSES][index][1])
        np.testing.assert_array_equal(truth.landmarks, sample.landmarks)
    assert main([*source, "--frames", "1"]) == 2
    assert main([*source, "--frames", "1", "--overwrite"]) == 0
    with BagReader(out) as bag:
        assert bag.count(topics.IMAGE) == 1
        assert bag.custom == {"csl_tracker_classes": "background, shaft, manipulator"}
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_a_video_with_calibration_as_jpeg_in_one_mcap_file(tmp_path, video):
    calibration = write_calibration(tmp_path / "left.yaml")
    out = tmp_path / "bag.mcap"
    arguments = ["--jpeg", "95", "--camera-info", str(calibration), "--frame-id", "left_camera"]
    assert main(["bag", "make", str(video), "--out", str(out), *arguments]) == 0
    with out.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2", "Foxglove goes by it"
        found = [(schema, channel, message) for schema, channel, message in reader.iter_messages()]
    schemas = {channel.topic: schema for schema, channel, _ in found}
    assert {topic: (schema.name, schema.encoding) for topic, schema in schemas.items()} == {
        "/camera/image_raw/compressed": ("sensor_msgs/msg/CompressedImage", "ros2msg"),
        "/camera/camera_info": ("sensor_msgs/msg/CameraInfo", "ros2msg"),
    }
    assert all(b"MSG: std_msgs/Header" in schema.data for schema in schemas.values())
    assert {yaml.safe_load(channel.metadata["offered_qos_profiles"])[0]["depth"] for _, channel, _ in found} == {1}
    images = list(VideoReader(video))
    times = sorted({message.log_time for *_, message in found})
    assert times == [1_000_000_000 + 50_000_000 * index for index in range(FRAMES)]
    for schema, channel, message in found:
        content = typestore().deserialize_cdr(message.data, schema.name)
        assert content.header.frame_id == "left_camera"
        if channel.topic.endswith("camera_info"):
            assert list(content.k) == CALIBRATION["camera_matrix"]["data"]
            assert list(content.p) == CALIBRATION["projection_matrix"]["data"]
            assert (content.width, content.height, content.distortion_model) == (80, 64, "plumb_bob")
        else:
            assert content.format == "jpeg"
            rgb = cv2.cvtColor(cv2.imdecode(content.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            difference = rgb.astype(int) - images[times.index(message.log_time)]
            assert np.abs(difference).max() <= 3


def test_the_calibration_of_a_dataset_goes_along(tmp_path, video):
    folder = tmp_path / "SurgPose" / "000003"
    (folder / "regular").mkdir(parents=True)
    for side in ("left", "right"):
        (folder / "regular" / f"{side}_video.mp4").write_bytes(video.read_bytes())
        (folder / f"keypoints_{side}.yaml").write_text("0: {1: [30.5, 20.25]}")
    camera = "res_x=80\nres_y=64\nfc_x=90\nfc_y=91\ncc_x=40\ncc_y=32\n" + "".join(f"kc_{i}=0\n" for i in range(5))
    pose = "".join(f"R_{i}={float(i % 4 == 0)}\n" for i in range(9)) + "T_0=-5\nT_1=0\nT_2=0\n"
    (folder / "StereoCalibrationDVRK.ini").write_text(f"[StereoLeft]\n{camera}[StereoRight]\n{camera}{pose}")
    arguments = ["bag", "make", str(tmp_path / "SurgPose"), "--sequence", "000003_right", "--out", str(tmp_path / "bag")]
    assert main(arguments) == 0
    with BagReader(tmp_path / "bag") as bag:
        assert bag.custom == {}
        frame = next(bag.frames())
        found = bag.deserialize(frame.camera_info)
        truth = read_truth_array(bag.deserialize(frame.truth_poses))
    assert (found.width, found.height, found.k[0], found.k[4]) == (80, 64, 90.0, 91.0)
    assert found.p[3] == pytest.approx(-90.0 * 0.005, abs=0.01), "of the right camera: its focal length times the base line, m"
    assert [30.5, 20.25] in truth.landmarks.reshape(-1, 2).tolist()


def info(path: Path, capsys, *options: str) -> dict:
    assert main(["bag", "info", str(path), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_info_tells_what_is_in_a_bag(tmp_path, dataset, capsys):
    main(["bag", "make", str(dataset / "Dataset1"), "--out", str(tmp_path / "bag.mcap")])
    capsys.readouterr()
    found = info(tmp_path / "bag.mcap", capsys, "--check")
    assert found["duration_s"] == pytest.approx(0.04 * (FRAMES - 1))
    assert found["problems"] == []
    assert found["images"] == [{"topic": topics.IMAGE, "encoding": "rgb8", "width": 80, "height": 64, "camera_info": False}]
    by_name = {topic["name"]: topic for topic in found["topics"]}
    assert by_name[topics.IMAGE] == {
        "name": topics.IMAGE,
        "type": topics.IMAGE_TYPE,
        "count": FRAMES,
        "rate_hz": 25.0,
        "reliability": "reliable",
        "defined": True,
        "use": "images",
    }
    assert by_name[topics.TRUTH_POSES]["use"] == "ground truth"
    assert main(["bag", "info", str(tmp_path / "bag.mcap")]) == 0
    text = capsys.readouterr().out
    assert "trackable: /camera/image_raw (80x64 px, rgb8)" in text
    assert "no problems in the index" in text


def write_stamps(path: Path, stamps: list[int], sizes: list[int] | None = None) -> Path:
    with BagWriter(path) as bag:
        bag.add_topic("/cam", topics.IMAGE_TYPE)
        for index, stamp in enumerate(stamps):
            width = sizes[index] if sizes else 4
            bag.write("/cam", image_message(np.zeros((4, width, 3), np.uint8), stamp), 10**9 + index)
    return path


@pytest.mark.parametrize(
    ("stamps", "sizes", "words"),
    [
        (
            [5 * 10**9, 6 * 10**9, 4 * 10**9, 5 * 10**9, 3 * 10**9],
            None,
            "/cam run backwards 2 times, first by 2.000 s at message 2",
        ),
        ([10**9, 0, 0], None, "2 of 3 messages on /cam have no stamp"),
        ([1, 2, 3], [4, 4, 5], "change their size: 4x4 from message 0, 5x4 from message 2"),
    ],
)
def test_what_only_every_message_shows(tmp_path, capsys, stamps, sizes, words):
    path = write_stamps(tmp_path / "a.mcap", stamps, sizes)
    assert info(path, capsys)["problems"] == []
    problems = info(path, capsys, "--check")["problems"]
    assert len(problems) == 1
    assert words in problems[0]


def test_info_of_a_bag_that_was_cut_off_and_of_one_without_images(tmp_path, capsys):
    path = write_stamps(tmp_path / "a.mcap", list(range(1, 9)))
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"rgb8")])
    for options in ([], ["--check"]):
        (problem,) = info(path, capsys, *options)["problems"]
        assert "cannot be read to its end" in problem
    with BagWriter(tmp_path / "b.mcap") as bag:
        bag.add_topic(topics.TRUTH_POSES, "std_msgs/msg/Header")
        bag.write(topics.TRUTH_POSES, make_header(bag_types(), 5, ""), 5)
    problems = info(tmp_path / "b.mcap", capsys)["problems"]
    assert ["has no images" in problems[0], "is not used as ground truth" in problems[1]] == [True, True]
    assert main(["bag", "info", str(tmp_path / "c.mcap")]) == 2
