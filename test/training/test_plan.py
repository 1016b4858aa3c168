"""Plans of experiments: names of models, layers of settings, the order of the runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.protocols import Protocol, load_protocol, parse_protocol
from csl_tracker.network_names import COMPARED, STRATEGIES
from csl_tracker.training.plan import (
    Plan,
    Settings,
    make_plan,
    parse_model,
    parse_overrides,
    read_settings,
    read_variants,
)

CONFIGS = Path(__file__).parents[2] / "config" / "experiment"
PROTOCOL = {
    "name": "mine",
    "dataset": "endovis2015",
    "settings": {"steps": 10, "heatmap": {"sigma": 4.0}},
    "preset_settings": {"paper": {"heatmap": {"sigma": 6.0}}},
    "held_back": 0.2,
    "leave_one_out": ["A", "B", "C"],
}


def protocol() -> Protocol:
    return parse_protocol(PROTOCOL, "FILE")


def plan(models: list[str], **settings: Any) -> Plan:
    return make_plan(protocol(), Path("out"), models, (0,), Settings(**settings))


@pytest.mark.parametrize(
    ("name", "strategy", "settings"),
    [
        ("csl", "csl", {}),
        ("csl@encoder_weights=", "csl", {"encoder_weights": ""}),
        (
            "sl@crop=[64,96],network.encoder=resnet50,network.decoder=up_projection,clip=1.5",
            "sl",
            {"crop": [64, 96], "network": {"encoder": "resnet50", "decoder": "up_projection"}, "clip": 1.5},
        ),
    ],
)
def test_names_of_models(name: str, strategy: str, settings: dict[str, Any]) -> None:
    model = parse_model(name)
    assert (model.name, model.strategy, model.settings) == (name, strategy, settings)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("csi", "no known strategy; choose one of l, sl"),
        ("csl@", "nothing behind the @"),
        ("csl@random", "variants with names come from --variants FILE"),
        ("csl@=1", "not key=value"),
        ("csl@a..b=1", "not key=value"),
        ("csl@a={", "not readable YAML"),
    ],
)
def test_names_that_are_none(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_model(name)


VARIANTS = {"large": {"crop": [96, 96], "network": {"encoder": "resnet50"}}, "calm": {"clip": 1.0}, "empty": None, "list": [1]}


def test_variants_have_names() -> None:
    model = parse_model("csl@large,calm,network.decoder=up_projection,clip=2,empty", VARIANTS)
    assert model.name == "csl@large,calm,network.decoder=up_projection,clip=2,empty"
    assert model.settings == {"crop": [96, 96], "network": {"encoder": "resnet50", "decoder": "up_projection"}, "clip": 2}


@pytest.mark.parametrize(
    ("name", "said"),
    [("csl@small", "the file of variants has large, calm, empty, list"), ("csl@list", "'list' is a list and not a mapping")],
)
def test_variants_that_are_none(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_model(name, VARIANTS)


def test_the_shipped_recipe_is_a_plan() -> None:
    folder = Path(__file__).parents[2] / "config" / "recipe"
    variants = read_variants(folder / "variants.yaml")
    models = ["csl", "csl@" + ",".join(variants)]
    settings = Settings(file=read_settings(folder / "settings.yaml"))
    runs = make_plan(load_protocol(folder / "endovis_inner.yaml"), Path("out"), models, (0,), settings, variants=variants).runs
    assert [len(run.config.train) for run in runs] == [1, 2, 1, 2]
    assert all(run.fold.test[0].sequences == ("Dataset1",) for run in runs)


@pytest.mark.parametrize(
    ("models", "settings", "said"),
    [
        (["csl", "csl"], {}, "name one twice"),
        (["csl"], {"preset": "best"}, "the preset 'best', which is unknown"),
        (["csl"], {"overrides": {"preset": "best"}}, "the preset 'best', which is unknown"),
        (["csl"], {"overrides": {"seed": 3}}, "sets 'seed' itself"),
        (["csl@output=x"], {}, "sets 'output' itself"),
        (["csl"], {"file": {"stebs": 3}}, "--config has the unknown setting 'stebs'; the nearest known one is 'steps'"),
        (["csl"], {"file": {"train": [{"dataset": "endovis2015", "root": "x"}]}}, "Only synthetic frames"),
        (["csl@network.encoder=vgg"], {}, "The model 'csl@network.encoder=vgg': network.encoder 'vgg' is unknown"),
        (["csl@clip=1", "csl@steps=0"], {}, "The model 'csl@steps=0': steps is 0"),
        (["csl"], {"overrides": {"heatmap": {"sigma": 0}}}, "The settings of the command line: heatmap.sigma is 0"),
    ],
)
def test_impossible_settings(models: list[str], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(models, **settings)


@pytest.mark.parametrize("read", [read_settings, read_variants])
@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("[1]", "holds a list"), ("a: [", "not readable YAML")])
def test_settings_files_that_are_none(
    tmp_path: Path, read: Callable[[Path], dict[str, Any]], text: str | None, said: str
) -> None:
    path = tmp_path / "settings.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read(path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("stebs: 3", "has the unknown setting 'stebs'; the nearest known one is 'steps'"),
        ("steps: 0", "steps is 0; give at least 1"),
        ("seed: 3", "an experiment sets 'seed' itself"),
        ("preset: best", "names the preset 'best'"),
    ],
)
def test_settings_are_checked_where_they_are_read(tmp_path: Path, settings: str, said: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(settings)
    with pytest.raises(ConfigError, match=rf"settings.yaml:? .*{said}"):
        read_settings(path)
    path.write_text(f"fine:\nwrong: {{{settings}}}")
    with pytest.raises(ConfigError, match=rf"settings.yaml: the variant 'wrong':? .*{said}"):
        read_variants(path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"settings": {"step": 3}}, "settings has the unknown setting 'step'"),
        ({"settings": {"seed": 3}}, "settings: an experiment sets 'seed' itself"),
        (
            {"preset_settings": {"paper": {"heatmap": {"sigmas": 6.0}}}},
            "preset_settings.paper: heatmap has the unknown setting",
        ),
        ({"preset_settings": {"papre": {}}}, "preset_settings, names the preset 'papre', which is unknown"),
    ],
)
def test_settings_of_a_protocol_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"The protocol mine, {said}"):
        make_plan(parse_protocol({**PROTOCOL, **settings}, "FILE"), Path("out"), ["csl"])


def test_seeds_are_outermost_then_folds_then_models() -> None:
    runs = make_plan(protocol(), Path("out"), ["l", "csl@clip=1"], (0, 1)).runs
    assert [str(run.folder) for run in runs] == [
        f"out/runs/{fold}/{model}/seed{seed}" for seed in (0, 1) for fold in "ABC" for model in ("l", "csl@clip=1")
    ]
    assert [run.config.seed for run in runs] == [0] * 6 + [1] * 6


def test_names_with_slashes_make_no_folders() -> None:
    (run, *_) = make_plan(load_protocol("endovis_test"), Path("out"), ["csl@encoder_weights=/a/b.pth"]).runs
    assert run.folder.parts == ("out", "runs", "official", "csl@encoder_weights=%2Fa%2Fb.pth", "seed0")


def test_layers_go_over_each_other() -> None:
    runs = plan(
        ["csl", "csl@steps=40", "csl@preset=paper"],
        file={"steps": 20, "batch_size": 2},
        overrides=parse_overrides(["steps=30", "network.width=8"]),
    ).runs[:3]
    assert [run.config.steps for run in runs] == [30, 40, 30]
    assert [run.config.heatmap.sigma for run in runs] == [4.0, 4.0, 6.0]
    assert [run.preset for run in runs] == ["modern", "modern", "paper"]
    assert {run.config.batch_size for run in runs} == {2}
    assert {run.config.network.width for run in runs} == {8}


def test_every_model_gets_the_network_that_it_can_have() -> None:
    runs = plan(
        list(STRATEGIES), overrides={"crop": [64, 96], "input_size": [96, 128], "network": {"decoder": "up_projection"}}
    ).runs
    for run in runs:
        network = run.config.network
        assert network.strategy == run.model.name
        none = run.model.name in ("unet", "forest")
        assert (network.encoder, network.decoder) == (("none",) * 2 if none else ("efficientnet_lite0", "up_projection"))
        assert run.config.input_size == ((64, 96) if run.model.name in ("l", "sl", "sl_skip") else (96, 128))


def test_a_unet_has_an_encoder_only_where_its_name_says_so() -> None:
    of_all = {"network": {"encoder": "efficientnet_lite2"}}
    own, given = plan(["unet", "unet@network.encoder=efficientnet_lite0"], file=of_all).runs[:2]
    assert (own.config.network.encoder, given.config.network.encoder) == ("none", "efficientnet_lite0")
    assert given.config.network.decoder == "none"


@pytest.mark.parametrize("preset", ["paper", "paper_literal"])
def test_the_papers_presets_mean_the_papers_experiment(preset: str) -> None:
    """Laina et al. 2017, sections 2.1 and 3, by ``experiment endovis_table1 --preset paper`` and nothing else."""
    runs = make_plan(load_protocol("endovis_table1"), Path("out"), ["csl", "sl", "l"], settings=Settings(preset)).runs
    for run in runs:
        config = run.config
        assert (config.network.encoder, config.network.decoder) == ("resnet50", "up_projection")
        assert not config.network.bottleneck_relu
        assert (config.encoder_weights, config.augmentation) == ("imagenet", "paper")
        assert config.crop == (480, 480)
        assert config.input_size == ((480, 640) if run.model.name == "csl" else (480, 480))
        assert (config.optimizer, config.heatmap.sigma) == ("sgd", 7.0)
    (run, *_) = make_plan(load_protocol("rm_9_9"), Path("out"), ["csl"], settings=Settings(preset)).runs
    assert (run.config.heatmap.sigma, run.config.augmentation) == (5.0, "paper_retinal")
    peak = 1 / math.sqrt(2 * math.pi * 25) if preset == "paper_literal" else 1.0
    assert run.config.heatmap.spec().peak == pytest.approx(peak)


@pytest.mark.parametrize("name", ["endovis_table1", "rm_9_9"])
def test_settings_for_a_gpu_leave_the_papers_settings_alone(name: str) -> None:
    settings = Settings("paper", read_settings(CONFIGS / "gpu.yaml"))
    (given, *_) = make_plan(load_protocol(name), Path("out"), ["csl"], settings=settings).runs
    (alone, *_) = make_plan(load_protocol(name), Path("out"), ["csl"], settings=Settings("paper")).runs
    for key in ("network", "encoder_weights", "input_size", "crop", "heatmap", "augmentation", "learning_rate"):
        assert getattr(given.config, key) == getattr(alone.config, key)


def test_the_recipes_of_the_light_network_name_it() -> None:
    variants = read_variants(CONFIGS.parent / "recipe" / "presets.yaml")
    light = [name for name, settings in variants.items() if settings.get("preset") == "paper" and name != "p"]
    assert "paper_lite" in light
    for run in make_plan(protocol(), Path("out"), [f"csl@{name}" for name in light], variants=variants).runs:
        assert run.config.network.encoder == "efficientnet_lite0"
    settings = Settings("paper", read_settings(CONFIGS / "cpu.yaml"))
    assert make_plan(protocol(), Path("out"), ["csl"], settings=settings).runs[0].config.network.encoder == "efficientnet_lite0"


def test_sources_are_the_parts_of_the_fold_and_synthetic_frames_can_be_added() -> None:
    run = plan(["csl"], file={"train": [{"dataset": "synthetic", "seed": 3, "share": 0.25}]}).runs[1]
    real, added = run.config.train
    (held_out,) = run.config.validation
    assert (real.sequences, real.skip_first, real.skip_last, real.share) == (("A", "C"), 0.0, 0.2, 1.0)
    assert (held_out.sequences, held_out.skip_first, held_out.skip_last) == (("A", "C"), 0.8, 0.0)
    assert (added.dataset, added.seed, added.share) == ("synthetic", 3, 0.25)


def test_shares_of_several_parts_are_those_of_their_frames() -> None:
    data = {
        "name": "mine",
        "dataset": "endovis2015",
        "folds": [
            {
                "name": "only",
                "train": [{"sequences": ["A", "B", "C"]}, {"sequences": ["D"], "last": 0.5}],
                "validation": [{"sequences": ["D"], "first": 0.5, "last": 0.6}],
                "test": [{"sequences": ["D"], "first": 0.6}],
            }
        ],
    }
    (run,) = make_plan(parse_protocol(data, "FILE"), Path("out"), ["csl"]).runs
    assert [source.share for source in run.config.train] == pytest.approx([3 / 3.5, 0.5 / 3.5])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["synthetic", "endovis_loso", "endovis_test", "endovis_table1"])
def test_shipped_settings_fit_every_model(path: Path, name: str) -> None:
    runs = make_plan(load_protocol(name), Path("out"), COMPARED, (0,), Settings(file=read_settings(path))).runs
    assert len(runs) == len(COMPARED) * len(load_protocol(name).folds)
