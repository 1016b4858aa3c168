"""What an adaptation needs: its settings, its opened inputs, and the configuration of its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csl_tracker.datasets.mapping import Matching, parse_matching
from csl_tracker.datasets.registry import DATASETS, FileSequence, open_dataset
from csl_tracker.errors import ConfigError, DatasetError, WeightsError
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.names import check_model_name, file_stem
from csl_tracker.paths import user_path
from csl_tracker.tracker import Tracker
from csl_tracker.training.adaptation.empties import CLUTTER
from csl_tracker.training.adaptation.gate import HELD_OUT_SEED, HeldOut, open_held_out
from csl_tracker.training.adaptation.pseudo_labels import kept_size
from csl_tracker.training.config import HeatmapSection, NetworkSection, SourceConfig, TrainConfig
from csl_tracker.video import VideoReader
from csl_tracker.weights import Model, ModelDescription, Preprocessing, load_weights

LEARNING_RATE = 1e-4
"""Peak learning rate: a tenth of that of ``config/train/rendered.yaml``."""
PSEUDO_SHARE = 0.5
"""Share of pseudo-labelled frames in the training frames."""
LEAST_KEPT = 8
"""Smallest number of pseudo-labelled frames with instruments to learn from."""
EMPTY_SHARE = 0.1
"""Share of drawn frames without instruments, where no bank provides them."""
EMPTY_FRAMES = 200
"""Largest number of them; not more than sampled frames."""
TRAINING_SEED = 500_000_000
"""First seed of rendered, synthetic and empty training frames."""
LEAST_SIDE_PX = 64
"""Shortest side of kept frames, px; OpenCV's optical flow crashes on some smaller ones."""
_EPOCH = 50  # steps between checkpoints, at most


@dataclass(frozen=True)
class AdaptSettings:
    """Settings of an adaptation.

    Attributes:
        videos: Video files, or folders of images.
        weights: The old weights.
        out: Output folder.
        name: Name of the new weights; empty for that of the old ones with ``_adapted``.
        bank: Bank of rendered instruments; None for synthetic frames.
        labels: Labelled datasets to measure, ``DATASET:ROOT``.
        frames: Largest number of sampled frames.
        steps: Training steps.
        held_out: Number of held-out frames of the gate.
        max_instruments: Instruments per frame.
        batch_size: Frames per step.
        workers: Processes that load training frames; 0 uses the main process.
        seed: Random seed.
        device: Device of network and training: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        engine: Inference engine.
        precision: Precision of the inference engine.
    """

    videos: tuple[Path, ...]
    weights: Path
    out: Path
    name: str = ""
    bank: Path | None = None
    labels: tuple[str, ...] = ()
    frames: int = 600
    steps: int = 400
    held_out: int = 96
    max_instruments: int = 2
    batch_size: int = 8
    workers: int = 1
    seed: int = 0
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers and the name.

        Raises:
            ConfigError: A number is out of range, the name is invalid, or a video is named twice.
        """
        least = {"frames": LEAST_KEPT, "steps": 1, "held_out": 8, "batch_size": 1, "workers": 0, "seed": 0}
        for key, low in least.items():
            if getattr(self, key) < low:
                raise ConfigError(f"--{key.replace('_', '-')} is {getattr(self, key)}; give {low} or more.")
        if self.name:
            check_model_name(self.name)
        known = [path.resolve() for path in self.videos]
        twice = next((path for path, real in zip(self.videos, known, strict=True) if known.count(real) > 1), None)
        if twice is not None:
            raise ConfigError(f"The video {twice} is named twice; name each once.")

    def tracker(self, path: Path, max_instruments: int = 0, always_report: bool = False) -> Tracker:
        """A tracker with some weights and these settings."""
        count = max_instruments or self.max_instruments
        return Tracker.from_weights(
            path, self.device, self.engine, count, always_report=always_report, precision=self.precision
        )


@dataclass(frozen=True)
class Labelled:
    """A labelled dataset.

    Attributes:
        dataset: Name of its layout.
        sequences: Its sequences.
        matching: Rules for names that differ from the model's.
    """

    dataset: str
    sequences: tuple[FileSequence, ...]
    matching: Matching


@dataclass(frozen=True)
class Inputs:
    """The opened inputs of an adaptation.

    Attributes:
        model: The old weights.
        name: Name of the new weights.
        readers: The videos.
        held_out: The gate's frames.
        labelled: Labelled datasets.
    """

    model: Model
    name: str
    readers: tuple[VideoReader, ...]
    held_out: HeldOut
    labelled: tuple[Labelled, ...]

    @property
    def file_name(self) -> str:
        """File name of the new weights."""
        return f"{file_stem(self.name)}.safetensors"


def open_inputs(settings: AdaptSettings) -> Inputs:
    """Open all inputs, before anything is written.

    Raises:
        DatasetError: A video, the bank or a labelled dataset is missing or broken.
        WeightsError: The weights are missing, broken, or of other instruments than ``endovis``.
        ConfigError: The dataset of ``--labels`` is not ``DATASET:ROOT``.
    """
    model = load_weights(settings.weights)
    _check_model(model, settings.weights)
    readers = tuple(VideoReader(path, strict=False) for path in settings.videos)
    for reader in readers:
        _check_video(reader, model.description.preprocessing)
    root = "" if settings.bank is None else str(settings.bank)
    held_out = open_held_out(root, settings.held_out, model.description.preprocessing.input_size)
    labelled = tuple(_open_labelled(text, model.instruments) for text in settings.labels)
    return Inputs(model, settings.name or f"{model.name}_adapted", readers, held_out, labelled)


def _check_video(reader: VideoReader, preprocessing: Preprocessing) -> None:
    if not len(reader):
        raise DatasetError(f"The video {reader.path} has no frames; name another one.")
    if min(kept_size(reader.size, preprocessing)) < LEAST_SIDE_PX:
        height, width = reader.size
        raise DatasetError(
            f"The video {reader.path} has {width}x{height} px, too small or too long to compare frames in time; name one of"
            f" at least {LEAST_SIDE_PX} px a side, and not much longer than wide."
        )


def _check_model(model: Model, path: Path) -> None:
    instruments, network = model.instruments, model.description.network
    if (instruments.landmarks, instruments.classes) != (ENDOVIS.landmarks, ENDOVIS.classes):
        raise WeightsError(
            f"The weights {path} have the landmarks {', '.join(instruments.landmarks)} and the classes"
            f" {', '.join(instruments.classes)}; rendered and synthetic frames have those of 'endovis', so name weights"
            " of these."
        )
    if not (network.localises_by_heatmaps and network.segments) or network.strategy == "forest":
        raise WeightsError(
            f"The weights {path} are of the strategy {network.strategy!r}; the checks need heatmaps and masks of a network, so"
            " adapt weights of csl, csl_no_skip or unet."
        )


def _open_labelled(text: str, instruments: InstrumentSet) -> Labelled:
    name, colon, root = text.partition(":")
    if not (colon and root and name in DATASETS):
        raise ConfigError(f"--labels is {text!r}; write DATASET:ROOT, where DATASET is one of {', '.join(sorted(DATASETS))}.")
    sequences = tuple(open_dataset(name, user_path(root)))
    return Labelled(name, sequences, parse_matching([], [], True, sequences, instruments, f"of --labels {text}"))


def training_config(
    settings: AdaptSettings, inputs: Inputs, pseudo_labels: Path, empty_frames: Path, folder: Path
) -> TrainConfig:
    """The configuration of the training.

    Args:
        settings: Settings of the adaptation.
        inputs: Its inputs.
        pseudo_labels: Folder of the pseudo-labels.
        empty_frames: Folder of frames without instruments; used without a bank only.
        folder: Output folder of the training.
    """
    description = inputs.model.description
    height, width = description.preprocessing.input_size
    side = max(32, 32 * (min(height, width) // 32))
    epochs = -(-settings.steps // _EPOCH)
    train, validation = _sources(settings, inputs, pseudo_labels, empty_frames)
    resize: Any = description.preprocessing.resize
    accelerator: Any = {"auto": "auto", "cpu": "cpu"}.get(settings.device, "gpu")
    return TrainConfig(
        name=inputs.name,
        output=str(folder),
        network=_network(description),
        heatmap=HeatmapSection(description.heatmap.sigma, description.heatmap.peak),
        encoder_weights="",
        init_weights=str(settings.weights),
        input_size=(height, width),
        resize=resize,
        crop=(side, side),
        train=train,
        validation=validation,
        augmentation="rendered",
        effects=0.3,
        style=0.2,
        side_weight=1.0,
        learning_rate=LEARNING_RATE,
        encoder_rate=0.5,
        batch_size=settings.batch_size,
        steps=settings.steps,
        steps_per_epoch=-(-settings.steps // epochs),
        ema_decay=0.99,
        ema_warmup=True,
        seed=settings.seed,
        workers=settings.workers,
        accelerator=accelerator,
        devices="1",
        cache=str(folder / "cache"),
    )


def _network(description: ModelDescription) -> NetworkSection:
    network = description.network
    keys = ("strategy", "encoder", "decoder", "slots", "width", "decoder_width", "bottleneck_relu", "trees", "nodes")
    return NetworkSection(**{key: getattr(network, key) for key in keys})


def _sources(
    settings: AdaptSettings, inputs: Inputs, pseudo_labels: Path, empty_frames: Path
) -> tuple[tuple[SourceConfig, ...], tuple[SourceConfig, ...]]:
    """Sources of training and validation."""
    rest = 1 - PSEUDO_SHARE
    own = SourceConfig("coco", str(pseudo_labels), share=PSEUDO_SHARE)
    validation = SourceConfig("synthetic", seed=HELD_OUT_SEED + 100_000_000, frames=min(16, settings.held_out))
    if settings.bank is None:
        empty = SourceConfig("coco", str(empty_frames), share=EMPTY_SHARE)
        synthetic = SourceConfig("synthetic", share=rest - EMPTY_SHARE, seed=TRAINING_SEED, clutter=CLUTTER)
        return (own, synthetic, empty), (validation,)
    root, families = str(settings.bank), inputs.held_out.families
    rendered = SourceConfig("rendered", root, share=0.8 * rest, seed=TRAINING_SEED, hold_out=families)
    synthetic = SourceConfig("synthetic", share=0.2 * rest, seed=TRAINING_SEED + 100_000_000, clutter=CLUTTER)
    held_out = SourceConfig("rendered", root, seed=HELD_OUT_SEED + 200_000_000, only=families, frames=validation.frames)
    return (own, rendered, synthetic), (held_out, validation)
