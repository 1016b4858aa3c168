"""Exported networks on disk (one folder each, written atomically) and the cache that engines read.

Only ``csl-tracker export`` writes to the cache; nodes write no files. If an entry is missing, damaged, or writable by another
user, the engine builds the network from the weights. The digests in a manifest detect damage, not tampering.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from csl_tracker import __version__
from csl_tracker.engines.trust import distrust, open_trusted
from csl_tracker.errors import EngineError
from csl_tracker.pixels import Size
from csl_tracker.text import excerpt

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = "csl_tracker_artefact/1"
_MAX_MANIFEST = 1 << 20
_STREAM = re.compile(r"iostream error|ios_base")
"""C++ error texts of an incomplete write."""


class CacheError(EngineError):
    """The cache folder is not writable."""


@dataclass(frozen=True)
class ArtefactKey:
    """Everything that an exported network depends on.

    Attributes:
        weights_sha256: Hash of the weights file.
        engine: ``onnx`` or ``openvino``.
        engine_version: Version of the engine's package.
        device: Such as ``cpu``.
        size: (height, width) of the network's input, px.
    """

    weights_sha256: str
    engine: str
    engine_version: str
    device: str
    size: Size

    @property
    def folder(self) -> str:
        """Name of the artefact's folder."""
        # The network may differ between versions of this package.
        parts = (
            self.engine,
            self.engine_version,
            self.device,
            f"{self.size[0]}x{self.size[1]}",
            self.weights_sha256[:16],
            __version__,
        )
        return "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "size": list(self.size), "csl_tracker": __version__}


def cache_folder() -> Path:
    """The cache of exported networks: ``csl_tracker/engines`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification requires that relative paths are ignored.
    base = Path(given) if given and Path(given).is_absolute() else Path("~/.cache").expanduser()
    return base / "csl_tracker" / "engines"


@dataclass(frozen=True)
class Artefact:
    """A complete exported network.

    Attributes:
        folder: Folder of its files.
        manifest: Its sources and the results of its check.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def agreement(self) -> float | None:
        """Largest difference to float32 torch, relative to the largest output; None if not checked."""
        check = self.manifest.get("check")
        value = check.get("disagreement") if isinstance(check, dict) else None
        return float(value) if isinstance(value, int | float) else None


class ArtefactCache:
    """A folder of artefacts, one subfolder per key.

    Args:
        folder: The folder, which need not exist; None for the user's cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder

    def find(self, key: ArtefactKey) -> Artefact | None:
        """The artefact of a key; None if it is missing, damaged or not trusted (the last two are logged)."""
        folder = self.folder / key.folder
        try:
            if not (folder / MANIFEST).exists():
                return None
            problem = distrust(folder)
            if problem:
                logger.warning("The exported network %s is not trusted, and is built from the weights: %s.", folder, problem)
                return None
            manifest = _read_manifest(folder)
            problem = _problem(folder, manifest, key)
        except (OSError, ValueError, RecursionError) as error:
            problem = excerpt(error)
        if not problem:
            return Artefact(folder, manifest)
        logger.warning(
            "The exported network %s cannot be used (%s), and is built from the weights; 'csl-tracker export' writes it again.",
            folder,
            problem,
        )
        return None

    def put(self, key: ArtefactKey, write: Callable[[Path], Mapping[str, Any]]) -> Artefact:
        """Write an artefact; replaces an older one.

        Args:
            key: Its key.
            write: Writes the files into the given folder and returns additional manifest entries.

        Raises:
            CacheError: The cache is not writable.
        """
        final = self.folder / key.folder
        try:
            _make_folder(self.folder)
            problem = distrust(self.folder)
            if problem:
                raise CacheError(f"The cache {self.folder} is not used, since it is not trusted: {problem}.")
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        except OSError as error:
            raise CacheError(
                f"The cache {self.folder} cannot be written to ({error.strerror}); set XDG_CACHE_HOME to a folder that can be."
            ) from error
        try:
            entries = write(partial)
            for path in partial.iterdir():
                path.chmod(0o644)  # regardless of the umask
            manifest = {**entries, "format": FORMAT, "key": key.to_dict(), "files": _digests(partial)}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            (partial / MANIFEST).chmod(0o644)
            partial.chmod(0o755)
            if final.exists():
                # A non-empty folder cannot be replaced atomically; concurrent readers build from the weights.
                os.replace(final, partial.with_name(f"{partial.name}-old"))
            os.replace(partial, final)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _STREAM.search(str(error)):
                raise
            reason = getattr(error, "strerror", None) or "the disk is full"
            raise CacheError(
                f"The exported network {final} cannot be written ({reason}); make room, or set XDG_CACHE_HOME to another"
                " folder."
            ) from error
        finally:
            for left in (partial, partial.with_name(f"{partial.name}-old")):
                shutil.rmtree(left, ignore_errors=True)
        return Artefact(final, manifest)

    def sizes(self, weights_sha256: str) -> dict[str, list[Size]]:
        """Input sizes of the exported networks of these weights, by engine, for any engine version."""
        found: dict[str, list[Size]] = {}
        for path in sorted(self.folder.glob(f"*/{MANIFEST}")) if self.folder.is_dir() else []:
            try:
                key = _read_manifest(path.parent)["key"] if not distrust(path.parent) else {}
                if key["weights_sha256"] == weights_sha256 and key["csl_tracker"] == __version__:
                    found.setdefault(str(key["engine"]), []).append((int(key["size"][0]), int(key["size"][1])))
            except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
                continue  # find() reports damaged artefacts
        return found


def _problem(folder: Path, manifest: Any, key: ArtefactKey) -> str:
    """Clause that says why an artefact is invalid; empty if it is valid."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return f"its {MANIFEST} is not of the format {FORMAT}"
    if manifest.get("key") != json.loads(json.dumps(key.to_dict())):
        return "it was made of other weights or by another version"
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        return f"its {MANIFEST} names no files"
    found = _digests(folder)
    for name, digest in files.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != digest:
            return f"{name} is damaged"
    foreign = next((name for name in found if name not in files), None)
    return "" if foreign is None else f"{foreign} is not listed in its {MANIFEST}"


def _make_folder(path: Path) -> None:
    """Create a folder and its parents, not writable by other users."""
    for missing in reversed([place for place in (path, *path.parents) if not place.exists()]):
        with suppress(FileExistsError):
            missing.mkdir(mode=0o755)


def _read_manifest(folder: Path) -> Any:
    with open(open_trusted(folder / MANIFEST), encoding="utf-8") as file:
        text = file.read(_MAX_MANIFEST + 1)
    if len(text) > _MAX_MANIFEST:
        raise ValueError(f"its {MANIFEST} is larger than {_MAX_MANIFEST} bytes")
    return json.loads(text)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file except the manifest.

    Raises:
        OSError: A file cannot be read, is a link or a folder, or is writable by another user.
    """
    return {path.name: _digest(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(open_trusted(path), "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
