"""What a weights file must be before anything is built of it: a size, a header and tensors that fit each other.

Whoever made a file also wrote its header, so that every number in it is a claim: nothing is allocated, and no loop runs, by a
number that was not compared with a limit or with the bytes that are there.
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
"""Of a weights file. The largest network here, ResNet-50 with the paper's decoder in float32, has a quarter of it."""

MAX_HEADER_BYTES = 4 << 20
"""Of a file's header. Those of trained networks have about 40 KB."""

MAX_DEPTH = 32
"""Of lists and maps inside each other in a header."""

_FLOATS = ("F16", "BF16", "F32", "F64")
_INTEGERS = ("I8", "I16", "I32", "I64", "U8")
_PROBE_SIZE = (64, 64)
_COUNTER = "num_batches_tracked"
"""End of the names of batch-norm counters, which only training uses and files leave out."""


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor: its dtype as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TensorFile:
    """What a safetensors file says of itself.

    Attributes:
        metadata: Texts of its header.
        tensors: What it holds, by name.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]


def read_tensor_file(path: Path) -> TensorFile:
    """Read the header of a safetensors file, and nothing else.

    Raises:
        WeightsError: The file is larger than any network, its header is, or it is no undamaged safetensors file.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no regular file; name the .safetensors file.")
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
            f"{path} is no readable safetensors file ({_found(path)}); give an undamaged .safetensors file."
        ) from error


def parse_header(text: str) -> Any:
    """The values of a JSON header.

    Raises:
        ValueError: It is no JSON, or deeper than any description.
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
    """The network of a configuration without memory for its tensors: on torch's ``meta`` device.

    Raises:
        ConfigError: No such network can be built.
    """
    try:
        with torch.device("meta"):
            return build_network(config)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = excerpt(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise ConfigError(f"The network cannot be built as it is described ({reason}); train or export it again.") from error


def check_tensors(path: Path, found: Mapping[str, TensorInfo], network: Network) -> None:
    """Compare the tensors of a file with those of the network that its header describes; none is read.

    Args:
        path: The file, for the sentence.
        found: What it holds.
        network: See :func:`outline`.

    Raises:
        WeightsError: One is missing, has another shape, is of another kind of number, or does not belong there.
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
    """The tensors of a network that a weights file holds, by name."""
    return {key: tensor for key, tensor in network.state_dict().items() if not key.endswith(_COUNTER)}


def fill(path: Path, network: Network) -> Network:
    """Give the outline of a network its memory and its numbers, one tensor after the other.

    Args:
        path: A file that :func:`check_tensors` found to fit.
        network: See :func:`outline`; it is changed.

    Returns:
        The same network, in evaluation mode, on the CPU.

    Raises:
        WeightsError: A number is not finite, or a variance is negative.
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
        network.load_state_dict(state)  # what a network derives from its tensors is derived anew
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be used. {error}") from error
    return network.eval()


def check_outputs(path: Path, network: Network) -> None:
    """Run a network once, on a small image: one that computes no numbers would see nothing, and nobody would know why.

    Raises:
        WeightsError: What comes out is not finite.
    """
    height, width = network.config.input_size or _PROBE_SIZE
    # A gradient from edge to edge, on the scale of normalised pixels: a flat image leaves most units at rest.
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
    """(height, width) of whole numbers.

    Raises:
        ValueError: It is no pair of whole numbers.
    """
    height, width = values
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (height, width)):
        raise ValueError(f"the input size is {excerpt(values, 60)}, and two whole numbers belong there")
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
