import numpy as np
import pytest

from csl_tracker.bags import frames
from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.frames import FrameMatcher, RawMessage
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message
from csl_tracker.messages.types import typestore

STEP = 40_000_000
START = 1_700_000_000_000_000_000
CAMERA, INFO, TRUTH = "/camera", "/camera_info", topics.TRUTH_SEGMENTATION


def image(index: int) -> np.ndarray:
    return np.full((2, 3, 3), index, np.uint8)


def message(topic: str, index: int, size: int = 4) -> RawMessage:
    sent = image_message(np.zeros((1, size), np.uint8), START + index * STEP)
    return RawMessage(topic, topics.IMAGE_TYPE, index, bytes(typestore().serialize_cdr(sent, topics.IMAGE_TYPE)))


def matched(messages: list[RawMessage]) -> list[tuple[int, int | None, int | None]]:
    """For each image: its time, that of its annotation and that of its calibration."""
    found = FrameMatcher(CAMERA, [TRUTH], INFO).frames(iter(messages))
    return [
        (
            frame.image.time_ns,
            None if frame.truth_segmentation is None else frame.truth_segmentation.time_ns,
            None if frame.camera_info is None else frame.camera_info.time_ns,
        )
        for frame in found
    ]


def test_an_annotation_may_come_eight_images_later_and_no_more():
    images = [message(CAMERA, index) for index in range(9)]
    assert matched([*images[:8], message(TRUTH, 0)])[0] == (0, 0, None)
    assert matched([*images, message(TRUTH, 0)])[0] == (0, None, None)


def test_few_annotations_without_an_image_are_kept():
    early = [message(TRUTH, index) for index in range(17)]
    assert matched([*early[:16], message(CAMERA, 0)]) == [(0, 0, None)]
    assert matched([*early, message(CAMERA, 0)]) == [(0, None, None)]


def test_the_calibration_is_the_last_one_before_the_image():
    sent = [message(INFO, 0), message(INFO, 1), message(CAMERA, 1), message(INFO, 2), message(CAMERA, 2)]
    assert matched(sent) == [(1, None, 1), (2, None, 2)]


@pytest.mark.parametrize(("limit", "found"), [(4000, (0, 0, None)), (2500, (0, None, None))])
def test_the_images_that_wait_have_a_limit_in_bytes(monkeypatch, limit, found):
    monkeypatch.setattr(frames, "MAX_WAITING_BYTES", limit)
    assert matched([*(message(CAMERA, index, 900) for index in range(3)), message(TRUTH, 0)])[0] == found


@pytest.mark.parametrize(("limit", "found"), [(4000, (0, 0, None)), (2500, (0, None, None))])
def test_the_annotations_that_wait_have_a_limit_in_bytes(monkeypatch, limit, found):
    monkeypatch.setattr(frames, "MAX_WAITING_BYTES", limit)
    assert matched([*(message(TRUTH, index, 900) for index in range(3)), message(CAMERA, 0)])[0] == found


def test_a_fault_is_raised_after_all_images_before_it():
    def broken():
        yield from (message(CAMERA, index) for index in range(3))
        raise DamagedBagError("broken.")

    found = FrameMatcher(CAMERA, [TRUTH], INFO).frames(broken())
    assert [next(found).image.time_ns for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DamagedBagError, match="broken"):
        next(found)


@pytest.mark.parametrize("error_ns", [500, -500, 400_000, -1_000_000])
def test_an_annotation_with_a_rounded_stamp_finds_its_image(tmp_path, error_ns):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.add_topic(topics.IMAGE, topics.IMAGE_TYPE)
        bag.add_topic(topics.TRUTH_SEGMENTATION, topics.IMAGE_TYPE)
        for index in range(4):
            stamp = START + index * STEP
            bag.write(topics.IMAGE, image_message(image(index), stamp), stamp)
            bag.write(topics.TRUTH_SEGMENTATION, image_message(image(index)[..., 0], stamp + error_ns), stamp + 1)
    with BagReader(tmp_path / "a.mcap") as reader:
        found = [frame.truth_segmentation for frame in reader.frames()]
    assert [None if one is None else one.stamp_ns for one in found] == [START + index * STEP + error_ns for index in range(4)]
