from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.cache import FrameCache, resize_label_map
from csl_tracker.datasets.endovis2015 import EndoVis2015Sequence, open_endovis2015
from csl_tracker.datasets.endovis2015_files import find_sequences
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.pixels import Resize, resize_image

POSES = ["60 40 1 0 1 0 5", "-1 -1 1 0 1 0 5", "62 42 1 0 1 0 5"]


@pytest.fixture
def sequence(tmp_path: Path, write_sequence: Callable[..., Path]) -> EndoVis2015Sequence:
    write_sequence(tmp_path / "data" / "Dataset1", POSES)
    return open_endovis2015(tmp_path / "data")[0]


def test_folder_that_cannot_be_written_to(tmp_path: Path, sequence: EndoVis2015Sequence) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written to"):
        FrameCache(sequence, tmp_path / "file" / "cache")


def test_sequence_that_does_not_come_from_files(tmp_path: Path, sequence: EndoVis2015Sequence) -> None:
    sequence.files = ()
    with pytest.raises(ValueError, match="has no source files"):
        FrameCache(sequence, tmp_path / "cache")


class Interrupted(EndoVis2015Sequence):
    def __iter__(self) -> Iterator[Sample]:
        yield next(super().__iter__())
        raise KeyboardInterrupt


def test_interrupted_decoding_leaves_nothing(tmp_path: Path, sequence: EndoVis2015Sequence) -> None:
    broken = Interrupted(find_sequences(tmp_path / "data")["Dataset1"])
    with pytest.raises(KeyboardInterrupt):
        FrameCache(broken, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(FrameCache(sequence, tmp_path / "cache")) == 3


def test_damaged_cache_is_named(tmp_path: Path, sequence: EndoVis2015Sequence) -> None:
    cache = FrameCache(sequence, tmp_path / "cache")
    (cache.folder / "images.npy").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"is broken .* remove that folder"):
        cache[0]


@pytest.mark.parametrize("index", [3, -4])
def test_frames_that_do_not_exist(tmp_path: Path, sequence: EndoVis2015Sequence, index: int) -> None:
    with pytest.raises(IndexError, match="of the 3 frames of Dataset1"):
        FrameCache(sequence, tmp_path / "cache")[index]


@pytest.mark.parametrize("size", [None, (48, 64), (60, 100), (192, 256)])
def test_frames_are_those_of_the_sequence(tmp_path: Path, sequence: EndoVis2015Sequence, size: tuple[int, int] | None) -> None:
    cache = FrameCache(sequence, tmp_path / "cache", size)
    assert len(cache) == 3
    resize = Resize(sequence.size, cache.size)
    for sample, cached in zip(sequence, cache, strict=True):
        assert cached.image.shape == (*cache.size, 3)
        np.testing.assert_array_equal(cached.image, resize_image(sample.image, cache.size))
        np.testing.assert_allclose(cached.landmarks, resize.points(sample.landmarks))
        np.testing.assert_array_equal(cached.labelled, sample.labelled)
        assert cached.label_map is not None
        assert sample.label_map is not None
        np.testing.assert_array_equal(cached.label_map, resize_label_map(sample.label_map, cache.size))
        assert (cached.frame, cached.stamp_ns, cached.sequence) == (sample.frame, sample.stamp_ns, sample.sequence)
    np.testing.assert_array_equal(cache[-1].image, cache[2].image)


def test_decoded_once_and_again_when_a_source_changes(tmp_path: Path, sequence: EndoVis2015Sequence) -> None:
    first = FrameCache(sequence, tmp_path / "cache")
    stamp = os.stat(first.folder / "images.npy").st_mtime_ns
    assert FrameCache(sequence, tmp_path / "cache").folder == first.folder
    assert os.stat(first.folder / "images.npy").st_mtime_ns == stamp
    (tmp_path / "data" / "Dataset1" / "Pose.txt").write_text("\n".join(["70 40 1 0 1 0 5", *POSES[1:]]))
    changed = FrameCache(open_endovis2015(tmp_path / "data")[0], tmp_path / "cache")
    assert changed.folder != first.folder
    assert changed[0].landmarks[0, 0].tolist() == [70, 40]
    assert first[0].landmarks[0, 0].tolist() == [60, 40]


def test_pickled_cache_is_small_and_frames_are_writable(tmp_path: Path, sequence: EndoVis2015Sequence) -> None:
    cache = FrameCache(sequence, tmp_path / "cache")
    cache[0].image[:] = 0  # a copy: the file stays as it is
    data = pickle.dumps(cache)
    assert len(data) < 5000
    assert pickle.loads(data)[0].image.mean() > 10


def test_sequence_without_masks(tmp_path: Path, write_sequence: Callable[..., Path]) -> None:
    folder = write_sequence(tmp_path / "data" / "Dataset1", POSES)
    (folder / "Segmentation.avi").unlink()
    cache = FrameCache(open_endovis2015(tmp_path / "data")[0], tmp_path / "cache")
    assert cache[1].label_map is None


def test_labels_are_resized_by_majority() -> None:
    labels = np.array([[1, 1, 2, 2, 0, 1], [1, 0, 2, 255, 0, 2], [0, 0, 0, 1, 255, 255], [0, 1, 1, 1, 255, 2]], np.uint8)
    # blocks: 1 1 1 0 | 2 2 2 255 | 0 1 0 2 ; 0 0 0 1 | 0 1 1 1 | 255 255 255 2
    np.testing.assert_array_equal(resize_label_map(labels, (2, 3)), [[1, 2, 0], [0, 1, 255]])


def test_labels_by_majority_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 3, (6, 8), dtype=np.uint8)
    labels = np.kron(coarse, np.ones((7, 5), np.uint8))
    size = (20, 16)
    result = resize_label_map(labels, size)
    for row in range(size[0]):
        for column in range(size[1]):
            shares = np.zeros(3)
            top, bottom = row * labels.shape[0] / size[0], (row + 1) * labels.shape[0] / size[0]
            left, right = column * labels.shape[1] / size[1], (column + 1) * labels.shape[1] / size[1]
            for y in range(int(top), int(np.ceil(bottom))):
                for x in range(int(left), int(np.ceil(right))):
                    shares[labels[y, x]] += (min(y + 1, bottom) - max(y, top)) * (min(x + 1, right) - max(x, left))
            best = np.sort(shares)
            if best[-1] - best[-2] > 0.02 * shares.sum():  # a near draw may go either way after rounding to 8 bits
                assert result[row, column] == shares.argmax()
