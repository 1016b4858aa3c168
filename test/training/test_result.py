"""Results of runs: which belong to a plan, and which are of another."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.evaluation.protocols import parse_protocol
from csl_tracker.output import write_json
from csl_tracker.training.config import TrainConfig
from csl_tracker.training.plan import Plan, Settings, make_plan
from csl_tracker.training.result import RESULT, find_results, is_finished, stated

PROTOCOL = parse_protocol({"name": "mine", "dataset": "endovis2015", "leave_one_out": ["A", "B"]}, "FILE")
TEST = [{"sequences": ["A"], "first": 0.0, "last": 1.0}]


def planned(out: Path, reference_size: tuple[int, int] | None = None, **overrides: Any) -> Plan:
    return make_plan(PROTOCOL, out, ["csl"], (0,), Settings(overrides=overrides), reference_size)


def result(plan: Plan, **changes: Any) -> dict[str, Any]:
    """What is_finished reads of a result, and no more."""
    size = None if plan.reference_size is None else list(plan.reference_size)
    data = {
        "protocol": "mine",
        "configuration": stated(plan.runs[0].config),
        "test": TEST,
        "sequences": {"A": {"reference_size": size}},
    }
    return {**copy.deepcopy(data), **changes}


def write(plan: Plan, data: Any) -> None:
    write_json(plan.runs[0].folder / RESULT, data)


def test_no_result_is_not_finished(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert not is_finished(plan, plan.runs[0])
    assert find_results(tmp_path, "mine") == []


@pytest.mark.parametrize(
    ("made", "asked", "named"),
    [
        ({"steps": 5}, {"steps": 6}, "steps=5 and not with 6"),
        ({"heatmap": {"sigma": 2.0}}, {}, "heatmap.sigma=2.0 and not with 3.5"),
        ({"crop": [64, 96]}, {"crop": [64, 64]}, "crop.1=96 and not with 64"),
        ({"train": [{"dataset": "synthetic"}]}, {}, "train="),
        ({"encoder_weights": ""}, {}, 'encoder_weights="" and not with "imagenet"'),
    ],
)
def test_a_result_of_another_configuration_names_the_setting(
    tmp_path: Path, made: dict[str, Any], asked: dict[str, Any], named: str
) -> None:
    plan = planned(tmp_path, **made)
    write(plan, result(plan))
    other = planned(tmp_path, **asked)
    with pytest.raises(ConfigError) as caught:
        is_finished(other, other.runs[0])
    assert f"was made with {named}" in str(caught.value)
    assert is_finished(plan, plan.runs[0])


def test_results_with_another_reference_size_or_test_part(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    write(plan, result(plan))
    scaled = planned(tmp_path, (480, 640))
    with pytest.raises(ConfigError, match=r"reference_size=null and not with \[480, 640\]"):
        is_finished(scaled, scaled.runs[0])
    write(plan, result(plan, test=[{**TEST[0], "first": 0.5}]))
    with pytest.raises(ConfigError, match=r"test.0.first=0.5 and not with 0.0"):
        is_finished(plan, plan.runs[0])


def test_the_machine_and_rounding_do_not_count(tmp_path: Path) -> None:
    plan = planned(tmp_path, learning_rate=1 / 3000, workers=0)
    write(plan, result(plan))
    other = planned(tmp_path, learning_rate=1 / 3000, workers=7, threads=3, cache="elsewhere")
    assert is_finished(other, other.runs[0])


def test_a_setting_that_was_not_yet_known_had_its_default(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    data = result(plan)
    for section, key in ((data["configuration"], "clip"), (data["configuration"]["network"], "slots")):
        del section[key]
    del data["configuration"]["train"][0]["clutter"]
    write(plan, data)
    assert is_finished(planned(tmp_path, preset="modern"), plan.runs[0]) == (TrainConfig().clip == 5.0)
    other = planned(tmp_path, network={"slots": 3})
    with pytest.raises(ConfigError, match=r"network.slots=2 and not with 3"):
        is_finished(other, other.runs[0])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"configuration": {}, "test": [], "sequences": {}}'])
def test_damaged_results(tmp_path: Path, text: str) -> None:
    plan = planned(tmp_path)
    path = plan.runs[0].folder / RESULT
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"is damaged .*; delete it"):
        is_finished(plan, plan.runs[0])


def test_results_of_another_protocol(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    write(plan, result(plan, protocol="other"))
    with pytest.raises(ConfigError, match="holds runs of the protocol other and not of mine"):
        find_results(tmp_path, "mine")
    assert len(find_results(tmp_path, "other")) == 1


def test_what_is_stated_names_no_place_of_the_machine(tmp_path: Path) -> None:
    plan = planned(tmp_path, init_weights=str(tmp_path / "start.safetensors"))
    text = json.dumps(stated(plan.runs[0].config))
    assert str(tmp_path) not in text
    assert '"init_weights": "start.safetensors"' in text
