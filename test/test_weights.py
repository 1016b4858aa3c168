import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from csl_tracker.engines.base import EngineOutput, PixelMap
from csl_tracker.errors import ConfigError, EngineError, WeightsError
from csl_tracker.instruments import ENDOVIS
from csl_tracker.names import file_stem
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.tracker import Tracker
from csl_tracker.weights import (
    DEFAULT_MODEL,
    ModelDescription,
    Preprocessing,
    default_weights,
    find_weights,
    load_weights,
    read_description,
    save_weights,
    shipped_weights,
)


def _header(path: Path, **changes: object) -> dict[str, str]:
    return {"csl_tracker": json.dumps({**read_description(path).to_dict(), **changes})}


def _without_tensor(source: Path, target: Path) -> None:
    tensors = load_file(source)
    tensors.pop("score_head.bias")
    save_file(tensors, target, _header(source))


def _nan_tensor(source: Path, target: Path) -> None:
    tensors = load_file(source)
    tensors["score_head.bias"][0] = torch.nan
    save_file(tensors, target, _header(source))


def _other_shape(source: Path, target: Path) -> None:
    tensors = load_file(source)
    tensors["score_head.bias"] = torch.zeros(7)
    save_file(tensors, target, _header(source))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s, t: None, "There is no weights file .*; check the path, or name one that comes with the package: csl_lite0"),
        (lambda s, t: t.mkdir(), "is a folder"),
        (lambda s, t: t.write_bytes(b""), "it is empty"),
        (lambda s, t: t.write_bytes(s.read_bytes()[:1000]), "it is cut off"),
        (lambda s, t: t.write_bytes(s.read_bytes()[:-1000]), "it is cut off or damaged"),
        (lambda s, t: torch.save({"a": torch.zeros(1)}, t), "a pickled checkpoint, which is never opened"),
        (lambda s, t: t.write_text("weights? what weights? these are not any"), r"begin with b'weights\?'"),
        (lambda s, t: save_file({"a": torch.zeros(1)}, t), "of another program"),
        (lambda s, t: save_file({"a": torch.zeros(1)}, t, {"csl_tracker": "no json"}), "describes no model"),
        (lambda s, t: save_file({"a": torch.zeros(1)}, t, {"csl_tracker": "[]"}), "describes no model"),
        (lambda s, t: save_file(load_file(s), t, _header(s, format="csl_tracker/9")), "format 'csl_tracker/9'"),
        (lambda s, t: save_file(load_file(s), t, _header(s, network={"encoder": "vgg"})), "'vgg' is unknown"),
        (
            lambda s, t: save_file(load_file(s), t, _header(s, instruments={"landmarks": ["a"], "classes": ["b", "c"]})),
            "make them equal",
        ),
        (_without_tensor, "lacks the tensor 'score_head.bias'"),
        (_nan_tensor, "not finite"),
        (_other_shape, r"of shape \(7,\) where \(3,\) belongs"),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path: Path, random_weights: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "bad.safetensors"
    damage(random_weights, target)
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(target)
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_file_rebuilds_the_model(tmp_path: Path, random_weights: Path) -> None:
    model = load_weights(random_weights)
    assert model.instruments == ENDOVIS
    assert len(model.short_hash) == 8
    copy = tmp_path / "copy.safetensors"
    save_weights(copy, model.network, model.description)
    again = load_weights(copy)
    assert again.description == model.description
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again.network(image).heatmaps, model.network(image).heatmaps, rtol=0, atol=0)
    assert copy.read_bytes() == random_weights.read_bytes()


def test_half_precision_halves_the_file_and_moves_little(tmp_path: Path, random_weights: Path) -> None:
    model = load_weights(random_weights)
    half = tmp_path / "half.safetensors"
    save_weights(half, model.network, model.description, half=True)
    assert half.stat().st_size < 0.52 * random_weights.stat().st_size
    image = torch.randn(1, 3, 64, 64).clamp(-1, 1)
    with torch.inference_mode():
        expected, found = model.network(image).scores, load_weights(half).network(image).scores
    assert float((expected - found).abs().max()) < 0.02 * float(expected.abs().max())


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, random_weights: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(random_weights.read_bytes())
    model = load_weights(path)
    broken = ModelDescription(**{**model.description.__dict__, "provenance": {"no json": object()}})
    with pytest.raises(TypeError):
        save_weights(path, model.network, broken)
    assert path.read_bytes() == random_weights.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    assert stat.S_IMODE(random_weights.stat().st_mode) & stat.S_IRUSR


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((576, 720), (256, 320)),
        ((480, 640), (256, 320)),
        ((1080, 1920), (224, 384)),
        ((1, 1), (288, 288)),
        ((10, 5000), (32, 1280)),
    ],
)
def test_working_size_keeps_the_aspect(source: tuple[int, int], expected: tuple[int, int]) -> None:
    pre = Preprocessing((0, 0, 0), (1, 1, 1), (256, 320))
    assert pre.working_size(source) == expected
    assert Preprocessing((0, 0, 0), (1, 1, 1), (255, 320), "stretch").working_size(source) == (256, 320)


def test_impossible_descriptions_are_refused() -> None:
    with pytest.raises(ConfigError, match="resize 'crop'"):
        Preprocessing((0, 0, 0), (1, 1, 1), (256, 320), "crop")
    with pytest.raises(ConfigError, match="at least 32"):
        Preprocessing((0, 0, 0), (1, 1, 1), (16, 320))


def test_weights_of_a_resnet_come_back(tmp_path: Path, random_weights: Path) -> None:
    config = NetworkConfig("csl_no_skip", "efficientnet_lite0", "up_projection")
    description = ModelDescription(**{**read_description(random_weights).__dict__, "network": config})
    save_weights(tmp_path / "w.safetensors", build_network(config), description)
    assert load_weights(tmp_path / "w.safetensors").network.config == config


def test_weights_are_found_by_name_or_path(tmp_path: Path) -> None:
    assert shipped_weights()[0] == DEFAULT_MODEL
    for name in shipped_weights():
        assert read_description(find_weights(name)).name == name
    assert find_weights(None) == find_weights("") == find_weights(DEFAULT_MODEL) == default_weights()
    assert find_weights(tmp_path / DEFAULT_MODEL) == tmp_path / DEFAULT_MODEL
    assert find_weights("mine.safetensors") == Path("mine.safetensors")


def _forged(source: Path, target: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: object) -> None:
    save_file({**load_file(source), **(tensors or {})}, target, _header(source, **changes))


def _nested(source: Path, target: Path, depth: int) -> None:
    header = json.dumps(read_description(source).to_dict())[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    save_file(load_file(source), target, {"csl_tracker": header})


def _part(source: Path, part: str, **changes: object) -> dict[str, object]:
    return {part: {**read_description(source).to_dict()[part], **changes}}


def _statistics(source: Path, value: float) -> dict[str, torch.Tensor]:
    key = next(key for key in load_file(source) if key.endswith("running_var"))
    return {key: torch.full_like(load_file(source)[key], value)}


def _overflowing(source: Path) -> dict[str, torch.Tensor]:
    """Finite numbers, whose products are not."""
    return {key: torch.full_like(value, 3e38) for key, value in load_file(source).items() if key.endswith("conv.weight")}


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


UNET = {"strategy": "unet", "encoder": "none", "decoder": "none"}
FOREST = {"strategy": "forest", "encoder": "none", "decoder": "none"}


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        # What the header claims is not what the file holds; nothing of that size is ever built.
        (lambda s, t: _forged(s, t, **_part(s, "network", **UNET, width=1024)), "lacks the tensor 'down"),
        (lambda s, t: _forged(s, t, **_part(s, "network", **UNET, width=10**9)), "width is 1000000000; give .* at most 1024"),
        (lambda s, t: _forged(s, t, **_part(s, "network", **UNET, width=64.5)), "width is 64.5"),
        (lambda s, t: _forged(s, t, **_part(s, "network", **FOREST, trees=10_000, nodes=10_000_000)), "lacks the tensor"),
        (lambda s, t: _forged(s, t, **_part(s, "network", slots=10**18)), "slots is 1000000000000000000"),
        (lambda s, t: _forged(s, t, **_part(s, "network", num_landmarks=True)), "num_landmarks is True"),
        (lambda s, t: _forged(s, t, **_part(s, "network", decoder_width="1")), "decoder_width"),
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", input_size=[10**6, 10**6])), "too large for a network"),
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", input_size=["64", 64])), "two whole numbers"),
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", input_size=[64])), "describes no model"),
        (lambda s, t: _forged(s, t, {"unknown": torch.zeros(9)}), "holds the tensor 'unknown', which its network does not"),
        (lambda s, t: _sparse(t, 1 << 34), "17179869184 bytes, and weights have"),
        # Numbers that are none.
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", std=[0, 1, 1])), "preprocessing's std"),
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", std=[1, -1, 1])), "preprocessing's std"),
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", mean=[float("nan"), 1, 1])), "preprocessing's mean"),
        (lambda s, t: _forged(s, t, **_part(s, "preprocessing", mean=[float("inf"), 1, 1])), "preprocessing's mean"),
        (lambda s, t: _forged(s, t, **_part(s, "heatmap", sigma=1e9)), "sigma from 0.1 to 200"),
        (lambda s, t: _forged(s, t, **_part(s, "heatmap", peak=10**400)), "describes no model"),
        (lambda s, t: _forged(s, t, confidence_threshold=float("nan")), "confidence threshold is nan"),
        (lambda s, t: _forged(s, t, confidence_threshold=7), "confidence threshold is 7"),
        (lambda s, t: _forged(s, t, _statistics(s, -1.0)), "negative variance"),
        (lambda s, t: _forged(s, t, _statistics(s, float("inf"))), "not finite"),
        (lambda s, t: _forged(s, t, _overflowing(s)), "computes values that are not finite"),
        (lambda s, t: _forged(s, t, {"score_head.bias": torch.zeros(3, dtype=torch.int64)}), "as I64, where floating-point"),
        (lambda s, t: _forged(s, t, {"score_head.bias": torch.zeros(3, dtype=torch.bool)}), "as BOOL"),
        (lambda s, t: _forged(s, t, {"score_head.bias": torch.zeros(3, dtype=torch.float8_e4m3fn)}), "as F8"),
        # Structure.
        (lambda s, t: _nested(s, t, 40), "nested deeper than 32 levels"),
        (lambda s, t: _nested(s, t, 100_000), "nested deeper than 32 levels"),
        (lambda s, t: _forged(s, t, provenance={"x": "y" * (5 << 20)}), "header of .* bytes"),
        (lambda s, t: _forged(s, t, provenance=[1]), "describes no model"),
        (lambda s, t: _forged(s, t, **_part(s, "instruments", skeleton=[["shaft"]])), "not a pair of two landmark names"),
        (lambda s, t: _forged(s, t, **_part(s, "instruments", skeleton=[["shaft", "shaft"]])), "not a pair of two landmark"),
        (lambda s, t: _forged(s, t, **_part(s, "instruments", class_colors=[[0, 0, 1e9]] * 3)), "no RGB"),
        (lambda s, t: _forged(s, t, **_part(s, "instruments", landmarks=list(range(5)))), "no text of 1 to"),
        (lambda s, t: _forged(s, t, **_part(s, "instruments", classes=["a", "b\x1b[2J", "c"])), r"'b\\x1b\[2J'"),
        # Names that are paths, or not to be printed.
        (lambda s, t: _forged(s, t, name="../../outside"), "The model's name is '../../outside'"),
        (lambda s, t: _forged(s, t, name="/etc/passwd"), "The model's name is '/etc/passwd'"),
        (lambda s, t: _forged(s, t, name="a/../../b"), "The model's name is"),
        (lambda s, t: _forged(s, t, name="\x1b]0;owned\x07"), r"'\\x1b\]0;owned\\x07'"),
        (lambda s, t: _forged(s, t, name=7), "The model's name is '7'"),
        (lambda s, t: _forged(s, t, format="\x1b[31m"), r"format '\\x1b\[31m'"),
        (lambda s, t: save_file({"a": torch.zeros(1)}, t, {"\x1b[2J": "x"}), r"holds \\x1b\[2J"),
    ],
)
def test_a_forged_file_gets_one_sentence(tmp_path: Path, random_weights: Path, forge, message: str) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "forged.safetensors"
    forge(random_weights, target)
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(target)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="not a regular file"):
        load_weights(tmp_path / "pipe")


def test_a_skeleton_may_close_a_ring(tmp_path: Path, random_weights: Path) -> None:
    ring = [["center", "shaft"], ["shaft", "head"], ["head", "center"], ["head", "shaft"]]
    _forged(random_weights, tmp_path / "ring.safetensors", **_part(random_weights, "instruments", skeleton=ring))
    tracker = Tracker(load_weights(tmp_path / "ring.safetensors"), _Blind())  # type: ignore[arg-type]
    assert tracker.grouper.chains == []


class _Blind:
    """An engine whose network computes no numbers."""

    name, device = "torch", "cpu"

    def localize(self, image: np.ndarray, segmentation: bool, count: int) -> tuple[EngineOutput, None]:
        heatmaps = np.full((5, 16, 16), np.nan, np.float32)
        return EngineOutput(heatmaps, np.zeros((16, 16), np.float32), None, PixelMap((32, 32), (32, 32))), None


def test_a_network_without_numbers_is_not_one_that_sees_nothing(random_weights: Path) -> None:
    tracker = Tracker(load_weights(random_weights), _Blind())  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"random@\w{8} computed values that are not finite"):
        tracker.track(np.zeros((32, 32, 3), np.uint8))


def test_models_of_an_experiment_keep_their_names(tmp_path: Path, random_weights: Path) -> None:
    _forged(random_weights, tmp_path / "w.safetensors", name="endovis_loso/Dataset1/csl/seed0")
    assert file_stem(load_weights(tmp_path / "w.safetensors").name) == "endovis_loso_Dataset1_csl_seed0"
