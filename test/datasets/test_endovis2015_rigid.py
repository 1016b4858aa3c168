"""EndoVis 2015's rigid instruments in the layouts of their zip files, small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.endovis2015_rigid import open_endovis2015_rigid
from csl_tracker.errors import DatasetError

SIZE = (24, 32)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def mask(*values: int) -> np.ndarray:
    """A row of 4x4 squares with these values."""
    labels = np.zeros(SIZE, np.uint8)
    for index, value in enumerate(values):
        labels[4:8, 4 * index : 4 * index + 4] = value
    return labels


@pytest.fixture
def segmentation(tmp_path: Path) -> Path:
    """Two training frames, and one test frame whose masks lie in the zip of the truth."""
    root = tmp_path / "segmentation"
    folder = root / "Segmentation_Rigid_Training" / "Training" / "OP1"
    for number in (1, 2):
        write(folder / "Raw" / f"img_{number:02d}_raw.png", np.full((*SIZE, 3), number, np.uint8))
        write(folder / "Masks" / f"img_{number:02d}_class.png", mask(160, 70))
        # the second instrument is in view alone first
        write(folder / "Masks" / f"img_{number:02d}_instrument.png", mask(40, 40) if number == 1 else mask(20, 40))
    write(root / "Segmentation_Rigid_Testing_Revision" / "Testing" / "OP6" / "img_07_raw.png", np.zeros((*SIZE, 3), np.uint8))
    write(root / "Segmentation_Rigid_Testing_GT" / "OP6" / "img_07_class.png", mask(70))
    write(root / "Segmentation_Rigid_Testing_GT" / "OP1" / "img_01_class.png", mask(0))
    return root


@pytest.fixture
def tracking(tmp_path: Path) -> Path:
    """Four frames of a video: two of them listed, one with a mask."""
    folder = tmp_path / "tracking" / "Tracking_Rigid_Training" / "Training" / "OP2"
    for number in range(4):
        write(folder / "Raw" / f"img_{number:02d}_raw.png", np.full((*SIZE, 3), number, np.uint8))
    write(folder / "Masks" / "img_01_class.png", mask(160))
    (folder / "Instruments_OP2.csv").write_text(
        "img_01_raw.png, 10.5, 8, 1, 0, 20, 9, 0, 1\r\nimg_03_raw.png,11,8,1,0,-1,-1,0,0", newline=""
    )
    return tmp_path / "tracking"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("img_01_raw.png,10,8,1\n", r"Line 1 of .*Instruments_OP2.csv reads 'img_01_raw.png,10,8,1'; write the image and"),
        ("img_01_raw.png,10,8,1,0\nimg_02_raw.png,1,2,x,4\n", "Line 2 of .* reads 'img_02_raw.png,1,2,x,4'"),
        ("img_01_raw.png,10,8,1,0\n\nimg_02_raw.png,1,2,inf,4\n", "Line 3 of"),
        ("first,1,2,3,4\n", "Line 1 of .* reads 'first"),
        ("img_09_raw.png,1,2,3,4\n", "Line 1 of .* is about the image img_09_raw.png, which is not there"),
        ("img_01_raw.png,1,2,3,4\nimg_01_raw.png,1,2,3,4\n", "Line 2 of .* lists the image img_01_raw.png again"),
        ("\xff", "cannot be read as a CSV"),
    ],
)
def test_rows_that_are_broken_are_named(tracking: Path, text: str, said: str) -> None:
    [path] = tracking.rglob("*.csv")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=said):
        open_endovis2015_rigid(tracking)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: (m / "img_02_class.png").unlink(), r"img_02_raw.png has no label image in .*Masks"),
        (lambda m: write(m / "img_02_class.png", mask(71)), r"img_02_class.png has the value 71; known are 0, 70, 160"),
        (lambda m: write(m / "img_02_class.png", np.zeros((24, 30), np.uint8)), r"img_02_class.png has 30x24 px and .* 32x24"),
        (lambda m: (m / "img_02_instrument.png").write_bytes(b""), "img_02_instrument.png cannot be read"),
    ],
)
def test_masks_that_are_broken_are_named(segmentation: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(segmentation / "Segmentation_Rigid_Training" / "Training" / "OP1" / "Masks")
    with pytest.raises(DatasetError, match=said):
        list(open_endovis2015_rigid(segmentation, ["OP1"])[0])


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a dataset of EndoVis 2015's rigid instruments: looked for folders OPn"):
        open_endovis2015_rigid(tmp_path)


def test_masks_of_parts_and_of_instruments(segmentation: Path) -> None:
    one, six = open_endovis2015_rigid(segmentation)
    assert (one.name, one.classes, one.landmarks) == ("OP1", ("background", "shaft", "manipulator"), ())
    assert one.slots == ("instrument_1", "instrument_2")
    samples = list(one)
    assert [s.frame for s in samples] == [1, 2]
    np.testing.assert_array_equal(samples[0].label_map, np.where(mask(160, 70) == 70, 2, mask(160, 70) // 160))
    np.testing.assert_array_equal(samples[0].instances, mask(2, 2))
    np.testing.assert_array_equal(samples[1].instances, mask(1, 2))
    [tested] = six
    np.testing.assert_array_equal(tested.label_map, mask(2))  # from the zip of the truth
    assert (tested.frame, tested.instances, six.slots) == (7, None, ("instrument",))


def test_only_listed_frames_are_labelled(tracking: Path) -> None:
    [sequence] = open_endovis2015_rigid(tracking)
    assert (sequence.name, sequence.landmarks, sequence.slots) == ("OP2", ("border",), ("instrument_1", "instrument_2"))
    samples = list(sequence)
    assert [s.labelled.tolist() for s in samples] == [[[False], [False]], [[True], [True]]] * 2
    np.testing.assert_array_equal(samples[1].landmarks[:, 0], [[10.5, 8], [20, 9]])
    np.testing.assert_array_equal(samples[3].landmarks[:, 0], [[11, 8], [np.nan, np.nan]])  # seen by somebody, and not there
    assert [s.label_map is None for s in samples] == [True, False, True, True]
    assert sequence.table is not None
    np.testing.assert_array_equal(sequence.table.axes[1], [[1, 0], [0, 1]])
    np.testing.assert_array_equal(sequence.all_labelled, [s.labelled for s in samples])


def test_both_zips_below_one_root_keep_their_sequences_apart(segmentation: Path, tracking: Path) -> None:
    (tracking / "Tracking_Rigid_Training/Training/OP2").rename(tracking / "Tracking_Rigid_Training/Training/OP1")
    names = [sequence.name for sequence in open_endovis2015_rigid(segmentation.parent)]
    assert names == [
        "OP6",
        "segmentation/Segmentation_Rigid_Training/Training/OP1",
        "tracking/Tracking_Rigid_Training/Training/OP1",
    ]
