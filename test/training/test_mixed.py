"""Mixed training: what is not labelled has exactly no gradient, and a real run on three kinds of datasets."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

from csl_tracker.cli.main import main
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import ENDOVIS, RETINAL
from csl_tracker.losses import LossWeights, network_loss
from csl_tracker.networks import NetworkConfig, NetworkOutput, build_network
from csl_tracker.training.config import SourceConfig, TrainConfig, parse_config
from csl_tracker.training.data import build_loaders, open_source
from csl_tracker.training.module import TrackingModule
from csl_tracker.weights import Preprocessing, load_weights

SIZE = (64, 96)
HEADER = "scorer,me,me,me,me\nbodyparts,jaw_a,jaw_a,center,center\ncoords,x,y,x,y\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landmarks and masks (synthetic), masks alone (EndoVis 2017), landmarks alone, two of them (DeepLabCut)."""
    root = tmp_path_factory.mktemp("mixed")
    write_endovis2015(SyntheticSequence(3, 2, SIZE, name="Dataset1"), root / "both")
    for name, value in (("left_frames", 90), ("ground_truth/Vessel_Sealer_labels", 20)):
        path = root / "masks" / "instrument_dataset_1" / name / "frame000.png"
        path.parent.mkdir(parents=True)
        image = np.full(SIZE, value, np.uint8)
        image[:, :40] = 0
        assert cv2.imwrite(str(path), image)
    frames = root / "points" / "labeled-data" / "video"
    frames.mkdir(parents=True)
    assert cv2.imwrite(str(frames / "img0.png"), np.full((*SIZE, 3), 120, np.uint8))
    (frames / "CollectedData_me.csv").write_text(HEADER + "labeled-data/video/img0.png,30,20,60,40\n")
    return root


def sources(data: Path) -> list[dict[str, object]]:
    return [
        {"dataset": "synthetic", "root": str(data / "both")},
        {"dataset": "endovis2017", "root": str(data / "masks"), "partial": True},
        {"dataset": "deeplabcut", "root": str(data / "points"), "partial": True, "landmarks": ["jaw_a=left_clasper"]},
    ]


@pytest.mark.parametrize(("input_size", "drawn"), [((96, 128), (256, 320)), ((256, 320), (256, 320)), ((320, 416), (320, 416))])
def test_frames_are_drawn_at_the_inputs_size_where_that_is_the_larger(
    tmp_path: Path, input_size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    source = open_source(SourceConfig("synthetic"), ENDOVIS, str(tmp_path), input_size)
    assert source.get(3).image.shape == (*drawn, 3)


@pytest.mark.parametrize(
    ("source", "instruments", "said"),
    [
        ({"partial": False}, ENDOVIS, "'endovis2017' at .* has the landmarks .none. and the classes .* Write 'partial: true'"),
        (
            {"classes": ("wirst=manipulator",)},
            ENDOVIS,
            "classes of the source 'endovis2017' hold 'wirst=manipulator'; write TH",
        ),
        ({"classes": ("wrist=tool",)}, ENDOVIS, "hold 'wrist=tool'; write THEIRS=OURS .* ours of background, ignore, manip"),
        ({"landmarks": ("tip=center",)}, ENDOVIS, r"landmarks of .* hold 'tip=center'; .* theirs of \(none\)"),
        ({"dataset": "synthetic", "root": ""}, RETINAL, "have the landmarks and classes of the instruments 'endovis'"),
    ],
)
def test_sources_that_do_not_fit_are_named(data: Path, source: dict[str, object], instruments, said: str) -> None:  # type: ignore[no-untyped-def]
    config = SourceConfig(**{"dataset": "endovis2017", "root": str(data / "masks"), "partial": True, **source})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        open_source(config, instruments, str(data / "cache"), SIZE)


def test_what_is_not_labelled_has_no_gradient() -> None:
    """Frames with masks alone, with landmarks alone, with one landmark and half a mask, with both, in one batch."""
    generator = torch.Generator().manual_seed(1)
    heatmaps = torch.rand(4, 3, 6, 8, generator=generator, requires_grad=True)
    scores = torch.rand(4, 3, 6, 8, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (4, 6, 8), generator=generator)
    labels[1] = 255
    labels[2, :3] = 255
    labelled = torch.tensor([[False] * 3, [True] * 3, [False, True, False], [True] * 3])
    losses = network_loss(
        NetworkOutput(heatmaps, scores), torch.rand(4, 3, 6, 8), torch.zeros(4, 1, 3, 2), labels, labelled, LossWeights()
    )
    losses.total.backward()
    assert scores.grad is not None
    assert heatmaps.grad is not None
    trained = scores.grad.ne(0).all(dim=1)
    torch.testing.assert_close(trained, labels != 255)
    torch.testing.assert_close(heatmaps.grad.ne(0).flatten(2).any(dim=2), labelled)


@pytest.mark.parametrize("strategy", ["csl", "sl"])
def test_heads_that_nothing_is_said_of_stand_still(strategy: str) -> None:
    """Through whole networks: the segmentation's head of sl without masks, and what localises without landmarks."""
    small = (32, 64)
    settings = {
        "encoder_weights": "",
        "input_size": small,
        "crop": small,
        "resize": "stretch",
        "network": {"strategy": strategy},
    }
    config = parse_config(settings, "here")
    network = build_network(NetworkConfig(strategy, input_size=small if strategy == "sl" else None))
    module = TrackingModule(network, config, Preprocessing((0.0,) * 3, (255.0,) * 3, small, "stretch"))  # type: ignore[arg-type]
    points = torch.full((2, 1, 5, 2), 10.0)
    common = {"image": torch.randint(0, 255, (2, *small, 3), dtype=torch.uint8)}
    masks = torch.ones(2, 16, 32, dtype=torch.uint8)
    named = dict(network.named_parameters())

    def moved(batch: dict[str, torch.Tensor], part: str) -> set[str]:
        losses, _ = module._losses({**common, **batch})
        loss = losses.total if part == "total" else losses.segmentation
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        return {name for name, grad in zip(named, grads, strict=True) if grad is not None and bool(grad.ne(0).any())}

    without_masks = {"points": points, "labels": masks * 255, "labelled": torch.ones(2, 5, dtype=torch.bool)}
    without_landmarks = {"points": points * torch.nan, "labels": masks, "labelled": torch.zeros(2, 5, dtype=torch.bool)}
    assert moved(without_masks, "segmentation") == set()
    localising = "heatmap_head" if strategy == "csl" else "regression"
    assert any(localising in name for name in moved(without_masks, "total"))
    learns_to_segment = moved(without_landmarks, "total")
    assert any("score_head" in name for name in learns_to_segment)
    assert not any(localising in name for name in learns_to_segment)
    if strategy == "sl":  # in csl the scores are an input of the heatmaps, and learn from these, too
        assert not any("score_head" in name or "decoder" in name for name in moved(without_masks, "total"))


def test_a_mix_is_loaded_with_what_is_known(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {
        "input_size": SIZE,
        "crop": SIZE,
        "augmentation": "none",
        "cache": str(tmp_path),
        "batch_size": 8,
        "steps_per_epoch": 3,
        "workers": 0,
    }
    config = parse_config({**settings, "train": sources(data), "validation": sources(data)[1:2]}, "here")
    preprocessing = Preprocessing((0.0,) * 3, (255.0,) * 3, SIZE, "keep_aspect")  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        loader, _ = build_loaders(config, preprocessing)
    assert not caplog.records
    seen = set()
    for batch in loader:
        for labels, labelled in zip(batch["labels"], batch["labelled"], strict=True):
            seen.add((tuple(np.unique(labels).tolist()), tuple(labelled.tolist())))
    known = {labelled for _, labelled in seen}
    assert ((0, 2), (False,) * 5) in seen  # the wrist of 2017 is manipulator
    assert ((255,), (True, False, False, True, False)) in seen
    assert known - {(False,) * 5, (True, False, False, True, False)}, "the synthetic frames were never drawn"
    with caplog.at_level(logging.WARNING):
        build_loaders(TrainConfig(**{**vars(config), "train": config.train[2:]}), preprocessing)
    assert "No training source labels the landmarks shaft, head, right_clasper;" in caplog.text
    assert "No training source has masks;" in caplog.text


def test_two_steps_on_a_mix(data: Path, tmp_path: Path) -> None:
    config = {
        "name": "mixed",
        "output": str(tmp_path / "out"),
        "cache": str(tmp_path / "cache"),
        "encoder_weights": "",
        "input_size": list(SIZE),
        "crop": list(SIZE),
        "train": sources(data),
        "validation": sources(data)[2:],
        "batch_size": 4,
        "steps": 2,
        "steps_per_epoch": 2,
        "workers": 0,
        "threads": 1,
        "accelerator": "cpu",
    }
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["train", str(path)]) == 0
    provenance = load_weights(tmp_path / "out" / "last.safetensors").description.provenance
    assert provenance["steps"] == 2
    assert provenance["configuration"]["train"][2]["landmarks"] == ["jaw_a=left_clasper"]
    assert "val/dice" not in provenance["validation"], "the validation frames have no masks, so there is nothing to score"
    assert provenance["validation"]["val/loss"] > 0
