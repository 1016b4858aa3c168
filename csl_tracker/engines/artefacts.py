"""Exported networks on disk: one folder each, whole or not there at all, and the cache that engines look into.

Nothing writes to the cache but ``csl-tracker export``: a node writes no files. Engines read it, and build from the weights what
they do not find there, or find damaged.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from csl_tracker import __version__
from csl_tracker.errors import EngineError
from csl_tracker.pixels import Size

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = "csl_tracker_artefact/1"


class CacheError(EngineError):
    """A folder of artefacts cannot be written to."""


@dataclass(frozen=True)
class ArtefactKey:
    """What an exported network depends on; it holds where all of this is equal.

    Attributes:
        weights_sha256: Of the weights file.
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
        # Another version of this package may build another network of the same weights.
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
    """Where exported networks are looked for: ``csl_tracker/engines`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path there is to be ignored, says the XDG Base Directory Specification.
    base = Path(given) if given and Path(given).is_absolute() else Path("~/.cache").expanduser()
    return base / "csl_tracker" / "engines"


@dataclass(frozen=True)
class Artefact:
    """An exported network that is whole.

    Attributes:
        folder: Where its files lie.
        manifest: What it was made from, and what was found when it was checked.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def agreement(self) -> float | None:
        """Largest difference to float32 torch that was found, in shares of the largest output; None if nobody looked."""
        value = self.manifest.get("check", {}).get("disagreement")
        return float(value) if isinstance(value, int | float) else None


class ArtefactCache:
    """A folder of artefacts, each in a folder that its key names.

    Args:
        folder: Where; the user's cache when None. It need not exist.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder

    def find(self, key: ArtefactKey) -> Artefact | None:
        """The artefact of a key; None, after one sentence in the log where it is damaged, when there is none to be used."""
        folder = self.folder / key.folder
        try:
            if not (folder / MANIFEST).exists():
                return None
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            problem = _problem(folder, manifest, key)
        except (OSError, ValueError) as error:
            problem = str(error)
        if not problem:
            return Artefact(folder, manifest)
        logger.warning(
            "The exported network %s cannot be used (%s), and is built from the weights; 'csl-tracker export' writes it anew.",
            folder,
            problem,
        )
        return None

    def put(self, key: ArtefactKey, write: Callable[[Path], Mapping[str, Any]]) -> Artefact:
        """Write an artefact, in the place of an older one.

        Args:
            key: What it is.
            write: Writes the files into the folder that it is given, and returns what the manifest is to say beside.

        Raises:
            CacheError: The cache cannot be written to.
        """
        final = self.folder / key.folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        except OSError as error:
            raise CacheError(
                f"The cache {self.folder} cannot be written to ({error.strerror}); set XDG_CACHE_HOME to a folder that can be."
            ) from error
        try:
            manifest = {**write(partial), "format": FORMAT, "key": key.to_dict(), "files": _digests(partial)}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            partial.chmod(0o755)
            if final.exists():
                # A folder that is not empty cannot be replaced in one step; who looks in between builds from the weights.
                os.replace(final, partial.with_name(f"{partial.name}-old"))
            os.replace(partial, final)
        except OSError as error:
            raise CacheError(
                f"The exported network {final} cannot be written ({error.strerror}); make room, or set XDG_CACHE_HOME to"
                " another folder."
            ) from error
        finally:
            for left in (partial, partial.with_name(f"{partial.name}-old")):
                shutil.rmtree(left, ignore_errors=True)
        return Artefact(final, manifest)

    def sizes(self, weights_sha256: str) -> dict[str, list[Size]]:
        """Input sizes, by engine, for which a network of these weights lies here, whatever the engine's version."""
        found: dict[str, list[Size]] = {}
        for path in sorted(self.folder.glob(f"*/{MANIFEST}")) if self.folder.is_dir() else []:
            try:
                key = json.loads(path.read_text(encoding="utf-8"))["key"]
                if key["weights_sha256"] == weights_sha256 and key["csl_tracker"] == __version__:
                    found.setdefault(str(key["engine"]), []).append((int(key["size"][0]), int(key["size"][1])))
            except (OSError, ValueError, KeyError, TypeError, IndexError):
                continue  # what is damaged is told by who wants to use it
        return found


def _problem(folder: Path, manifest: Any, key: ArtefactKey) -> str:
    """What is wrong with an artefact; empty if nothing is."""
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
    return ""


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
