"""One self-describing ``.safetensors`` file per model: the tensors, and a JSON header that rebuilds everything else."""

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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import InstrumentSet
from csl_tracker.networks import Network, NetworkConfig, build_network
from csl_tracker.paths import user_path
from csl_tracker.pixels import Size

FORMAT = "csl_tracker/1"
_HEADER_KEY = "csl_tracker"
_RESIZES = ("keep_aspect", "stretch")

MODELS_DIR = Path(__file__).parent / "models"
"""Where the weights that come with the package lie."""

DEFAULT_MODEL = "csl_lite0"


@dataclass(frozen=True)
class Preprocessing:
    """From an image to the network's input: resize, then ``(rgb - mean) / std`` on the scale 0..255.

    Attributes:
        mean: Per channel, RGB.
        std: Per channel, RGB.
        input_size: (height, width) that the network was trained for.
        resize: ``keep_aspect`` keeps the image's aspect ratio and the number of px of ``input_size``, rounded to multiples of
            32; ``stretch`` always resizes to ``input_size`` as the paper does.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: Size
    resize: str = "keep_aspect"

    def __post_init__(self) -> None:
        """Reject impossible values.

        Raises:
            ConfigError: The resize is unknown or the size is too small.
        """
        if self.resize not in _RESIZES:
            raise ConfigError(f"The resize {self.resize!r} is unknown; choose one of {', '.join(_RESIZES)}.")
        if len(self.input_size) != 2 or min(self.input_size) < 32:
            raise ConfigError(f"The input size {self.input_size} is impossible; give height and width of at least 32 px.")

    def working_size(self, source: Size) -> Size:
        """(height, width) to which a source image of (height, width) is resized; always even."""
        height, width = self.input_size
        if self.resize == "keep_aspect":
            scale = math.sqrt(height * width / (source[0] * source[1]))
            # Very long images would otherwise round to nothing, or to far more px than the network was given in training.
            height = min(max(32, 32 * round(source[0] * scale / 32)), 4 * height)
            width = min(max(32, 32 * round(source[1] * scale / 32)), 4 * width)
        return height + height % 2, width + width % 2


@dataclass(frozen=True)
class ModelDescription:
    """Everything about a model but its tensors.

    Attributes:
        name: Short name, such as ``csl_lite0``.
        network: What to build.
        instruments: What its channels mean.
        heatmap: Shape of the Gaussians that it draws.
        preprocessing: What it wants as input.
        confidence_threshold: Working threshold: confidence from which a landmark counts as seen.
        provenance: Data, command, seed, initialisation, time, metrics: whatever the training wrote down.
    """

    name: str
    network: NetworkConfig
    instruments: InstrumentSet
    heatmap: HeatmapSpec
    preprocessing: Preprocessing
    confidence_threshold: float = 0.3
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject a network whose heads do not fit the instruments.

        Raises:
            ConfigError: Numbers of landmarks or classes differ.
        """
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
            ConfigError, ValueError, KeyError, TypeError: The header is inconsistent or lacks something.
        """
        pre = data["preprocessing"]
        return cls(
            name=str(data["name"]),
            network=NetworkConfig.from_dict(data["network"]),
            instruments=InstrumentSet.from_dict(data["instruments"]),
            heatmap=HeatmapSpec.from_dict(data["heatmap"]),
            preprocessing=Preprocessing(
                mean=_triple(pre["mean"]),
                std=_triple(pre["std"]),
                input_size=(int(pre["input_size"][0]), int(pre["input_size"][1])),
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
        description: What it is.
        sha256: Of the file that it was loaded from.
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
        """Name and short hash, as the messages carry them: ``csl_lite0@1a2b3c4d``."""
        return f"{self.name}@{self.short_hash}"

    @property
    def instruments(self) -> InstrumentSet:
        """What the channels mean."""
        return self.description.instruments


def default_weights() -> Path:
    """Path of the weights that come with the package.

    Raises:
        WeightsError: The package was installed without them.
    """
    path = MODELS_DIR / f"{DEFAULT_MODEL}.safetensors"
    if not path.is_file():
        raise WeightsError(f"The package's own weights {path} are missing; install the package again or name a weights file.")
    return path


def shipped_weights() -> tuple[str, ...]:
    """Names of the weights that come with the package, the default first."""
    return tuple(
        sorted((path.stem for path in MODELS_DIR.glob("*.safetensors")), key=lambda name: (name != DEFAULT_MODEL, name))
    )


def find_weights(name: str | Path | None) -> Path:
    """The file that a user means.

    Args:
        name: Name of weights that come with the package, a path, or nothing for the package's default.

    Raises:
        WeightsError: The package was installed without its weights.
    """
    if name is None or not str(name):
        return default_weights()
    return MODELS_DIR / f"{name}.safetensors" if str(name) in shipped_weights() else user_path(name)


def save_weights(path: Path, network: Network, description: ModelDescription, half: bool = False) -> None:
    """Write one file, atomically.

    Args:
        path: Where; its folder is made.
        network: The tensors; batch-norm counters are left out.
        description: Goes into the header.
        half: Store the tensors in half precision, at half the size.
    """
    tensors = {}
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            tensors[key] = tensor.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, metadata={_HEADER_KEY: json.dumps(description.to_dict(), sort_keys=True)})
        # safetensors makes its files readable by their owner alone, which is not what anybody expects of a shared model.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_description(path: Path) -> ModelDescription:
    """Read the header alone.

    Raises:
        WeightsError: The file is missing, truncated or foreign; the sentence says what was found.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(
            f"There is no weights file {path}; check the path, or name one that comes with the package:"
            f" {', '.join(shipped_weights())}."
        )
    if path.is_dir():
        raise WeightsError(f"{path} is a folder and no weights file; name the .safetensors file in it.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is no readable safetensors file ({_found(path)}); give an undamaged .safetensors file."
        ) from error
    if _HEADER_KEY not in metadata:
        raise WeightsError(
            f"{path} is a safetensors file of another program (its header holds {sorted(metadata) or 'nothing'});"
            " give one that 'csl-tracker train' wrote."
        )
    try:
        header = json.loads(metadata[_HEADER_KEY])
        if header.get("format") != FORMAT:
            raise WeightsError(
                f"{path} has the format {header.get('format')!r}, this version reads {FORMAT!r}; update csl_tracker."
            )
        return ModelDescription.from_dict(header)
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(f"{path} has a header that describes no model ({error!r}); train or export it again.") from error


def load_weights(path: Path | str) -> Model:
    """Load a model.

    Raises:
        WeightsError: The file is missing, truncated, foreign, or its tensors do not fit its own header.
    """
    path = Path(path)
    description = read_description(path)
    network = build_network(description.network)
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}); copy or train it again.") from error
    for key, tensor in expected.items():
        if key not in tensors:
            raise WeightsError(f"{path} lacks the tensor {key!r} that its header asks for; train or export it again.")
        if tensors[key].shape != tensor.shape:
            raise WeightsError(
                f"{path} holds {key!r} of shape {tuple(tensors[key].shape)} where {tuple(tensor.shape)} belongs;"
                " export it again."
            )
        if not torch.isfinite(tensors[key]).all():
            raise WeightsError(f"{path} holds values in {key!r} that are not finite; use an earlier checkpoint.")
    network.load_state_dict(tensors, strict=False)
    with path.open("rb") as stream:
        sha256 = (
            hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(stream.read())
        )
    return Model(network.eval(), description, sha256)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _found(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        return str(error.strerror)
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "it is a pickled checkpoint, which is never opened"
    if len(start) == 8:
        header = int.from_bytes(start, "little")
        if header < 100_000_000 and header > size - 8:
            return f"it is cut off: {size} bytes, its header alone has {header}"
        if header < 100_000_000:
            return f"it is cut off or damaged: {size} bytes"
    return f"{size} bytes that begin with {start!r}"
