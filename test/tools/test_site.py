"""The documentation as mkdocs builds it: pages, links and API reference without a warning."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: make docs installs it")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    index = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="node.html"' in index
    assert "fonts.googleapis.com" not in index
    assert (site / "repository" / "config" / "tracker.yaml").is_file()
    assert "csl_tracker.tracker.Tracker" in (site / "api" / "tracking.html").read_text(encoding="utf-8")
