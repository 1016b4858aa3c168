"""Training on changed frames: every kind of source, one or two views, and the same item for the same index."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

from csl_tracker.datasets.augment import AUGMENTATIONS
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import ENDOVIS, RETINAL
from csl_tracker.losses import LossWeights, consistency_loss, network_loss
from csl_tracker.networks import NetworkConfig, NetworkOutput, build_network
from csl_tracker.training.config import SourceConfig, TrainConfig, parse_config
from csl_tracker.training.data import MixedDataset, Source, build_loaders, collate, frame_changes, open_source
from csl_tracker.training.module import TrackingModule
from csl_tracker.training.run import averaging, train
from csl_tracker.training.views import Cropping, FrameChanges
from csl_tracker.weights import Preprocessing

SIZE = (96, 128)
CROP = (64, 96)
PREPROCESSING = Preprocessing((0.0,) * 3, (255.0,) * 3, SIZE, "keep_aspect")  # type: ignore[arg-type]
EVERY = {"effects": FrameChanges(effects=1.0), "style": FrameChanges(style=1.0), "views": FrameChanges(views=2)}
EVERY["all"] = FrameChanges(0.7, 0.5, 2)


def masks_alone(index: int) -> Sample:
    sample = render_frame(index, SIZE)
    unknown = np.full_like(sample.landmarks, np.nan)
    return replace(sample, landmarks=unknown, labelled=np.zeros_like(sample.labelled), instances=None, anchors=None)


def landmarks_alone(index: int) -> Sample:
    return replace(render_frame(index, SIZE), label_map=None, instances=None, anchors=None)


SOURCES = {
    "both": lambda index: render_frame(index, SIZE),
    "masks": masks_alone,
    "landmarks": landmarks_alone,
}


def mixed(changes: FrameChanges | None, *names: str, preset: str = "strong", length: int | None = 5) -> MixedDataset:
    sources = [Source(SOURCES[name], length, 1.0) for name in names or ("both",)]
    return MixedDataset(sources, AUGMENTATIONS[preset], ENDOVIS, PREPROCESSING, CROP, 3, changes)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("names", [("both",), ("masks",), ("landmarks",), ("both", "masks", "landmarks")])
def test_changed_frames_of_every_source_are_valid_and_depend_on_their_index_alone(kind: str, names: tuple[str, ...]) -> None:
    dataset, again = mixed(EVERY[kind], *names), mixed(EVERY[kind], *names)
    items = [dataset[index] for index in range(5)]
    for index in (4, 0):
        for key, value in again[index].items():
            torch.testing.assert_close(value, items[index][key], equal_nan=True, rtol=0, atol=0)
    for item in items:
        assert (tuple(item["image"].shape), item["image"].dtype) == ((*CROP, 3), torch.uint8)
        assert tuple(item["labels"].shape) == (CROP[0] // 2, CROP[1] // 2)
        assert tuple(item["labelled"].shape) == (5,)
        assert ("second" in item) == (EVERY[kind].views == 2)
        if len(names) == 1:
            assert item["labelled"].any() != (names == ("masks",))
    batch = collate(items)
    assert batch["image"].shape[0] == batch["points"].shape[0] == 5


def test_without_changes_nothing_changes() -> None:
    plain, none = mixed(None), mixed(FrameChanges())
    for index in range(3):
        assert (
            plain[index].keys()
            == none[index].keys()
            == {
                "image",
                "labels",
                "points",
                "labelled",
                "instances",
                "anchors",
            }
        )
        for key, value in plain[index].items():
            torch.testing.assert_close(value, none[index][key], equal_nan=True, rtol=0, atol=0)


def test_two_views_differ_in_colours_and_agree_in_geometry() -> None:
    dataset = mixed(FrameChanges(0.0, 0.0, 2), preset="paper")
    different = 0
    for index in range(8):
        item = dataset[index]
        one, other = item["image"].float(), item["second"].float()
        different += bool((one != other).any())
        edges = [torch.diff(view.mean(dim=2), dim=1).abs().flatten() for view in (one, other)]
        assert torch.corrcoef(torch.stack(edges))[0, 1] > 0.8, index
    assert different == 8


def test_a_style_comes_from_frames_that_are_no_validation_frames() -> None:
    """The numbers drawn for styles stay below those of the training so far."""
    seen: list[int] = []

    def get(number: int) -> Sample:
        seen.append(number)
        return render_frame(number % 4, SIZE)

    dataset = MixedDataset(
        [Source(get, None, 1.0)], AUGMENTATIONS["none"], ENDOVIS, PREPROCESSING, CROP, 0, FrameChanges(style=1.0)
    )
    for index in (0, 3, 10):
        seen.clear()
        dataset[index]
        assert seen[0] == 2 * index
        assert all(0 <= number <= 2 * index for number in seen)


def test_an_instrument_is_pasted_onto_a_whole_frame_with_its_landmarks() -> None:
    """A white square with a landmark in its middle is found where the landmark says."""

    def square(value: int, left: int, label: int) -> Sample:
        image, labels = np.full((*SIZE, 3), value, np.uint8), np.zeros(SIZE, np.uint8)
        image[30:51, left : left + 21], labels[30:51, left : left + 21] = 255, label
        points = np.full((1, 5, 2), np.nan)
        points[0, 0] = left + 10, 40
        return Sample(image, labels, points, np.ones((1, 5), bool), "s", 0, 0)

    cropping = Cropping(AUGMENTATIONS["paper"], PREPROCESSING, ENDOVIS.flip_permutation(), CROP)
    for seed in range(6):
        both = cropping.paste_onto_frame(np.random.default_rng(seed), square(0, 10, 1), square(100, 80, 2))
        assert both.image.shape == (*SIZE, 3)
        assert both.landmarks.shape == (2, 5, 2)
        assert both.labelled.shape == (2, 5)
        x, y = both.landmarks[1, 0]
        assert both.label_map is not None
        rows, columns = np.nonzero(both.label_map == 2)
        np.testing.assert_allclose((columns.mean(), rows.mean()), (x, y), atol=0.7)


def test_equal_views_are_consistent_and_others_are_not() -> None:
    rng = torch.Generator().manual_seed(0)
    heatmaps = torch.rand(2, 3, 6, 8, generator=rng)
    scores = torch.rand(2, 3, 6, 8, generator=rng)
    points = torch.rand(2, 2, 3, 3, generator=rng)
    twice = [torch.cat((one, one)) for one in (heatmaps, scores, points)]
    assert consistency_loss(NetworkOutput(*twice), LossWeights()) == 0
    twice[0][2, 1] += 0.5
    weights = LossWeights(heatmaps=0.1)
    expected = 0.1 * 0.25 * 48 / 6  # one of two frames' three landmarks
    torch.testing.assert_close(consistency_loss(NetworkOutput(*twice), weights), torch.tensor(expected))
    twice[1][2:] = 0.0
    probabilities = scores.softmax(dim=1)
    expected += float(((probabilities - 1 / 3) ** 2).sum(dim=1).mean())
    torch.testing.assert_close(consistency_loss(NetworkOutput(*twice), weights), torch.tensor(expected))
    twice[2][2:, ..., 0] += 0.1
    expected += 2.0 * 0.01
    found = consistency_loss(NetworkOutput(*twice), LossWeights(0.1, 2.0))
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("strategy", ["csl", "sl"])
def test_the_loss_has_both_views_and_their_difference(strategy: str) -> None:
    settings = {
        "encoder_weights": "",
        "input_size": CROP,
        "crop": CROP,
        "resize": "stretch",
        "network": {"strategy": strategy},
        "consistency_weight": 0.5,
        "side_weight": 0.1,
    }
    config = parse_config(settings, "here")
    network = build_network(NetworkConfig(strategy, input_size=CROP if strategy == "sl" else None))
    module = TrackingModule(network, config, PREPROCESSING).eval()
    batch = collate([mixed(FrameChanges(0.0, 0.0, 2))[index] for index in range(2)])
    losses, output = module._losses(batch)
    assert losses.consistency is not None
    torch.testing.assert_close(losses.consistency, 0.5 * consistency_loss(output, module.weights))
    assert len(output.scores) == 4  # type: ignore[arg-type]
    both = [module._losses({**batch, "image": image, "second": image})[0] for image in (batch["image"], batch["second"])]
    assert [float(one.consistency.detach()) for one in both] == pytest.approx([0, 0], abs=1e-6)  # type: ignore[union-attr]
    single = module._losses({key: value for key, value in batch.items() if key != "second"})[0]
    assert single.consistency is None
    torch.testing.assert_close(single.localisation, both[0].localisation)
    torch.testing.assert_close(losses.localisation, (both[0].localisation + both[1].localisation) / 2)
    parts = (losses.segmentation, losses.localisation, losses.side, losses.consistency)
    torch.testing.assert_close(losses.total, sum(part for part in parts if part is not None))
    grads = torch.autograd.grad(losses.consistency, list(network.parameters()), allow_unused=True)
    assert any(grad is not None and bool(grad.ne(0).any()) for grad in grads)


def test_settings_become_changes() -> None:
    assert not frame_changes(TrainConfig())
    config = parse_config({"effects": 0.5, "style": 0.2, "consistency_weight": 1.0}, "here")
    assert frame_changes(config) == FrameChanges(0.5, 0.2, 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"effects": 1.5}, "effects is 1.5; give at most 1"),
        ({"style": -0.1}, "style is -0.1; give at least 0"),
        ({"consistency_weight": -1}, "consistency_weight is -1; give at least 0"),
        ({"train": [{"dataset": "synthetic", "hold_out": ["fat"]}]}, "has hold_out or only for the dataset 'synthetic'"),
        ({"train": [{"dataset": "retinal", "only": ["fat"]}]}, "has hold_out or only for the dataset 'retinal'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(settings, "here")


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Fakes of the bank and its composition; what they were called with."""
    calls: list[object] = []
    banks, compose = ModuleType("bank"), ModuleType("compose")

    def open_bank(root: Path, *, hold_out: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> str:
        calls.append((root, hold_out, only))
        return "the bank"

    def compose_frame(bank: str, seed: int, size: tuple[int, int]) -> Sample:
        calls.append((bank, seed, size))
        return render_frame(seed, size)

    banks.open_bank, compose.compose_frame = open_bank, compose_frame  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "csl_tracker.datasets.rendered.bank", banks)
    monkeypatch.setitem(sys.modules, "csl_tracker.datasets.rendered.compose", compose)
    return calls


def test_a_bank_is_an_infinite_source(bank: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK", str(tmp_path))
    config = SourceConfig("rendered", "${BANK}", seed=70, share=2.0, hold_out=("fat", "bone"), only=("knife",))
    source = open_source(config, ENDOVIS, "unused", (320, 416))
    assert (source.length, source.share, source.segmented) == (None, 2.0, True)
    assert source.landmarks == set(ENDOVIS.landmarks)
    assert source.get(5).image.shape == (320, 416, 3)
    assert bank == [(tmp_path, ("fat", "bone"), ("knife",)), ("the bank", 75, (320, 416))]
    with pytest.raises(ConfigError, match="Rendered frames have the landmarks and classes of the instruments 'endovis'"):
        open_source(config, RETINAL, "unused", SIZE)
    with pytest.raises(ConfigError, match="root '' of 'rendered' is not set"):
        open_source(SourceConfig("rendered"), ENDOVIS, "unused", SIZE)


def test_two_steps_on_a_bank_with_everything(bank: list[object], tmp_path: Path) -> None:
    source = {"dataset": "rendered", "root": str(tmp_path)}
    settings = {
        "output": str(tmp_path / "out"),
        "cache": str(tmp_path / "cache"),
        "network": {"strategy": "unet", "encoder": "none", "decoder": "none", "width": 4},
        "encoder_weights": "",
        "input_size": CROP,
        "crop": CROP,
        "train": [source],
        "validation": [{**source, "seed": 9_000_000, "frames": 2, "only": ["fat"]}],
        "augmentation": "rendered",
        "effects": 0.8,
        "style": 0.3,
        "consistency_weight": 1.0,
        "ema_warmup": True,
        "batch_size": 2,
        "steps": 2,
        "steps_per_epoch": 2,
        "workers": 0,
        "threads": 1,
        "accelerator": "cpu",
    }
    config = parse_config(settings, "here")
    loader, held_out = build_loaders(config, PREPROCESSING)
    assert "second" in next(iter(loader))
    assert "second" not in next(iter(held_out[0]))
    assert train(config, "test").is_file()


@pytest.mark.parametrize("decay", [0.99, 0.9995])
@pytest.mark.parametrize("steps", [200, 5000])
def test_the_warm_up_of_the_average_removes_the_first_weights(decay: float, steps: int) -> None:
    """The first weights are 1, all later ones 0: the average is their remaining share."""
    shares = {}
    for warmup in (False, True):
        update, average, current = averaging(decay, warmup), [torch.ones(1, dtype=torch.float64)], [torch.zeros(1)]
        current = [current[0].double()]
        for count in range(1, steps):
            update(average, current, torch.tensor(count))
        shares[warmup] = float(average[0])
    assert shares[False] == pytest.approx(decay ** (steps - 1), rel=1e-6)
    assert shares[True] < 1e-6
    assert shares[True] <= shares[False]


def test_after_its_warm_up_the_average_decays_as_without() -> None:
    averages = [[torch.tensor([3.0])], [torch.tensor([3.0])]]
    for average, warmup in zip(averages, (False, True), strict=True):
        averaging(0.98, warmup)(average, [torch.tensor([5.0])], torch.tensor(1000))
    assert averages[0][0] == averages[1][0] == pytest.approx(3.04)


def partly_labelled(index: int) -> Sample:
    """Frames whose even instruments lack the landmark ``head`` and whose instances are known."""
    sample = render_frame(index, SIZE)
    assert sample.label_map is not None
    labelled = sample.labelled.copy()
    labelled[::2, 2] = False
    return replace(sample, labelled=labelled, instances=(sample.label_map > 0).astype(np.uint8))


@pytest.mark.parametrize("changes", [None, *EVERY.values()])
def test_what_is_unlabelled_on_one_instrument_reaches_the_batch(changes: FrameChanges | None) -> None:
    sources = [Source(partly_labelled, None, 1.0), Source(SOURCES["both"], None, 1.0)]
    dataset = MixedDataset(sources, AUGMENTATIONS["strong"], ENDOVIS, PREPROCESSING, CROP, 1, changes)
    items = [dataset[index] for index in range(12)]
    assert any("unasked" in item for item in items)
    batch = collate(items)
    assert tuple(batch["unasked"].shape) == (12, 5, CROP[0] // 2, CROP[1] // 2)
    assert not batch["unasked"][:, [0, 1, 3, 4]].any()
    assert batch["unasked"][:, 2].any()
    assert all(batch["labelled"][:, [0, 1, 3, 4]].all(dim=1))


def test_pasting_onto_a_frame_keeps_instances_and_what_each_lacks() -> None:
    cropping = Cropping(AUGMENTATIONS["paper"], PREPROCESSING, ENDOVIS.flip_permutation(), CROP)
    below, above = partly_labelled(3), partly_labelled(5)
    both = cropping.paste_onto_frame(np.random.default_rng(0), below, above)
    assert both.instances is not None
    count = len(below.landmarks)
    assert set(np.unique(both.instances)) <= {0, 1, count + 1}
    assert (both.instances == count + 1).any()
    np.testing.assert_array_equal(both.labelled[:, 2], np.concatenate((below.labelled[:, 2], above.labelled[:, 2])))
    alone = cropping.paste_onto_frame(np.random.default_rng(0), replace(below, instances=None), above)
    assert alone.instances is None
    assert not alone.labelled[:, 2].any()
    assert alone.labelled[:, [0, 1, 3, 4]].all()


def test_losses_ignore_unasked_pixels() -> None:
    """Heatmaps ignore the pixels; regression ignores the landmark in that image."""
    heatmaps = torch.rand(2, 3, 6, 8, requires_grad=True)
    points = torch.rand(2, 1, 3, 3, requires_grad=True)
    unasked = torch.zeros(2, 3, 6, 8, dtype=torch.bool)
    unasked[1, 2, :3] = True
    labelled, labels, truth = torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 6, 8), torch.zeros(2, 1, 3, 2)
    given = (truth, labels, labelled, LossWeights(), unasked)
    network_loss(NetworkOutput(heatmaps, None), torch.zeros(2, 3, 6, 8), *given).total.backward()
    network_loss(NetworkOutput(None, None, points), None, *given).total.backward()
    assert heatmaps.grad is not None
    assert points.grad is not None
    torch.testing.assert_close(heatmaps.grad.eq(0), unasked)
    assert points.grad[:, 0].ne(0).all(dim=-1).tolist() == [[True] * 3, [True, True, False]]
