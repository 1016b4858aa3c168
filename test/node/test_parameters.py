import math
from pathlib import Path

import pytest
import yaml

from csl_tracker.errors import ConfigError
from csl_tracker.node.parameter_table import Change, check, markdown, refusal
from csl_tracker.node.tracker_parameters import PARAMETERS, Settings

ROOT = Path(__file__).parents[2]
DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engine", "abacus"),
        ("device", "nonsense"),
        ("device", ""),
        ("device", "cuda:"),
        ("device", "cuda:N"),
        ("device", "cuda:-1"),
        ("device", "cuda:1.0"),
        ("device", "cuda:0\n"),
        ("device", "mps"),
        ("image_transport", "h264"),
        ("image_reliability", "sometimes"),
        ("pose_frame", "world"),
        ("max_instruments", 0),
        ("max_instruments", 9),
        ("max_instruments", 2.0),
        ("max_instruments", True),
        ("confidence_threshold", 1.01),
        ("confidence_threshold", math.nan),
        ("rate_limit", -1.0),
        ("rate_limit", math.inf),
        ("stale_after", 0.0),
        ("image_depth", 0),
        ("overlay", "yes"),
    ],
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(ConfigError, match=f"^{name} is "):
        check(PARAMETERS, name, value)
    with pytest.raises(ConfigError, match=f"^{name} is "):
        Settings.of({**DEFAULTS, name: value})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:15", "cuda:99"])
def test_a_device_that_may_be_there_is_looked_for_when_the_node_is_configured(device):
    check(PARAMETERS, "device", device)


def test_the_defaults_are_settings():
    settings = Settings.of(DEFAULTS)
    assert {name: getattr(settings, name) for name in PARAMETERS} == DEFAULTS
    assert settings.threshold is None
    assert Settings.of({**DEFAULTS, "confidence_threshold": 0.0}).threshold == 0.0


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_what_cannot_be_changed_now_is_refused_with_what_to_do(name, state):
    change, reason = PARAMETERS[name].change, refusal(PARAMETERS, name, state, "/cam/tracker_node")
    if change is Change.ALWAYS or (change is Change.UNCONFIGURED and state == "unconfigured"):
        assert reason is None
    elif change is Change.START:
        assert f"-p {name}:=" in str(reason)
    else:
        assert "cleanup" in str(reason)
        assert ("'ros2 lifecycle set /cam/tracker_node deactivate'" in str(reason)) is (state == "active")
        assert "'ros2 lifecycle set /cam/tracker_node cleanup'" in str(reason)


def test_the_file_of_parameters_holds_and_explains_every_default():
    text = (ROOT / "config" / "tracker.yaml").read_text()
    assert yaml.safe_load(text)["/**/tracker_node"]["ros__parameters"] == DEFAULTS
    prose = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    for parameter in PARAMETERS.values():
        assert parameter.description in prose


def test_the_page_holds_the_generated_table():
    assert markdown(PARAMETERS) in (ROOT / "docs" / "node.md").read_text()
