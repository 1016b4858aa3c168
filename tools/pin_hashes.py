#!/usr/bin/env python3
"""Pin requirements by the hashes of their files, for this interpreter, platform and package index.

    python tools/pin_hashes.py > hashes.txt          # looks up, installs nothing
    pip install --require-hashes -r hashes.txt

pip itself says which files it would take (``pip install --dry-run --report``). One list of hashes cannot serve everybody: torch
has other files for the CPU and for CUDA under one version, by the index that is asked, and most wheels one for each Python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"


def report(files: Sequence[Path], constraints: Path, python: str = sys.executable) -> dict[str, Any]:
    """What pip would install.

    Raises:
        subprocess.CalledProcessError: pip found no set of files; it has said why on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", "--report", str(path), "-c", str(constraints)]
        for file in files:
            command += ["-r", str(file)]
        subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def pinned(found: dict[str, Any]) -> str:
    """The lines of a requirements file.

    Args:
        found: A report of pip.

    Raises:
        ValueError: A file has no SHA-256 in the report, as one from a version control system.
    """
    lines = []
    for item in sorted(found["install"], key=lambda item: str(item["metadata"]["name"]).lower()):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:
            raise ValueError(f"{name} {version} comes without a SHA-256; take it from a package index")
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    environment = found["environment"]
    about = f"# Python {environment['python_version']}, {environment['sys_platform']} {environment['platform_machine']}"
    return "\n".join([f"{about}; made by tools/pin_hashes.py", *lines]) + "\n"


def main() -> int:
    """Print the pinned requirements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = REQUIREMENTS / "runtime.txt"
    parser.add_argument("files", nargs="*", type=Path, default=[default], help="requirements files (requirements/runtime.txt)")
    args = parser.parse_args()
    try:
        print(pinned(report([file.resolve() for file in args.files], REQUIREMENTS / "constraints.txt")), end="")
    except (subprocess.CalledProcessError, ValueError) as error:
        print(f"pin_hashes: no file was pinned: {error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
