"""EndoVis 2018 in its layout, small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.endovis2018 import open_endovis2018
from csl_tracker.errors import DatasetError

SIZE = (20, 26)
TABLE = [
    {"name": "background-tissue", "color": [0, 0, 0], "classid": 0},
    {"name": "instrument-shaft", "color": [0, 255, 0], "classid": 1},
    {"name": "instrument-clasper", "color": [0, 255, 255], "classid": 2},
    {"name": "instrument-wrist", "color": [125, 255, 12], "classid": 3},
    {"name": "kidney-parenchyma", "color": [255, 55, 0], "classid": 4},
    {"name": "suturing-needle", "color": [255, 255, 125], "classid": 8},
    {"name": "suction-instrument", "color": [123, 15, 175], "classid": 9},
    {"name": "ultrasound-probe", "color": [12, 255, 141], "classid": 11},
]


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def stripes() -> np.ndarray:
    """Two columns of every colour of the table, then two of a colour that it does not have."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for index, color in enumerate([*(entry["color"] for entry in TABLE), [9, 9, 9]]):
        image[:, 2 * index : 2 * index + 2] = color
    return image


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    release = tmp_path / "miccai_challenge_2018_release_1"
    for number in (0, 1, 4):  # stretches without motion are taken out
        for camera in ("left_frames", "right_frames"):
            write(release / "seq_1" / camera / f"frame{number:03d}.png", np.full((*SIZE, 3), (90, number, 1), np.uint8))
        write(release / "seq_1" / "labels" / f"frame{number:03d}.png", stripes())
    (release / "seq_1" / "camera_calibration.txt").write_text("")
    (release / "labels.json").write_text(json.dumps(TABLE))
    write(tmp_path / "miccai_challenge_release_2" / "seq_5" / "left_frames" / "frame000.png", np.zeros((*SIZE, 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: (r / "seq_1/labels/frame001.png").unlink(), r"frame .*frame001.png has no label image in .*labels"),
        (lambda r: write(r / "seq_1/labels/frame004.png", np.zeros((20, 20, 3), np.uint8)), r"frame004.png has 20x20 px and"),
        (lambda r: (r / "labels.json").write_text('[{"name"'), "labels.json is not valid JSON from line 1 on"),
        (lambda r: (r / "labels.json").write_text("{}"), "labels.json holds a dict; it needs a list"),
        (
            lambda r: (r / "labels.json").write_text('[{"name": "a", "color": [0, 256, 0]}]'),
            "Entry 0 of .* numbers from 0 to 255",
        ),
        (
            lambda r: (r / "labels.json").write_text(json.dumps([*TABLE, {"name": "liver", "color": [0, 255, 0]}])),
            r"Entry 8 of .* gives the colour \[0, 255, 0\] to 'liver', which another class has",
        ),
    ],
)
def test_what_is_broken_is_named(dataset: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(dataset / "miccai_challenge_2018_release_1")
    with pytest.raises(DatasetError, match=said):
        list(open_endovis2018(dataset, ["seq_1"])[0])


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not an EndoVis 2018 dataset: looked for folders seq_N"):
        open_endovis2018(tmp_path)


@pytest.mark.parametrize("table", [True, False])
def test_colours_become_parts_background_and_ignored(dataset: Path, table: bool) -> None:
    if not table:
        (dataset / "miccai_challenge_2018_release_1" / "labels.json").unlink()
    sequence = open_endovis2018(dataset, ["seq_1"])[0]
    assert sequence.classes == ("background", "shaft", "wrist", "clasper")
    samples = list(sequence)
    assert [(s.frame, s.stamp_ns) for s in samples] == [(0, 0), (1, 500_000_000), (4, 2_000_000_000)]
    assert samples[2].image[0, 0].tolist() == [90, 4, 1]
    labels = samples[1].label_map
    assert labels is not None
    tissue, needle = (0, 0) if table else (255, 255)  # without a table nobody knows these colours
    assert labels[0, ::2].tolist() == [0, 1, 3, 2, tissue, needle, 255, 255, 255, 0, 0, 0, 0]


def test_a_sequence_without_labels_and_one_that_is_the_root(dataset: Path) -> None:
    assert [s.name for s in open_endovis2018(dataset)] == ["seq_1", "seq_5"]
    [sequence] = open_endovis2018(dataset / "miccai_challenge_release_2" / "seq_5")
    assert (sequence.name, sequence.size) == ("seq_5", SIZE)
    assert next(iter(sequence)).label_map is None
    [other] = open_endovis2018(dataset / "miccai_challenge_2018_release_1" / "seq_1")
    assert (dataset / "miccai_challenge_2018_release_1" / "labels.json").resolve() in {path.resolve() for path in other.files}
