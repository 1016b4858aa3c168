"""EndoVis 2017 in its layout, small: raw frames as large as the real ones where the crop is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.detect import detect_layouts
from csl_tracker.datasets.endovis2017 import EndoVis2017Sequence, open_endovis2017
from csl_tracker.errors import DatasetError

SIZE = (24, 32)


def write(path: Path, image: np.ndarray) -> Path:
    """Write an image; RGB where it has three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image if image.ndim == 2 else image[..., ::-1])
    return path


def part(rows: slice, columns: slice, value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = value
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two frames of one sequence with two instruments and something else; three of a test sequence, which go on at 225."""
    train = tmp_path / "instrument_1_4_training" / "instrument_dataset_2"
    for number in (0, 1):
        name = f"frame{number:03d}.png"
        write(train / "left_frames" / name, np.full((*SIZE, 3), (200, 10 * number, 7), np.uint8))
        write(train / "right_frames" / name, np.zeros((*SIZE, 3), np.uint8))
        truth = train / "ground_truth"
        write(truth / "Left_Prograsp_Forceps_labels" / name, part(slice(4, 10), slice(0, 16), 10))
        right = part(slice(8, 14), slice(10, 30), 20)
        right[12:14] = np.where(right[12:14] > 0, 30, 0)
        right[8, 29] = 40
        write(truth / "Maryland_Bipolar_Forceps_labels" / name, right)
        write(truth / "Other_labels" / name, part(slice(20, 24), slice(0, 32), 10))
    for number in (225, 226, 228):
        write(tmp_path / "test" / "instrument_dataset_9" / "left_frames" / f"frame{number}.png", np.zeros((*SIZE, 3), np.uint8))
    return tmp_path


def first(root: Path) -> EndoVis2017Sequence:
    return open_endovis2017(root, ["instrument_dataset_2"])[0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda s: (s / "ground_truth/Maryland_Bipolar_Forceps_labels/frame001.png").unlink(),
            "frame001.png has no label image",
        ),
        (
            lambda s: write(s / "ground_truth/Left_Prograsp_Forceps_labels/frame001.png", part(slice(3), slice(3), 15)),
            r"Left_Prograsp_Forceps_labels/frame001.png has the value 15; known are 0, 10, 20, 30, 40: .*resized",
        ),
        (
            lambda s: write(s / "ground_truth/Left_Prograsp_Forceps_labels/frame000.png", np.zeros((24, 30), np.uint8)),
            r"frame000.png has 30x24 px and .*left_frames/frame000.png 32x24",
        ),
        (lambda s: (s / "left_frames/frame001.png").write_bytes(b"\x89PNG"), "image .*left_frames/frame001.png cannot be read"),
        (lambda s: write(s / "left_frames/frame_1.png", np.zeros((*SIZE, 3), np.uint8)), "have the same number 1"),
        (
            lambda s: [path.rename(path.with_name(path.name[:4])) for path in list((s / "ground_truth").glob("[LM]*"))],
            r"ground_truth has no folder <Instrument>_labels; copy it again",
        ),
        (lambda s: [p.unlink() for p in (s / "left_frames").iterdir()], "left_frames has no image frameNNN.png"),
    ],
)
def test_what_is_broken_is_named(dataset: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(dataset / "instrument_1_4_training" / "instrument_dataset_2")
    with pytest.raises(DatasetError, match=said):
        list(first(dataset))


@pytest.mark.parametrize(
    ("below", "names", "said"),
    [
        ("nowhere", None, "nowhere does not exist; looked for folders instrument_dataset_N"),
        ("test/instrument_dataset_9/left_frames", None, "is not an EndoVis 2017 dataset"),
        ("", ["instrument_dataset_1"], "no sequence 'instrument_dataset_1'; it has instrument_dataset_2, instrument_dataset_9"),
    ],
)
def test_what_is_not_there_is_named(dataset: Path, below: str, names: list[str] | None, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        open_endovis2017(dataset / below, names)


def test_parts_and_instruments(dataset: Path) -> None:
    sequence = first(dataset)
    assert (sequence.classes, sequence.landmarks) == (("background", "shaft", "wrist", "clasper"), ())
    assert sequence.slots == ("left_prograsp_forceps", "maryland_bipolar_forceps")
    assert sequence.types == ("prograsp_forceps", "bipolar_forceps")
    samples = list(sequence)
    assert [(s.frame, s.stamp_ns) for s in samples] == [(0, 0), (1, 500_000_000)]
    assert samples[1].image[0, 0].tolist() == [200, 10, 7]
    labels, instances = samples[1].label_map, samples[1].instances
    assert labels is not None
    assert instances is not None
    expected = np.zeros(SIZE, np.uint8)
    expected[4:10, 0:16] = 1
    expected[8:12, 10:30] = 2
    expected[12:14, 10:30] = 3
    expected[8, 29] = 255  # the probe
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(np.unique(instances[4:8, 0:10]), 1)
    np.testing.assert_array_equal(np.unique(instances[8:14, 10:30]), 2)
    assert samples[1].landmarks.shape == (2, 0, 2)


def test_a_test_sequence_keeps_its_numbers_and_has_no_masks(dataset: Path) -> None:
    samples = list(open_endovis2017(dataset)[1])
    assert [(s.frame, s.stamp_ns, s.label_map, s.instances) for s in samples] == [
        (225, 0, None, None),
        (226, 500_000_000, None, None),
        (228, 1_500_000_000, None, None),
    ]


@pytest.mark.parametrize(("crop", "size", "shift"), [(True, (1024, 1280), (28, 320)), (False, (1080, 1920), (0, 0))])
def test_raw_frames_are_cropped_to_the_picture(
    tmp_path: Path, crop: bool, size: tuple[int, int], shift: tuple[int, int]
) -> None:
    folder = tmp_path / "instrument_dataset_1"
    image = np.zeros((1080, 1920, 3), np.uint8)
    image[28, 320] = image[1051, 1599] = (1, 2, 3)
    write(folder / "left_frames/frame000.png", image)
    mask = np.zeros((1080, 1920), np.uint8)
    mask[28, 320] = mask[1051, 1599] = 30
    write(folder / "ground_truth/Vessel_Sealer_labels/frame000.png", mask)
    [sequence] = open_endovis2017(folder, crop=crop)
    assert (sequence.name, sequence.size) == ("instrument_dataset_1", size)
    [sample] = sequence
    assert sample.label_map is not None
    assert sample.instances is not None
    assert sample.image.shape == (*size, 3)
    ends = [(28 - shift[0], 320 - shift[1]), (1051 - shift[0], 1599 - shift[1])]
    assert [tuple(place) for place in np.argwhere(sample.label_map == 3).tolist()] == ends
    assert [tuple(place) for place in np.argwhere(sample.instances == 1).tolist()] == ends
    assert [tuple(place) for place in np.argwhere(sample.image[..., 2] == 3).tolist()] == ends


@pytest.mark.parametrize(
    ("folders", "classes", "values"),
    [
        ({"binary_masks": 255}, ("background", "tool"), {0, 1}),
        ({"binary_masks": 1}, ("background", "tool"), {0, 1}),
        ({"binary_masks": 255, "parts_masks": 170}, ("background", "shaft", "wrist", "clasper"), {0, 2}),
        ({"parts_masks": 3, "instruments_masks": 32}, ("background", "shaft", "wrist", "clasper"), {0, 3}),
        ({"instruments_masks": 32}, ("background",), None),
    ],
)
def test_prepared_masks(tmp_path: Path, folders: dict[str, int], classes: tuple[str, ...], values: set[int] | None) -> None:
    folder = tmp_path / "cropped_train" / "instrument_dataset_3"
    for number in (0, 1):
        write(folder / "images" / f"frame{number:03d}.jpg", np.full((*SIZE, 3), 90, np.uint8))
        for name, value in folders.items():
            write(folder / name / f"frame{number:03d}.png", part(slice(4, 10), slice(0, 16), value))
    write(folder / "__MACOSX" / "images" / "._frame000.jpg", np.zeros((*SIZE, 3), np.uint8))
    assert [detection.layout for detection in detect_layouts(tmp_path)][:1] == ["endovis2017"]
    [sequence] = open_endovis2017(tmp_path)
    assert (sequence.name, sequence.classes, sequence.size, len(sequence)) == ("instrument_dataset_3", classes, SIZE, 2)
    found, _ = sequence
    assert (None if found.label_map is None else set(np.unique(found.label_map).tolist())) == values
    assert values is None or (found.label_map is not None and found.label_map[5, 3] == max(values))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: (s / "binary_masks/frame001.png").unlink(), "frame001.jpg has no label image in .*binary_masks"),
        (lambda s: write(s / "binary_masks/frame001.png", part(slice(4, 10), slice(0, 16), 7)), "has the value 7; known are"),
        (lambda s: (s / "images/frame000.jpg").rename(s / "images/a.jpg"), None),
    ],
)
def test_prepared_masks_that_are_broken_are_named(tmp_path: Path, spoil: Callable[[Path], object], said: str | None) -> None:
    folder = tmp_path / "instrument_dataset_3"
    for number in (0, 1):
        write(folder / "images" / f"frame{number:03d}.jpg", np.full((*SIZE, 3), 90, np.uint8))
        write(folder / "binary_masks" / f"frame{number:03d}.png", part(slice(4, 10), slice(0, 16), 255))
    spoil(folder)
    if said is None:
        assert len(open_endovis2017(tmp_path)[0]) == 1
        return
    with pytest.raises(DatasetError, match=said):
        list(open_endovis2017(tmp_path)[0])
