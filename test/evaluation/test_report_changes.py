import dataclasses

import numpy as np
import pytest
from evaluation_reports import ALL, FRAMES, bag_report, dataset_report, write
from scipy import stats

from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.intervals import holm
from csl_tracker.evaluation.report_changes import compare_reports
from csl_tracker.evaluation.report_files import read_report
from csl_tracker.metrics import kbb_score


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (bag_report(1, 5, truth="bb"), "the ground truth .* differs"),
        (bag_report(1, 5, landmarks=("center", "tip")), "the set of scored landmarks differs"),
        (dataset_report(), "is of csl-tracker evaluate-bag and .* of csl-tracker evaluate;"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, other, sentence):
    a, b = read_report(write(tmp_path / "a.json", bag_report(0, 5))), read_report(write(tmp_path / "b.json", other))
    with pytest.raises(ConfigError, match=sentence):
        compare_reports(a, [b])


@pytest.mark.parametrize(
    ("key", "value"), [("input_sha256", "dd"), ("reference_size", [480, 640]), ("max_instruments", 1), ("frames", 2)]
)
def test_other_protocols_are_refused(tmp_path, key, value):
    a = read_report(write(tmp_path / "a.json", dataset_report()))
    b = read_report(write(tmp_path / "b.json", dataset_report(**{key: value})))
    with pytest.raises(ConfigError, match=r"of s.* differs .*evaluate both in the same way|of s .* differs"):
        compare_reports(a, [b])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not valid JSON"),
        pytest.param("[" * 100_000, "is not valid JSON", id="nested too deeply"),
        ("[1]", "holds no figures"),
        ('{"landmark_error_px": 3}', "holds no figures"),
        ('{"kind": "evaluate-bag", "name": "x"}', "lacks a part .*'truth_sha256'"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, text, sentence):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        read_report(path)


def changes_of(tmp_path, a, b):
    (found,) = compare_reports(read_report(write(tmp_path / "a.json", a)), [read_report(write(tmp_path / "b.json", b))])
    return {change.quantity: change for change in found}


def test_frames_are_paired_by_stamp(tmp_path):
    """B lists its frames the other way round, and has dropped every fourth; its errors are 1 px smaller in each frame."""
    found = changes_of(tmp_path, bag_report(0, 6), bag_report(0, 5, frames=[k for k in ALL if k % 4], order=-1))
    error = found["landmark_error_px"]
    assert error.b - error.a == pytest.approx(-1.0)
    assert (error.low, error.high) == (pytest.approx(-1.0), pytest.approx(-1.0))  # the noise is the same: pairing removes it
    assert (error.verdict, error.units, error.left_out) == ("better (these frames only)", 150, 50)
    assert (found["answered"].verdict, found["answered"].b) == ("worse (these frames only)", 0.75)
    assert found["latency_ms"].verdict == "equal"


def entries(frames, error_px, box_px=20.0):
    count = len(frames)
    columns = {"slot": 0, "error_px": error_px, "box_px": box_px, "missed": 0}
    return {"frame": list(frames), **{key: [value] * count for key, value in columns.items()}}


def test_a_landmark_that_one_side_never_answered_is_not_paired_with_another(tmp_path):
    """A dropped the frames in which `center` is visible: what is left of A, its `tip`, is paired with B's `tip`."""
    a, b = bag_report(0, 5, landmarks=("center", "tip")), bag_report(0, 5, landmarks=("center", "tip"))
    a["details"]["landmarks"] = {"center": entries([], 0.0), "tip": entries(range(100, 200), 5.0)}
    b["details"]["landmarks"] = {"tip": entries(range(200), 5.0), "center": entries(range(100, 200), 50.0)}
    found = changes_of(tmp_path, a, b)
    error = found["landmark_error_px"]
    assert (error.a, error.b, error.verdict, error.units, error.left_out) == (5.0, 5.0, "equal", 100, 200)
    assert "landmark_error_px center" not in found


def test_every_landmark_has_its_own_lines(tmp_path):
    a, b = bag_report(0, 5, landmarks=("center", "tip")), bag_report(0, 5, landmarks=("center", "tip"))
    a["details"]["landmarks"] = {"center": entries(range(200), 5.0), "tip": entries(range(200), 2.0)}
    b["details"]["landmarks"] = {"center": entries(range(200), 1.0), "tip": entries(range(200), 4.0)}
    found = changes_of(tmp_path, a, b)
    assert [found[f"landmark_error_px {name}"].verdict for name in ("center", "tip")] == [
        "better (these frames only)",
        "worse (these frames only)",
    ]
    assert (found["landmark_error_px"].a, found["landmark_error_px"].b) == (3.5, 2.5)
    # Below 0.15 * 20 px = 3 px are one of the two landmarks before, and the other one after.
    assert [(found[key].a, found[key].b) for key in ("kbb_0.15", "kbb_0.15 center", "kbb_0.15 tip")] == [
        (0.5, 0.5),
        (0, 1),
        (1, 0),
    ]


def test_an_instrument_without_a_box_has_no_kbb_score(tmp_path):
    report = bag_report(0, 5)
    part = entries(range(4), 2.0)
    part["box_px"] = [None, 20.0, 20.0, 20.0]
    part["error_px"] = [2.0, None, 2.0, 3.0]
    report["details"]["landmarks"] = {"center": part}
    found = changes_of(tmp_path, report, report)["kbb_0.15"]
    assert (found.a, found.units) == (pytest.approx(kbb_score([2, np.nan, 2, 3], [np.nan, 20, 20, 20], 0.15)), 3)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("slot", None, "lacks a part .*'slot'"),
        ("frame", [9999] * FRAMES, "do not fit together .*9999"),
        ("error_px", [1.0], "do not fit together"),
        ("error_px", ["x"] * FRAMES, "do not fit together .*'x'"),
    ],
)
def test_damaged_raw_figures_are_refused(tmp_path, key, value, sentence):
    report = bag_report(0, 5)
    part = report["details"]["landmarks"]["center"]
    part.pop(key)
    if value is not None:
        part[key] = value
    with pytest.raises(ConfigError, match=sentence):
        read_report(write(tmp_path / "a.json", report))


def test_noise_is_not_separable_and_a_real_change_is(tmp_path):
    assert changes_of(tmp_path, bag_report(1, 5), bag_report(2, 5))["landmark_error_px"].verdict == "not separable"
    worse = changes_of(tmp_path, bag_report(1, 5), bag_report(2, 6))["landmark_error_px"]
    assert worse.verdict == "worse (these frames only)"
    assert worse.low < worse.difference < worse.high
    assert worse.difference == pytest.approx(worse.b - worse.a)


def test_files_of_evaluate_without_raw_figures_have_no_interval(tmp_path):
    found = changes_of(tmp_path, dataset_report(dice=0.5), dataset_report(4.0, details=False, dice=0.6))
    assert list(found) == ["dice", "landmark_error_px.median", "landmark_error_px.p95"]
    assert (found["dice"].verdict, found["dice"].low) == ("better (no interval)", None)
    assert found["landmark_error_px.median"].verdict == "better (no interval)"
    raw = changes_of(tmp_path, dataset_report(), dataset_report(4.0))["landmark_error_px"]
    assert (raw.difference, raw.verdict) == (-1.0, "not separable"), "three frames are too few"


def swapped(change):
    """The change of the swapped reports."""
    words = {"better": "worse", "worse": "better"}
    verdict = " ".join(words.get(word, word) for word in change.verdict.split())
    low, high = (None if change.low is None else -change.high), (None if change.low is None else -change.low)
    return dataclasses.replace(
        change, a=change.b, b=change.a, difference=-change.difference, low=low, high=high, verdict=verdict
    )


def many_sequences(seed, count):
    """Figures of evaluate with sequences in random order."""
    rng = np.random.default_rng(seed)
    parts = {}
    for index in rng.permutation(count):
        (part,) = dataset_report()["sequences"].values()
        errors = rng.gamma(2.0, 4.0, 60)
        raw = entries(range(60), 0.0)
        raw["error_px"] = errors.tolist()
        tip = entries(range(0, 60, 5), 0.0)
        tip["error_px"] = rng.gamma(2.0, 4.0, 12).tolist()
        part["landmarks"] = {"center": {"visible": 60, "absent": 0}, "tip": {"visible": 12, "absent": 0}}
        part["details"] = {"landmarks": {"center": raw, "tip": tip}, "dice": rng.uniform(size=60).tolist()}
        part["details"]["segmented_frame"] = list(range(60))
        parts[f"s{index}"] = part
    return {"dataset": "synthetic", "sequences": parts}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_swapped_files_give_the_mirrored_comparison_exactly(tmp_path, count):
    a, b = (read_report(write(tmp_path / f"{k}.json", many_sequences(k, count))) for k in (1, 2))
    assert list(a.parts) != list(b.parts) or count == 1
    (there,), (back,) = compare_reports(a, [b]), compare_reports(b, [a])
    assert len(there) >= 10 * count
    assert back == [swapped(change) for change in there]


def test_several_sequences_have_the_interval_of_the_paired_t_test(tmp_path):
    a, b = (read_report(write(tmp_path / f"{k}.json", many_sequences(k, 4))) for k in (1, 2))
    (changes,) = compare_reports(a, [b])
    found = {change.sequence: change for change in changes if change.quantity == "landmark_error_px"}
    assert list(found) == ["all", "s0", "s1", "s2", "s3"]
    differences = [change.difference for name, change in found.items() if name != "all"]
    expected = stats.ttest_1samp(differences, 0.0)
    assert (found["all"].difference, found["all"].p) == pytest.approx((np.mean(differences), expected.pvalue))
    assert (found["all"].low, found["all"].high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found["all"].units == 4 * 72


def test_files_and_landmarks_are_adjusted_together(tmp_path):
    first, *others = (read_report(write(tmp_path / f"{k}.json", many_sequences(k, 3))) for k in range(4))
    changes = compare_reports(first, others)

    def of(key):
        return [change for row in changes for change in row if change.sequence == "s1" and change.quantity == key]

    of_landmarks = [change for key in ("landmark_error_px center", "landmark_error_px tip") for change in of(key)]
    for family in (of("landmark_error_px"), of_landmarks):
        assert [change.p_holm for change in family] == pytest.approx(holm([change.p for change in family]))
        assert any(change.p_holm > change.p for change in family)
    assert (len(of("landmark_error_px")), len(of_landmarks)) == (3, 6)


def test_equal_files_are_equal(tmp_path):
    for report in (bag_report(1, 5), many_sequences(1, 3)):
        one = read_report(write(tmp_path / "a.json", report))
        (changes,) = compare_reports(one, [one])
        verdicts = {change.verdict for change in changes if change.units is None or change.units > 50}
        assert verdicts <= {"equal", "equal (no interval)"}
        assert {change.verdict for change in changes} <= {*verdicts, "not separable"}, "12 frames are too few"


@pytest.mark.parametrize("errors", [[], [None]])
def test_files_without_any_value_are_not_compared(tmp_path, errors):
    report = dataset_report()
    (part,) = report["sequences"].values()
    part["details"] = {"landmarks": {"center": entries(range(len(errors)), None)}, "dice": [], "segmented_frame": []}
    assert "landmark_error_px" not in changes_of(tmp_path, report, report)


def test_one_frame_has_no_interval(tmp_path):
    reports = [dataset_report(), dataset_report()]
    for report, error in zip(reports, (1.0, 9.0), strict=True):
        (part,) = report["sequences"].values()
        part["details"] = {"landmarks": {"center": entries([0], error)}}
    found = changes_of(tmp_path, *reports)["landmark_error_px"]
    assert (found.verdict, found.difference, found.low, found.p_holm, found.units) == ("not separable", 8.0, None, None, 1)
