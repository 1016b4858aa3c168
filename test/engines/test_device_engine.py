"""The path for devices, on the CPU: what is captured, when, and what it may read."""

import logging

import numpy as np
import pytest
import torch
from emulated_graphs import EmulatedRecorder

from csl_tracker.engines import device_engine, tuning
from csl_tracker.engines.device_engine import MOST_PATHS, RUNS_BEFORE_CAPTURE, TorchDeviceEngine
from csl_tracker.engines.precision import multiplication
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.tracker import Tracker
from csl_tracker.weights import Preprocessing, load_weights

A, B, C, D, E = (48, 64), (64, 48), (50, 70), (96, 128), (33, 47)


@pytest.fixture(scope="module")
def model(make_weights):
    return load_weights(make_weights(name="tiny", preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (64, 64))))


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def positions(output):
    return [[(peak.x, peak.y, peak.confidence) for peak in peaks] for peaks in output.peaks]


def check(engine, eager, size, segmentation, count=2, seed=0):
    """Both say the same of one image."""
    image = picture(size, seed)
    (found, make_found), (expected, make_expected) = (each.localize(image, segmentation, count) for each in (engine, eager))
    assert positions(found) == positions(expected)
    np.testing.assert_array_equal(found.foreground.values, expected.foreground.values)
    assert (make_found is None) == (make_expected is None) == (not segmentation)
    if segmentation:
        np.testing.assert_array_equal(make_found(), make_expected())


def test_a_graph_owns_all_that_it_reads(model):
    """Sizes that come, go, and come back, with and without a label map: no graph reads what was evicted."""
    recorder = EmulatedRecorder()
    engine = TorchDeviceEngine(model, "cpu", "float32", recorder=recorder)
    eager = TorchDeviceEngine(model, "cpu", "float32", launch="eager")
    walk = [(A, False), (B, False), (C, False), (D, False), (A, True), (E, False), (A, False), (C, True), (B, True)]
    walk += [(D, True), (E, True), (B, False), (C, False), (A, True), (D, False), (A, False)]
    for step, (size, segmentation) in enumerate(walk):
        for repeat in range(RUNS_BEFORE_CAPTURE + 2):
            check(engine, eager, size, segmentation, seed=10 * step + repeat)
            engine.settle()
        assert len(engine._routes) <= MOST_PATHS
    assert recorder.recorded > MOST_PATHS
    assert recorder.replayed > len(walk)


def test_a_warm_engine_replays_and_a_new_size_waits_for_no_capture(model):
    recorder = EmulatedRecorder()
    engine = TorchDeviceEngine(model, "cpu", "float32", recorder=recorder)
    engine.warm_up(A, 2)
    assert recorder.recorded == 2, "with and without a label map"
    engine.localize(picture(A), True, 2)
    engine.localize(picture(A), False, 2)
    assert recorder.replayed == 2
    for _ in range(RUNS_BEFORE_CAPTURE + 2):
        engine.localize(picture(B), False, 2)
    assert recorder.recorded == 2, "capturing waits until no frame does"
    engine.settle()
    engine.settle()
    assert recorder.recorded == 3
    engine.localize(picture(B), False, 2)
    assert recorder.replayed == 3
    engine.localize(picture(A), False, 3)  # more peaks than it was warmed up for
    assert recorder.replayed == 3


def test_whole_heatmaps_are_never_captured(model):
    recorder = EmulatedRecorder()
    engine = TorchDeviceEngine(model, "cpu", "float32", recorder=recorder)
    for _ in range(RUNS_BEFORE_CAPTURE + 1):
        assert engine.run(picture(A), True).heatmaps is not None
        engine.settle()
    assert recorder.recorded == 0


def test_what_cannot_be_captured_runs_piece_by_piece(model, caplog):
    engine = TorchDeviceEngine(model, "cpu", "float32", recorder=EmulatedRecorder(RuntimeError("operation not permitted")))
    eager = TorchDeviceEngine(model, "cpu", "float32", launch="eager")
    with caplog.at_level(logging.WARNING):
        engine.warm_up(A, 2)
        for _ in range(3):
            check(engine, eager, A, True)
            engine.settle()
    assert len(caplog.records) == 2, "once with and once without a label map, and not again for every frame"
    assert "Images of 48x64 px are processed without a CUDA graph" in caplog.text
    assert "operation not permitted." in caplog.text


@pytest.mark.parametrize("count", [1, 2, 4])
def test_tracking_on_a_device_is_tracking_on_the_cpu(model, count):
    """At the working size, where nothing is resized."""
    results = []
    for engine in (TorchCpuEngine(model), TorchDeviceEngine(model, "cpu", "float32")):
        tracker = Tracker(model, engine, max_instruments=count, confidence_threshold=0.05, always_report=True)
        results.append([tracker.track(picture((64, 64), seed)) for seed in range(4)])
    for one, other in zip(*results, strict=True):
        assert len(one.instruments) == len(other.instruments)
        for here, there in zip(one.instruments, other.instruments, strict=True):
            for first, second in zip(here.landmarks, there.landmarks, strict=True):
                assert (first.x, first.y) == pytest.approx((second.x, second.y), abs=0.01, nan_ok=True)
                assert first.confidence == pytest.approx(second.confidence, abs=1e-3)
        np.testing.assert_array_equal(one.label_map, other.label_map)


@pytest.mark.parametrize(
    ("distort", "precision", "reason"),
    [
        (lambda maps: maps, "float16", "float16 on the device cpu shifts"),
        (lambda maps: maps.roll(2, dims=-1), "float32", "float32 on the device cpu, since in float16 landmarks shift by 4 px"),
        (lambda maps: maps * 0, "float32", "landmarks are lost"),
        (lambda maps: maps * float("nan"), "float32", "landmarks are lost"),
    ],
)
def test_auto_takes_half_precision_only_where_landmarks_stay(model, monkeypatch, distort, precision, reason):
    """Half precision that does this to the heatmaps."""
    make = TorchDeviceEngine.make_network

    def make_distorted(self, wanted):
        network = make(self, "float32")  # not every CPU convolves in half precision
        if wanted == "float32":
            return network

        def infer(x):
            output = network.infer(x)
            return output._replace(heatmaps=distort(output.heatmaps))

        return device_engine.replace(network, infer=infer, precision="float16")

    monkeypatch.setattr(TorchDeviceEngine, "make_network", make_distorted)
    monkeypatch.setattr("csl_tracker.engines.device_path.DTYPES", {"float16": torch.float32, "float32": torch.float32})
    # An untrained network sees nothing with confidence.
    description = device_engine.replace(model.description, confidence_threshold=1e-4)
    engine = TorchDeviceEngine(device_engine.replace(model, description=description), "cpu", "auto")
    engine.warm_up((64, 64), 2)
    assert engine.precision == precision
    assert reason in engine.reason


def test_a_precision_that_was_asked_for_is_kept(model):
    engine = TorchDeviceEngine(model, "cpu", "bfloat16")
    engine.localize(picture(A), False, 1)
    assert engine.precision == "bfloat16"
    assert "bfloat16 on the device cpu, as asked for" in engine.reason


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_tf32_is_used_where_it_is_asked_for_alone(precision):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with multiplication(precision):
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.parametrize(
    ("milliseconds", "chosen", "note"),
    [
        ({"plain": 3.0, "one": 2.0, "other": 1.0}, "other", "form: other (plain 3.00 ms, one 2.00 ms, other 1.00 ms)"),
        ({"plain": 1.0, "one": 2.0, "other": 3.0}, "plain", "form: plain (plain 1.00 ms, one 2.00 ms, other 3.00 ms)"),
        ({"plain": 3.0, "wrong": 1.0}, "plain", ""),
        ({"plain": 3.0, "broken": 1.0, "one": 2.0}, "one", "form: one (plain 3.00 ms, one 2.00 ms)"),
    ],
)
def test_the_fastest_form_that_says_the_same_is_taken(model, monkeypatch, milliseconds, chosen, note):
    engine = TorchDeviceEngine(model, "cpu", "float32")
    made = {}

    def form(name, network):
        if name == "broken":
            raise RuntimeError("no kernel image")

        def infer(x):
            output = network.infer(x)
            return output._replace(heatmaps=output.heatmaps * (2.0 if name == "wrong" else 1.0))

        made[name] = device_engine.replace(network, infer=infer)
        return made[name]

    def forms(network, size):
        made["plain"] = network
        return [(name, lambda name=name: form(name, network)) for name in milliseconds if name != "plain"]

    monkeypatch.setattr(engine, "fused_forms", forms)
    names = {id(network): name for name, network in made.items()}

    def timed(path, runs):
        names.update({id(network): name for name, network in made.items()})
        return 1e-3 * milliseconds[names[id(path.network)]]

    monkeypatch.setattr(engine, "timed", timed)
    found = tuning.tune(engine, A, 2)
    assert found.network is made[chosen]
    assert found.note == note


def test_two_engines_in_one_process_do_not_mix(model):
    one, other = (TorchDeviceEngine(model, "cpu", "float32", recorder=EmulatedRecorder()) for _ in range(2))
    eager = TorchDeviceEngine(model, "cpu", "float32", launch="eager")
    for engine in (one, other):
        engine.warm_up(A, 2)
    for seed in range(3):
        for engine, size in ((one, A), (other, A), (other, B), (one, B)):
            check(engine, eager, size, True, seed=seed)
