import math
from pathlib import Path

import pytest

from csl_tracker.errors import ConfigError
from csl_tracker.training.config import SourceConfig, TrainConfig, load_config, parse_config
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
        ("steps: [", "no readable YAML"),
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
        ("train: [{dataset: coco, root: x, sequences: [~]}]", r"train\[0\]: sequences\[0\] is empty; write"),
        (
            "train: [{dataset: coco, root: x, sequences: [a, true]}]",
            r"sequences\[1\] is true, .*write it in quotes",
        ),
        ("steps: 1\nsteps: 2", "line 2 has the key 'steps' a second time"),
        ("\ufeffsteps: 3", None),
        ("crop: [100, 100]", "multiples of 32"),
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
        ("train: []", "at least one source"),
        ("preset: old", "the preset 'old', which is unknown; choose one of paper_literal"),
        ("preset: modern", None),
        ("network: {strategy: l}", "set resize to stretch and crop to the input_size"),
        ("{preset: modern, network: {strategy: sl}, input_size: [64, 96], crop: [64, 64]}", "they are stretch and .64, 64."),
        ("{preset: modern, network: {strategy: sl}, input_size: [64, 96], crop: [64, 96]}", None),
        ("train: [{root: x}]", "lacks a setting"),
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
    assert config.heatmap.peak == pytest.approx(1 / math.sqrt(2 * math.pi * 49))
    assert (config.learning_rate, config.optimizer, config.heatmap_weight) == (0.5, "sgd", 1.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_configurations(preset: str) -> None:
    parse_config({"preset": preset}, preset)
