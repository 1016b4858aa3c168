from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.errors import WeightsError
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import NetworkConfig
from csl_tracker.training.adaptation.empties import write_empty_frames
from csl_tracker.training.adaptation.plan import AdaptSettings, open_inputs, training_config
from csl_tracker.training.data import open_source
from csl_tracker.video import VideoWriter


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "tool.mp4"
    with VideoWriter(path, 25) as writer:
        for sample in SyntheticSequence(3, 3, (64, 96)):
            writer.write(sample.image)
    return path


def test_the_training_starts_from_the_weights_and_mixes_half_and_half(video, quick_weights, tmp_path):
    settings = AdaptSettings((video,), quick_weights, tmp_path / "out", steps=120, device="cpu")
    config = training_config(settings, open_inputs(settings), Path("pseudo"), Path("empty"), Path("train"))
    assert (config.init_weights, config.input_size, config.crop) == (str(quick_weights), (128, 160), (128, 128))
    assert (config.steps, config.steps_per_epoch, config.accelerator) == (120, 40, "cpu")
    assert [(source.dataset, source.root) for source in config.train] == [
        ("coco", "pseudo"),
        ("synthetic", ""),
        ("coco", "empty"),
    ]
    assert [source.share for source in config.train] == pytest.approx([0.5, 0.4, 0.1])


def test_a_bank_is_mixed_in_and_its_held_out_families_are_not(video, quick_weights, make_bank, tmp_path):
    bank = make_bank("hand-held scissors", "needle driver")
    settings = AdaptSettings((video,), quick_weights, tmp_path / "out", bank=Path(bank))
    inputs = open_inputs(settings)
    config = training_config(settings, inputs, Path("pseudo"), Path("empty"), Path("train"))
    assert [source.share for source in config.train] == pytest.approx([0.5, 0.4, 0.1])
    rendered, held_out = config.train[1], config.validation[0]
    assert rendered.hold_out == held_out.only == inputs.held_out.families == ("hand-held scissors",)
    for source in (rendered, held_out):
        assert open_source(source, ENDOVIS, str(tmp_path), (128, 160)).get(0).image.shape == (256, 320, 3)
    assert {source.seed for source in config.train[1:]}.isdisjoint({source.seed for source in config.validation})


def test_empty_frames_say_that_every_landmark_is_absent(video, quick_weights, tmp_path):
    write_empty_frames(tmp_path / "empty", 3, (64, 96), 5, ENDOVIS)
    settings = AdaptSettings((video,), quick_weights, tmp_path / "out")
    config = training_config(settings, open_inputs(settings), Path("pseudo"), tmp_path / "empty", Path("train"))
    source = open_source(config.train[2], ENDOVIS, str(tmp_path / "cache"), (128, 160))
    assert source.length == 3
    for index in range(3):
        sample = source.get(index)
        assert not sample.label_map.any()
        assert sample.labelled.all()
        assert np.isnan(sample.landmarks).all()


def test_weights_that_regress_are_refused(video, tmp_path):
    network = NetworkConfig("sl", decoder="separable", input_size=(64, 96))
    settings = AdaptSettings((video,), sl_weights(network, tmp_path), tmp_path / "out")
    with pytest.raises(WeightsError, match="strategy 'sl'; the checks need heatmaps"):
        open_inputs(settings)


def sl_weights(config, folder):
    from csl_tracker.heatmaps import HeatmapSpec
    from csl_tracker.networks import build_network
    from csl_tracker.weights import ModelDescription, Preprocessing, save_weights

    network = build_network(config)
    norm = network.normalization
    preprocessing = Preprocessing(norm.mean, norm.std, (64, 96), "stretch")
    save_weights(folder / "sl.safetensors", network, ModelDescription("sl", config, ENDOVIS, HeatmapSpec(2.0), preprocessing))
    return folder / "sl.safetensors"
