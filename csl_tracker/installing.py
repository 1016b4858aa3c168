"""Install commands for missing packages, matching how this package was installed.

This package is not on PyPI, so ``pip install csl_tracker[train]`` does not work.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_NAME = "csl_tracker"
_ROOT = Path(__file__).resolve().parents[1]
_MODULES = {"cv2": "opencv-python-headless", "sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Modules whose name differs from that of their distribution."""


def install_command(module: str) -> str:
    """The pip command that installs the package of a missing module.

    Args:
        module: Import name of the module.

    Returns:
        ``pip install`` with this package and the extra, if pip installed it from a folder that still exists; with the files
        in ``requirements``, if it runs from source (such as a workspace built with ``--symlink-install``); otherwise with the
        packages themselves.
    """
    top = module.partition(".")[0]
    package = _MODULES.get(top, top.replace("_", "-"))
    needed = _requirements()
    extra = next((extra for extra, packages in needed.items() if _plain(package) in map(_plain, packages)), None)
    if extra is None:
        return f"pip install {package}"
    source = _pip_source()
    if source is not None:
        return f'pip install {source}[{extra}]"' if extra else f'pip install {source}"'
    folder = _ROOT / "requirements"
    listed = folder / f"{extra or 'runtime'}.txt"
    if listed.is_file():
        return f"pip install -r {listed} -c {folder / 'constraints.txt'}"
    return f"pip install {' '.join(sorted(needed[extra])) if extra else package}"


def _requirements() -> dict[str, list[str]]:
    """Packages of each extra; the unconditional ones have the key ''."""
    try:
        lines = importlib.metadata.requires(_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        requirement, _, condition = line.partition(";")
        extra = re.search(r"""extra\s*==\s*["']([^"']+)""", condition)
        name = re.match(r"[\w.-]+", requirement)
        if name is not None:
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _pip_source() -> str | None:
    """The folder that pip installed this package from, with its option and an open quote; None if not from a folder."""
    try:
        text = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        origin = json.loads(text or "{}")
        url = urlsplit(origin.get("url", ""))
        editable = bool(origin.get("dir_info", {}).get("editable"))
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    folder = Path(unquote(url.path))
    if url.scheme != "file" or not (folder / "setup.py").is_file():
        return None
    return f'-e "{folder}' if editable else f'"{folder}'


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
