from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError, WeightsError
from csl_tracker.evaluation.sequence import SequenceEvaluator, evaluate_sequence, match_instruments
from csl_tracker.instruments import ENDOVIS, IGNORE_LABEL, InstrumentSet
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

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
    with pytest.raises(ValueError, match=r"is for an image of \(height, width\) \(9, 9\), not \(8, 10\)$"):
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


@pytest.mark.parametrize("point", [None, (5.0, math.nan), (math.nan, 5.0)])
def test_half_a_point_is_absent(point: Point | None) -> None:
    report = evaluate((sample({"center": point}), result(((5, 5), NAN))))
    assert (report["visible"], report["absent"], report["false_positive_rate"]) == (0, 1, 1.0)
    assert report["landmark_error_px"]["mean"] is None


def test_counts_of_all_frames_and_landmarks_are_added() -> None:
    sure, unsure = result(((0, 4), (0, 5))), result(((0, 4), (0, 5)), unsure=frozenset({0}))
    report = evaluate(
        (sample({"center": None, "head": None}), sure),
        (sample({"center": None, "head": (0, 0)}), sure),
        (sample({"center": None, "head": None}), unsure),
        (sample({"center": (0, 0), "head": (0, 0)}), sure),
        (sample({"center": (0, 0)}), unsure),
    )
    center, head = report["landmarks"]["center"], report["landmarks"]["head"]
    assert [part["absent"] for part in (center, head, report)] == [3, 2, 5]
    assert [part["false_positive_rate"] for part in (center, head, report)] == pytest.approx([2 / 3, 1 / 2, 3 / 5])
    assert [part["visible"] for part in (center, head, report)] == [2, 2, 4]
    assert [part["miss_rate"] for part in (center, head, report)] == [1 / 2, 0.0, 1 / 4]


def test_threshold_scores_by_distance() -> None:
    """Errors of 4, 15, 60 px, and no guess; an error at a threshold is not below it."""
    pairs = [(sample({"center": (0, 0)}), result(((x, 0), NAN))) for x in (4, 15, 60, math.nan)]
    report = evaluate(*pairs)
    expected = {"5": 0.25, "10": 0.25, "15": 0.25, "20": 0.5, "30": 0.5, "40": 0.5, "60": 0.5}
    assert report["threshold_scores_px"] == report["landmarks"]["center"]["threshold_scores_px"] == expected


def test_extra_instruments_of_all_labelled_frames_are_added() -> None:
    truth, twice = sample({"center": (0, 0)}), result(((1, 0), NAN), ((200, 0), NAN))
    report = evaluate((truth, twice), (truth, twice), (truth, result()), (truth, result()), (sample({}), twice))
    assert report["extra_instruments_per_frame"] == 0.5


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


@pytest.mark.parametrize(
    ("truth", "guesses"),
    [
        ([(0.0, 0.0), (9.0, 0.0)], [[(0.0, 1.2), (9.0, 1.2)], [(0.0, 1.0), NAN]]),  # what is not common costs nothing
        ([(0.0, 0.0), (9.0, 0.0)], [[(0.0, 1.5), NAN], [(0.0, 1.2), (9.0, 1.2)]]),  # the mean, not the sum
        ([(0.0, 0.0), NAN], [[NAN, (1.0, 1.0)], [(50.0, 0.0), NAN]]),  # nothing in common is farther than anything
    ],
)
def test_the_nearest_in_the_mean_over_common_landmarks_matches(truth: list[Point], guesses: list[list[Point]]) -> None:
    assert match_instruments(np.array(guesses), np.array([truth])) == [1]


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
    assert second["threshold_score_20px"] == 0.5, "20 px is not below 20 px"
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


def test_details_have_four_decimals() -> None:
    truth, said = np.zeros((8, 10), np.uint8), np.zeros((8, 10), np.uint8)
    truth[0, :4], said[0, 1:4] = 1, 1
    said[1, :4] = 1
    details = evaluator_of((sample({}, label_map=truth), result(label_map=said))).details()
    assert [details[key] for key in ("dice", "precision", "recall")] == [[0.5455], [0.4286], [0.75]]


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
    masks: bool = True
    read: int = 0

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Sample]:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (128, 160, 3), np.uint8)
        for frame in range(6):
            self.read += 1
            points = rng.uniform(10, 100, (1, len(self.landmarks), 2))
            mask = np.ones((128, 160), np.uint8) if self.masks else None
            yield Sample(image, mask, points, np.isfinite(points[..., 0]), "Dataset1", frame, frame * 40_000_000)


class Watcher:
    """A tracker that says where nothing is, and remembers what it was asked."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(instruments=ENDOVIS)
        self.asked: list[Any] = []

    def reset(self) -> None:
        self.asked.append("reset")

    def track(self, image: np.ndarray, stamp_s: float, *, segmentation: bool) -> TrackingResult:
        self.asked.append((image.shape, round(stamp_s, 9), segmentation))
        return TrackingResult((), np.ones(image.shape[:2], np.uint8) if segmentation else None, image.shape[:2], 0.0)


@pytest.mark.parametrize(
    ("frames", "named"), [(range(3, 7), "3 to 6"), (range(-1, 2), "-1 to 1"), (range(2, 2), "2 to 1"), (range(6, 7), "6 to 6")]
)
def test_frames_that_a_sequence_does_not_have(frames: range, named: str) -> None:
    tracker = Watcher()
    message = f"^The frames {named} of sequence Dataset1 were asked for, which has the frames 0 to 5; name some of these.$"
    with pytest.raises(DatasetError, match=message):
        evaluate_sequence(tracker, Video(), frames)  # type: ignore[arg-type]
    assert tracker.asked == []


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        (range(0, 1), [0]),
        (range(3, 6), [3, 4, 5]),
        (range(1, 5, 2), [1, 3]),
        (range(4, 0, -3), [1, 4]),
    ],
)
@pytest.mark.parametrize("masks", [True, False])
def test_only_the_frames_asked_for_are_tracked_and_scored(frames: range | None, expected: list[int], masks: bool) -> None:
    tracker = Watcher()
    video = Video(masks=masks)
    report = evaluate_sequence(tracker, video, frames, details=True)  # type: ignore[arg-type]
    assert tracker.asked == ["reset", *(((128, 160, 3), round(0.04 * frame, 9), masks) for frame in expected)]
    assert video.read == max(expected) + 1, "later frames need no decoding"
    assert report["frames"] == len(expected)
    assert report["details"]["segmented_frame"] == (expected if masks else None)
    assert report["details"]["landmarks"]["center"]["frame"] == expected


def test_the_settings_of_an_evaluation_reach_it() -> None:
    plain = evaluate_sequence(Watcher(), Video())  # type: ignore[arg-type]
    assert "details" not in plain
    assert plain["reference_size"] is None
    assert evaluate_sequence(Watcher(), Video(), reference_size=(64, 80))["reference_size"] == [64, 80]  # type: ignore[arg-type]
    other = Video(landmarks=("center", "fin"))
    with pytest.raises(WeightsError):
        evaluate_sequence(Watcher(), other, range(1))  # type: ignore[arg-type]
    only_center = evaluate_sequence(Watcher(), other, range(1), matching=Matching(partial=True))  # type: ignore[arg-type]
    assert {name for name, part in only_center["landmarks"].items() if part["visible"]} == {"center"}
