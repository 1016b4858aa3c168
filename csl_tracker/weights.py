"""Weights files: one self-describing ``.safetensors`` file per model, with tensors and a JSON header."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import InstrumentSet
from csl_tracker.names import check_model_name
from csl_tracker.networks import Network, NetworkConfig
from csl_tracker.paths import user_path
from csl_tracker.pixels import Size
from csl_tracker.text import excerpt
from csl_tracker.weights_checks import (
    TensorFile,
    check_outputs,
    check_tensors,
    fill,
    outline,
    parse_header,
    read_tensor_file,
    whole_size,
)

FORMAT = "csl_tracker/1"
_HEADER_KEY = "csl_tracker"
_RESIZES = ("keep_aspect", "stretch")

MODELS_DIR = Path(__file__).parent / "models"
"""Folder of the bundled weights."""

DEFAULT_MODEL = "csl_lite0"

MAX_INPUT_PX = 1 << 22
"""Maximum height times width of a network input: 2048x2048 px; full HD fits."""

_MAX_SIDE = 8192


@dataclass(frozen=True)
class Preprocessing:
    """Image preprocessing: resize, then ``(rgb - mean) / std`` on the scale 0..255.

    Attributes:
        mean: Per channel, RGB.
        std: Per channel, RGB.
        input_size: (height, width) used in training.
        resize: ``keep_aspect`` keeps the aspect ratio and the pixel count of ``input_size``, with sides rounded to multiples
            of 32; ``stretch`` always resizes to ``input_size``, as in the paper.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: Size
    resize: str = "keep_aspect"

    def __post_init__(self) -> None:
        """Validate the values.

        Raises:
            ConfigError: The resize is unknown, the size is out of range, or a mean or std is invalid.
        """
        if self.resize not in _RESIZES:
            raise ConfigError(f"The resize {self.resize!r} is unknown; choose one of {', '.join(_RESIZES)}.")
        if len(self.input_size) != 2 or min(self.input_size) < 32:
            raise ConfigError(f"The input size {self.input_size} is impossible; give height and width of at least 32 px.")
        if max(self.input_size) > _MAX_SIDE or math.prod(self.input_size) > MAX_INPUT_PX:
            raise ConfigError(
                f"The input size {self.input_size} is too large for a network here; give at most {_MAX_SIDE} px a side, and"
                f" {MAX_INPUT_PX} px in all."
            )
        for what, values, low in (("mean", self.mean, -1e5), ("std", self.std, 1e-3)):
            if len(values) != 3 or not all(math.isfinite(value) and low <= value <= 1e5 for value in values):
                raise ConfigError(f"The preprocessing's {what} is {values}; give three numbers from {low:g} to 1e+05, for RGB.")

    def working_size(self, source: Size) -> Size:
        """(height, width) after resizing a source image of (height, width); always even."""
        height, width = self.input_size
        if self.resize == "keep_aspect":
            scale = math.sqrt(height * width / (source[0] * source[1]))
            # Clamp for extreme aspect ratios: a side would round to 0 or far exceed the training size.
            height = min(max(32, 32 * round(source[0] * scale / 32)), 4 * height)
            width = min(max(32, 32 * round(source[1] * scale / 32)), 4 * width)
        return height + height % 2, width + width % 2


@dataclass(frozen=True)
class ModelDescription:
    """Everything about a model except its tensors.

    Attributes:
        name: Short name, such as ``csl_lite0``.
        network: Architecture.
        instruments: Meaning of the output channels.
        heatmap: Shape of the target Gaussians.
        preprocessing: Image preprocessing.
        confidence_threshold: Working threshold: minimum confidence of a visible landmark.
        provenance: Training record: data, command, seed, initialisation, time, metrics.
    """

    name: str
    network: NetworkConfig
    instruments: InstrumentSet
    heatmap: HeatmapSpec
    preprocessing: Preprocessing
    confidence_threshold: float = 0.3
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate the description.

        Raises:
            ConfigError: The numbers of landmarks or classes differ, the threshold is not in 0..1, the name is invalid, or the
                preprocessing does not produce the network's fixed input size.
        """
        check_model_name(self.name)
        if not 0.0 <= self.confidence_threshold <= 1.0:
            raise ConfigError(f"The confidence threshold is {self.confidence_threshold}; give a number from 0 to 1.")
        heads = (self.network.num_landmarks, self.network.num_classes)
        named = (self.instruments.num_landmarks, self.instruments.num_classes)
        if heads != named:
            raise ConfigError(f"The network has (landmarks, classes) = {heads}, but {named} are named; make them equal.")
        fixed, pre = self.network.input_size, self.preprocessing
        if fixed is not None and (pre.resize != "stretch" or tuple(pre.input_size) != fixed):
            raise ConfigError(
                f"The network takes {self.network.valid_input}, but images would be resized by {pre.resize!r} to"
                f" {pre.input_size[0]}x{pre.input_size[1]}; use resize 'stretch' and that size."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the JSON header."""
        return {
            "format": FORMAT,
            "name": self.name,
            "network": self.network.to_dict(),
            "instruments": self.instruments.to_dict(),
            "heatmap": self.heatmap.to_dict(),
            "preprocessing": {
                "mean": list(self.preprocessing.mean),
                "std": list(self.preprocessing.std),
                "input_size": list(self.preprocessing.input_size),
                "resize": self.preprocessing.resize,
            },
            "confidence_threshold": self.confidence_threshold,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelDescription:
        """Rebuild from :meth:`to_dict`'s output.

        Raises:
            ConfigError, ValueError, KeyError, TypeError: The header is inconsistent or incomplete.
        """
        pre = data["preprocessing"]
        return cls(
            name=data["name"],
            network=NetworkConfig.from_dict(data["network"]),
            instruments=InstrumentSet.from_dict(data["instruments"]),
            heatmap=HeatmapSpec.from_dict(data["heatmap"]),
            preprocessing=Preprocessing(
                mean=_triple(pre["mean"]),
                std=_triple(pre["std"]),
                input_size=whole_size(pre["input_size"]),
                resize=str(pre["resize"]),
            ),
            confidence_threshold=float(data["confidence_threshold"]),
            provenance=dict(data.get("provenance", {})),
        )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


@dataclass(frozen=True)
class Model:
    """A network with its description.

    Attributes:
        network: In evaluation mode, float32, on the CPU.
        description: Everything else.
        sha256: Hash of the weights file.
    """

    network: Network
    description: ModelDescription
    sha256: str

    @property
    def name(self) -> str:
        """Short name of the model."""
        return self.description.name

    @property
    def short_hash(self) -> str:
        """First eight hexadecimal digits of the file's SHA-256."""
        return self.sha256[:8]

    @property
    def label(self) -> str:
        """Name and short hash as in the messages: ``csl_lite0@1a2b3c4d``."""
        return f"{self.name}@{self.short_hash}"

    @property
    def instruments(self) -> InstrumentSet:
        """Meaning of the output channels."""
        return self.description.instruments


def default_weights() -> Path:
    """Path of the bundled default weights.

    Raises:
        WeightsError: The package was installed without weights.
    """
    path = MODELS_DIR / f"{DEFAULT_MODEL}.safetensors"
    if not path.is_file():
        raise WeightsError(f"The package's own weights {path} are missing; install the package again or name a weights file.")
    return path


def shipped_weights() -> tuple[str, ...]:
    """Names of the bundled weights, the default first."""
    return tuple(
        sorted((path.stem for path in MODELS_DIR.glob("*.safetensors")), key=lambda name: (name != DEFAULT_MODEL, name))
    )


def find_weights(name: str | Path | None) -> Path:
    """Resolve a name of bundled weights or a path; None or '' selects the default.

    Raises:
        WeightsError: The package was installed without weights.
    """
    if name is None or not str(name):
        return default_weights()
    return MODELS_DIR / f"{name}.safetensors" if str(name) in shipped_weights() else user_path(name)


def save_weights(path: Path, network: Network, description: ModelDescription, half: bool = False) -> None:
    """Write a weights file atomically.

    Args:
        path: The file; its folder is created.
        network: Source of the tensors; batch-norm counters are not stored.
        description: Header of the file.
        half: Store the tensors in half precision.
    """
    tensors = {}
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            tensors[key] = tensor.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, metadata={_HEADER_KEY: json.dumps(description.to_dict(), sort_keys=True)})
        # safetensors creates files with mode 0600; apply the usual umask instead, so that models can be shared.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_description(path: Path) -> ModelDescription:
    """Read only the header.

    Raises:
        WeightsError: The file is missing, truncated or not a weights file of this package.
    """
    return _describe(Path(path))[0]


def _describe(path: Path) -> tuple[ModelDescription, TensorFile]:
    """Read the model description and the tensor list from the header."""
    if not path.exists():
        raise WeightsError(
            f"There is no weights file {path}; check the path, or name one that comes with the package:"
            f" {', '.join(shipped_weights())}."
        )
    if path.is_dir():
        raise WeightsError(f"{path} is a folder and no weights file; name the .safetensors file in it.")
    content = read_tensor_file(path)
    if _HEADER_KEY not in content.metadata:
        found = ", ".join(excerpt(key, 40) for key in sorted(content.metadata)[:5])
        raise WeightsError(
            f"{path} is a safetensors file of another program (its header holds {found or 'nothing'});"
            " give one that 'csl-tracker train' wrote."
        )
    try:
        header = parse_header(content.metadata[_HEADER_KEY])
        if header.get("format") != FORMAT:
            raise WeightsError(
                f"{path} has the format '{excerpt(header.get('format'), 40)}', this version reads {FORMAT!r}; update"
                " csl_tracker."
            )
        return ModelDescription.from_dict(header), content
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = excerpt(f"no {error}" if isinstance(error, KeyError) else error).rstrip(".")
        raise WeightsError(f"{path} has a header that describes no model ({reason}); train or export it again.") from error


def load_weights(path: Path | str) -> Model:
    """Load a model. The header is checked against the tensors before anything is allocated.

    Raises:
        WeightsError: The file is missing, truncated or foreign, tensors and header do not match, or the network output is
            not finite.
    """
    path = Path(path)
    description, content = _describe(path)
    try:
        network = outline(description.network)
    except ConfigError as error:
        raise WeightsError(f"{path} cannot be used. {error}") from error
    check_tensors(path, content.tensors, network)
    fill(path, network)
    check_outputs(path, network)
    return Model(network, description, _sha256(path))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
