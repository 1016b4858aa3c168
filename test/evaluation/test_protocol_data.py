"""Data of a protocol that is missing, foreign, or made on the spot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from csl_tracker.datasets.registry import open_dataset
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.evaluation.protocol_data import match_names, prepare_data
from csl_tracker.evaluation.protocols import Protocol, load_protocol, parse_protocol
from csl_tracker.instruments import ENDOVIS, InstrumentSet


def rotated(*names: str) -> Protocol:
    return parse_protocol({"name": "mine", "dataset": "endovis2015", "leave_one_out": list(names)}, "FILE")


def synthetic(frames: int) -> Protocol:
    return parse_protocol(
        {
            "name": "made",
            "dataset": "synthetic",
            "synthesis": {"size": [64, 96], "groups": [{"sequences": ["A", "B"], "frames": frames, "seed": 4}]},
            "leave_one_out": ["A", "B"],
        },
        "FILE",
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in (1, 2):
        write_endovis2015(SyntheticSequence(number, 2, (64, 96), name=f"Dataset{number}"), root)
    return root


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (None, "needs the sequences Dataset1, Dataset2, Dataset3 of endovis2015; give the folder"),
        ("nowhere", "There is no folder .*nowhere, in which the sequences Dataset1, Dataset2, Dataset3 were looked for"),
        ("", "found no Dataset3, only Dataset1, Dataset2; .* --sequences Dataset1 Dataset2 restricts"),
    ],
)
def test_missing_data_says_what_was_looked_for_and_the_layout(data: Path, root: str | None, said: str) -> None:
    protocol = rotated("Dataset1", "Dataset2", "Dataset3")
    with pytest.raises(DatasetError, match=said) as caught:
        prepare_data(protocol, None if root is None else data / root, ENDOVIS)
    assert "a correct layout is ROOT/Dataset1/ with Video.avi" in str(caught.value)


def test_a_dataset_without_a_loader(tmp_path: Path) -> None:
    foreign = parse_protocol({"name": "mine", "dataset": "atlas", "leave_one_out": ["A", "B"]}, "FILE")
    with pytest.raises(DatasetError, match="dataset 'atlas', for which there is no loader"):
        prepare_data(foreign, tmp_path, ENDOVIS)


def test_landmark_names_that_differ(data: Path) -> None:
    with pytest.raises(ConfigError, match="needs the landmarks tip and the classes background; the sequence Dataset1"):
        prepare_data(rotated("Dataset1", "Dataset2"), data, InstrumentSet(("tip",), ("background",)))


def test_the_tested_sequences_are_opened(data: Path) -> None:
    assert {name: len(found) for name, found in prepare_data(rotated("Dataset1", "Dataset2"), data, ENDOVIS).items()} == {
        "Dataset1": 2,
        "Dataset2": 2,
    }


def test_names_follow_the_loader_where_there_is_a_test_sequence_of_the_same_name(data: Path, tmp_path: Path) -> None:
    for number, folder in ((1, "Training"), (2, "Training"), (1, "Testing")):
        shutil.copytree(data / f"Dataset{number}", tmp_path / folder / f"Dataset{number}")
    protocol = match_names(rotated("Dataset1", "Dataset2"), tmp_path)
    assert protocol.sequences == ("training/Dataset1", "Dataset2")
    assert [fold.name for fold in protocol.folds] == ["Dataset1", "Dataset2"]
    assert "Training" in str(prepare_data(protocol, tmp_path, ENDOVIS)["training/Dataset1"].files[0])
    assert match_names(protocol, tmp_path / "nowhere") == protocol


def test_synthetic_sequences_are_made_once(tmp_path: Path) -> None:
    root = tmp_path / "made"
    assert set(prepare_data(synthetic(2), root, ENDOVIS)) == {"A", "B"}
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.avi")}
    shutil.rmtree(root / "B")
    prepare_data(synthetic(2), root, ENDOVIS)
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*.avi")}
    assert set(after) == set(before)
    assert {path.parent.name for path in before if after[path] != before[path]} == {"B"}
    with pytest.raises(DatasetError, match="has 2 frames of 64x96 px, and the protocol asks for 3"):
        prepare_data(synthetic(3), root, ENDOVIS)


def test_synthetic_sequences_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot be written below .*file"):
        prepare_data(synthetic(2), tmp_path / "file", ENDOVIS)


def challenge(root: Path, frames: int = 2) -> None:
    """A small tree in the folders of the challenge's zip files, with training sets 1 to 4 and test sets 1 to 6."""
    for seed, (half, number) in enumerate([*(("train", n) for n in range(1, 5)), *(("test", n) for n in range(1, 7))]):
        made = root / "made" / f"Dataset{number}"
        write_endovis2015(SyntheticSequence(seed, frames, (64, 96), name=made.name), made.parent)
        video, pose = {
            "train": ("Segmentation_Robotic_Training/Training", "Tracking_Robotic_Training/Training"),
            "test": ("Segmentation", "Tracking"),
        }[half]
        for file in sorted(made.iterdir()):
            if file.name.endswith("_labels.json"):
                target = root / f"{half}{number}_labels.json"
            else:
                target = root / (pose if "Pose" in file.name else video) / made.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
        made.rmdir()
    (root / "made").rmdir()


def test_table_1_of_the_paper_in_the_challenges_layout(tmp_path: Path) -> None:
    challenge(tmp_path)
    protocol = match_names(load_protocol("endovis_table1"), tmp_path)
    found = prepare_data(protocol, tmp_path, ENDOVIS)
    assert {name: str(sequence.files[0].relative_to(tmp_path)) for name, sequence in found.items()} == {
        f"{'testing/' if number < 5 else ''}Dataset{number}": f"Segmentation/Dataset{number}/Video.avi"
        for number in range(2, 7)
    }
    trained = {name for fold in protocol.folds for part in fold.train for name in part.sequences}
    for sequence in open_dataset("endovis2015", tmp_path, sorted(trained)):
        assert "Segmentation_Robotic_Training/Training" in str(sequence.files[0])
    for folder in ("Segmentation", "Tracking"):
        shutil.rmtree(tmp_path / folder / "Dataset4")
    with pytest.raises(DatasetError, match="found no testing/Dataset4"):
        prepare_data(protocol, tmp_path, ENDOVIS)
