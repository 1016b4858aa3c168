import numpy as np
import pytest

from csl_tracker.training.adaptation.clips import REACH, evenly, read_clips, read_frames, sample_evenly
from csl_tracker.video import VideoReader, VideoWriter


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A video whose frame number is its brightness over ten."""
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    with VideoWriter(path, 10, crf=5) as writer:
        for frame in range(9):
            writer.write(np.full((32, 32, 3), 10 * frame, np.uint8))
    return VideoReader(path)


def number(image):
    return round(float(image.mean()) / 10)


def test_samples_are_even_over_all_videos():
    assert sample_evenly([4, 0, 12], 4) == [(2,), (), (2, 6, 10)]
    assert sample_evenly([3, 2], 100) == [(0, 1, 2), (0, 1)]
    assert sum(map(len, sample_evenly([97, 311, 5], 60))) == 60


def test_evenly_takes_all_if_there_are_few():
    assert evenly([5, 7], 3) == (5, 7)
    assert evenly(range(10), 2) == (2, 7)
    assert evenly([], 3) == ()


def test_clips_have_their_neighbours(reader):
    clips = list(read_clips(reader, {0, 4, 8}))
    assert [(clip.frame, number(clip.image), [number(image) for image in clip.neighbours]) for clip in clips] == [
        (0, 0, [REACH]),
        (4, 4, [4 - REACH, 4 + REACH]),
        (8, 8, [8 - REACH]),
    ]
    assert clips[1].stamp_ns == 400_000_000


def test_every_frame_can_be_a_clip(reader):
    assert [clip.frame for clip in read_clips(reader, set(range(9)))] == list(range(9))


def test_frames_are_read_alone(reader):
    assert [(frame, number(image)) for frame, _, image in read_frames(reader, {1, 3})] == [(1, 1), (3, 3)]
    assert list(read_frames(reader, set())) == []
