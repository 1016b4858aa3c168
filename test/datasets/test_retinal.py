"""Retinal microsurgery: 18 sequences in the generic layout, and the protocols on top of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.retinal import open_retinal
from csl_tracker.errors import DatasetError
from csl_tracker.evaluation.protocol_data import prepare_data
from csl_tracker.evaluation.protocols import load_protocol
from csl_tracker.instruments import find_instruments
from csl_tracker.training.plan import make_plan

SIZE = (32, 40)
NAMES = ["Center joint", "Right Tip", "left-tip"]


def write(root: Path, folders: list[str], names: list[str] = NAMES, masks: bool = True, **more: Any) -> Path:
    """Two frames a sequence: one of a forceps with its joint out of view, one without anything."""
    images, annotations = [], []
    for folder in folders:
        for frame in range(2):
            name = f"{folder}/{frame:03d}.png"
            (root / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / name), np.full((*SIZE, 3), 20 * frame, np.uint8))
            images.append({"id": len(images) + 1, "file_name": name, "height": SIZE[0], "width": SIZE[1], "labelled": True})
        annotation = {
            "id": len(annotations) + 1,
            "image_id": len(images) - 1,
            "category_id": 7,
            "keypoints": [0, 0, 0, 30, 12, 2, 10, 11, 2],
        }
        annotations.append(annotation | ({"segmentation": [[8, 8, 20, 8, 20, 16, 8, 16]]} if masks else {}))
    category = {"id": 7, "name": "forceps", "keypoints": names, "skeleton": []}
    data = {"images": images, "annotations": annotations, "categories": [category], **more}
    (root / "labels.json").write_text(json.dumps(data))
    return root


@pytest.mark.parametrize(
    ("folders", "names", "said"),
    [
        (["seq1", "Sequence 01"], NAMES, "sequences .* are both Seq01; give each its own number"),
        (
            ["seq1"],
            ["center", "tip", "left_tip"],
            "has the landmarks center, tip, left_tip and no right_tip; call the keypoints",
        ),
    ],
)
def test_names_that_do_not_fit_are_named(tmp_path: Path, folders: list[str], names: list[str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        open_retinal(write(tmp_path, folders, names))


def test_names_take_the_order_and_the_spelling_of_the_protocols(tmp_path: Path) -> None:
    first, tenth = open_retinal(write(tmp_path, ["seq_10", "seq_1"]))
    assert (first.name, tenth.name, first.landmarks) == ("Seq01", "Seq10", ("left_tip", "right_tip", "center"))
    assert first.classes == ("background", "tool")
    seen, empty = first
    np.testing.assert_array_equal(seen.landmarks[0], [[10, 11], [30, 12], [np.nan, np.nan]])
    assert seen.labelled.tolist() == [[True, True, False]]
    assert seen.label_map is not None
    assert (seen.label_map[10, 12], int(seen.label_map.sum()), seen.sequence) == (1, 12 * 8, "Seq01")
    assert empty.labelled.all()
    np.testing.assert_array_equal(first.all_landmarks, [seen.landmarks, empty.landmarks])


@pytest.mark.parametrize("protocol", ["rm_9_9", "rm_half_split", "rm_cross_validation"])
@pytest.mark.parametrize("masks", [True, False])
def test_the_protocols_find_their_sequences(tmp_path: Path, protocol: str, masks: bool) -> None:
    write(tmp_path, [f"Seq{number:02d}" for number in range(1, 19)], masks=masks)
    types = {f"type{group}": [f"Seq{number:02d}" for number in range(1, 19) if number % 4 == group] for group in range(4)}
    (tmp_path / "instrument_types.yaml").write_text(json.dumps(types))
    found = load_protocol(protocol).with_groups(tmp_path)
    plan = make_plan(found, tmp_path / "out", ["csl"])
    assert {run.config.instruments for run in plan.runs} == {"retinal"}
    tested = prepare_data(found, tmp_path, find_instruments("retinal"))
    assert set(tested) == {name for fold in found.folds for part in fold.test for name in part.sequences}


def test_folders_with_a_file_each_are_sequences(tmp_path: Path) -> None:
    for number in range(1, 19):
        write(tmp_path / f"seq_{number}", ["images"])
    found = open_retinal(tmp_path)
    assert [sequence.name for sequence in found] == [f"Seq{number:02d}" for number in range(1, 19)]
    assert {len(sequence) for sequence in found} == {2}


def test_missing_sequences_are_named(tmp_path: Path) -> None:
    write(tmp_path, ["Seq01", "Seq02"])
    with pytest.raises(DatasetError, match=r"found no Seq10, .* only Seq01, Seq02; the layout of retinal stands in docs"):
        prepare_data(load_protocol("rm_9_9"), tmp_path, find_instruments("retinal"))
