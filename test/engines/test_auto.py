import logging

import numpy as np
import pytest

from csl_tracker.engines.artefacts import Artefact
from csl_tracker.engines.auto import AutoEngine
from csl_tracker.engines.base import NetworkArrays
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.weights import load_weights

IMAGE = np.random.default_rng(0).integers(0, 256, (128, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def model(quick_weights):
    return load_weights(quick_weights)


class Wrong(TorchCpuEngine):
    """Says what torch says, and a little more."""

    name = "wrong"

    def infer(self, image):
        found = super().infer(image)
        return NetworkArrays(found.heatmaps, found.scores + 0.1 * np.abs(found.scores).max())


def broken():
    raise RuntimeError("no such instruction\nmore")


def test_the_first_that_agrees_runs_and_the_reason_says_why(model):
    engine = AutoEngine(model, [("first", lambda: TorchCpuEngine(model)), ("torch", broken)])
    assert (engine.name, engine.device, engine.reason) == ("first", "cpu", "the fastest of first, torch")
    engine.warm_up((128, 160))
    assert engine.name == "first"
    assert engine.reason.startswith("the fastest of first, torch; agrees with torch to ")
    np.testing.assert_array_equal(engine.run(IMAGE, False).heatmaps, TorchCpuEngine(model).run(IMAGE, False).heatmaps)


@pytest.mark.parametrize(
    ("build", "words"), [("wrong", "differs from float32 torch by 1.0e-01"), ("broken", "no such instruction")]
)
def test_what_is_wrong_or_does_not_run_is_left_out_with_one_sentence(model, caplog, build, words):
    made = {"wrong": lambda: Wrong(model), "broken": broken}[build]
    engine = AutoEngine(model, [("fast", made), ("torch", lambda: TorchCpuEngine(model))])
    with caplog.at_level(logging.WARNING):
        outputs = [engine.run(IMAGE, True) for _ in range(2)]
    assert engine.name == "torch"
    assert "fast was left out" in engine.reason
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("The engine fast cannot be used here and is left out: ")
    assert words in caplog.text
    np.testing.assert_array_equal(outputs[1].heatmaps, TorchCpuEngine(model).run(IMAGE, True).heatmaps)


def test_the_last_ones_error_is_raised(model):
    with pytest.raises(RuntimeError, match="no such instruction"):
        AutoEngine(model, [("fast", broken), ("torch", broken)]).warm_up((128, 160))


@pytest.mark.parametrize(("agreement", "trusted"), [(1e-7, True), (0.5, False)])
def test_an_export_that_was_checked_is_not_checked_again(model, tmp_path, agreement, trusted):
    openvino_engine = pytest.importorskip("csl_tracker.engines.openvino_engine", reason="openvino is not installed")
    openvino_engine.OpenVinoEngine.write(model, (128, 160), tmp_path)

    def build():
        engine = openvino_engine.OpenVinoEngine(model)
        engine.use((128, 160), Artefact(tmp_path, {"check": {"disagreement": agreement}}))
        return engine

    engine = AutoEngine(model, [("openvino", build), ("torch", broken)])
    engine.warm_up((128, 160))
    assert ("when it was exported" in engine.reason) == trusted
    assert "with torch to " in engine.reason
