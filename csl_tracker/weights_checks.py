"""Validates a weights file before building a network: file size, header and tensors must match.

Weights files are untrusted input: each number in the header is compared with a limit or with the actual data before it controls
an allocation or a loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.networks import Network, NetworkConfig, NetworkOutput, build_network
from csl_tracker.pixels import Size
from csl_tracker.text import excerpt

MAX_FILE_BYTES = 1 << 30
"""Maximum file size. The largest network, ResNet-50 with the paper's decoder in float32, needs a quarter of it."""

MAX_HEADER_BYTES = 4 << 20
"""Maximum header size. Trained networks have about 40 KB."""

MAX_DEPTH = 32
"""Maximum nesting depth of a header."""

_FLOATS = ("F16", "BF16", "F32", "F64")
_INTEGERS = ("I8", "I16", "I32", "I64", "U8")
_PROBE_SIZE = (64, 64)
_COUNTER = "num_batches_tracked"
"""Name suffix of batch-norm counters, which only training uses and files do not contain."""


@dataclass(frozen=True)
class TensorInfo:
    """Header entry of a tensor: its safetensors dtype and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TensorFile:
    """Header of a safetensors file: its text metadata, and its tensors by name."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]


def read_tensor_file(path: Path) -> TensorFile:
    """Read only the header of a safetensors file.

    Raises:
        WeightsError: The file or its header is too large, or the file is not a valid safetensors file.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not a regular file; name the .safetensors file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
        if size > MAX_FILE_BYTES:
            raise WeightsError(
                f"{path} has {size} bytes, and weights have {MAX_FILE_BYTES} at most; give one that 'csl-tracker train' wrote."
            )
        header = int.from_bytes(start, "little")
        if len(start) == 8 and MAX_HEADER_BYTES < header <= size - 8:
            raise WeightsError(
                f"{path} has a header of {header} bytes, and those of weights have {MAX_HEADER_BYTES} at most; give a file that"
                " 'csl-tracker train' wrote."
            )
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            tensors = {key: TensorInfo(str(part.get_dtype()), tuple(part.get_shape())) for key, part in slices.items()}
            return TensorFile(dict(file.metadata() or {}), tensors)
    except (SafetensorError, OSError, RecursionError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file ({_found(path)}); give an undamaged .safetensors file."
        ) from error


def parse_header(text: str) -> Any:
    """Parse a JSON header.

    Raises:
        ValueError: It is not JSON or nested too deeply.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [value for item in level for value in _children(item)]
        if not level:
            return content
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def outline(config: NetworkConfig) -> Network:
    """Build a network on torch's ``meta`` device, without allocating its tensors.

    Raises:
        ConfigError: The network cannot be built.
    """
    try:
        with torch.device("meta"):
            return build_network(config)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = excerpt(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise ConfigError(f"The network cannot be built as it is described ({reason}); train or export it again.") from error


def check_tensors(path: Path, found: Mapping[str, TensorInfo], network: Network) -> None:
    """Compare the tensor list of a file with the described network, without reading tensor data.

    Args:
        path: The file, for error messages.
        found: Tensor list of the file.
        network: See :func:`outline`.

    Raises:
        WeightsError: A tensor is missing, unexpected, or has the wrong shape or dtype.
    """
    expected = stored_tensors(network)
    for key, tensor in expected.items():
        if key not in found:
            raise WeightsError(f"{path} lacks the tensor {key!r} that its header asks for; train or export it again.")
        dtype, shape = found[key].dtype, found[key].shape
        if shape != tuple(tensor.shape):
            raise WeightsError(f"{path} holds {key!r} of shape {shape} where {tuple(tensor.shape)} belongs; export it again.")
        if dtype not in (_FLOATS if tensor.is_floating_point() else _FLOATS + _INTEGERS):
            raise WeightsError(f"{path} holds {key!r} as {dtype}, where floating-point numbers belong; export it again.")
    foreign = next((key for key in found if key not in expected and not key.endswith(_COUNTER)), None)
    if foreign is not None:
        raise WeightsError(
            f"{path} holds the tensor '{excerpt(foreign, 80)}', which its network does not have; train or export it again."
        )


def stored_tensors(network: Network) -> dict[str, torch.Tensor]:
    """The tensors of a network that a weights file contains, by name."""
    return {key: tensor for key, tensor in network.state_dict().items() if not key.endswith(_COUNTER)}


def fill(path: Path, network: Network) -> Network:
    """Allocate the tensors of an outlined network and load their values one by one.

    Args:
        path: A file accepted by :func:`check_tensors`.
        network: See :func:`outline`; modified in place.

    Returns:
        The same network, in evaluation mode, on the CPU.

    Raises:
        WeightsError: A value is not finite, or a variance is negative.
    """
    network.to_empty(device="cpu")
    state = network.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            for key, target in state.items():
                if key.endswith(_COUNTER):
                    target.zero_()
                    continue
                numbers = file.get_tensor(key)
                values = numbers.float() if numbers.is_floating_point() else numbers
                if not torch.isfinite(values).all():
                    raise WeightsError(f"{path} holds values in {key!r} that are not finite; use an earlier checkpoint.")
                if key.endswith("running_var") and values.numel() and float(values.min()) < 0:
                    raise WeightsError(f"{path} holds a negative variance in {key!r}; use an earlier checkpoint.")
                target.copy_(values)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({excerpt(error)}); copy or train it again.") from error
    try:
        network.load_state_dict(state)  # recomputes values derived from tensors
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be used. {error}") from error
    return network.eval()


def check_outputs(path: Path, network: Network) -> None:
    """Run a network once on a small image and reject non-finite outputs, which would otherwise look like empty frames.

    Raises:
        WeightsError: The output is not finite.
    """
    height, width = network.config.input_size or _PROBE_SIZE
    # A gradient in the range of normalised pixels: a flat image activates few units.
    ramp = torch.linspace(-2.0, 2.0, height * width).view(1, 1, height, width)
    image = torch.cat((ramp, ramp.flip(-1), ramp.flip(-2)), dim=1)
    with torch.inference_mode():
        output: NetworkOutput = network(image)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in output if tensor is not None):
        raise WeightsError(
            f"{path} computes values that are not finite: its training diverged or its numbers are damaged; use an earlier"
            " checkpoint."
        )


def whole_size(values: Any) -> Size:
    """Parse (height, width).

    Raises:
        ValueError: It is not a pair of integers.
    """
    height, width = values
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (height, width)):
        raise ValueError(f"the input size is {excerpt(values, 60)}, but it must be two whole numbers")
    return height, width


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
