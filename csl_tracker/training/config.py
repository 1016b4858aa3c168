"""Training configurations: a YAML file and ``key=value`` overrides into typed, frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from csl_tracker.errors import ConfigError
from csl_tracker.instruments import find_instruments
from csl_tracker.names import check_model_name
from csl_tracker.network_names import MAX_NODES, MAX_SLOTS, MAX_TREES, MAX_WIDTH, REGRESSING, WITHOUT_DECODER
from csl_tracker.paths import user_path
from csl_tracker.training.presets import PRESETS
from csl_tracker.typed import (
    NUMBER,
    PAIR,
    SETTINGS,
    TEXT,
    WHOLE,
    Count,
    CountOrNone,
    Flag,
    Name,
    NotNegative,
    Positive,
    Section,
    Share,
    Text,
    checked,
    mistake,
)
from csl_tracker.yaml_files import YamlError, parse_yaml, read_yaml

if TYPE_CHECKING:
    from csl_tracker.heatmaps import HeatmapSpec

MAY_CHANGE = ("name", "output", "workers", "threads", "precision", "accelerator", "devices", "cache", "half")
"""Settings that may differ when a run is resumed."""

_MAX_SEED = 2**32 - 1  # numpy's


def _checked_name(name: str) -> str:
    check_model_name(name)
    return name


def _checked_instruments(name: str) -> str:
    find_instruments(name)
    return name


def _checked_devices(devices: str) -> str:
    if not (devices == "auto" or (devices.isdecimal() and int(devices) > 0)):
        raise mistake(f"is {devices!r}; give a number from 1, or auto")
    return devices


def _checked_renaming(entry: str) -> str:
    theirs, equals, ours = entry.rpartition("=")
    if not (equals and theirs.strip() and ours.strip()):
        raise mistake(f"is {entry!r}; write THEIRS=OURS, the dataset's name and the instruments' name for it")
    return entry


Renaming = Annotated[Text, AfterValidator(_checked_renaming)]
Side = Annotated[int, Field(ge=1), WHOLE]
CropSide = Annotated[int, Field(ge=32, multiple_of=32), WHOLE]


@dataclass(frozen=True, config=SETTINGS)
class SourceConfig(Section):
    """One source of frames."""

    dataset: Name
    """Name of a dataset, one of those in docs/datasets.md."""
    root: Text = ""
    """Folder of the dataset; ``${NAME}`` is replaced by an environment variable. If empty, synthetic frames are rendered on
    the fly."""
    sequences: tuple[Name, ...] = ()
    """Sequence names; empty means all."""
    share: NotNegative = 1.0
    """Relative share of this source in the training frames."""
    seed: CountOrNone = 0
    """Seed of synthetic and of rendered frames."""
    frames: Count = 64
    """Number of validation frames; approximate for datasets on disk."""
    skip_first: Share = 0.0
    """Fraction of frames to skip at the start of each sequence."""
    skip_last: Share = 0.0
    """Fraction of frames to skip at the end of each sequence."""
    clutter: Share = 0.0
    """Probability of clutter in synthetic frames rendered on the fly: pale bands, gauze, threads, tubes."""
    partial: Flag = False
    """The dataset may lack landmarks and classes of the instruments; these are not trained on its frames. If false, a dataset
    with other names is an error; a dataset without masks is always accepted. See docs/datasets.md."""
    landmarks: tuple[Renaming, ...] = ()
    """Renamings ``THEIRS=OURS``: landmark name in the dataset and in the instrument set."""
    classes: tuple[Renaming, ...] = ()
    """Renamings of classes; ``THEIRS=ignore`` ignores the pixels of a class."""
    hold_out: tuple[Name, ...] = ()
    """Families of a bank of rendered scenes to leave out."""
    only: tuple[Name, ...] = ()
    """The only families of a bank of rendered scenes to use; empty means all."""

    def __post_init__(self) -> None:
        """Reject a source without frames."""
        if self.skip_first + self.skip_last >= 1:
            raise mistake(
                f"leaves no frames: skip_first {self.skip_first:g} and skip_last {self.skip_last:g} are together less than 1"
                " where some are to stay"
            )
        if (self.hold_out or self.only) and self.dataset != "rendered":
            raise mistake(f"has hold_out or only for the dataset {self.dataset!r}; only 'rendered' has families")


@dataclass(frozen=True, config=SETTINGS)
class NetworkSection(Section):
    """The network to train."""

    strategy: Annotated[Literal["l", "sl", "sl_skip", "csl_no_skip", "csl", "unet", "forest"], TEXT] = "csl"
    """Strategy: how localisation and segmentation share the network."""
    encoder: Annotated[Literal["resnet50", "efficientnet_lite0", "efficientnet_lite2", "none"], TEXT] = "efficientnet_lite0"
    """Encoder with published weights; ``none`` for forest, and for a U-Net with its own contracting path."""
    decoder: Annotated[Literal["up_projection", "separable", "none"], TEXT] = "separable"
    """Decoder; ``up_projection`` is that of the paper; ``none`` for unet and forest."""
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS), WHOLE] = 2
    """Number of instruments regressed by l, sl and sl_skip."""
    width: Annotated[int, Field(ge=1, le=MAX_WIDTH), WHOLE] = 64
    """Channels of the U-Net's first level."""
    decoder_width: Annotated[float, Field(ge=0.1, le=10), NUMBER] = 1.0
    """Channel multiplier of the separable decoder."""
    bottleneck_relu: Flag = False
    """ReLU after the bottleneck of the up-projection decoder, as in weights of the first release; the paper's has none."""
    trees: Annotated[int, Field(ge=0, le=MAX_TREES), WHOLE] = 0
    """Trees per stage of a forest; 0 for the default."""
    nodes: Annotated[int, Field(ge=0, le=MAX_NODES), WHOLE] = 0
    """Maximum nodes per tree of a forest; 0 for the default."""
    association: Flag = False
    """Predict to which instrument each pixel and landmark belongs; csl and csl_no_skip only."""


@dataclass(frozen=True, config=SETTINGS)
class HeatmapSection(Section):
    """Target Gaussians at the landmarks."""

    sigma: Positive = 3.5
    """Standard deviation of the Gaussians, heatmap px."""
    peak: NotNegative = 1.0
    """Height of the Gaussians; 0 for the paper's, ``1 / sqrt(2 pi sigma^2)``."""

    def spec(self) -> HeatmapSpec:
        """The shape with its height in numbers."""
        from csl_tracker.heatmaps import HeatmapSpec  # imports torch

        return HeatmapSpec(self.sigma, self.peak) if self.peak else HeatmapSpec.paper(self.sigma)


@dataclass(frozen=True, config=SETTINGS)
class TrainSettings(Section):
    """Settings of a training run, validated individually; experiments override some of them."""

    name: Annotated[Text, AfterValidator(_checked_name)] = "model"
    """Name of the model."""
    output: Text = "output/train"
    """Folder of checkpoints, logs and weights; a leading ``~`` in this and other paths is the home folder."""
    network: NetworkSection = field(default_factory=NetworkSection)
    """The network."""
    instruments: Annotated[Text, AfterValidator(_checked_instruments)] = "endovis"
    """Name of an instrument set, or a YAML file that defines one."""
    heatmap: HeatmapSection = field(default_factory=HeatmapSection)
    """Shape of the target Gaussians."""
    encoder_weights: Text = "imagenet"
    """Initial weights of the encoder: ``imagenet``, a path, or empty for random initialisation."""
    init_weights: Text = ""
    """Initial weights of the whole network, a file or the name of a bundled model; overrides ``encoder_weights``."""
    input_size: Annotated[tuple[Side, Side], PAIR] = (256, 320)
    """Height and width of the network input, px."""
    resize: Annotated[Literal["keep_aspect", "stretch"], TEXT] = "keep_aspect"
    """How frames are resized to the input size."""
    crop: Annotated[tuple[CropSide, CropSide], PAIR] = (256, 256)
    """Height and width of the training crops, px; multiples of 32."""
    train: Annotated[tuple[SourceConfig, ...], Field(min_length=1)] = (SourceConfig("synthetic"),)
    """Sources of training frames."""
    validation: Annotated[tuple[SourceConfig, ...], Field(min_length=1)] = (SourceConfig("synthetic", seed=9_000_000),)
    """Sources of validation frames."""
    augmentation: Annotated[Literal["none", "paper", "paper_retinal", "strong", "rendered"], TEXT] = "paper"
    """Augmentation preset; see docs/training.md."""
    effects: Share = 0.0
    """Probability that a training frame gets effects of a video chain: smoke, borders, zoom, overlays, noise, compression."""
    style: Share = 0.0
    """Probability that a training frame gets the colours or the low frequencies of another training frame."""
    heatmap_weight: NotNegative = 0.05
    """``lambda_H``, weight of the heatmap loss."""
    regression_weight: NotNegative = 10.0
    """``lambda_L``, weight of the regression loss."""
    side_weight: NotNegative = 0.0
    """Weight of the auxiliary task that distinguishes left from right landmarks; 0 disables it. Needs a decoder."""
    consistency_weight: NotNegative = 0.0
    """Weight of the difference between the outputs for two views of each frame, which differ in effects, style and colours; 0
    trains on one view."""
    association_weight: NotNegative = 1.0
    """Weight of the loss of ``network.association``."""
    new_layers_std: NotNegative = 0.0
    """Standard deviation of the normal initialisation of the layers after the encoder; 0 for the default initialisation."""
    optimizer: Annotated[Literal["adamw", "sgd"], TEXT] = "adamw"
    """Optimizer; ``sgd`` uses a momentum of 0.9."""
    learning_rate: Positive = 2e-3
    """Peak learning rate."""
    encoder_rate: NotNegative = 1.0
    """Factor on the encoder's learning rate."""
    weight_decay: NotNegative = 0.01
    """Weight decay of the optimizer."""
    warmup: Share = 0.05
    """Fraction of the steps with a rising learning rate, before the schedule."""
    schedule: Annotated[Literal["cosine", "constant"], TEXT] = "cosine"
    """Learning rate schedule after the warm-up."""
    batch_size: Count = 8
    """Frames per step."""
    steps: Count = 2000
    """Number of optimizer steps."""
    steps_per_epoch: Count = 100
    """Steps between checkpoints."""
    validate_every: Count = 1
    """Epochs between validations."""
    ema_decay: Annotated[float, Field(ge=0, lt=1), NUMBER] = 0.998
    """Decay of the averaged weights, which are validated and saved; 0 disables averaging."""
    ema_warmup: Flag = False
    """Raise the decay of the averaged weights from 0.1 to ``ema_decay`` in the first steps, so that the first weights do not
    weigh on the average."""
    clip: NotNegative = 5.0
    """Maximum gradient norm; 0 disables clipping."""
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED), WHOLE] = 0
    """Random seed."""
    workers: CountOrNone = 2
    """Worker processes for loading frames; 0 uses the main process."""
    threads: CountOrNone = 0
    """Torch threads; 0 keeps torch's default."""
    precision: Annotated[Literal["auto", "32-true", "16-mixed", "bf16-mixed"], TEXT] = "auto"
    """``auto`` is mixed precision on a GPU and 32 bit on a CPU."""
    accelerator: Annotated[Literal["auto", "cpu", "gpu", "cuda", "mps"], TEXT] = "auto"
    """Training device type."""
    devices: Annotated[Text, AfterValidator(_checked_devices)] = "auto"
    """Number of devices, or ``auto``."""
    cache: Text = "output/cache"
    """Folder for decoded frames."""
    half: Flag = False
    """Store the weights files in half precision."""


@dataclass(frozen=True, config=SETTINGS)
class TrainConfig(TrainSettings):
    """A training run with consistent settings."""

    def __post_init__(self) -> None:
        """Reject inconsistent combinations of settings."""
        if any(not source.share > 0 for source in self.train):
            raise mistake("has a training source without a share above 0; leave a source out rather than give it none")
        if self.network.strategy in REGRESSING and (self.resize != "stretch" or self.crop != self.input_size):
            raise mistake(
                f"names the strategy {self.network.strategy!r}, which regresses coordinates, and these hold for one input size"
                f" alone: set resize to stretch and crop to the input_size {list(self.input_size)}; they are {self.resize} and"
                f" {list(self.crop)}"
            )
        network = self.network
        parts = {"encoder": network.encoder, "decoder": network.decoder}
        own = network.strategy in WITHOUT_DECODER
        free = ("encoder",) if network.strategy == "unet" else ()
        wrong = next((key for key, part in parts.items() if (part == "none") != own and key not in free), None)
        if wrong is not None:
            remedy = f"set network.{wrong} to none" if own else f"name a network.{wrong}"
            raise mistake(f"names the strategy {network.strategy!r} with the {wrong} {parts[wrong]!r}; {remedy}")
        if network.decoder_width != 1 and network.decoder != "separable":
            raise mistake(
                f"has a network.decoder_width of {network.decoder_width:g}, and the decoder {network.decoder!r} has no width to"
                " choose; leave decoder_width out"
            )


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration and apply overrides.

    ``key=value`` replaces a setting; ``a.b=value`` addresses sections and ``train.0.seed=3`` lists.

    Raises:
        ConfigError: The file is missing or not YAML, or a key or value is unknown.
    """
    path = user_path(path)
    if not path.is_file():
        raise ConfigError(f"There is no configuration file {path}; the shipped ones lie in config/train.")
    data = read_yaml(path, "The configuration") or {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__} and not a mapping of settings.")
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise ConfigError(
                f"The override {override!r} is not key=value; write for example steps=500 or network.encoder=resnet50."
            )
        try:
            _assign(data, key.split("."), parse_yaml(text))
        except YamlError as error:
            raise ConfigError(f"The value of the override {override!r} is not readable YAML: {error}.") from error
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ConfigError(f"The override {override!r} cannot be applied to {path}: there is no {key!r} in it.") from error
    return parse_config(data, str(path))


def parse_config(data: Mapping[str, Any], where: str) -> TrainConfig:
    """Build a configuration from plain data.

    ``preset`` names one of :data:`csl_tracker.training.presets.PRESETS`; the other settings override it.

    Args:
        data: Settings by name, from YAML.
        where: Name of the data in messages.

    Raises:
        ConfigError: A key or a value is unknown.
    """
    settings = dict(data)
    preset = settings.pop("preset", None)
    if preset is not None:
        check_preset(preset, where)
        settings = layered(PRESETS[preset], settings)
    config = checked(TrainConfig, settings, where)
    return dataclasses.replace(config, output=str(user_path(config.output)), cache=str(user_path(config.cache)))


def check_settings(data: Mapping[str, Any], where: str) -> None:
    """Validate partial settings individually.

    Args:
        data: Some settings by name, optionally with ``preset``, from YAML.
        where: Name of the data in messages.

    Raises:
        ConfigError: A key or a value is unknown.
    """
    settings = dict(data)
    if "preset" in settings:
        check_preset(settings.pop("preset"), where)
    checked(TrainSettings, settings, where)


def check_preset(name: Any, where: str) -> None:
    """Check the name of a preset.

    Raises:
        ConfigError: It is unknown.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{where} names the preset {name!r}, which is unknown; choose one of {', '.join(PRESETS)}.")


def layered(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Override settings: sections are merged, other values replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = layered(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _assign(data: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data[int(key)] if isinstance(data, list) else data.setdefault(key, {})
    if isinstance(data, list):
        data[int(keys[-1])] = value
    else:
        data[keys[-1]] = value
