"""Fitting the classical baseline: pixels drawn from augmented samples, a random forest of scikit-learn, plain tensors out."""

from __future__ import annotations

import importlib.metadata
import itertools
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from csl_tracker import __version__
from csl_tracker.datasets.augment import AUGMENTATIONS
from csl_tracker.errors import ConfigError
from csl_tracker.heatmaps import HeatmapSpec, decode, encode
from csl_tracker.installing import install_command
from csl_tracker.instruments import IGNORE_LABEL, find_instruments
from csl_tracker.networks import NetworkConfig
from csl_tracker.networks.forest import LEAF, STAGES, ForestNetwork, ForestNodes, describe, stack_trees
from csl_tracker.provenance import portable
from csl_tracker.training.config import MAY_CHANGE, TrainConfig, differing_setting
from csl_tracker.training.data import HeldOutDataset, MixedDataset, open_source
from csl_tracker.weights import ModelDescription, Preprocessing, read_description, save_weights

logger = logging.getLogger(__name__)

MAX_SAMPLES = 1200
"""Augmented samples that are drawn at most, however many a network would be shown: more do not fit into the minutes."""

DEFAULT_TREES, DEFAULT_NODES = 12, 8191
"""Trees of a stage and nodes of a tree where the configuration gives none: about 9 MB."""

_BACKGROUND_PIXELS, _BORDER_PIXELS, _CLASS_PIXELS, _LANDMARK_PIXELS = 60, 60, 40, 25
"""Pixels that a sample gives: of the whole image, of the background beside instruments, of each class, around each landmark."""

_BORDER_REACH_PX = 8
_FEATURES_PER_SPLIT = 64
_MIN_LEAF_PIXELS = 5
_PRIOR_PIXELS = 4.0

_HEATMAP_SCALE = 2.0
"""A heatmap's peak beside the 1 of a class, when splits are chosen: 1 loses landmarks, 4 loses the segmentation."""

_CLASS_POWER, _HEATMAP_POWER = 0.25, 1.0
"""Exponents of the pixels' weights, see :func:`estimate_values`: classes do well (DICE) with nearly the balanced shares of the
draw, landmarks (errors far away) with those of the images."""

_THRESHOLD_FRAMES = 48
_HIT_PX = 5.0
"""A peak within this many px of the heatmap is a hit when the working threshold is chosen."""


@dataclass(frozen=True)
class Pixels:
    """Pixels drawn from samples.

    Attributes:
        features: float32 (pixels, features).
        targets: float32 (pixels, classes + landmarks): one-hot class and heatmap values; NaN where not known.
        weight: float32 (pixels,), pixels of the samples for which this one stands.
    """

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]


def draw_pixels(
    sample: dict[str, Tensor],
    classes: int,
    spec: HeatmapSpec,
    rng: np.random.Generator,
    stages: Sequence[ForestNodes] = (),
) -> Pixels:
    """Draw pixels of one sample, more of what is rare.

    An even share comes from the whole image, one from each class, one from the background beside instruments, and one from the
    neighbourhood (two sigmas) of each landmark in view. A pixel is kept with the probability that these shares add up to, and
    weighs its inverse (Horvitz and Thompson 1952).

    Args:
        sample: One item of :class:`csl_tracker.training.data.MixedDataset`.
        classes: Number of classes.
        spec: Shape of the landmarks' Gaussians.
        rng: Source of randomness.
        stages: Those before the one that is to learn.
    """
    labels = sample["labels"].numpy()
    heatmaps = encode(sample["points"], (labels.shape[0], labels.shape[1]), spec).numpy()
    heatmaps[~sample["labelled"].numpy()] = np.nan
    tool = (labels > 0) & (labels != IGNORE_LABEL)
    beside = cv2.dilate(tool.astype(np.uint8), np.ones((2 * _BORDER_REACH_PX + 1,) * 2, np.uint8)) > 0
    shares = [(np.ones_like(tool), _BACKGROUND_PIXELS), (beside & (labels == 0), _BORDER_PIXELS)]
    shares += [(labels == label, _CLASS_PIXELS) for label in range(1, classes)]
    near = spec.peak * np.exp(-2.0)
    shares += [(heatmap > near, _LANDMARK_PIXELS) for heatmap in heatmaps]
    expected = np.zeros(labels.shape)
    for mask, count in shares:
        expected += mask * (count / max(1.0, float(mask.sum())))
    chance = np.asarray(np.minimum(expected, 1.0), np.float64)
    rows, columns = np.nonzero(rng.random(labels.shape) < chance)
    features = describe(sample["image"].numpy(), stages)[:, rows, columns].T
    drawn = labels[rows, columns]
    one_hot = np.where(drawn[:, None] == IGNORE_LABEL, np.nan, drawn[:, None] == np.arange(classes))
    targets = np.concatenate((one_hot, heatmaps[:, rows, columns].T), axis=1)
    return Pixels(
        np.ascontiguousarray(features), targets.astype(np.float32), np.reciprocal(chance[rows, columns]).astype(np.float32)
    )


class _PixelDataset(Dataset[Pixels]):
    """Pixels of the samples of a mix; item ``i`` depends on the seed and ``i`` alone."""

    def __init__(self, samples: MixedDataset, classes: int, spec: HeatmapSpec, stages: Sequence[ForestNodes]) -> None:
        self.samples = samples
        self.classes = classes
        self.spec = spec
        self.stages = stages

    def __getitem__(self, index: int) -> Pixels:
        rng = np.random.default_rng((self.samples.seed, index, 1))
        return draw_pixels(self.samples[index], self.classes, self.spec, rng, self.stages)


def gather(
    config: TrainConfig, preprocessing: Preprocessing, numbers: range, stages: Sequence[ForestNodes], description: str
) -> Pixels:
    """Pixels of the samples with these numbers, drawn by the configuration's number of workers.

    Args:
        config: What to train.
        preprocessing: How the tracker would resize frames.
        numbers: Of the samples.
        stages: Those before the one that is to learn.
        description: Of the progress bar.

    Raises:
        DatasetError, ConfigError: A source cannot be opened.
    """
    instruments = find_instruments(config.instruments)
    sources = [open_source(source, instruments, config.cache, config.input_size) for source in config.train]
    augmentation = AUGMENTATIONS[config.augmentation]
    samples = MixedDataset(sources, augmentation, instruments, preprocessing, config.crop, config.seed)
    spec = HeatmapSpec(config.heatmap.sigma, config.heatmap.peak)
    pixels = _PixelDataset(samples, instruments.num_classes, spec, stages)
    loader: DataLoader[Any] = DataLoader(pixels, batch_size=None, sampler=numbers, num_workers=config.workers)
    drawn: list[Pixels] = list(tqdm(loader, desc=description, unit="sample", total=len(numbers)))
    return Pixels(*(np.concatenate([getattr(item, name) for item in drawn]) for name in ("features", "targets", "weight")))


def fit(pixels: Pixels, classes: int, trees: int, nodes: int, seed: int, jobs: int) -> ForestNodes:
    """Grow a forest of extremely randomised trees (Geurts et al. 2006): thresholds are drawn, and the best of these is taken.

    Its structure is that of a multi-output regression on all targets at once, grown on the pixels as they were drawn. The
    values of its leaves are then estimated anew, see :func:`estimate_values`.

    Args:
        pixels: What to learn.
        classes: Number of classes, whose targets come first.
        trees: Number of trees.
        nodes: Largest number of nodes of a tree.
        seed: Of the features and thresholds tried at a split.
        jobs: Trees grown at the same time.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    targets = fill_unknown(pixels.targets, classes)
    peak = max(float(targets[:, classes:].max()), 1e-9)
    targets[:, classes:] *= _HEATMAP_SCALE / peak
    forest = ExtraTreesRegressor(
        n_estimators=0,
        max_features=_FEATURES_PER_SPLIT,
        max_leaf_nodes=max(2, (nodes + 1) // 2),
        min_samples_leaf=_MIN_LEAF_PIXELS,
        warm_start=True,
        random_state=seed,
        n_jobs=jobs,
    )
    with tqdm(total=trees, desc="Trees", unit="tree") as bar:
        for grown in itertools.chain(range(jobs, trees, jobs), [trees]):
            forest.set_params(n_estimators=grown)
            forest.fit(pixels.features, targets)
            bar.update(grown - bar.n)
    powers = [_CLASS_POWER] * classes + [_HEATMAP_POWER] * (targets.shape[1] - classes)
    return estimate_values(export(forest), pixels, powers)


def fill_unknown(targets: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float32]:
    """Put the mean of the known pixels of the same class where a target is not known, so that it drives no split."""
    filled = targets.copy()
    label = np.where(np.isnan(targets[:, 0]), classes, targets[:, :classes].argmax(axis=1))
    for group, output in itertools.product(range(classes + 1), range(targets.shape[1])):
        column, here = targets[:, output], label == group
        known = column[here & ~np.isnan(column)]
        if len(known) == 0:
            known = column[~np.isnan(column)]
        filled[here & np.isnan(column), output] = known.mean() if len(known) else 0.0
    return np.asarray(filled, np.float32)


def export(forest: Any) -> ForestNodes:
    """The nodes of a fitted forest of scikit-learn, with its own values.

    A threshold there has 64 bits and a feature 32; rounded down to 32 bits it divides the features in the same way.
    """
    trees = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        nearest = tree.threshold.astype(np.float32)
        below = np.where(nearest > tree.threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
        node = ForestNodes(
            np.where(leaf, LEAF, tree.feature)[None].astype(np.int64),
            np.where(leaf, np.float32(0), below)[None].astype(np.float32),
            np.where(leaf, 0, tree.children_left)[None].astype(np.int64),
            np.where(leaf, 0, tree.children_right)[None].astype(np.int64),
            tree.value[None, :, :, 0].astype(np.float32),
        )
        trees.append(node)
    return stack_trees(trees)


def estimate_values(nodes: ForestNodes, pixels: Pixels, powers: Sequence[float]) -> ForestNodes:
    """Estimate the values of all nodes from all pixels, weighted, and only from what is known of each.

    Every node's mean leans towards its parent's as by ``_PRIOR_PIXELS`` more pixels (an m-estimate); a leaf where nothing is
    known has its parent's value.

    Args:
        nodes: The structure.
        pixels: What to learn.
        powers: For every output the exponent of the pixels' weights: 1 restores the images' own shares of what was drawn more
            often, 0 leaves those of the draw.
    """
    room, outputs = nodes.feature.shape[1], pixels.targets.shape[1]
    known = ~np.isnan(pixels.targets)
    weight = pixels.weight.astype(np.float64)[:, None] ** np.asarray(powers)
    weight = known * (weight / weight.mean(axis=0))
    weighted = weight * np.where(known, pixels.targets, 0)
    value = np.zeros((*nodes.feature.shape, outputs))
    for tree, leaf in enumerate(nodes.leaves(pixels.features)):
        total, mass = (
            np.stack([np.bincount(leaf, column, room) for column in table.T], axis=1) for table in (weighted, weight)
        )
        inner = np.flatnonzero(nodes.feature[tree] != LEAF)
        left, right = nodes.left[tree], nodes.right[tree]
        for node in inner[::-1]:
            for table in (total, mass):
                table[node] = table[left[node]] + table[right[node]]
        value[tree, 0] = total[0] / np.maximum(mass[0], 1e-9)
        for node in inner:
            for child in (left[node], right[node]):
                prior = _PRIOR_PIXELS * value[tree, node]
                value[tree, child] = (total[child] + prior) / (mass[child] + _PRIOR_PIXELS)
    return replace(nodes, value=value.astype(np.float32))


def choose_threshold(network: ForestNetwork, config: TrainConfig, preprocessing: Preprocessing) -> tuple[float, float]:
    """The working threshold that finds landmarks best on the held-out frames of a configuration.

    A mean over trees and over pixels that look alike is far below the Gaussians' peak, the more the rarer the landmark; what
    height makes a landmark can only be measured.

    Returns:
        The threshold of the highest F1 over all peaks, and that F1; hits are nearer than ``_HIT_PX``.
    """
    spec = HeatmapSpec(config.heatmap.sigma, config.heatmap.peak)
    instruments = find_instruments(config.instruments)
    held_out = []
    for source in config.validation:
        opened = open_source(source, instruments, config.cache, config.input_size)
        frames = HeldOutDataset(opened, source, preprocessing)
        held_out += [(frames, index) for index in range(len(frames))]
    step = -(-len(held_out) // _THRESHOLD_FRAMES)
    confidences: list[float] = []
    hits: list[bool] = []
    truths = 0
    for frames, index in tqdm(held_out[::step], desc="Threshold", unit="frame"):
        sample = frames[index]
        heatmaps = network(sample["image"].permute(2, 0, 1)[None].float()).heatmaps
        assert heatmaps is not None
        points = sample["points"].numpy()
        for landmark, peaks in enumerate(decode(heatmaps[0].numpy(), spec, max(1, len(points)))):
            if not sample["labelled"][landmark]:
                continue
            left = [point for point in points[:, landmark] if np.isfinite(point).all()]
            truths += len(left)
            for peak in peaks:
                distances = [math.hypot(peak.x - x, peak.y - y) for x, y in left]
                hit = min(distances, default=math.inf) < _HIT_PX
                if hit:
                    left.pop(int(np.argmin(distances)))
                confidences.append(peak.confidence)
                hits.append(hit)
    if not any(hits):
        return ModelDescription.confidence_threshold, 0.0
    order = np.argsort(-np.array(confidences), kind="stable")
    found = np.cumsum(np.array(hits)[order])
    f1 = 2 * found / (np.arange(1, len(order) + 1) + truths)
    best = int(f1.argmax())
    # Rounded down, so that the peak that it was read from still passes.
    return math.floor(confidences[order[best]] * 1e4) / 1e4, float(f1[best])


def train_forest(config: TrainConfig, command: str, resume: bool = True) -> Path:
    """Fit a forest and write its weights; steps, batch size, optimiser and the validation sources have no part in it.

    It sees the first ``min(steps * batch_size, MAX_SAMPLES)`` of the augmented samples that a network would be trained on.

    Args:
        config: What to train; its network's trees and nodes, where 0, are ``DEFAULT_TREES`` and ``DEFAULT_NODES``.
        command: The command line, for the provenance.
        resume: Leave a finished forest of the same configuration as it is.

    Returns:
        Path of the weights, ``last.safetensors`` in the output folder.

    Raises:
        ConfigError: scikit-learn is not installed, or the folder holds the weights of another configuration.
        DatasetError: Data cannot be had.
    """
    path = Path(config.output) / "last.safetensors"
    if resume and path.is_file() and _is_finished(path, config):
        logger.info("%s is finished.", path)
        return path
    try:
        version = importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"A forest is grown by scikit-learn, which is not installed; run '{install_command('sklearn')}'."
        ) from error
    start = time.monotonic()
    instruments = find_instruments(config.instruments)
    trees, nodes = config.network.trees or DEFAULT_TREES, config.network.nodes or DEFAULT_NODES
    preprocessing = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), config.input_size, config.resize)
    count = max(STAGES, min(config.steps * config.batch_size, MAX_SAMPLES))
    stages: list[ForestNodes] = []
    drawn = 0
    for stage in range(STAGES):
        # Every stage has samples of its own: of what it was grown on, a forest knows too much to be an example.
        numbers = range(count * stage // STAGES, count * (stage + 1) // STAGES)
        pixels = gather(config, preprocessing, numbers, stages, f"Samples {stage + 1}/{STAGES}")
        jobs = max(1, config.threads or config.workers)
        stages.append(fit(pixels, instruments.num_classes, trees, nodes, config.seed + stage, jobs))
        drawn += len(pixels.features)
    network_config = NetworkConfig(
        "forest",
        "none",
        "none",
        instruments.num_landmarks,
        instruments.num_classes,
        trees=trees,
        nodes=max(forest.feature.shape[1] for forest in stages),
    )
    network = ForestNetwork(network_config)
    network.set_stages(stages)
    threshold, f1 = choose_threshold(network, config, preprocessing)
    provenance = {
        "command": command,
        "initialisation": "none (random forest)",
        "configuration": portable(asdict(config)),
        "seconds": round(time.monotonic() - start, 1),
        "validation": {"val/f1": f1},
        "steps": 0,
        "samples": count,
        "pixels": drawn,
        "versions": {"csl_tracker": __version__, "torch": torch.__version__, "scikit-learn": version},
    }
    description = ModelDescription(
        name=config.name,
        network=network_config,
        instruments=instruments,
        heatmap=HeatmapSpec(config.heatmap.sigma, config.heatmap.peak),
        preprocessing=preprocessing,
        confidence_threshold=threshold,
        provenance=provenance,
    )
    save_weights(path, network, description)
    return path


def _is_finished(path: Path, config: TrainConfig) -> bool:
    """Whether weights are those of a configuration.

    Raises:
        ConfigError: They are those of another.
    """
    made_with = read_description(path).provenance.get("configuration", {})
    wanted = {key: value for key, value in asdict(config).items() if key not in MAY_CHANGE}
    differing = differing_setting(made_with, portable(wanted))
    if differing is not None:
        key, before, now = differing
        raise ConfigError(
            f"The forest {path} was made with {key}={before!r} and not with {now!r};"
            " use --fresh to start anew, or another output folder."
        )
    return True
