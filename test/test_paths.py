"""``~`` is the home folder wherever a path can be written."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from csl_tracker.bags.reader import BagReader
from csl_tracker.cli.main import COMMANDS, build_parser
from csl_tracker.errors import BagError, ConfigError, CslTrackerError, WeightsError
from csl_tracker.evaluation.protocols import load_protocol
from csl_tracker.instruments import find_instruments
from csl_tracker.networks.published import published_weights
from csl_tracker.paths import user_path
from csl_tracker.stereo.hand_eye import load_hand_eye
from csl_tracker.training.config import load_config
from csl_tracker.training.data import open_source
from csl_tracker.weights import find_weights


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("text", "below"), [("~/a", "home/a"), ("~", "home"), ("a/~", "a/~"), ("~nobody-of-this-name/a", "~nobody-of-this-name/a")]
)
def test_user_path(home: Path, text: str, below: str) -> None:
    assert user_path(text) in (home.parent / below, Path(below))


def test_paths_of_a_training(home: Path) -> None:
    (home / "tool.yaml").write_text("landmarks: [tip]\nclasses: [background, tool]\n")
    (home / "t.yaml").write_text(
        "output: ~/runs/t\ncache: ~/cache\ninstruments: ~/tool.yaml\ntrain: [{dataset: coco, root: ~/d}]\n"
    )
    config = load_config(Path("~/t.yaml"), ["init_weights=~/w.safetensors"])
    assert (config.output, config.cache) == (str(home / "runs/t"), str(home / "cache"))
    with pytest.raises(CslTrackerError, match=f"The dataset {home}/d does not exist"):
        open_source(config.train[0], find_instruments(config.instruments), config.cache, (64, 64))
    assert find_weights(config.init_weights) == home / "w.safetensors"
    assert not (home.parent / "~").exists()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: find_instruments("~/x.yaml"), ConfigError),
        (lambda: load_protocol("~/x.yaml"), ConfigError),
        (lambda: load_hand_eye("~/x.yaml"), ConfigError),
        (lambda: published_weights("resnet50", "~/x.pth"), WeightsError),
        (lambda: BagReader("~/x.mcap"), BagError),
    ],
)
def test_every_reader_looks_in_the_home_folder(home: Path, call: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{home}/x"):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_command_takes_a_path_as_it_is(command: str) -> None:
    module = f"csl_tracker.cli.{command.replace('-', '_')}"
    importlib.import_module(module)

    def types(parser: argparse.ArgumentParser) -> list[object]:
        found: list[object] = []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [kind for sub in action.choices.values() for kind in types(sub)]
            else:
                found.append(action.type)
        return found

    assert Path not in types(build_parser(command))
