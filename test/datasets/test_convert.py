from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from csl_tracker.datasets.coco import open_coco
from csl_tracker.datasets.coco_writer import CocoWriter
from csl_tracker.datasets.convert import convert_to_coco
from csl_tracker.datasets.deeplabcut import open_deeplabcut
from csl_tracker.datasets.registry import FileSequence, open_dataset
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.errors import DatasetError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences in the layout of EndoVis 2015, with one and two instruments."""
    root = tmp_path_factory.mktemp("endovis")
    for seed in (1, 2):
        write_endovis2015(SyntheticSequence(seed, 4, (64, 96), name=f"Dataset{seed}"), root)
    return root


@dataclass
class Made:
    """A sequence made by the test."""

    samples: list[Sample]
    name: str = "made"
    landmarks: tuple[str, ...] = ("tip", "shaft")
    classes: tuple[str, ...] = ("background", "tool", "ring")
    slots: tuple[str, ...] = ("PSM1", "PSM2")
    fps: float = 29.97
    size: tuple[int, int] = (20, 30)
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def sample(frame: int, seed: int = 0, **changes: Any) -> Sample:
    rng = np.random.default_rng(seed)
    landmarks = rng.uniform(0, 19, (2, 2, 2))
    landmarks[0, 1] = landmarks[1, 0] = np.nan
    settings = {
        "image": rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
        "label_map": rng.choice(np.array([0, 1, 2, 255], np.uint8), (20, 30)),
        "landmarks": landmarks,
        "labelled": np.array([[True, True], [False, True]]),
        "sequence": "made",
        "frame": frame,
        "stamp_ns": frame * 33_366_700 + 7,
    }
    return Sample(**{**settings, **changes})  # type: ignore[arg-type]


def assert_same(one: Sample, other: Sample) -> None:
    for name in ("image", "label_map", "landmarks", "labelled", "instances"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert (one.sequence, one.frame, one.stamp_ns) == (other.sequence, other.frame, other.stamp_ns)


def assert_same_dataset(one: list[FileSequence], other: list[FileSequence]) -> None:
    for a, b in zip(one, other, strict=True):
        for name in ("name", "landmarks", "classes", "slots", "fps", "size"):
            assert getattr(a, name) == getattr(b, name), name
        for before, after in zip(a, b, strict=True):
            assert_same(before, after)


def test_samples_are_the_same_to_the_bit(source: Path, tmp_path: Path) -> None:
    original = open_dataset("endovis2015", source)
    calls: list[int] = []
    assert convert_to_coco(original, tmp_path / "coco", "text", lambda: calls.append(1)) == len(calls) == 8
    converted = open_dataset("coco", tmp_path / "coco")
    assert_same_dataset(original, converted)
    convert_to_coco(converted, tmp_path / "again", "text")
    assert (tmp_path / "again" / "coco.json").read_bytes() == (tmp_path / "coco" / "coco.json").read_bytes()


def test_everything_that_a_sample_can_say_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    samples = [
        sample(3, 3),
        sample(4, 4, label_map=None),
        sample(
            7, 7, label_map=np.zeros((20, 30), np.uint8), labelled=np.zeros((2, 2), bool), landmarks=np.full((2, 2, 2), np.nan)
        ),
        sample(8, 8, landmarks=np.full((2, 2, 2), np.nan), labelled=np.ones((2, 2), bool)),
        sample(9, 9, instances=rng.choice(np.array([0, 1, 2, 255], np.uint8), (20, 30))),
    ]
    bare = sample(0, sequence="bare", landmarks=np.empty((1, 0, 2)), labelled=np.empty((1, 0), bool), label_map=None)
    sequences: list[Any] = [
        Made([bare], "bare", landmarks=(), classes=("background",), slots=("left",)),
        Made(samples),
        Made([sample(0, sequence="training/other")], "training/other", slots=("x", "y")),
    ]
    convert_to_coco(sequences, tmp_path / "coco")
    assert_same_dataset(sequences, list(open_coco(tmp_path / "coco")))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with NumPy 2
def test_others_read_it(source: Path, tmp_path: Path) -> None:
    """pycocotools sees the same images, points and pixels."""
    convert_to_coco(open_dataset("endovis2015", source, ["Dataset1"]), tmp_path / "coco")
    coco = COCO(str(tmp_path / "coco" / "coco.json"))
    [sequence] = open_coco(tmp_path / "coco")
    for record, ours in zip(coco.loadImgs(sorted(coco.imgs)), sequence, strict=True):
        pixels = cv2.imread(str(tmp_path / "coco" / record["file_name"]))
        np.testing.assert_array_equal(pixels[:, :, ::-1], ours.image)
        label_map = np.zeros(pixels.shape[:2], np.uint8)
        for item in coco.imgToAnns[record["id"]]:
            name = coco.cats[item["category_id"]]["name"]
            if name == "instrument":
                keypoints = np.array(item["keypoints"]).reshape(-1, 3)
                slot = sequence.slots.index(item["attributes"]["slot"])
                np.testing.assert_array_equal(keypoints[:, 2] == 2, ours.visible[slot])
                np.testing.assert_array_equal(keypoints[ours.visible[slot], :2], ours.landmarks[slot][ours.visible[slot]])
            else:
                label_map[coco.annToMask(item) == 1] = sequence.classes.index(name)
        np.testing.assert_array_equal(label_map, ours.label_map)


def test_image_files_are_taken_as_they_are(tmp_path: Path) -> None:
    """JPEG files, which could not be encoded again without loss."""
    rng = np.random.default_rng(0)
    (tmp_path / "video").mkdir()
    for name in ("a.jpg", "b.JPG"):
        cv2.imwrite(str(tmp_path / "video" / name), rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    (tmp_path / "video" / "labels.csv").write_text("scorer,m,m\nbodyparts,tip,tip\ncoords,x,y\na.jpg,1.1,2\nb.JPG,,\n")
    original = open_deeplabcut(tmp_path / "video")
    convert_to_coco(original, tmp_path / "coco")
    converted = open_coco(tmp_path / "coco")
    assert_same_dataset(list(original), list(converted))
    assert [path.name for path in converted[0].images] == ["000000.jpg", "000001.jpg"]
    assert converted[0].images[0].read_bytes() == (tmp_path / "video" / "a.jpg").read_bytes()


def test_output_that_exists_stays(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="exists and is not empty; remove it, or choose another"):
        convert_to_coco(open_dataset("endovis2015", source), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_sequences_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Two sequences are called made"):
        convert_to_coco([Made([]), Made([])], tmp_path / "coco")


def test_label_that_no_class_owns(tmp_path: Path) -> None:
    labels = np.full((20, 30), 3, np.uint8)
    with pytest.raises(
        DatasetError, match=r"label map of made/000005\.png has the value 3, which none of .* background, tool, ring"
    ):
        convert_to_coco([Made([sample(5, label_map=labels)])], tmp_path / "coco")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [1, 4])
def test_interrupted_conversion_leaves_nothing(source: Path, tmp_path: Path, at: int) -> None:
    left = [at]

    def interrupt() -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_to_coco(open_dataset("endovis2015", source), tmp_path / "coco", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_nothing(
    source: Path, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(3000), pytest.raises(DatasetError, match=r"cannot be written .*; make room on the disk"):
        convert_to_coco(open_dataset("endovis2015", source), tmp_path / "coco")
    assert not list(tmp_path.iterdir())


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    name = "../../outside"
    with CocoWriter(tmp_path / "coco", [Made([], name)]) as writer:
        assert writer.write(sample(0, sequence=name)) == "images/outside/000000.png"
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_for_labelling_tools_there_are_polygons_and_corners(tmp_path: Path) -> None:
    label_map = np.zeros((20, 30), np.uint8)
    label_map[5:15, 5:20] = 1
    with CocoWriter(tmp_path / "coco", [Made([])], [("tip", "shaft"), ("tip", "other")], editable=True) as writer:
        writer.write(sample(0, label_map=label_map))
    skeletons = json.loads((tmp_path / "coco" / "annotations" / "person_keypoints_default.json").read_text())
    areas = json.loads((tmp_path / "coco" / "annotations" / "instances_default.json").read_text())
    [category] = skeletons["categories"]
    assert (category["keypoints"], category["skeleton"]) == (["tip", "shaft"], [[1, 2]])
    expected = sample(0)
    x, y, v = skeletons["annotations"][0]["keypoints"][:3]
    assert ([x - 0.5, y - 0.5], v) == (expected.landmarks[0, 0].tolist(), 2)
    assert [item["name"] for item in areas["categories"]] == ["tool", "ring", "ignore"]
    [area] = areas["annotations"]
    [polygon] = area["segmentation"]
    assert len(polygon) == 8
    [back] = open_coco(tmp_path / "coco")[0]
    np.testing.assert_array_equal(back.label_map, label_map)
    np.testing.assert_allclose(back.landmarks, expected.landmarks, atol=1e-12)
