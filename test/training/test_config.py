import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from csl_tracker.datasets.augment import AUGMENTATIONS
from csl_tracker.errors import ConfigError
from csl_tracker.network_names import DECODERS, STRATEGIES
from csl_tracker.networks.encoders import ENCODERS
from csl_tracker.training.config import NetworkSection, SourceConfig, TrainConfig, TrainSettings, load_config, parse_config
from csl_tracker.training.presets import PRESETS

SHIPPED = sorted((Path(__file__).parents[2] / "config" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_there_are_shipped_configurations() -> None:
    assert SHIPPED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "not readable YAML"),
        ("- 1", "holds a list"),
        ("stepz: 3", "unknown setting 'stepz'"),
        ("steps: many", "steps is 'many'; give a whole number"),
        ("steps: 1.5", "steps is 1.5; give a whole number"),
        ("steps: 2.0", None),
        ("steps: '0500'", None),
        ("clip: .inf", "clip is inf; give a finite number"),
        ("steps: 0", "steps is 0"),
        ("batch_size: true", "batch_size is True; give a whole number"),
        ("half: yes", None),
        ("name: true", "name is true, a truth value; write it in quotes"),
        ("name: [a]", "name is a list; give a single name"),
        ("train: [{dataset: coco, root: x, sequences: [~]}]", r"train\[0\].sequences\[0\] is empty; write"),
        (
            "train: [{dataset: coco, root: x, sequences: [a, true]}]",
            r"sequences\[1\] is true, .*write it in quotes",
        ),
        ("steps: 1\nsteps: 2", "line 2 has the key 'steps' a second time"),
        ("\ufeffsteps: 3", None),
        ("crop: [100, 100]", r"crop\[0\] is 100; give a multiple of 32"),
        ("crop: [96, 0]", r"crop\[1\] is 0; give at least 32"),
        ("input_size: [0, 32]", r"input_size\[0\] is 0; give at least 1"),
        ("half: maybe", "half is 'maybe'; give true or false"),
        ("heatmap: {sigma: 0}", "heatmap.sigma is 0"),
        ("learning_rate: .nan", "learning_rate is nan"),
        ("devices: two", "devices is 'two'"),
        ("devices: 2", None),
        ("precision: '9'", "precision '9' is unknown"),
        ("train: [{dataset: synthetic, share: 0}]", "share above 0"),
        ("crop: 256", "give a list"),
        ("crop: [256]", "give 2 values"),
        ("augmentation: wild", "augmentation 'wild' is unknown"),
        ("optimizer: lion", "optimizer 'lion' is unknown"),
        ("instruments: forks", "instruments 'forks' are unknown"),
        ("network: resnet", "where a section with settings belongs"),
        ("network: {layers: 3}", "unknown setting 'layers'"),
        ("train: []", r"train is \[\]; give a list that is not empty"),
        ("train: {dataset: synthetic}", "train is .*; give a list"),
        ("train: [synthetic]", r"train\[0\] holds 'synthetic' where a section"),
        ("preset: old", "the preset 'old', which is unknown; choose one of paper_literal"),
        ("preset: modern", None),
        ("network: {strategy: l}", "set resize to stretch and crop to the input_size"),
        ("{preset: modern, network: {strategy: sl}, input_size: [64, 96], crop: [64, 64]}", "they are stretch and .64, 64."),
        ("{preset: modern, network: {strategy: sl}, input_size: [64, 96], crop: [64, 96]}", None),
        ("train: [{root: x}]", r"train\[0\].dataset is missing; add it"),
        ("train: [{dataset: ''}]", r"train\[0\].dataset is ''; give a text"),
        ("train: [{dataset: coco, skip_first: 0.5, skip_last: 0.5}]", r"train\[0\] leaves no frames"),
        ("train: [{dataset: coco, skip_last: 1.1}]", r"train\[0\].skip_last is 1.1; give at most 1"),
        ("train: [{dataset: coco, landmarks: [tip]}]", r"landmarks\[0\] is 'tip'; write THEIRS=OURS"),
        ("validation: [{dataset: synthetic, frames: 0}]", r"validation\[0\].frames is 0; give at least 1"),
        ("steps: 1500.9", "steps is 1500.9; give a whole number"),
        ("steps: 1500.0", None),
        ("steps: 1e3", None),
        ("steps: .inf", "steps is inf; give a whole number"),
        ("steps: ~", "steps is None; give a whole number"),
        ("ema_decay: 7", "ema_decay is 7; give less than 1"),
        ("ema_decay: 1", "ema_decay is 1; give less than 1"),
        ("ema_decay: -0.5", "ema_decay is -0.5; give at least 0"),
        ("ema_decay: false", "ema_decay is False; give a finite number"),
        ("warmup: 1.5", "warmup is 1.5; give at most 1"),
        ("learning_rate: 0", "learning_rate is 0; give more than 0"),
        ("workers: -1", "workers is -1; give at least 0"),
        ("seed: 4294967296", "seed is 4294967296; give at most 4294967295"),
        ("step: 3", "unknown setting 'step'; the nearest known one is 'steps'"),
        ("heatmap: {sigmas: 3}", "heatmap has the unknown setting 'sigmas'; the nearest known one is 'sigma'"),
        ("zzzz: 3", "unknown setting 'zzzz'; known are name, output"),
        ("3: 3", "unknown setting 3; known are"),
        ("accelerator: tpu", "accelerator 'tpu' is unknown; choose one of 'auto', 'cpu'"),
        ("network: {encoder: vgg}", "network.encoder 'vgg' is unknown; choose one of 'resnet50'"),
        ("network: {strategy: unet}", "with the decoder 'separable'; set network.decoder to none"),
        ("network: {encoder: none}", "with the encoder 'none'; name a network.encoder"),
        ("network: {slots: 65}", "network.slots is 65; give at most 64"),
        ("network: {decoder: up_projection, decoder_width: 2}", "has no width to choose; leave decoder_width out"),
    ],
)
def test_mistakes_are_one_sentence_with_the_key(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    if message is None:
        assert isinstance(load_config(path), TrainConfig)
        return
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_python_is_a_configuration_error_too() -> None:
    with pytest.raises(ConfigError, match="TrainConfig: steps is 0; give at least 1"):
        replace(TrainConfig(), steps=0)
    with pytest.raises(ConfigError, match="SourceConfig leaves no frames"):
        SourceConfig("coco", skip_first=1.0)


def test_names_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: 0012\ntrain: [{dataset: coco, root: 1.50, sequences: [007, 1e3]}]\n")
    config = load_config(path)
    assert (config.name, config.train[0].root, config.train[0].sequences) == ("0012", "1.50", ("007", "1e3"))


def test_choices_are_those_of_the_modules_that_take_them() -> None:
    hints = get_type_hints(NetworkSection)
    assert get_args(hints["strategy"]) == tuple(STRATEGIES)
    assert get_args(hints["encoder"]) == (*ENCODERS, "none")
    assert get_args(hints["decoder"]) == (*DECODERS, "none")
    assert get_args(get_type_hints(TrainSettings)["augmentation"]) == tuple(AUGMENTATIONS)


def test_a_configuration_is_checked_without_torch() -> None:
    code = "import sys, csl_tracker.training.config; print(sorted({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load_config(tmp_path / "none.yaml")


def test_overrides_reach_into_sections_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("train: [{dataset: synthetic}, {dataset: endovis2015, sequences: [A]}]\nlearning_rate: 1e-3\n")
    config = load_config(
        path, ["steps=7", "network.encoder=resnet50", "train.1.sequences=[B, C]", "crop=[64, 96]", "ema_decay=0"]
    )
    assert config.steps == 7
    assert config.learning_rate == pytest.approx(1e-3)
    assert config.network.encoder == "resnet50"
    assert config.train == (SourceConfig("synthetic"), SourceConfig("endovis2015", sequences=("B", "C")))
    assert config.crop == (64, 96)
    assert config.ema_decay == 0.0


@pytest.mark.parametrize("override", ["steps", "=3", "train.9.seed=1", "train.x.seed=1", "steps.deep=1"])
def test_bad_overrides_are_named(tmp_path: Path, override: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("steps: 5\ntrain: [{dataset: synthetic}]\n")
    with pytest.raises(ConfigError, match="override"):
        load_config(path, [override])


def test_settings_are_laid_over_a_preset_section_by_section() -> None:
    config = parse_config({"preset": "paper_literal", "heatmap": {"sigma": 2.0}, "learning_rate": 0.5}, "here")
    assert config.heatmap.sigma == 2.0
    assert config.heatmap.spec().peak == pytest.approx(1 / math.sqrt(2 * math.pi * 4))  # of the sigma in force
    assert (config.learning_rate, config.optimizer, config.heatmap_weight) == (0.5, "sgd", 1.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_configurations(preset: str) -> None:
    parse_config({"preset": preset}, preset)
