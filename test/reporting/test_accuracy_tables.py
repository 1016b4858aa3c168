from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from csl_tracker.evaluation.runs import parse_runs
from csl_tracker.reporting import accuracy_tables, run_tables
from csl_tracker.reporting.claims import comparisons, pairs
from csl_tracker.reporting.table import Spread, Table

Make = Callable[..., Any]


def cells(table: Table, **where: Any) -> dict[str, Any]:
    """The one row whose cells are as named, as column -> cell."""
    rows = [dict(zip((column.key for column in table.columns), row, strict=True)) for row in table.rows]
    (found,) = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return found


def over(*values: float) -> Any:
    """Mean and deviation over the values of seeds, up to rounding."""
    spread = Spread.of(values)
    return Spread(pytest.approx(spread.mean), pytest.approx(spread.deviation))  # type: ignore[arg-type]


@pytest.fixture
def runs(make_run: Make, sequence: Make, landmark: Make) -> list[Any]:
    """``csl`` with two seeds on two folds, ``l`` with one seed on one fold."""

    def parts(center: list[float | None], head: list[float | None], **more: Any) -> dict[str, Any]:
        marks = {"center": landmark(center, 100.0, missed=[0] * (len(center) - 1) + [1]), "head": landmark(head, None)}
        return sequence(marks, **more)

    absent = {"absent": 10, "false_positive_rate": 0.2}
    return parse_runs(
        [
            make_run("csl", {"Dataset2": parts([10, 30], [70], dice=[0.9, 0.7])}, 0, "a", "endovis_table1"),
            make_run("csl", {"Dataset1": parts([5], [None], dice=[0.5])}, 0, "b", "endovis_table1"),
            make_run("csl", {"Dataset2": parts([20, 20], [60], dice=[0.9, 0.9])}, 1, "a", "endovis_table1"),
            make_run("csl", {"Dataset1": parts([1], [3], dice=[0.6])}, 1, "b", "endovis_table1", steps=200),
            make_run("l", {"Dataset2": parts([40, 40], [80], dice=None, **absent)}, 0, "a", "endovis_table1"),
        ]
    )


def test_overview_pools_folds_and_averages_seeds(runs: list[Any]) -> None:
    row = cells(accuracy_tables.overview(runs), model="csl")
    assert (row["runs"], row["seeds"], row["sequences"]) == ("4 of 4", "2", "2")
    assert (row["images"], row["visible"]) == ("3", "5"), "of one seed"
    assert row["dice_over_sequences"] == over((0.8 + 0.5) / 2, (0.9 + 0.6) / 2)
    assert row["error_px_over_sequences"] == over((110 / 3 + 5) / 2, (100 / 3 + 2) / 2)
    assert row["dice"] == over(0.7, 0.8), "of three images each"
    assert row["error_px_mean"] == over((10 + 30 + 70 + 5) / 4, (20 + 20 + 60 + 1 + 3) / 5)
    assert row["error_px_median"] == over(20.0, 20.0)
    assert row["threshold_score_20px"] == over(2 / 5, 2 / 5), "20 px is not below 20 px"
    assert row["kbb_0.15"] == over(2 / 3, 1 / 3)
    assert row["gross_miss_rate_60px"] == over(2 / 5, 1 / 5), "no guess is gross, and so is 60 px"
    assert row["miss_rate"] == over(2 / 5, 2 / 5)
    assert row["false_positive_rate"] == Spread(None)
    assert row["initialisation"] == "ImageNet"
    assert row["parameters"] == "3.09 M"


def test_a_model_that_lacks_a_fold_says_so(runs: list[Any]) -> None:
    row = cells(accuracy_tables.overview(runs), model="l")
    assert (row["runs"], row["seeds"]) == ("1 of 4", "1, folds missing")
    assert (row["dice"], row["false_positive_rate"]) == (Spread(None), Spread(0.2))
    assert row["error_px_mean"] == Spread(pytest.approx(160 / 3))


def test_per_landmark(runs: list[Any]) -> None:
    table = accuracy_tables.per_landmark(runs)
    assert [row[:2] for row in table.rows] == [("center", "l"), ("center", "csl"), ("head", "l"), ("head", "csl")]
    head = cells(table, landmark="head", model="csl")
    assert head["visible"] == "2"
    assert head["error_px_mean"] == over(70.0, 31.5)
    assert head["kbb_0.15"] == Spread(None)
    assert cells(table, landmark="center", model="l")["false_positive_rate"] == Spread(0.2)


def test_per_class_weighs_sequences_by_their_images(runs: list[Any]) -> None:
    table = accuracy_tables.per_class(runs)
    assert [row[:2] for row in table.rows] == [("shaft", "csl"), ("manipulator", "csl")], "l segments nothing"
    # two images of 0.9 and one of 0.5; two of 0.9 and one of 0.6
    assert cells(table, **{"class": "shaft"})["dice"] == over(2.3 / 3, 0.8)


def test_table1_tells_the_error_against_a_second_annotation(make_run: Make, sequence: Make, landmark: Make) -> None:
    part = sequence({"center": landmark([3.0])})
    second = {"landmark_error_px": {"mean": 11.0}, "annotators_distance_px": {"mean": 9.5}}
    twice = {**part, "second_annotation": {"center_vs_tracked_point": second}}
    table = accuracy_tables.table1(parse_runs([make_run("csl", {"Dataset1": part, "Dataset2": twice})]))
    row = cells(table, sequence="Dataset2")
    assert (row["second_annotation_px"], row["annotators_distance_px"]) == (Spread(11.0), 9.5)
    row = cells(table, sequence="Dataset1")
    assert (row["second_annotation_px"], row["annotators_distance_px"]) == (Spread(None), None)
    assert "| against tracked_point, px |" in table.markdown()


def test_table1_has_the_papers_figures_beside_csl_and_nowhere_else(runs: list[Any]) -> None:
    table = accuracy_tables.table1(runs)
    assert [row[:3] for row in table.rows] == [("Dataset1", "csl", 2), ("Dataset2", "l", 1), ("Dataset2", "csl", 2)]
    row = cells(table, sequence="Dataset2", model="csl")
    assert (row["visible"], row["images"]) == ("2", "2")
    assert "| visible `center` |" in table.markdown()
    assert row["center_error_px"] == over(20.0, 20.0)
    assert row["dice"] == over(0.8, 0.9)
    assert (row["paper_center_error_px"], row["paper_dice"], row["paper_recall"]) == ("9.7", 0.930, 0.898)
    assert cells(table, sequence="Dataset2", model="l")["paper_dice"] is None
    assert cells(table, sequence="Dataset1")["paper_dice"] is None, "the paper has no set 1"


@pytest.mark.parametrize("protocol", ["endovis_loso", "endovis_test", "mine"])
def test_the_papers_figures_stand_beside_its_own_protocol_alone(
    protocol: str, make_run: Make, sequence: Make, landmark: Make
) -> None:
    parts = sequence({"center": landmark([10, 30])}, dice=[0.9, 0.7])
    table = accuracy_tables.table1(parse_runs([make_run("csl", {"Dataset2": parts}, 0, "a", protocol)]))
    assert not [column for column in table.columns if column.key.startswith("paper")]


def test_table1_of_other_data_has_no_columns_of_the_paper(make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = {"tip": landmark([3.0, 5.0, 9.0], slots=[0, 1, 1])}
    runs = parse_runs([make_run("csl", {f"Dataset{i}": sequence(parts) for i in (10, 2)})])
    table = accuracy_tables.table1(runs)
    assert [row[0] for row in table.rows] == ["Dataset2", "Dataset10"]
    assert not [column for column in table.columns if column.key.startswith("paper")]
    row = cells(table, sequence="Dataset10")
    assert row["landmark_error_px"] == Spread(pytest.approx(17 / 3))
    assert row["by_instrument"] == "3.0 / 7.0"


def test_pairs_of_the_paper_and_of_variants(make_run: Make) -> None:
    names = ("l", "sl", "csl", "csl@init=none", "sl@init=none", "alien", "unet@width=8")
    runs = parse_runs(make_run(name, {}) for name in names)
    assert pairs(runs) == [
        ("csl", "sl"),
        ("sl", "l"),
        ("csl@init=none", "sl@init=none"),
        ("sl@init=none", "sl"),
        ("csl@init=none", "csl"),
    ]


def test_planned_pairs_are_compared_and_no_others(make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = {f"Dataset{i}": sequence({"center": landmark([5.0, 6.0, 7.0 + i])}) for i in range(6)}
    runs = parse_runs(make_run(name, parts) for name in ("csl", "sl", "unet@pretrained"))
    table = comparisons(runs, planned=[("csl", "unet@pretrained"), ("csl", "l")], resamples=20)
    assert {row[0] for row in table.rows} == {"csl vs unet@pretrained"}
    assert {row[0] for row in comparisons(runs, resamples=20).rows} == {"csl vs sl"}


def test_comparisons_say_what_was_not_equal(runs: list[Any], make_run: Make, sequence: Make, landmark: Make) -> None:
    clear = [float(x) for x in range(40)]
    parts = {f"Dataset{i}": sequence({"center": landmark([x + i for x in clear])}, dice=[0.9] * 40) for i in range(6)}
    worse = {f"Dataset{i}": sequence({"center": landmark([x + i + 9 for x in clear])}, dice=None) for i in range(6)}
    made = [make_run("sl", parts), make_run("l", worse, steps=800, initialisation="random initialisation")]
    table = comparisons(parse_runs(made), resamples=200)
    assert [row[1] for row in table.rows] == ["landmark_error_px", "threshold_score_20px", "gross_miss_rate_60px"]
    row = cells(table, quantity="landmark_error_px")
    assert (row["comparison"], row["verdict"], row["sequences"], row["units"]) == ("sl vs l", "A better", 6, 240)
    assert row["difference"] == pytest.approx(-9.0)
    assert row["remarks"] == "not equal: initialisation, steps; one seed: nothing said of other trainings"


def few_sequences(make_run: Make, sequence: Make, landmark: Make, better: list[float]) -> Table:
    """``csl`` is better than ``sl`` by so many px in each sequence, and ``sl`` better than ``l`` by nothing in the mean."""
    made = []
    for index, px in enumerate(better):
        for model, more in (("csl", -px), ("sl", 0.0), ("l", 0.5 - index % 2)):
            part = sequence({"center": landmark([30.0 + more] * 4)}, dice=None)
            made.append(make_run(model, {f"Dataset{index}": part}, fold=str(index)))
    return comparisons(parse_runs(made), resamples=50)


def test_few_sequences_show_the_difference_of_each_and_the_adjusted_verdict(
    make_run: Make, sequence: Make, landmark: Make
) -> None:
    row = cells(
        few_sequences(make_run, sequence, landmark, [9.0, 10.0, 11.0]), comparison="csl vs sl", quantity="landmark_error_px"
    )
    assert row["by_sequence"] == "Dataset0 -9.000, Dataset1 -10.000, Dataset2 -11.000"
    assert (row["mean_a"], row["mean_b"], row["difference"]) == (20.0, 30.0, -10.0)
    assert row["p_holm"] == pytest.approx(2 * row["p"])
    assert (row["verdict"], row["visible"], row["units"]) == ("A better", 12, 12)
    row = cells(
        few_sequences(make_run, sequence, landmark, [9.0, 14.0, 20.0]), comparison="csl vs sl", quantity="landmark_error_px"
    )
    assert row["high"] < 0 < row["p_holm"] - 0.05
    assert (row["verdict"], row["remarks"].partition(";")[0]) == ("not separable", "not separable after Holm's correction")


def test_one_sequence_has_no_verdict(make_run: Make, sequence: Make, landmark: Make) -> None:
    row = cells(few_sequences(make_run, sequence, landmark, [9.0]), comparison="csl vs sl", quantity="landmark_error_px")
    assert (row["difference"], row["low"], row["high"], row["p"], row["verdict"]) == (-9.0, None, None, None, "not separable")
    assert row["by_sequence"] == "Dataset0 -9.000"
    assert "one test sequence: nothing said of other videos" in row["remarks"]


def test_tail_has_the_worst_frames_once_each(runs: list[Any]) -> None:
    table = accuracy_tables.tail(runs)
    of_csl = [row[1:] for row in table.rows if row[0] == "csl"]
    assert of_csl == [
        ("Dataset1", 0, 0, "head", "no guess", 0),
        ("Dataset2", 0, 0, "head", 70.0, 0),
        ("Dataset2", 1, 0, "center", 30.0, 0),
    ]
    assert [row[5] for row in table.rows if row[0] == "l"] == [80.0, 40.0]


@pytest.mark.parametrize(
    ("losses", "change"),
    [
        ([4.0, 2.0, 1.0, 0.9], -0.1),
        ([9.0, 9.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0], 0.0),
        ([1.0, 2.0, 3.0], None),
        ([], None),
        ([0.0] * 4, None),
        ([None, None, 1.0, 2.0], None),  # what was not finite
    ],
)
def test_change_in_the_last_quarter(make_run: Make, losses: list[float], change: float | None) -> None:
    runs = parse_runs([make_run("csl", {}, curve={"validation": {"loss": losses}})])
    expected = Spread(None) if change is None else Spread(pytest.approx(change))
    assert cells(run_tables.training(runs), model="csl")["change"] == expected


def test_training_and_provenance(runs: list[Any]) -> None:
    row = cells(run_tables.training(runs), model="csl")
    assert (row["steps"], row["input_size"], row["minutes"]) == ("200, 400", "64x96", Spread(pytest.approx(12.5 / 60), 0.0))
    made = run_tables.provenance(runs)
    assert len(made.rows) == len(runs)
    assert cells(made, model="l")["weights"] == "cdcdcdcd"


@pytest.mark.parametrize("network", [{}, {"strategy": "forest"}, {"strategy": "csl", "wings": 2}, {"strategy": "hydra"}])
def test_networks_without_a_count_of_parameters(make_run: Make, network: dict[str, Any]) -> None:
    assert (
        cells(accuracy_tables.overview(parse_runs([make_run("csl", {}, network=network)])), model="csl")["parameters"] is None
    )


def test_results_without_provenance_are_dashes(make_run: Make) -> None:
    bare = dict.fromkeys(("machine", "versions", "weights", "curve", "network", "seconds", "date", "input_sha256"))
    runs = parse_runs([{**make_run("csl", {}), **bare}])
    accuracy = (accuracy_tables.overview, accuracy_tables.table1, accuracy_tables.tail)
    for maker in (*accuracy, comparisons, run_tables.training, run_tables.provenance):
        assert maker(runs).markdown()
