from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError, WeightsError
from csl_tracker.evaluation.sequence import SequenceEvaluator, evaluate_sequence, match_instruments
from csl_tracker.instruments import ENDOVIS, IGNORE_LABEL, InstrumentSet
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult
from csl_tracker.tracker import Tracker

NAN = (math.nan, math.nan)
MODEL = InstrumentSet(landmarks=("center", "head"), classes=("background", "shaft", "manipulator"))
Point = tuple[float, float]


@dataclass
class Frames:
    """A sequence with no frames of its own; the evaluator asks for names only."""

    landmarks: tuple[str, ...] = ("head", "center", "tracked_point")
    slots: tuple[str, ...] = ("right",)
    classes: tuple[str, ...] = MODEL.classes
    name: str = "Dataset1"
    fps: float = 25.0
    size: tuple[int, int] = (8, 10)

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Sample]:
        return iter(())


def sample(*instruments: dict[str, Point | None], label_map: np.ndarray | None = None, frame: int = 0) -> Sample:
    """Instruments as landmark -> point; None is labelled absent, a missing name is not labelled."""
    names = Frames().landmarks
    points = [[item.get(name) or NAN for name in names] for item in instruments]
    labelled = [[name in item for name in names] for item in instruments]
    return Sample(np.zeros((8, 10, 3), np.uint8), label_map, np.array(points, float), np.array(labelled), "Dataset1", frame, 0)


def result(*instruments: tuple[Point, Point], unsure: frozenset[int] = frozenset(), label_map: np.ndarray | None = None) -> Any:
    estimates = []
    for row, points in enumerate(instruments):
        landmarks = tuple(
            LandmarkEstimate(name, x, y, np.eye(2), 0.9, not math.isnan(x) and row not in unsure)
            for name, (x, y) in zip(MODEL.landmarks, points, strict=True)
        )
        estimates.append(InstrumentEstimate(row + 1, "right", landmarks, 0.9, 0.0, (0, 0, 0, 0)))
    return TrackingResult(tuple(estimates), label_map, (8, 10), 0.01)


def evaluator_of(*pairs: tuple[Sample, TrackingResult], reference_size: tuple[int, int] | None = None) -> SequenceEvaluator:
    evaluator = SequenceEvaluator(Frames(slots=tuple("ab"[: len(pairs[0][0].landmarks)])), MODEL, reference_size)
    for truth, said in pairs:
        evaluator.add(truth, said)
    return evaluator


def evaluate(*pairs: tuple[Sample, TrackingResult]) -> dict[str, Any]:
    return evaluator_of(*pairs).report()


@pytest.mark.parametrize(
    ("classes", "label_map", "dice"),
    [
        (("background", "shaft", "wrist", "clasper"), np.full((8, 10), 3, np.uint8), 1.0),
        (("background", "wrist"), np.full((8, 10), 1, np.uint8), 1.0),
        (("background", "tool"), np.full((8, 10), 1, np.uint8), 1.0),
        (("background",), None, None),
    ],
)
def test_a_partial_dataset_is_scored_on_what_both_have(
    classes: tuple[str, ...], label_map: np.ndarray | None, dice: float | None
) -> None:
    """The elbow has no truth; a mask of whole tools does not tell shaft from manipulator, but tool from background."""
    model = InstrumentSet(landmarks=("elbow", *MODEL.landmarks), classes=MODEL.classes)
    evaluator = SequenceEvaluator(Frames(classes=classes), model, matching=Matching(partial=True))
    names = [LandmarkEstimate(name, 2, 3, np.eye(2), 0.9, True) for name in model.landmarks]
    said = InstrumentEstimate(1, "right", tuple(names), 0.9, 0.0, (0, 0, 0, 0))
    other = InstrumentEstimate(2, "left", tuple(names), 0.9, 0.0, (0, 0, 0, 0))
    manipulator = np.full((8, 10), 2, np.uint8)
    evaluator.add(
        sample({"center": (2, 7), "head": (2, 3)}, label_map=label_map), TrackingResult((said,), manipulator, (8, 10), 0)
    )
    evaluator.add(sample({}, frame=1), TrackingResult((said, other), None, (8, 10), 0.01))
    report = evaluator.report()
    assert {name: part["landmark_error_px"]["mean"] for name, part in report["landmarks"].items()} == {
        "elbow": None,
        "center": 4.0,
        "head": 0.0,
    }
    assert report["dice"] == dice
    assert report["classes"]["manipulator"]["dice"] == (None if "tool" in classes else dice)
    assert report["extra_instruments_per_frame"] == 0.0  # of the second frame nobody said what is in it


def test_model_with_other_landmarks() -> None:
    with pytest.raises(WeightsError, match="they have elbow"):
        SequenceEvaluator(Frames(), InstrumentSet(landmarks=("elbow",), classes=MODEL.classes))


def test_result_of_another_image_or_model() -> None:
    evaluator = SequenceEvaluator(Frames(), MODEL)
    truth = sample({"center": (1, 1)})
    with pytest.raises(ValueError, match="is for an image of"):
        evaluator.add(truth, TrackingResult((), None, (9, 9), 0.0))
    alien = InstrumentEstimate(1, "left", (LandmarkEstimate("tip", 1, 1, np.eye(2), 1, True),), 1, 0, (0, 0, 0, 0))
    with pytest.raises(ValueError, match="has the landmarks"):
        evaluator.add(truth, TrackingResult((alien,), None, (8, 10), 0.0))


def test_nothing_measured_is_none_everywhere() -> None:
    report = evaluate((sample({}), result()))
    for key in ("dice", "precision", "recall", "threshold_score_20px", "kbb_0.15", "miss_rate", "false_positive_rate"):
        assert report[key] is None
    assert report["landmark_error_px"]["mean"] is None
    assert (report["frames"], report["visible"], report["segmented_frames"]) == (1, 0, 0)


def test_errors_pool_all_landmarks_and_stand_alone() -> None:
    report = evaluate(
        (sample({"center": (0, 0), "head": (100, 0)}), result(((3, 4), (100, 30)))),
        (sample({"center": (0, 0)}), result(((0, 12), (500, 500)))),
    )
    assert report["landmark_error_px"] == {
        "mean": (5 + 30 + 12) / 3,
        "median": 12,
        "p90": pytest.approx(26.4),
        "p95": pytest.approx(28.2),
        "max": 30,
    }
    assert report["landmarks"]["center"]["landmark_error_px"]["mean"] == 8.5
    assert report["landmarks"]["head"]["visible"] == 1
    assert report["threshold_score_20px"] == pytest.approx(2 / 3)
    # the box of the first frame is 100 px wide: 5 < 15, not 30; the second frame has one landmark and no box
    assert (report["kbb_0.15"], report["landmarks"]["head"]["kbb_0.15"]) == (0.5, 0.0)
    assert report["miss_rate"] == 0


def test_unsure_guess_counts_in_the_error_and_as_a_miss() -> None:
    report = evaluate((sample({"center": (0, 0)}), result(((30, 40), NAN), unsure=frozenset({0}))))
    assert report["landmarks"]["center"]["landmark_error_px"]["mean"] == 50
    assert report["landmarks"]["center"]["miss_rate"] == 1.0
    assert report["unanswered"] == 0


@pytest.mark.parametrize("said", [result(), result((NAN, (1, 1)))])
def test_no_guess_is_unanswered_missed_and_below_no_threshold(said: TrackingResult) -> None:
    report = evaluate((sample({"center": (0, 0)}), said), (sample({"center": (0, 0)}), result(((0, 1), NAN))))
    center = report["landmarks"]["center"]
    assert (center["unanswered"], center["miss_rate"], center["threshold_score_20px"]) == (1, 0.5, 0.5)
    assert center["landmark_error_px"]["mean"] == 1


@pytest.mark.parametrize(("unsure", "rate"), [(frozenset(), 1.0), (frozenset({0}), 0.0)])
def test_false_positives_are_counted_where_truth_is_absent(unsure: frozenset[int], rate: float) -> None:
    report = evaluate((sample({"center": None}), result(((3, 3), (4, 4)), unsure=unsure)))
    center, head = report["landmarks"]["center"], report["landmarks"]["head"]
    assert (center["absent"], center["false_positive_rate"], center["visible"]) == (1, rate, 0)
    assert (head["absent"], head["false_positive_rate"]) == (0, None)  # nobody looked for the head


def test_extra_instruments_are_counted_when_reported() -> None:
    truth = sample({"center": (0, 0)})
    twice = ((1.0, 0.0), NAN), ((200.0, 0.0), NAN)
    assert evaluate((truth, result(*twice)))["extra_instruments_per_frame"] == 1
    assert evaluate((truth, result(*twice, unsure=frozenset({1}))))["extra_instruments_per_frame"] == 0


def test_instruments_are_matched_by_distance_not_by_order() -> None:
    truth = sample({"center": (0, 0), "head": (50, 0)}, {"center": (300, 0), "head": (250, 0)})
    report = evaluate((truth, result(((301, 0), (250, 1)), ((0, 1), (51, 0)))))
    assert report["landmark_error_px"]["max"] == 1


def test_absent_instrument_takes_what_the_others_leave() -> None:
    truth = sample({"center": None}, {"center": (300, 0)})
    report = evaluate((truth, result(((299, 0), NAN))))
    center = report["landmarks"]["center"]
    assert (center["landmark_error_px"]["max"], center["false_positive_rate"]) == (1, 0.0)


@pytest.mark.parametrize(("predictions", "instruments"), [(0, 2), (1, 2), (2, 1), (2, 2), (3, 2), (4, 3)])
def test_matching_against_the_hungarian_method(predictions: int, instruments: int) -> None:
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(predictions * 10 + instruments)
    for _ in range(20):
        guesses, truth = rng.uniform(0, 500, (predictions, 3, 2)), rng.uniform(0, 500, (instruments, 3, 2))
        truth[0, 1] = np.nan
        match = match_instruments(guesses, truth)
        cost = np.nanmean(np.linalg.norm(guesses[None] - truth[:, None], axis=-1), axis=-1)
        rows, columns = linear_sum_assignment(cost)
        expected: list[int | None] = [None] * instruments
        for row, column in zip(rows, columns, strict=True):
            expected[row] = int(column)
        assert match == expected


def test_second_annotation_is_scored_beside_the_first() -> None:
    report = evaluate(
        (sample({"center": (0, 0), "tracked_point": (0, 10)}), result(((0, 4), NAN))),
        (sample({"center": None, "tracked_point": (0, 20)}), result(((0, 0), NAN))),
        (sample({"center": (0, 0)}), result(((0, 0), NAN))),
    )
    second = report["second_annotation"]["center_vs_tracked_point"]
    assert (second["visible"], second["landmark_error_px"]["mean"], second["landmark_error_px"]["max"]) == (2, 13, 20)
    assert second["annotators_distance_px"] == {"mean": 10, "median": 10, "p90": 10, "p95": 10, "max": 10}
    assert report["landmarks"]["center"]["visible"] == 2


def test_segmentation_is_averaged_over_images() -> None:
    truth = np.zeros((8, 10), np.uint8)
    truth[:4, :5], truth[:4, 5:], truth[7] = 1, 2, IGNORE_LABEL
    half = np.zeros((8, 10), np.uint8)
    half[:4, :5], half[7] = 2, 1  # the wrong class, and tool where nobody looks
    report = evaluate(
        (sample({}, label_map=truth), result(label_map=truth)), (sample({}, label_map=truth), result(label_map=half))
    )
    assert report["dice"] == pytest.approx((1 + 2 * 20 / (20 + 40)) / 2)
    assert (report["precision"], report["recall"]) == (1.0, 0.75)
    assert report["classes"]["shaft"]["dice"] == 0.5
    assert report["segmented_frames"] == 2


def test_report_is_plain_json() -> None:
    import json

    truth = sample({"center": (0, 0), "head": None, "tracked_point": (1, 1)}, label_map=np.ones((8, 10), np.uint8))
    report = evaluate(*itertools.repeat((truth, result(((1, 1), NAN), label_map=np.ones((8, 10), np.uint8))), 3))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_details_hold_one_entry_for_every_visible_truth() -> None:
    mask, none = np.ones((8, 10), np.uint8), np.zeros((8, 10), np.uint8)
    details = evaluator_of(
        (sample({"center": (0, 0), "head": (100, 0)}, {"center": None}, frame=4), result(((3, 4), NAN), unsure=frozenset({0}))),
        (sample({}, {"center": (1, 1)}, frame=7, label_map=mask), result(((1, 1.236), NAN), label_map=none)),
    ).details()
    center = {"frame": [4, 7], "slot": [0, 1], "error_px": [5.0, 0.24], "box_px": [100.0, None], "missed": [1, 0]}
    head = {"frame": [4], "slot": [0], "error_px": [None], "box_px": [100.0], "missed": [1]}
    assert details["landmarks"] == {"center": center, "head": head}
    assert {key: details[key] for key in ("segmented_frame", "dice", "precision", "recall")} == {
        "segmented_frame": [7],
        "dice": [0.0],
        "precision": [1.0],
        "recall": [0.0],
    }


@pytest.mark.parametrize("truth", [None, np.ones((8, 10), np.uint8)])
def test_without_segmentation_landmarks_are_scored_all_the_same(truth: np.ndarray | None) -> None:
    evaluator = evaluator_of((sample({"center": (0, 0)}, label_map=truth), result(((3, 4), NAN))))
    report, details = evaluator.report(), evaluator.details()
    assert (report["segmented_frames"], report["dice"], report["classes"]["shaft"]["recall"]) == (0, None, None)
    assert [details[key] for key in ("segmented_frame", "dice", "precision", "recall")] == [None] * 4
    assert report["landmark_error_px"]["mean"] == 5


def test_a_model_without_landmarks_is_scored_by_its_segmentation() -> None:
    mask = np.ones((8, 10), np.uint8)
    bare = replace(MODEL, landmarks=())
    evaluator = SequenceEvaluator(Frames(), bare)
    evaluator.add(sample({"center": (0, 0)}, label_map=mask), TrackingResult((), mask, (8, 10), 0.0))
    report = evaluator.report()
    assert (report["dice"], report["visible"], report["landmark_error_px"]["mean"], report["miss_rate"]) == (1, 0, None, None)
    assert evaluator.details()["landmarks"] == {}


def test_reference_size_scales_x_and_y_before_the_distance_and_changes_nothing_else() -> None:
    pairs = [
        (
            sample({"center": (0, 0), "head": (100, 20), "tracked_point": (3, 0)}, {"center": (300, 0)}),
            result(((306, 8), NAN), ((6, 8), (106, 20))),
        ),
        (sample({"center": (0, 0)}, {"center": None}), result(((90, 0), NAN), ((0, 1), NAN), unsure=frozenset({1}))),
    ]
    plain, evaluator = evaluator_of(*pairs), evaluator_of(*pairs, reference_size=(16, 5))  # of 8x10: y doubles, x halves
    report = evaluator.report()
    assert (plain.report()["reference_size"], report["reference_size"]) == (None, [16, 5])
    center = evaluator.details()["landmarks"]["center"]
    assert center["error_px"] == [round(math.hypot(3, 16), 2)] * 2 + [2.0]
    assert evaluator.details()["landmarks"]["head"]["error_px"] == [3.0]
    assert center["box_px"] == [50.0, None, None]
    second = report["second_annotation"]["center_vs_tracked_point"]
    assert second["landmark_error_px"]["mean"] == pytest.approx(math.hypot(1.5, 16))
    assert second["annotators_distance_px"]["mean"] == 1.5
    for key in ("visible", "absent", "unanswered", "miss_rate", "false_positive_rate", "extra_instruments_per_frame"):
        assert report[key] == plain.report()[key], key
    assert plain.details()["landmarks"]["center"]["missed"] == center["missed"]


@dataclass
class Video(Frames):
    """Six frames of 128x160 px, numbered from 0."""

    landmarks: tuple[str, ...] = ENDOVIS.landmarks
    size: tuple[int, int] = (128, 160)

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Sample]:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (128, 160, 3), np.uint8)
        for frame in range(6):
            points = rng.uniform(10, 100, (1, 5, 2))
            mask = np.ones((128, 160), np.uint8)
            yield Sample(image, mask, points, np.ones((1, 5), bool), "Dataset1", frame, frame * 40_000_000)


@pytest.mark.parametrize("frames", [range(3, 7), range(-1, 2), range(2, 2)])
def test_frames_that_a_sequence_does_not_have(random_weights: Path, frames: range) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch", 1, always_report=True)
    with pytest.raises(DatasetError, match="of sequence Dataset1 were asked for, which has the frames 0 to 5"):
        evaluate_sequence(tracker, Video(), frames)


@pytest.mark.parametrize(
    ("frames", "expected"), [(None, [0, 1, 2, 3, 4, 5]), (range(3, 6), [3, 4, 5]), (range(1, 5, 2), [1, 3])]
)
def test_only_the_frames_asked_for_are_tracked_and_scored(
    random_weights: Path, frames: range | None, expected: list[int]
) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch", 1, always_report=True)
    report = evaluate_sequence(tracker, Video(), frames, details=True)
    assert report["frames"] == report["segmented_frames"] == tracker.frames == len(expected)
    assert report["details"]["segmented_frame"] == report["details"]["landmarks"]["center"]["frame"] == expected
    assert "details" not in evaluate_sequence(tracker, Video(), range(1))
