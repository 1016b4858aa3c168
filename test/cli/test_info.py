from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from csl_tracker.cli.main import main
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks.base import NetworkConfig
from csl_tracker.networks.strategies import build_network
from csl_tracker.weights import ModelDescription, Preprocessing, save_weights


def test_everything_that_is_known_is_printed(random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(random_weights)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "3.09 M",
        "center, shaft, head, left_clasper, right_clasper",
        "background, shaft, manipulator",
        "at 128x160",
    ):
        assert expected in printed
    assert main(["info", str(random_weights), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["preprocessing"]["input_size"] == [128, 160]
    assert info["provenance"] == {"initialisation": "random"}


@pytest.mark.parametrize(
    ("configuration", "data", "seed"),
    [
        (None, "not stated", "not stated"),
        ({"seed": 0}, "not stated", "0"),
        ({"seed": 7, "train": [{"dataset": "synthetic", "sequences": []}]}, "synthetic: rendered on the fly", "7"),
        (
            {
                "seed": 3,
                "train": [
                    {"dataset": "endovis2015", "sequences": ["Dataset1", "Dataset4"]},
                    {"dataset": "endovis2015"},
                    {"dataset": "synthetic"},
                ],
            },
            "endovis2015: Dataset1, Dataset4; endovis2015: all sequences; synthetic: rendered on the fly",
            "3",
        ),
    ],
    ids=["no configuration", "no sources", "synthetic", "mixed"],
)
def test_the_table_names_the_training_data_and_the_seed(
    make_weights: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    configuration: dict[str, object] | None,
    data: str,
    seed: str,
) -> None:
    path = make_weights(provenance={} if configuration is None else {"configuration": configuration})
    assert main(["info", str(path)]) == 0
    rows = dict(line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["data"] == data
    assert rows["seed"] == seed


def test_gflop_grow_with_the_size_and_are_those_of_a_convolution(
    random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = []
    for size in ("128x160", "256x320"):
        assert main(["info", str(random_weights), "--size", size, "--json"]) == 0
        counts.append(json.loads(capsys.readouterr().out)["gflop"])
    assert counts[1] == pytest.approx(4 * counts[0], rel=0.01)
    # EfficientNet-Lite0 alone has 0.407 G multiply-adds at 224x224, its classifier's head included.
    assert 0.3 < counts[0] < 2 * 0.407


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no_such_file"], "There is no weights file"), (["--size", "big"], "no HxW"), (["--size", "0x4"], "no HxW")],
)
def test_mistakes_are_said(
    random_weights: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if arguments[0].startswith("--"):
        arguments = [str(random_weights), *arguments]
    assert main(["info", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_forest_is_described_by_its_trees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = NetworkConfig("forest", "none", "none", trees=2, nodes=3)
    description = ModelDescription(
        name="trees",
        network=config,
        instruments=ENDOVIS,
        heatmap=HeatmapSpec(3.5),
        preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3, (64, 64)),
        confidence_threshold=0.3,
        provenance={},
    )
    save_weights(tmp_path / "forest.safetensors", build_network(config), description)
    assert main(["info", str(tmp_path / "forest.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "2 trees of at most 3 nodes" in printed
    assert " M\n" not in printed
    assert "GFLOP" not in printed
