import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import NetworkConfig, build_network
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
