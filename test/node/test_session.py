"""The tracking session without ROS: outputs that write down what they are given, and real weights and engines."""

import threading
import time

import numpy as np
import pytest

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ImageError, WeightsError
from csl_tracker.messages.diagnostics import ERROR, OK
from csl_tracker.messages.images import UnusableImageError
from csl_tracker.node.session import TrackingSession, verdict
from csl_tracker.node.session_ports import InputFrame, Picture
from csl_tracker.node.tracker_parameters import PARAMETERS, Settings

IMAGE = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}
LONG_S = 60.0
K = np.array([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
CAMERA = CameraModel(80, 60, K, np.zeros(5), "plumb_bob", np.eye(3), np.hstack((K, np.zeros((3, 1)))))


class Around:
    """Outputs and surroundings in one."""

    def __init__(self, pictures=()):
        self.pictures, self.poses, self.drawn, self.beats = pictures, [], [], 0
        self.logged: list[tuple[str, str]] = []
        self.alive = True

    def subscribed_pictures(self):
        return self.pictures

    def publish_poses(self, header, result, model):
        self.poses.append((header, result, model))

    def publish_picture(self, picture, header, image):
        self.drawn.append((picture, header, image))

    def assert_liveliness(self):
        self.beats += 1

    def warn(self, key, text):
        self.logged.append((key, text))

    inform = warn

    def now_ns(self):
        return 5_000_000_000

    def is_alive(self):
        return self.alive

    def describe_image_source(self):
        return "/camera"

    def explain_missing_camera_info(self):
        return "No camera_info has come."


@pytest.fixture(name="make_session")
def make_session_fixture(tiny_weights):
    made = []

    def make(around, **changes):
        given = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "always_report": True, "warm_up_width": 0}
        session = TrackingSession(Settings.of({**DEFAULTS, "expected_rate": 0.0, **given, **changes}), around)
        made.append(session)
        session.load()
        session.activate(around)
        return session

    yield make
    assert all(session.close() for session in made)


def until(condition, what):
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def frame(stamp_ns=1, decode=lambda: IMAGE, header="header"):
    return InputFrame(stamp_ns, header, decode)


def dealt_with(session):
    """How many frames were tracked, left out or found unusable so far."""
    total = session.sums().total
    return sum(n for name, n in total.items() if name in ("tracked", "late", "skipped") or name.startswith("unusable"))


def show(session, *frames):
    """Show frames one by one, each after the one before was dealt with."""
    for one in frames:
        before = dealt_with(session)
        session.submit(one)
        until(lambda before=before: dealt_with(session) > before, "the frame was forgotten")


@pytest.mark.parametrize("weights", ["/nowhere/model.safetensors", "no_such_model"])
def test_weights_that_are_not_there_leave_it_unloaded(weights):
    session = TrackingSession(Settings.of({**DEFAULTS, "weights": weights}), Around())
    with pytest.raises(WeightsError):
        session.load()
    assert session.tracker is None
    session.submit(frame())
    assert session.sums().total["received"] == 0, "nothing is counted while inactive"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnusableImageError("encoding", "no such encoding"), "encoding"),
        (ImageError("torn"), "ImageError"),
        (OSError(), "OSError"),
    ],
)
def test_a_frame_that_cannot_be_decoded_is_counted_by_reason_and_the_next_one_tracked(make_session, error, reason):
    def fail():
        raise error

    around = Around()
    session = make_session(around)
    show(session, frame(1, fail), frame(2))
    assert session.sums().total[f"unusable: {reason}"] == 1
    assert len(around.poses) == 1
    assert [key for key, _ in around.logged] == [f"frame: {reason}"]


def test_results_carry_the_frames_header_and_pictures_come_only_when_asked_for(make_session):
    around = Around()
    session = make_session(around)
    show(session, frame(1, header="first"))
    assert around.drawn == []
    around.pictures = tuple(Picture)
    show(session, frame(2, header="second"))
    until(lambda: len(around.drawn) == 3, "no pictures")
    assert [header for header, *_ in around.poses] == ["first", "second"]
    assert [(picture, header, image.shape) for picture, header, image in around.drawn] == [
        (Picture.SEGMENTATION, "second", (60, 80)),
        (Picture.SEGMENTATION_COLOR, "second", (60, 80, 3)),
        (Picture.OVERLAY, "second", (60, 80, 3)),
    ]


def test_an_overlay_that_is_switched_off_is_not_drawn(make_session):
    around = Around((Picture.OVERLAY,))
    session = make_session(around, overlay=False)
    show(session, frame())
    assert around.drawn == []


def test_late_frames_are_left_out_and_time_that_goes_back_begins_anew(make_session):
    around = Around()
    session = make_session(around)
    show(session, frame(10_000_000_000), frame(9_995_000_000), frame(1_000_000_000))
    total = session.sums().total
    assert (total["tracked"], total["late"]) == (2, 1)
    assert [key for key, _ in around.logged] == ["late", "time"]
    assert "5.0 ms after a newer one" in around.logged[0][1]


def test_a_frame_at_work_when_it_is_deactivated_is_never_published(make_session):
    started, release = threading.Event(), threading.Event()

    def hold():
        started.set()
        assert release.wait(LONG_S)
        return IMAGE

    around = Around()
    session = make_session(around)
    session.submit(frame(1, hold))
    assert started.wait(LONG_S)
    session.deactivate()
    session.activate(around)
    session.submit(frame(2))
    release.set()
    until(lambda: around.poses, "the frame of the new activation was not tracked")
    assert len(around.poses) == 1
    assert session.sums().total["tracked"] == 1


def test_disabled_frames_are_skipped(make_session):
    around = Around()
    session = make_session(around)
    session.enable(False)
    show(session, frame(1))
    session.enable(True)
    show(session, frame(2))
    assert (session.sums().total["skipped"], session.sums().total["tracked"]) == (1, 1)


def test_rectified_poses_need_a_calibration(make_session):
    around = Around()
    session = make_session(around, pose_frame="rectified")
    show(session, frame(1))
    session.set_camera(None, "The calibration is of a fisheye.")
    show(session, frame(2))
    session.set_camera(CAMERA)
    show(session, frame(3))
    assert session.sums().total["unusable: camera_info"] == 2
    assert len(around.poses) == 1
    assert "No camera_info has come. Poses in rectified pixels need it" in around.logged[0][1]
    assert "The calibration is of a fisheye." in around.logged[1][1]


def test_the_lease_is_renewed_while_no_frame_comes(make_session):
    around = Around()
    session = make_session(around, expected_rate=100.0)
    until(lambda: around.beats > 2, "no heartbeat")
    session.deactivate()
    beats = around.beats
    time.sleep(0.1)
    assert around.beats == beats


def test_changed_settings_hold_from_the_next_frame_on(make_session, tiny_weights):
    around = Around()
    session = make_session(around, max_instruments=2)
    show(session, frame(1))
    values = {**DEFAULTS, "weights": str(tiny_weights), "max_instruments": 1, "always_report": True}
    session.settings = Settings.of(values)
    show(session, frame(2))
    assert [len(result.instruments) for _, result, _ in around.poses] == [2, 1]


def test_what_it_says_of_itself(make_session):
    around = Around()
    session = make_session(around)
    assert verdict(session, "inactive", "", "/camera", ()) == (OK, "The node is inactive.")
    assert verdict(session, "unconfigured", "No such file.", "/camera", ()) == (ERROR, "No such file.")
    assert "No image received yet on /camera." in verdict(session, "active", "", "/camera", ())[1]
    show(session, frame(1))
    _, message = verdict(session, "active", "", "/camera", ["A note."])
    assert "A note." in message
    assert session.values()["tracked"] == "1"
    assert session.values()["engine"] == "torch"
    assert session.summary() == "1 frames received, 1 processed, 0 dropped for a newer one"
    assert session.ready().startswith("ready: model tiny@")
