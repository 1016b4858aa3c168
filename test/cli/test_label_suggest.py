from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.cli.main import main
from csl_tracker.datasets.coco import open_coco
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.instruments import ENDOVIS
from csl_tracker.tracker import Tracker
from csl_tracker.video import VideoReader, VideoWriter
from csl_tracker.weights import default_weights, load_weights

CPU = ["--device", "cpu", "--engine", "torch"]
SIZE = (128, 160)
FRAMES, FPS = 12, 5


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "surgery.mp4"
    with VideoWriter(path, FPS, crf=10) as writer:
        for sample in SyntheticSequence(2, FRAMES, SIZE, fps=FPS, instruments=2):
            writer.write(sample.image)
    return path


@pytest.fixture(scope="module")
def suggested(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "labels"
    assert main(["label-suggest", str(video), "--out", str(out), "--count", "3", "--spacing", "0.6", "--every", "2", *CPU]) == 0
    return out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{tmp}/nowhere.mp4", "--out", "{tmp}/new"], "nowhere.mp4 does not exist"),
        (["{video}", "--out", "{tmp}"], "exists and is not empty; remove it, or choose another"),
        (["{video}", "--out", "{tmp}/new", "--count", "0"], "count of suggested frames is 0"),
        (["{video}", "--out", "{tmp}/new", "--every", "-1"], "every of suggested frames is -1"),
        (["{video}", "--out", "{tmp}/new", "--spacing", "nan"], "spacing of suggested frames is nan"),
        (["{video}", "--out", "{tmp}/new", "--weights", "{tmp}/mine.txt"], "mine.txt"),
        (["{video}", "--out", "{tmp}/new", "--max-instruments", "99"], "max_instruments is 99"),
    ],
)
def test_mistakes_end_with_one_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["label-suggest", *(word.format(tmp=tmp_path, video=video) for word in arguments), *CPU]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_frames_are_spread_and_come_with_reasons(video: Path, suggested: Path) -> None:
    with (suggested / "suggestions.csv").open() as file:
        rows = list(csv.DictReader(file))
    frames = [int(row["frame"]) for row in rows]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert min(np.diff(sorted(frames))) >= 0.6 * FPS
    assert all(frame % 2 == 0 for frame in frames)
    assert all(row["reason"] and 0 <= float(row["score"]) <= 1 for row in rows)
    originals = list(VideoReader(video))
    for row in rows:
        image = cv2.imread(str(suggested / row["image"]))[:, :, ::-1]
        np.testing.assert_array_equal(image, originals[int(row["frame"])])


def test_labels_are_what_the_tracker_sees(video: Path, suggested: Path) -> None:
    [sequence] = open_coco(suggested)
    assert (sequence.name, sequence.landmarks, sequence.classes) == ("surgery", ENDOVIS.landmarks, ENDOVIS.classes)
    tracker = Tracker.from_weights(default_weights(), "cpu", "torch")
    results = {i: tracker.track(image, i / FPS) for i, image in enumerate(VideoReader(video)) if i % 2 == 0}
    seen = 0
    for sample in sequence:
        result = results[sample.frame]
        for instrument in result.instruments:
            slot = sequence.slots.index(instrument.slot)
            for index, mark in enumerate(instrument.landmarks):
                assert sample.labelled[slot, index] == mark.visible
                if mark.visible:
                    np.testing.assert_allclose(sample.landmarks[slot, index], (mark.x, mark.y), atol=1e-9)
                    seen += 1
        assert sample.label_map is not None
        assert result.label_map is not None
        assert (sample.label_map != result.label_map).mean() < 0.02  # polygons for people are within a pixel of the mask
        assert sample.label_map.any()
    assert seen > 10


def test_what_cvat_and_label_studio_need_is_there(suggested: Path) -> None:
    keypoints = json.loads((suggested / "annotations" / "person_keypoints_default.json").read_text())
    assert all("keypoints" in category and "skeleton" in category for category in keypoints["categories"])
    assert keypoints["categories"][0]["skeleton"] == [[1, 2], [2, 3], [3, 4], [3, 5]]
    instances = json.loads((suggested / "annotations" / "instances_default.json").read_text())
    for item in instances["annotations"]:
        assert all(len(polygon) >= 6 for polygon in item["segmentation"])
    for data in (keypoints, instances):
        assert all((suggested / "images" / image["file_name"]).is_file() for image in data["images"])
    labels = json.loads((suggested / "cvat_labels.json").read_text())
    assert [label["name"] for label in labels] == ["instrument", "shaft", "manipulator", "ignore"]
    tasks = json.loads((suggested / "label_studio.json").read_text())
    assert len(tasks) == 3
    for task in tasks:
        assert (suggested / task["data"]["image"].removeprefix("/data/local-files/?d=")).is_file()


def test_the_mirror_is_asked_and_the_answer_is_the_same_again(video: Path, random_weights: Path, tmp_path: Path) -> None:
    arguments = ["--count", "2", "--every", "6", "--mirror", "--weights", str(random_weights), "--confidence-threshold", "0"]
    one, other = tmp_path / "one", tmp_path / "other"
    for out in (one, other):
        assert main(["label-suggest", str(video), "--out", str(out), *arguments, *CPU]) == 0
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) == 8
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)
    with (one / "suggestions.csv").open() as file:
        assert all(float(row["mirror"]) > 0 for row in csv.DictReader(file))


def test_corrected_labels_train(suggested: Path, tmp_path: Path) -> None:
    """The folder as it is, and as it comes back from CVAT: other ids, no keys of ours, corner coordinates, moved points."""
    pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")
    from csl_tracker.training.config import SourceConfig, TrainConfig
    from csl_tracker.training.run import train

    corrected = tmp_path / "corrected"
    (corrected / "annotations").mkdir(parents=True)
    (corrected / "images").symlink_to(suggested / "images")
    info = dict.fromkeys(("contributor", "date_created", "description", "url", "version", "year"), "")
    for name in ("person_keypoints_default.json", "instances_default.json"):
        data = json.loads((suggested / "annotations" / name).read_text())
        for image in data["images"]:
            for key in ("sequence", "frame", "stamp_ns", "segmented", "instances"):
                del image[key]
        for item in data["annotations"]:
            item.pop("keypoints_absent", None)
            if "keypoints" in item:
                item["keypoints"][0] += 1
        back = {"info": info, **{key: data[key] for key in ("licenses", "images", "categories", "annotations")}}
        (corrected / "annotations" / name).write_text(json.dumps(back))
    before, after = (next(iter(open_coco(root)[0])) for root in (suggested, corrected))
    np.testing.assert_array_equal(before.image, after.image)
    np.testing.assert_array_equal(before.label_map, after.label_map)
    moved = after.landmarks - before.landmarks
    assert set(np.round(moved[np.isfinite(moved)], 9)) == {0.0, 1.0}

    sources = tuple(SourceConfig("coco", str(root)) for root in (suggested, corrected))
    config = TrainConfig(
        name="corrected",
        output=str(tmp_path / "run"),
        encoder_weights="",
        input_size=(64, 96),
        crop=(64, 64),
        train=sources,
        validation=sources[:1],
        batch_size=2,
        steps=1,
        steps_per_epoch=1,
        workers=0,
        accelerator="cpu",
        cache=str(tmp_path / "cache"),
    )
    assert load_weights(train(config, "test")).name == "corrected"


def test_frames_keep_their_own_times(tmp_path: Path, random_weights: Path) -> None:
    times = [0, 2_000_000_000, 2_040_000_000, 9_000_000_000]
    with VideoWriter(tmp_path / "uneven.mp4", 25) as writer:
        for index, time_ns in enumerate(times):
            writer.write(np.full((128, 160, 3), 60 * index, np.uint8), time_ns)
    command = ["label-suggest", str(tmp_path / "uneven.mp4"), "--out", str(tmp_path / "out"), "--weights", str(random_weights)]
    assert main([*command, "--device", "cpu", "--engine", "torch", "--count", "4", "--spacing", "1"]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "suggestions.csv").open()))
    assert rows
    assert all(float(row["time_s"]) == times[int(row["frame"])] / 1e9 for row in rows)
    assert len({round(float(row["time_s"])) for row in rows}) == len(rows), "two of them are 40 ms apart"
