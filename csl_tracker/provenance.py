"""Provenance of results: command, machine, package versions, and hashes of input files."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from csl_tracker import __version__
from csl_tracker.errors import DatasetError

_PACKAGES = (
    "numpy",
    "torch",
    "openvino",
    "onnxruntime",
    "opencv-python-headless",
    "opencv-python",
    "av",
    "lightning",
    "rosbags",
    "mcap",
)


def machine() -> dict[str, Any]:
    """Describe this machine.

    Returns:
        ``cpu`` (model name), ``cores`` (usable by this process), ``gpu`` (names, comma-separated, or None), ``system``.
    """
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "gpu": _gpu_names(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of this package, Python, and the installed packages that affect results."""
    found = {"csl_tracker": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def sha256_of(paths: Iterable[Path]) -> str:
    """SHA-256 of the content of files.

    Args:
        paths: The files; the hash depends on their order but not on their names.

    Returns:
        Hexadecimal SHA-256: of the only file's content, or of the joined SHA-256 digests of several files.

    Raises:
        DatasetError: A file cannot be read.
    """
    digests = [_sha256(path) for path in paths]
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex() if digests else ""


def portable_command(arguments: Sequence[str] | None = None) -> str:
    """The command line with absolute paths cut to their last part, safe to publish.

    Args:
        arguments: The arguments without the program; None for those of this process.
    """
    words = [_shorten(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    return shlex.join(["csl-tracker", *words])


def portable(value: Any) -> Any:
    """Plain data (nested mappings and lists) with absolute paths cut to their last part; tuples become lists."""
    if isinstance(value, str):
        return _shorten(value)
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def _shorten(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and PurePath(value).is_absolute():
        return f"{option}={PurePath(value).name}"
    return PurePath(word).name if PurePath(word).is_absolute() else word


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DatasetError(f"The file {path} cannot be read ({error.strerror}); check the path and its permissions.") from error
    return digest.digest()


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_names() -> str | None:
    torch = sys.modules.get("torch")  # without torch, no GPU was used
    if torch is None or not torch.cuda.is_available():
        return None
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
