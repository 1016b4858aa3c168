import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from csl_tracker.cli.main import main
from csl_tracker.clock import NS
from csl_tracker.errors import ConfigError
from csl_tracker.messages.poses import make_header
from csl_tracker.node import watcher as module
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.node.watcher import Watcher, full_name
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray, Landmark

pytestmark = pytest.mark.ros

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@pytest.mark.parametrize("name", ["", "/", "two words", "/9lives", "a//b", "tracker_node/~"])
def test_what_is_no_name_of_a_node_is_refused(name):
    with pytest.raises(ConfigError, match=re.escape(f"--node {name!r} is not a valid node name")):
        full_name(name)


@pytest.mark.parametrize("name", ["tracker_node", "/tracker_node", "/tracker_node/"])
def test_the_slash_may_be_left_out(name):
    assert full_name(name) == "/tracker_node"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lines", "0"], "--lines is 0"),
        (["--once", "--timeout", "0"], "--timeout is 0"),
        (["--node", "two words"], "'two words' is not a valid node name"),
        (["--once", "--timeout", "0.3"], "No poses arrived within 0.3 s. Looking for /tracker_node"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(ros_environment, capsys, arguments, words):
    assert main(["watch", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


class Other:
    """A node of any name beside the watcher, spun with the peer."""

    def __init__(self, peer, name, space="/"):
        self._peer = peer
        self.node = rclpy.create_node(name, namespace=space, context=peer.context)
        peer.executor.add_node(self.node)

    def __enter__(self):
        return self.node

    def __exit__(self, *exception):
        self._peer.executor.remove_node(self.node)
        self.node.destroy_node()


@pytest.fixture
def patient(monkeypatch):
    """Nothing is said to be missing before this many seconds have passed."""
    monkeypatch.setattr(module, "DISCOVERY_S", 0.0)


def wait_for_problem(peer, watcher, words, timeout_s=120.0, meanwhile=lambda: None):
    end = time.monotonic() + timeout_s
    while words not in (problems := " ".join(watcher.view().problems)):
        assert time.monotonic() < end, problems
        meanwhile()
        watcher.spin(0.05)
        peer.spin_for(0.05)


def test_another_tracker_is_named_when_this_one_is_not_there(peer, ros_environment, patient):
    with Other(peer, "tracker_node", "/left") as node, Watcher("tracker_node") as watcher:
        node.create_publisher(InstrumentPoseArray, "~/poses", 1)
        wait_for_problem(peer, watcher, f"No node /tracker_node was found in ROS_DOMAIN_ID {ros_environment['ROS_DOMAIN_ID']}")
        wait_for_problem(peer, watcher, "publishing poses there: /left/tracker_node (give one with --node)")


def test_a_topic_of_another_type_is_named(peer, patient):
    with Other(peer, "tracker_node") as node, Watcher("tracker_node") as watcher:
        node.create_publisher(Image, "~/poses", 1)
        wait_for_problem(peer, watcher, "/tracker_node/poses has type sensor_msgs/msg/Image (from /tracker_node)")


def test_a_managed_node_that_is_not_active_is_named(peer, patient):
    node = LifecycleNode("tracker_node", context=peer.context)
    peer.executor.add_node(node)
    try:
        with Watcher("tracker_node") as watcher:
            wait_for_problem(
                peer, watcher, "The node /tracker_node exists (unconfigured), but does not publish /tracker_node/poses yet"
            )
            node.create_publisher(InstrumentPoseArray, "~/poses", 1)
            wait_for_problem(peer, watcher, "run 'ros2 lifecycle set /tracker_node configure'")
            node.trigger_configure()
            wait_for_problem(peer, watcher, "The node is inactive, not active: run 'ros2 lifecycle set /tracker_node activate'")
            assert watcher.view().state == "inactive"
    finally:
        peer.executor.remove_node(node)
        node.destroy_node()


def test_why_the_tracker_has_no_images_is_found_out(peer, patient):
    with Other(peer, "tracker_node") as tracker, Other(peer, "camera") as camera, Watcher("tracker_node") as watcher:
        # Created before the first wait: a publisher that came last was once not found for two minutes under load.
        says = tracker.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        tracker.create_publisher(InstrumentPoseArray, "~/poses", 1)
        tracker.create_subscription(Image, "/endoscope/image_raw", lambda message: None, RELIABLE)
        wait_for_problem(peer, watcher, "No node publishes images on /endoscope/image_raw")
        publisher = camera.create_publisher(Image, "/endoscope/image_raw", BEST_EFFORT)
        wait_for_problem(
            peer,
            watcher,
            "/camera offers best effort, volatile, /tracker_node requests reliable, volatile; change one of them",
        )
        camera.destroy_publisher(publisher)
        camera.create_publisher(Image, "/endoscope/image_raw", RELIABLE)
        wait_for_problem(peer, watcher, "the tracker is stuck or stopped, or the camera has stopped")
        wait_for_problem(
            peer,
            watcher,
            "although the topic has a publisher; the node is alive and reports: slow.",
            meanwhile=lambda: says.publish(diagnostics("/tracker_node: tracking")),
        )


def pose_array(stamp_ns: int) -> InstrumentPoseArray:
    header = make_header(ROS_TYPES, stamp_ns, "endoscope")
    pose = InstrumentPose(header=header, track_id=5, instrument="left", confidence=0.75, shaft_angle=0.0)
    pose.landmarks = [Landmark(name="head", x=1.5, y=2.5, confidence=0.75, visible=True)]
    return InstrumentPoseArray(header=header, image_width=64, image_height=48, model="tiny@1234", poses=[pose])


def diagnostics(name: str) -> DiagnosticArray:
    values = [KeyValue(key="dropped", value="7")]
    return DiagnosticArray(status=[DiagnosticStatus(name=name, level=DiagnosticStatus.WARN, message="slow", values=values)])


@pytest.mark.parametrize("quality", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_poses_and_diagnostics_are_received_and_the_trouble_is_over(peer, quality):
    with Other(peer, "tracker_node") as tracker, Watcher("/tracker_node") as watcher:
        poses = tracker.create_publisher(InstrumentPoseArray, "~/poses", quality)
        says = tracker.create_publisher(DiagnosticArray, "/diagnostics", 1)

        def seen():
            poses.publish(pose_array(time.time_ns()))
            says.publish(diagnostics("other_node: tracking"))
            says.publish(diagnostics("tracker_node: tracking"))
            watcher.spin(0.05)
            return watcher.watch.received > 3 and watcher.view().diagnosis

        peer.wait_for(seen, 30.0, "no poses")
        view = watcher.view()
        assert view.problems == ()
        assert view.model == "tiny@1234"
        assert view.size == (48, 64)
        assert [(one.slot, one.track_id, one.landmarks[0].x) for one in view.instruments] == [("left", 5, 1.5)]
        assert view.latency is not None
        assert 0 < view.latency.p50 < 20_000
        assert (view.diagnosis.level, view.diagnosis.message, dict(view.diagnosis.values)) == (1, "slow", {"dropped": "7"})


@pytest.fixture
def poses(peer):
    """A function that lets pose arrays come for as long as a process runs, or until something holds."""
    with Other(peer, "tracker_node") as tracker:
        publisher = tracker.create_publisher(InstrumentPoseArray, "~/poses", RELIABLE)

        def publish_until(done, timeout_s=60.0):
            def published():
                publisher.publish(pose_array(time.time_ns()))
                peer.spin_for(0.05)
                return done()

            peer.wait_for(published, timeout_s, "the watch does not end")

        yield publish_until


COMMAND = [sys.executable, "-m", "csl_tracker.cli.main", "watch"]


@pytest.mark.parametrize(
    ("arguments", "lines", "words"),
    [(["--once", "--timeout", "50"], 9, "head  (    1.5,     2.5) px"), (["--lines", "2"], 2, "/")],
)
def test_plain_text_where_stdout_is_no_terminal(poses, ros_environment, arguments, lines, words):
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=ros_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        poses(lambda: process.poll() is not None)
        output, error = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, error) == (0, "")
    assert "\x1b" not in output
    assert output.count("\n") == lines
    assert words in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_given_back(poses, ros_environment, number):
    master, slave = pty.openpty()
    process = subprocess.Popen(COMMAND, env={**ros_environment, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    output = bytearray()

    def read():
        while select.select([master], [], [], 0)[0]:
            try:
                output.extend(os.read(master, 65536))
            except OSError:  # the other end has closed
                return

    try:

        def drawn():
            read()
            return b"left #5" in output

        poses(drawn)
        process.send_signal(number)
        assert process.wait(20) == 0
        read()
    finally:
        process.kill()
        os.close(master)
    text = output.decode()
    assert text.startswith("\x1b[?1049h\x1b[?25l")
    screen, _, after = text.partition("\x1b[?25h\x1b[?1049l")
    assert "tiny@1234, 64x48 px" in screen
    assert re.fullmatch(r"/tracker_node: \d+ pose arrays in [\d.]+ s\r\n", after)
    assert "Traceback" not in text


def test_stamps_are_in_seconds(peer):
    with Watcher("tracker_node") as watcher:
        watcher._receive(pose_array(int((time.time() - 2.0) * NS)))
        latency = watcher.view().latency
        assert latency is not None
        assert latency.p50 == pytest.approx(2000, abs=500)
