"""Fits the classical baseline: a scikit-learn forest on pixels of augmented samples, exported as plain tensors."""

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
from csl_tracker.training.config import MAY_CHANGE, TrainConfig
from csl_tracker.training.data import HeldOutDataset, MixedDataset, frame_changes, open_source
from csl_tracker.training.differences import differing_setting
from csl_tracker.weights import ModelDescription, Preprocessing, read_description, save_weights

logger = logging.getLogger(__name__)

MAX_SAMPLES = 1200
"""Maximum number of augmented samples, to limit the training time."""

DEFAULT_TREES, DEFAULT_NODES = 12, 8191
"""Default trees per stage and nodes per tree: about 9 MB."""

_BACKGROUND_PIXELS, _BORDER_PIXELS, _CLASS_PIXELS, _LANDMARK_PIXELS = 60, 60, 40, 25
"""Pixels per sample: of the whole image, of the background near instruments, of each class, around each landmark."""

_BORDER_REACH_PX = 8
_FEATURES_PER_SPLIT = 64
_MIN_LEAF_PIXELS = 5
_PRIOR_PIXELS = 4.0

_HEATMAP_SCALE = 2.0
"""Heatmap scale relative to classes in the split criterion: 1 degrades landmarks, 4 degrades segmentation."""

_CLASS_POWER, _HEATMAP_POWER = 0.25, 1.0
"""Exponents of the pixel weights, see :func:`estimate_values`: nearly balanced weights improve DICE, the original weights
reduce large landmark errors."""

_THRESHOLD_FRAMES = 48
_HIT_PX = 5.0
"""Maximum distance of a hit when selecting the working threshold, heatmap px."""


@dataclass(frozen=True)
class Pixels:
    """Sampled pixels: features, targets (one-hot class and heatmap values; NaN if unknown) and weights.

    float32 (pixels, features), (pixels, classes + landmarks) and (pixels,). Weights are inverse sampling probabilities.
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
    """Sample pixels of one image, with more pixels of rare regions.

    The regions are the whole image, each class, the background near instruments, and the neighbourhood (two sigmas) of each
    visible landmark. A pixel's sampling probability is the sum over its regions, its weight the inverse (Horvitz and Thompson
    1952).

    Args:
        sample: One item of :class:`csl_tracker.training.data.MixedDataset`.
        classes: Number of classes.
        spec: Shape of the landmarks' Gaussians.
        rng: Random generator.
        stages: The previous stages.
    """
    labels = sample["labels"].numpy()
    heatmaps = encode(sample["points"], (labels.shape[0], labels.shape[1]), spec).numpy()
    heatmaps[~sample["labelled"].numpy()] = np.nan
    heatmaps[sample.get("unasked", torch.tensor(False)).numpy()] = np.nan
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
    """Pixels of the samples of a mix; item ``i`` depends only on the seed and ``i``."""

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
    """Sample the pixels of a range of samples in parallel, for the stage after the given ones.

    Raises:
        DatasetError, ConfigError: A source cannot be opened.
    """
    instruments = find_instruments(config.instruments)
    sources = [open_source(source, instruments, config.cache, config.input_size) for source in config.train]
    augmentation = AUGMENTATIONS[config.augmentation]
    changes = replace(frame_changes(config), views=1)
    samples = MixedDataset(sources, augmentation, instruments, preprocessing, config.crop, config.seed, changes)
    spec = config.heatmap.spec()
    pixels = _PixelDataset(samples, instruments.num_classes, spec, stages)
    loader: DataLoader[Any] = DataLoader(pixels, batch_size=None, sampler=numbers, num_workers=config.workers)
    drawn: list[Pixels] = list(tqdm(loader, desc=description, unit="sample", total=len(numbers)))
    return Pixels(*(np.concatenate([getattr(item, name) for item in drawn]) for name in ("features", "targets", "weight")))


def fit(pixels: Pixels, classes: int, trees: int, nodes: int, seed: int, jobs: int) -> ForestNodes:
    """Fit extremely randomised trees (Geurts et al. 2006): the best of several random thresholds splits a node.

    The structure comes from a multi-output regression on all targets, without weights. Then :func:`estimate_values` estimates
    the leaf values.

    Args:
        pixels: Training pixels.
        classes: Number of classes, whose targets come first.
        trees: Number of trees.
        nodes: Maximum number of nodes per tree.
        seed: Random seed.
        jobs: Number of trees fitted in parallel.
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
    """Replace unknown targets by the mean of the known pixels of the same class, which is neutral for splits."""
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
    """Convert a fitted scikit-learn forest. Its float64 thresholds are rounded down to float32, with identical splits."""
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
    """Estimate the values of all nodes as weighted means of the known targets.

    The parent's value is a prior with the weight of ``_PRIOR_PIXELS`` pixels (m-estimate), so a leaf without known targets gets
    its parent's value.

    Args:
        nodes: The structure.
        pixels: Training pixels.
        powers: Exponent of the pixel weights per output: 1 restores the distribution of the images, 0 keeps that of the
            sampling.
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
    """Select the working threshold with the best F1 on the validation frames.

    The averages of a forest are far below the Gaussians' peak, especially for rare landmarks, so the threshold must be
    measured.

    Returns:
        The threshold with the highest F1 over all peaks, and that F1; hits are closer than ``_HIT_PX``.
    """
    spec = config.heatmap.spec()
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
            if not sample["labelled"][landmark] or ("unasked" in sample and bool(sample["unasked"][landmark].any())):
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
    # Round down, so that the peak at the threshold still passes.
    return math.floor(confidences[order[best]] * 1e4) / 1e4, float(f1[best])


def train_forest(config: TrainConfig, command: str, resume: bool = True) -> Path:
    """Fit a forest and write its weights.

    Uses the first ``min(steps * batch_size, MAX_SAMPLES)`` augmented samples of a network training; optimizer settings have no
    effect.

    Args:
        config: Training configuration; 0 trees or nodes select ``DEFAULT_TREES`` and ``DEFAULT_NODES``.
        command: The command line, for the provenance.
        resume: Keep a finished forest of the same configuration.

    Returns:
        Path of the weights, ``last.safetensors`` in the output folder.

    Raises:
        ConfigError: scikit-learn is not installed, or the folder has weights of another configuration.
        DatasetError: Data is missing or broken.
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
        # Separate samples per stage: the output of a forest on its own training samples is biased.
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
        heatmap=config.heatmap.spec(),
        preprocessing=preprocessing,
        confidence_threshold=threshold,
        provenance=provenance,
    )
    save_weights(path, network, description)
    return path


def _is_finished(path: Path, config: TrainConfig) -> bool:
    """Whether the weights were trained with this configuration.

    Raises:
        ConfigError: They were trained with another configuration.
    """
    made_with = read_description(path).provenance.get("configuration", {})
    wanted = {key: value for key, value in asdict(config).items() if key not in MAY_CHANGE}
    differing = differing_setting(made_with, portable(wanted))
    if differing is not None:
        key, before, now = differing
        raise ConfigError(
            f"The forest {path} was made with {key}={before!r} and not with {now!r};"
            " use --fresh to start again, or another output folder."
        )
    return True
