from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, TimeReference
from std_srvs.srv import SetBool

from csl_tracker.bags.frame_writer import BagOptions, RecordedFrame, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.camera import CameraModel
from csl_tracker.clock import NS
from csl_tracker.messages import topics
from csl_tracker.messages.images import fill_image
from csl_tracker.messages.poses import GroundTruth, read_truth_array, stamp_ns
from csl_tracker.node import replay_node
from csl_tracker.node.processes import NodeProcess
from csl_tracker.node.replay_parameters import PARAMETERS
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

STEP_NS = 40_000_000


def frames(count: int) -> list[RecordedFrame]:
    return [
        RecordedFrame(
            np.full((12, 16, 3), index, np.uint8),
            NS + index * STEP_NS,
            np.full((12, 16), index % 3, np.uint8),
            GroundTruth(("left",), ("center",), np.array([[[index, 2.0]]]), np.array([[True]]), (12, 16)),
        )
        for index in range(count)
    ]


@pytest.fixture
def bag(tmp_path):
    write_frames(tmp_path / "frames.mcap", frames(6))
    return tmp_path / "frames.mcap"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([], "No bag was named"),
        (["bag:=/nowhere.mcap"], "/nowhere.mcap does not exist"),
        (["bag:=BAG", "image_topic:=/other"], "no images on /other; it has images on /camera/image_raw"),
        (["bag:=BAG", "rate:=-1.0"], "rate is -1.0"),
        (["bag:=BAG", "timeout_s:=0.0"], "timeout_s 0.0"),
        (["bag:=BAG", "attempts:=0"], "attempts 0"),
        (["bag:=BAG", "rate:=fast"], "rate"),
        (["bag:=BAG", "output:=FOLDER"], "remove it first"),
        (["bag:=BAG", "start:=-1.0"], "start is -1"),
        (["bag:=BAG", "start:=2.0", "end:=1.0"], "with end after start"),
        (["bag:=BAG", "stamps:=mine"], "stamps is 'mine'; choose one of now, original"),
        (["bag:=BAG", "clock:=true"], "stamps:=original"),
        (["bag:=BAG", "loop:=true"], "With loop the replay never ends"),
        (
            ["bag:=BAG", "publish_topic:=/left image"],
            "publish_topic is '/left image', which is no valid topic name: topic name must",
        ),
        (["bag:=BAG", "publish_topic:=''"], "publish_topic is ''"),
        (["bag:=BAG", "publish_topic:=/left/image/compressed"], "give the topic without /compressed"),
        (["bag:=BAG", "poses_topic:=/1"], "poses_topic is '/1', which is no valid topic name"),
        (["bag:=BAG", "wait_s:=0.3"], "No tracker appeared within 0.3 s"),
        (["bag:=BAG", "wait_s:=0.3", "publish_topic:=/left/image"], "/left/image has no subscriber or"),
        (["bag:=BAG", "wait_s:=0.3", "publish_topic:=left/image"], "'-r image:=/left/image'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_bag(ros_environment, bag, capfd, parameters, words):
    arguments = ["replay_node", "--ros-args", "-p", f"output:={bag.parent}/poses.mcap"]
    for parameter in parameters:
        arguments += ["-p", parameter.replace("BAG", str(bag)).replace("FOLDER", str(bag.parent))]
    assert replay_node.main(arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("replay_node: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert [path.name for path in bag.parent.iterdir()] == ["frames.mcap"]


class Answerer:
    """The other end: answers each publication that ``wanted`` lets through, in this process over real DDS."""

    def __init__(self, peer, wanted, segmentation: bool = False, topic: str = topics.IMAGE):
        self.seen: list[tuple[int, int]] = []  # first pixel, stamp
        self._wanted = wanted
        self._poses = peer.publisher(InstrumentPoseArray, topics.POSES)
        self._masks = peer.publisher(Image, topics.SEGMENTATION) if segmentation else None
        peer.node.create_subscription(Image, topic, self._receive, 10)

    def _receive(self, message):
        pixel = message.data[0]
        self.seen.append((pixel, stamp_ns(message.header.stamp)))
        if not self._wanted(pixel, sum(1 for other, _ in self.seen if other == pixel)):
            return
        self._poses.publish(InstrumentPoseArray(header=message.header, image_width=16, image_height=12, model="stub@0"))
        if self._masks is not None:
            self._masks.publish(fill_image(Image(header=message.header), np.full((12, 16), 2, np.uint8)))


def replay(peer, environment, bag, **parameters):
    """Run the node as a process of its own until it ends."""
    log = bag.parent / "replay.log"
    given = {"bag": str(bag), "output": str(bag.parent / "poses.mcap"), "timeout_s": 0.5, "wait_s": 30.0, **parameters}
    with NodeProcess("replay_node", given, environment=environment, log=log) as process:
        peer.wait_for(lambda: process.poll() is not None, 60.0, "the replay goes on")
        peer.spin_for(0.2)
        return process.poll(), process.output()


def test_lock_step_sends_a_lost_frame_again(peer, ros_environment, bag, read_publications):
    answerer = Answerer(peer, lambda pixel, attempt: pixel != 2 or attempt == 3)
    references = peer.listen(TimeReference, topics.SOURCE_TIME)
    truths = peer.listen(InstrumentPoseArray, topics.TRUTH_POSES)
    masks = peer.listen(Image, topics.TRUTH_SEGMENTATION)
    status, output = replay(peer, ros_environment, bag)
    assert status == 0, output
    pixels = [pixel for pixel, _ in answerer.seen]
    assert list(dict.fromkeys(pixels)) == [0, 1, 2, 3, 4, 5]
    assert pixels.count(2) == 3
    assert pixels == sorted(pixels), "never the next frame before this one was answered"
    stamps = {stamp: pixel for pixel, stamp in answerer.seen}
    assert len(stamps) == len(answerer.seen), "each publication has a stamp of its own"
    for message in truths:  # everything that is said about an image has the image's stamp
        pixel = stamps[stamp_ns(message.header.stamp)]
        assert read_truth_array(message).landmarks[0, 0, 0] == pixel
        assert stamp_ns(message.poses[0].header.stamp) == stamp_ns(message.header.stamp)
    assert {stamps[stamp_ns(mask.header.stamp)] % 3 == mask.data[0] for mask in masks} == {True}
    for reference in references:
        assert stamp_ns(reference.time_ref) == NS + stamps[stamp_ns(reference.header.stamp)] * STEP_NS

    publications = read_publications(bag.parent / "poses.mcap")
    with BagReader(bag.parent / "poses.mcap") as recorded:
        assert recorded.count(topics.TRUTH_POSES) == len(publications)
        answers = list(recorded.messages([topics.POSES]))
        assert all(recorded.deserialize(message).model == "stub@0" for message in answers)
    assert [(item.source_ns - NS) // STEP_NS for item in publications] == pixels
    assert [item.published_ns for item in publications] == [stamp for _, stamp in answerer.seen]
    assert [item.result is None for item in publications].count(True) == 2
    assert all(0 < item.received_ns - item.published_ns < 5 * NS for item in publications if item.result is not None)


@pytest.mark.parametrize(
    ("answered", "limit", "seen", "words"),
    [
        ({0}, 6, [0, 1, 1, 2, 2, 3, 3], "the frames 1 to 3"),
        ({0, 3}, 6, [0, 1, 1, 2, 2, 3, 4, 4, 5, 5], None),
        (set(), 6, [0, 0, 1, 1, 2, 2], "the frames 0 to 2"),
        (set(), 2, [0, 0, 1, 1], "the frames 0 to 1"),
        (set(), 1, [0, 0], "frame 0"),
    ],
    ids=["tracker gone", "two and two", "never there", "never there, two frames", "never there, one frame"],
)
def test_lock_step_gives_up_when_no_frame_or_several_in_a_row_are_not_answered(
    peer, ros_environment, bag, answered, limit, seen, words
):
    answerer = Answerer(peer, lambda pixel, attempt: pixel in answered)
    status, output = replay(peer, ros_environment, bag, attempts=2, timeout_s=0.6, frames=limit)
    assert [pixel for pixel, _ in answerer.seen] == seen
    assert "Traceback" not in output
    if words is None:
        assert status == 0, output
        return
    assert status == 2
    assert f"did not answer {words} of" in output
    assert "each sent 2 times with 0.6 s to answer" in output
    assert not (bag.parent / "poses.mcap").exists()


def test_lock_step_passes_over_a_frame_that_is_never_answered(peer, ros_environment, bag, read_publications):
    answerer = Answerer(peer, lambda pixel, attempt: pixel != 2)
    status, output = replay(peer, ros_environment, bag, attempts=2, timeout_s=1.0)
    assert status == 0, output
    assert [pixel for pixel, _ in answerer.seen] == [0, 1, 2, 2, 3, 4, 5]
    assert "Frame 2 was sent 2 times without an answer" in output
    assert "7 frames published (1 of them again), 5 answered" in output
    publications = read_publications(bag.parent / "poses.mcap")
    assert [(item.source_ns - NS) // STEP_NS for item in publications if item.result is not None] == [0, 1, 3, 4, 5]


def test_label_maps_are_recorded_on_request(peer, ros_environment, bag, read_publications):
    Answerer(peer, lambda pixel, attempt: True, segmentation=True)
    status, output = replay(peer, ros_environment, bag, record_segmentation=True, frames=4)
    assert status == 0, output
    maps = [item.result.label_map for item in read_publications(bag.parent / "poses.mcap")]
    np.testing.assert_array_equal(maps, np.full((4, 12, 16), 2))


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_with_a_rate_the_frames_keep_their_pace_whatever_is_answered(peer, ros_environment, bag, rate, read_publications):
    answerer = Answerer(peer, lambda pixel, attempt: pixel == 5)
    status, output = replay(peer, ros_environment, bag, rate=rate, timeout_s=2.0)
    assert status == 0, output
    publications = read_publications(bag.parent / "poses.mcap")
    assert [item.source_ns for item in publications] == [NS + index * STEP_NS for index in range(6)]
    elapsed = np.array([item.published_ns - publications[0].published_ns for item in publications])
    due = np.arange(6) * STEP_NS / rate
    assert (elapsed - due > -1e7).all(), "none too early"
    assert np.abs(elapsed - due).max() < 0.5 * NS
    assert publications[-1].result is not None
    assert len(answerer.seen) <= 6


CAMERA = CameraModel(16, 12, np.diag([9.0, 9.0, 1.0]), np.zeros(5), "plumb_bob", np.eye(3), np.diag([9.0, 9.0, 1.0, 1.0])[:3])


def test_a_part_of_a_bag_under_its_own_stamps_with_its_clock_and_calibration(peer, ros_environment, tmp_path):
    bag = tmp_path / "frames.mcap"
    write_frames(bag, frames(6), options=BagOptions(camera=CAMERA))
    answerer = Answerer(peer, lambda pixel, attempt: True)
    clock: list[Clock] = []
    peer.node.create_subscription(Clock, "/clock", clock.append, qos_profile_sensor_data)
    calibrations = peer.listen(CameraInfo, topics.CAMERA_INFO)
    truths = peer.listen(InstrumentPoseArray, topics.TRUTH_POSES)
    original = {"stamps": "original", "clock": True, "rate": 0.5, "start": 0.04, "end": 0.16}
    status, output = replay(peer, ros_environment, bag, timeout_s=5.0, **original)
    assert status == 0, output
    assert answerer.seen == [(index, NS + index * STEP_NS) for index in (1, 2, 3, 4)]
    assert [stamp_ns(info.header.stamp) for info in calibrations] == [stamp for _, stamp in answerer.seen]
    assert {info.k[0] for info in calibrations} == {9.0}
    assert [stamp_ns(truth.poses[0].header.stamp) for truth in truths] == [stamp for _, stamp in answerer.seen]
    ticks = [stamp_ns(message.clock) for message in clock]
    assert ticks == sorted(ticks)
    assert len(set(ticks)) > 6, "time passes between the frames too"
    assert NS + STEP_NS <= ticks[0] < ticks[-1] == NS + 4 * STEP_NS
    with BagReader(bag.parent / "poses.mcap") as recorded:
        assert topics.SOURCE_TIME not in recorded.types, "there is no time of publication, and no latency"
        assert recorded.custom == {"csl_tracker_replay": "original stamps"}
        answers = list(recorded.messages([topics.POSES]))
    assert [(message.stamp_ns, message.time_ns) for message in answers] == [(stamp, stamp) for _, stamp in answerer.seen]


@pytest.mark.parametrize(
    ("given", "remappings", "image", "camera_info"),
    [
        ("/left/image_raw", {}, "/left/image_raw", "/left/camera_info"),
        ("arm/image", {}, "/arm/image", "/arm/camera_info"),
        ("/image", {"/image": "/b/other"}, "/b/other", "/camera_info"),
    ],
    ids=["absolute", "relative", "remapped"],
)
def test_images_go_onto_any_topic_and_their_calibration_beside_them(
    peer, ros_environment, tmp_path, given, remappings, image, camera_info
):
    bag = tmp_path / "frames.mcap"
    write_frames(bag, frames(2), options=BagOptions(camera=CAMERA))
    answerer = Answerer(peer, lambda pixel, attempt: True, topic=image)
    calibrations = peer.listen(CameraInfo, camera_info)
    parameters = {"bag": str(bag), "publish_topic": given, "timeout_s": 5.0}
    with NodeProcess("replay_node", parameters, remappings, ros_environment, tmp_path / "replay.log") as process:
        peer.wait_for(lambda: process.poll() is not None, 60.0, "the replay goes on")
        assert process.poll() == 0, process.output()
    assert list(dict.fromkeys(pixel for pixel, _ in answerer.seen)) == [0, 1]
    assert {info.k[0] for info in calibrations} == {9.0}


def test_a_loop_goes_on_until_it_is_stopped_and_heeds_the_pause(peer, ros_environment, bag):
    answerer = Answerer(peer, lambda pixel, attempt: False)
    pause = peer.node.create_client(SetBool, "/replay_node/pause")
    given = {"bag": str(bag), "loop": True, "rate": 8.0, "timeout_s": 0.05, "wait_s": 30.0}
    with NodeProcess("replay_node", given, environment=ros_environment, log=bag.parent / "replay.log") as process:
        peer.wait_for(lambda: len(answerer.seen) >= 14, 60.0, process.output())
        peer.wait_for(pause.service_is_ready, 60.0, "no service")
        counts = []
        for held in (True, False):
            answer = pause.call_async(SetBool.Request(data=held))
            peer.wait_for(answer.done, 60.0, "no answer")
            assert answer.result().success
            peer.spin_for(0.2)  # what was on its way
            counts.append(len(answerer.seen))
            if held:
                peer.spin_for(0.5)
                assert len(answerer.seen) == counts[0]
        peer.wait_for(lambda: len(answerer.seen) > counts[1], 60.0, "it does not go on")
        assert process.stop() == 0, process.output()
    pixels = [pixel for pixel, _ in answerer.seen]
    assert set(np.diff(pixels) % 6) <= {1, 2, 3}, "from the last frame to the first, but for lost ones"
    stamps = [stamp for _, stamp in answerer.seen]
    assert stamps == sorted(stamps)


def test_what_was_answered_before_a_bag_breaks_is_kept(peer, ros_environment, bag):
    content = bag.read_bytes()
    bag.write_bytes(content[: content.rfind(b"rgb8")])
    Answerer(peer, lambda pixel, attempt: True)
    status, output = replay(peer, ros_environment, bag)
    assert status == 2
    assert "frames.mcap cannot be read to its end" in output
    with BagReader(bag.parent / "poses.mcap") as recorded:
        assert 0 < recorded.count(topics.POSES) < 6


def test_the_documentation_has_every_parameter():
    page = (Path(__file__).parents[2] / "docs" / "bags.md").read_text(encoding="utf-8")
    for name, one in PARAMETERS.items():
        shown = str(one.default).lower() if isinstance(one.default, bool) else str(one.default) or '""'
        assert f"| `{name}` | `{shown}` | {one.description} |" in page
